"""Watch a policy work, with sensors disabled: the same as `robofuse replay`.

python scripts/replay.py grasp --disable rgb,depth@20
"""

import sys

from robofuse.cli import main

if __name__ == "__main__":
    sys.exit(main(["replay", *sys.argv[1:]]))
