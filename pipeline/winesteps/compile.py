"""Writes the compiled pipelines and components under templates/, or checks that they are current.

Run by a person or by CI: `python -m winesteps.compile [--check]`, with pipeline/ on the path.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from kfp import compiler

from winesteps import components
from winesteps.pipelines import wine_data_check, wine_prediction, wine_training, wine_training_single

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
"""Where the compiled files are kept."""

HEADING = "# Compiled from pipeline/winesteps by `python -m winesteps.compile`: change it there."

log = logging.getLogger(__name__)


def compiled() -> dict[str, str]:
    """The content of each file, by its path below `TEMPLATES`."""
    what = {
        "pipelines/wine-training.yaml": wine_training,
        "pipelines/wine-training-single.yaml": wine_training_single,
        "pipelines/wine-data-check.yaml": wine_data_check,
        "components/check.yaml": components.check,
        "pipelines/wine-prediction.yaml": wine_prediction,
        "components/download.yaml": components.download,
        "components/preprocess.yaml": components.preprocess,
        "components/train.yaml": components.train,
        "components/training.yaml": components.training,
        "components/predict.yaml": components.predict,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "compiled.yaml"
        files = {}
        for name, component in what.items():
            compiler.Compiler().compile(component, str(file))
            # Kubeflow begins the file with a summary of the inputs, whose defaults it lists in no fixed order.
            lines = file.read_text(encoding="utf-8").splitlines()
            files[name] = "\n".join([HEADING, *(line for line in lines if not line.startswith("#"))]) + "\n"
        return files


def stale(templates: Path = TEMPLATES) -> dict[str, str]:
    """The files below `templates` that are missing or not what the code compiles to, with the content due."""
    return {
        name: content
        for name, content in compiled().items()
        if not (templates / name).is_file() or (templates / name).read_text(encoding="utf-8") != content
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 where --check finds a stale file."""
    parser = argparse.ArgumentParser(prog="python -m winesteps.compile", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    parser.add_argument("--templates", type=Path, default=TEMPLATES, help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    outdated = stale(options.templates)
    for name, content in outdated.items():
        if options.check:
            log.error("stale: %s; run python -m winesteps.compile", options.templates / name)
            continue
        (options.templates / name).parent.mkdir(parents=True, exist_ok=True)
        (options.templates / name).write_text(content, encoding="utf-8")
        log.info("wrote %s", options.templates / name)
    return int(options.check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
