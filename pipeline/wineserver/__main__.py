"""The command line: `python -m wineserver`, configured by Seldon's environment variables (see environment.py)."""

import sys

from wineserver.server import main

if __name__ == "__main__":
    sys.exit(main())
