"""Compile the modules that a program imports: `python compile_bytecode.py PROGRAM FOLDER`. Runs in the image build.

The root of an image is read-only, so missing byte code would be compiled at each start; byte code of all packages would double
the image. So `PROGRAM` is run, which exercises the image's commands, and every module that it imported is compiled: beside the
source, or, for the standard library, below `FOLDER` at its path from the root. The files record neither the time nor the size
of their source (unchecked hash): the same source gives the same bytes, and a start reads less.
"""

import importlib.util
import runpy
import sys
from pathlib import Path
from py_compile import PycInvalidationMode, compile  # noqa: A004 - this one


def main() -> None:
    """Run the program, compile what it imported, and print the number and size."""
    program, folder = sys.argv[1:]
    runpy.run_path(program, run_name="__main__")
    sources = {str(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    size = files = 0
    Path(folder).mkdir(parents=True, exist_ok=True)
    for source in sorted(name for name in sources if name.endswith(".py") and name not in (program, __file__)):
        target = Path(importlib.util.cache_from_source(source))
        if target.exists():
            continue  # some base images have it compiled
        if not source.startswith((sys.prefix + "/", "/app/")):
            target = Path(folder) / target.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        compile(source, str(target), doraise=True, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
        files += 1
        size += target.stat().st_size
    print(f"{Path(program).stem}: byte code of {files} modules, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
