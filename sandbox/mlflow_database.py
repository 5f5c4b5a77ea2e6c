"""MLflow's empty database, made once per MLflow: its migrations are a second of every first start. Called by `platform`."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sandbox.places import cache_folder
from sandbox.plan import Plan


def prepare(plan: Plan) -> None:
    """Give a new sandbox the empty database that an earlier one left, if one did."""
    if not _database(plan).exists() and _kept(plan).exists():
        shutil.copy(_kept(plan), _database(plan))


def keep(plan: Plan) -> None:
    """Keep a database that MLflow has just made, before anyone used it."""
    kept = _kept(plan)
    if kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        copy = Path(scratch) / kept.name
        with closing(sqlite3.connect(_database(plan))) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        copy.replace(kept)


def _database(plan: Plan) -> Path:
    return plan.folder / "mlflow.db"


def _kept(plan: Plan) -> Path:
    # The environment's folder is named by the hash of its pins: another MLflow, another database.
    return cache_folder() / "mlflow" / f"{Path(plan.pipeline_python).parents[1].name}.db"
