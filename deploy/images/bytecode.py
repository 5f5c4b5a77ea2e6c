"""Compile what a program imports: `python bytecode.py PROGRAM FOLDER`. Run while the images are built, with their environment.

The root of an image is read-only, so byte code that it does not hold would be made anew at each start; byte code of all
packages would be half an image that nobody reads. So `PROGRAM` is run, which uses what the image is for, and all that it
has imported is compiled: beside the source, or, for the standard library, below `FOLDER`, as from the root. The files say
neither when their source was written nor its size (unchecked): the same source gives the same bytes, and a start reads less.
"""

import importlib.util
import runpy
import sys
from pathlib import Path
from py_compile import PycInvalidationMode, compile  # noqa: A004 - this one


def main() -> None:
    """Run the program, compile, and print how much it was."""
    program, folder = sys.argv[1:]
    runpy.run_path(program, run_name="__main__")
    sources = {str(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    size = files = 0
    Path(folder).mkdir(parents=True, exist_ok=True)
    for source in sorted(name for name in sources if name.endswith(".py") and name not in (program, __file__)):
        target = Path(importlib.util.cache_from_source(source))
        if target.exists():
            continue  # some bases have it
        if not source.startswith((sys.prefix + "/", "/app/")):
            target = Path(folder) / target.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        compile(source, str(target), doraise=True, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
        files += 1
        size += target.stat().st_size
    print(f"{Path(program).stem}: byte code of {files} modules, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
