"""`python -m ovectors` is the command line."""

import sys

from ovectors.cli import main

sys.exit(main())
