"""``python -m stitchlib``: the command line."""

import sys

from stitchlib.cli import main

sys.exit(main())
