"""Remove files that no program of an image reads: `python remove_unused_files.py FOLDER [PART…]`. Runs in the image build.

A part is a file or folder of one package. A part that does not exist is an error: the Dockerfile is out of date then.
Licences and metadata of packages stay, so that the image itself shows what is installed.
"""

import shutil
import sys
from pathlib import Path

FOLDERS = ("tests", "test", "SelfTest")  # tests of the packages
SUFFIXES = frozenset({".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyi", ".pyx"})  # for compilers and type checkers


def main() -> None:
    """Remove the files, and print the size before and after."""
    [packages] = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    doomed = [folder for name in FOLDERS for folder in packages.glob(f"*/**/{name}") if folder.is_dir()]
    doomed += Path(sys.argv[1]).glob("include")
    doomed += [packages / part for part in sys.argv[2:]]
    doomed += [file for file in packages.rglob("*") if file.suffix in SUFFIXES and file.is_file()]
    before = _size(packages)
    for path in sorted(set(doomed), reverse=True):  # a folder after its content
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    print(f"{sys.argv[1]}: {before / 1e6:.0f} MB, {_size(packages) / 1e6:.0f} MB without unused files")


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())


if __name__ == "__main__":
    main()
