"""``python -m truyvet``: the command line."""

import sys

from truyvet.cli import main

sys.exit(main())
