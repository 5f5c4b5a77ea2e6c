"""Import what the sandbox's image runs, for compile_bytecode.py; create MLflow's empty database."""

import importlib
import pkgutil

import kfp.local  # noqa: F401 - imported late, where they are used
import mlflow.server.fastapi_app
import mlflow.store.db.utils as database
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import skops.io  # noqa: F401
import uvicorn.protocols.http.auto  # noqa: F401
from kubernetes import client, config, watch  # noqa: F401

from sandbox import kubeflow, pods
from sandbox.kubeflow import node
from sandbox.pods import tracking


def main() -> None:
    """Import the modules of its programs; create the tables."""
    for package in (kubeflow, pods):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    for name in (*node._WORKER_PACKAGES, *node._STEP_PACKAGES):
        importlib.import_module(name)
    database._initialize_tables(database.create_sqlalchemy_engine_with_retry(f"sqlite:///{tracking.EMPTY}"))


main()
