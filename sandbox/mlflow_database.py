"""MLflow's empty database, made once per MLflow: its migrations are a second of every start. Called by `platform`."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from sandbox.errors import BuildError
from sandbox.places import cache_folder
from sandbox.plan import Plan


def prepare(plan: Plan) -> None:
    """Give a new sandbox an empty database with all of its tables.

    Raises BuildError when MLflow cannot make it.
    """
    database = plan.folder / "mlflow.db"
    # The environment's folder is named by the hash of its pins: another MLflow, another database.
    kept = cache_folder() / "mlflow" / f"{Path(plan.pipeline_python).parents[1].name}.db"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            made = Path(scratch) / kept.name
            command = [plan.pipeline_python, "-m", "mlflow", "db", "upgrade", f"sqlite:///{made}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BuildError(f"MLflow could not make its database:\n{done.stderr.strip()}")
            made.replace(kept)
    if not database.exists():
        shutil.copy(kept, database)
