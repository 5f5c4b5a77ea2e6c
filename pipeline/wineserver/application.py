"""The ASGI application: MLServer's Open Inference Protocol routes and the Seldon protocol's. Made by server.py.

MLServer's own `MLServer` class always starts a gRPC server and a metrics server; nothing here speaks gRPC (Seldon's
executor uses REST) and the executor has the metrics, so only its registry, data plane and REST application are used.
"""

from typing import cast

from fastapi import FastAPI
from mlserver.handlers import DataPlane, ModelRepositoryHandlers
from mlserver.registry import MultiModelRegistry
from mlserver.repository import SchemalessModelRepository
from mlserver.rest.app import create_app
from mlserver.settings import ModelParameters, ModelSettings, Settings
from starlette.types import ASGIApp

from wineserver import seldon
from wineserver.environment import Environment
from wineserver.problems import HANDLERS, BodyLimit
from wineserver.runtime import WineRuntime


async def create_application(environment: Environment) -> ASGIApp:
    """Load the model and return the application that serves it. Raises ModelFolderError."""
    settings = Settings(debug=False, parallel_workers=0, metrics_endpoint=None, gzip_enabled=False, _env_file=None)
    registry = MultiModelRegistry()
    await registry.load(
        ModelSettings(
            name=environment.name,
            implementation=WineRuntime,
            parameters=ModelParameters(uri=str(environment.folder), _env_file=None),
            _env_file=None,
        )
    )
    runtime = cast("WineRuntime", await registry.get_model(environment.name))
    repository = ModelRepositoryHandlers(repository=SchemalessModelRepository(str(environment.folder)), model_registry=registry)
    app: FastAPI = create_app(settings, DataPlane(settings, registry), repository)
    # The repository routes would let any caller unload the model.
    kept = [route for route in app.router.routes if not getattr(route, "path", "").startswith("/v2/repository")]
    app.router.routes = [*seldon.routes(runtime), *kept]
    app.state.expected = str(runtime.model.schema.refuse("an inference request has inputs"))
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return BodyLimit(app, environment.max_body)
