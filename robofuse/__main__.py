"""`python -m robofuse` is `robofuse`."""

import sys

from robofuse.cli import main

sys.exit(main())
