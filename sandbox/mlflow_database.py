"""MLflow's databases. The empty database of records is created once per MLflow version: its migrations take a second."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from sandbox import mlflow_server
from sandbox.certificates import write_secret
from sandbox.errors import BuildError
from sandbox.places import cache_folder
from sandbox.plan import Plan

# As a server does at its first start. `mlflow db upgrade` before version 3 needs existing tables.
MAKE_TABLES = (
    "import sys, mlflow.store.db.utils as db; db._initialize_tables(db.create_sqlalchemy_engine_with_retry(sys.argv[1]))"
)


def prepare(plan: Plan) -> None:
    """Create a new sandbox's empty database with all tables, and the user if the server requires one.

    Raises BuildError when MLflow cannot make it.
    """
    database = plan.folder / "mlflow.db"
    # The environment's folder is named by the hash of its pins, so another MLflow has another database.
    kept = cache_folder() / "mlflow" / f"{Path(plan.mlflow_python).parents[1].name}.db"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            made = Path(scratch) / kept.name
            command = [plan.mlflow_python, "-c", MAKE_TABLES, f"sqlite:///{made}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BuildError(f"MLflow could not create its database:\n{done.stderr.strip()}")
            made.replace(kept)
    if not database.exists():
        shutil.copy(kept, database)
    if mlflow_server.variant(plan.mlflow).proxied:
        users = mlflow_server.authentication(plan.folder, plan.mlflow_password)
        write_secret(plan.folder / mlflow_server.AUTHENTICATION, users.encode())
