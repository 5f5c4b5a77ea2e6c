"""The command line: `python -m wineserver`, configured by Seldon's environment variables (see environment.py)."""

import gc
import sys

gc.disable()  # a sixth of the start was spent looking through what imports made; server.py turns it on again

from wineserver.server import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
