"""Check the import rules of pyproject.toml: `make lint`.

The linter's own console script would need the environment on the PATH.
"""

import sys

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

sys.path[:0] = ["operator", "contract"]  # source roots; a package named operator would hide the standard library's
status = lint_imports(config_filename="pyproject.toml", no_cache=True)
sys.exit(status != EXIT_STATUS_SUCCESS)
