"""The init container of a served model: `python -m sandbox.pods.copier URI FOLDER`, as Seldon starts rclone's `copy`.

The store's address and keys are in rclone's variables, from the Secret that the SeldonDeployment names.
"""

import os
import sys
from pathlib import Path

from sandbox.seldon import storage


def main() -> None:
    """Copy the model. On failure, exit with 1 and print the reason as the last line."""
    uri, folder = sys.argv[1:]
    try:
        files = storage.copy(uri, dict(os.environ), Path(folder))
    except storage.CopyError as error:
        sys.exit(str(error))
    sys.stdout.write(f"copied {files} files from {uri}\n")


if __name__ == "__main__":
    main()
