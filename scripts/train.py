"""Train a policy: the same as `robofuse train`.

python scripts/train.py Grasp --preset quick
"""

import sys

from robofuse.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
