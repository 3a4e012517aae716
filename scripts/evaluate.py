"""Evaluate a policy under every sensor failure; the same as `robofuse evaluate`.

python scripts/evaluate.py POLICY --episodes 200
"""

import sys

from robofuse.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
