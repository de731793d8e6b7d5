"""`python -m eightbit`: the same as the command `eightbit`."""

import sys

from .cli import main

sys.exit(main())
