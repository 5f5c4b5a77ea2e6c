"""MLflow's server, for all clients that reach the pod: `python -m sandbox.pods.tracking FOLDER PORT`.

`FOLDER` has its database. The object store's address and credentials are in the variables that MLflow reads, and
`MLFLOW_SERVER_ALLOWED_HOSTS` lists the host names that clients use.
"""

import os
import shutil
import sys
from pathlib import Path

from sandbox import mlflow_server
from sandbox.places import ROOT

EMPTY = ROOT / "mlflow.db"  # with all tables, created in the image build


def main() -> None:
    """Replace this process by the server."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    if not (folder / EMPTY.name).exists():
        shutil.copyfile(EMPTY, folder / EMPTY.name)
    kind = mlflow_server.variant("direct")
    command = [*mlflow_server.command(kind, sys.executable, port), "--host", "0.0.0.0"]  # noqa: S104 - in a pod
    os.execve(command[0], command, {**mlflow_server.environment(kind, folder), **os.environ})


if __name__ == "__main__":
    main()
