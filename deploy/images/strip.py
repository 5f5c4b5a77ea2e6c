"""Remove from an environment what no program of an image reads: `python strip.py FOLDER [PART…]`. Run while the images are built.

A part is a file or folder of one package, which must be there: what is said of it is then no longer true.

Packages' licences and metadata stay: what is installed must be told from the image itself.
"""

import shutil
import sys
from pathlib import Path

FOLDERS = ("tests", "test", "SelfTest")  # packages' own tests
SUFFIXES = frozenset({".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyi", ".pyx"})  # for compilers and type checkers


def main() -> None:
    """Remove it, and print how much that was."""
    [packages] = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    doomed = [folder for name in FOLDERS for folder in packages.glob(f"*/**/{name}") if folder.is_dir()]
    doomed += Path(sys.argv[1]).glob("include")
    doomed += [packages / part for part in sys.argv[2:]]
    doomed += [file for file in packages.rglob("*") if file.suffix in SUFFIXES and file.is_file()]
    before = _size(packages)
    for path in sorted(set(doomed), reverse=True):  # a folder after what is in it
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    print(f"{sys.argv[1]}: {before / 1e6:.0f} MB, {_size(packages) / 1e6:.0f} MB without what nobody reads")


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())


if __name__ == "__main__":
    main()
