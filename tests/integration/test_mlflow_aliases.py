"""The operator's adapter sets and removes aliases on real MLflow servers."""

from itertools import product

import pytest
from support.mlflow_server import MODEL_TAGS, Server

from winepipelines.api.errors import Refused
from winepipelines.api.observed import ModelVersion


async def test_alias_moves_to_the_given_version(server: Server) -> None:
    adapter, experiment = server.adapter(), server.experiment("registry")
    server.registry.create_registered_model("wine's best")
    assert await adapter.aliased("wine's best", "champion") is None
    runs = [server.log(experiment, MODEL_TAGS) for _ in range(2)]
    for run in runs:
        server.registry.create_model_version("wine's best", f"{run.info.artifact_uri}/model", run.info.run_id)
    for version, run in (("1", runs[0]), ("2", runs[1]), ("2", runs[1])):
        model = ModelVersion("wine's best", version, run.info.run_id)
        await adapter.set_alias(model, "champion")
        assert await adapter.aliased("wine's best", "champion") == model


async def test_alias_is_refused_when_the_version_belongs_to_another_run(server: Server) -> None:
    """The version's number is in a tag, which every user with write access to MLflow can set."""
    adapter, experiment = server.adapter(), server.experiment("registry")
    server.registry.create_registered_model("theirs")
    theirs, mine = server.log(experiment, MODEL_TAGS), server.log(experiment, MODEL_TAGS)
    server.registry.create_model_version("theirs", f"{theirs.info.artifact_uri}/model", theirs.info.run_id)
    with pytest.raises(Refused, match=mine.info.run_id):
        await adapter.set_alias(ModelVersion("theirs", "1", mine.info.run_id), "champion")
    assert await adapter.aliased("theirs", "champion") is None


async def test_alias_of_another_run_stays_when_the_version_numbers_are_equal(server: Server) -> None:
    """The resource had version 1 of another registered model, or of this one before it was deleted and created again."""
    adapter, experiment = server.adapter(), server.experiment("registry")
    runs = {name: server.log(experiment, MODEL_TAGS) for name in ("a's own", "shared by a and b")}
    for name, run in runs.items():
        server.registry.create_registered_model(name)
        server.registry.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    mine, theirs = (ModelVersion(name, "1", run.info.run_id) for name, run in runs.items())
    for model, alias in product((mine, theirs), ("champion", "challenger")):
        await adapter.set_alias(model, alias)
    claimed = ModelVersion(theirs.registered_model, "1", mine.mlflow_run)
    await adapter.remove_alias(claimed, "champion")
    await adapter.leave([mine, claimed], "a", retired=True)
    for alias in ("champion", "challenger"):
        assert await adapter.aliased(theirs.registered_model, alias) == theirs
        assert await adapter.aliased(mine.registered_model, alias) is None
    assert not server.registry.get_model_version(theirs.registered_model, "1").tags
    assert server.registry.get_model_version(mine.registered_model, "1").tags
