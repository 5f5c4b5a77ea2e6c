"""The storage initializer's entry point: `initializer.py SOURCE FOLDER...`, run with the packages of its image.

KServe's own is not part of the package `kserve-storage`, but of its image. Exits with 1 if the download fails.
"""

import logging
import sys
from pathlib import Path

from kserve_storage import Storage
from kserve_storage.logging import configure_logging, logger


def main() -> int:
    """Download the models; return the exit status."""
    configure_logging()
    logging.getLogger().setLevel(logging.INFO)
    sources, folders = sys.argv[1::2], sys.argv[2::2]
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        Storage.download_files(sources, folders)
    except Exception as error:
        logger.error("Storage initialization failed: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
