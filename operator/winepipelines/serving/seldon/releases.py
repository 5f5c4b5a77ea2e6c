"""Which releases of Seldon's own MLflow server the train step can write models for."""

from winecontract import servers


def problem(version: str) -> str:
    """Describe why the server of this version cannot serve; empty if it can."""
    if servers.find(version) is not None:
        return ""
    return (
        f"The operator does not know which models Seldon's MLflow server {version!r} can read (spec.serving.runtime is "
        f"mlflowserver). Use a server of release {servers.known()} (WINE_MLFLOWSERVER_IMAGE, WINE_MLFLOWSERVER_VERSION), or set "
        "spec.serving.runtime to bundled"
    )
