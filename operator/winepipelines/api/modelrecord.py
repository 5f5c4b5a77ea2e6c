"""The record of a trained model. It is made once, from what MLflow recorded, and then passed on as it is.

A candidate, the served model, the history, a rollout and a WinePrediction all hold this one type.
"""

from pydantic import Field

from winepipelines.api.model import StatusModel
from winepipelines.api.spec import Runtime


class ModelServer(StatusModel):
    """The server that a model is served with. It is fixed once the model has answered, whatever is upgraded.

    `image` is the server's image. `options` belong to the serving backend, which alone reads them.
    """

    image: str = ""
    options: dict[str, str] = Field(default_factory=dict)


class TrainingData(StatusModel):
    """The data that a model was trained on.

    `sha256`, `etag` and `version` identify the file; `version` is set in a bucket that keeps versions. `rows` is the number of
    rows used, `rows_dropped` the number left out for a missing value. Unknown values are unset.
    """

    sha256: str = ""
    etag: str = ""
    version: str = ""
    rows: int | None = None
    rows_dropped: int | None = None
    columns_dropped: tuple[str, ...] = ()
    format: str = ""


class ModelRecord(StatusModel):
    """A trained model.

    `revision` is the revision that trained it, `uri` the address that the serving backend copies it from. `version` is a version
    of `registered_model` in MLflow's model registry. `digest` is the digest of the model's files that the train step signed,
    empty where the record is not signed; `example_digest` is that of the input example that the endpoint is verified with.
    `inputs_hash` is the hash of the spec that the model was trained for.
    """

    revision: int = 0
    uri: str
    mlflow_run: str = ""
    version: str = ""
    registered_model: str = ""
    runtime: Runtime = Runtime.BUNDLED
    server: ModelServer = ModelServer()
    digest: str = ""
    example_digest: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    inputs_hash: str = ""
    data: TrainingData = TrainingData()
    warnings: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """Hash what identifies the model, so that queries and actions can name it."""
        return hash((self.revision, self.uri, self.mlflow_run))
