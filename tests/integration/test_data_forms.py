"""A real-world table (gzip, decimal comma, an index, a text column, missing values) is trained on and scored."""

import gzip
from pathlib import Path

from support.cluster import Cluster, ready
from support.operator import OperatorProcess
from support.website import Answer, Site

from winepipelines.api.prediction import PredictionStage

LINES = (Path(__file__).parents[2] / "data" / "winequality-red.csv").read_text().splitlines()
ROWS, WITHOUT_PH = 400, 7


def _table() -> bytes:
    """Build the table, with two unneeded columns, of which the first has no name, and decimal commas."""
    names = [name.strip('"') for name in LINES[0].split(";")]
    lines = [";".join(["", "type", *names])]
    for number, line in enumerate(LINES[1 : ROWS + 1]):
        cells = line.replace(".", ",").split(";")
        if number < WITHOUT_PH:
            cells[names.index("pH")] = "NA"
        lines.append(";".join([str(number), "red" if number % 2 else "rosé", *cells]))
    return gzip.compress("\n".join(lines).encode())


def test_real_world_table_is_trained_on_and_scored(
    cluster: Cluster, operator: OperatorProcess, namespace: str, site: Site
) -> None:
    url = site.give("/wine.csv.gz", Answer(_table()))
    columns = {"drop": [1, "type"]}
    data = {"separator": ";", "decimal": ",", "missing": "dropRows", "columns": columns}
    cluster.apply(cluster.resource(namespace, url=url, data=data))
    served = cluster.wait(namespace, ready).status.served
    assert served is not None
    assert served.model.data is not None
    assert (served.model.data.rows, served.model.data.rows_dropped) == (ROWS - WITHOUT_PH, WITHOUT_PH)
    assert len(served.model.data.columns_dropped) == 2
    assert "gzip" in served.model.data.format
    assert 3 < cluster.predict(namespace) < 9

    body = {
        "apiVersion": "winepipelines.io/v1alpha1",
        "kind": "WinePrediction",
        "metadata": {"name": "scores", "namespace": namespace},
        "spec": {
            "pipeline": "mlflow",
            "input": {"url": url, "columns": columns, "decimal": ","},
            "output": f"s3://mlpipeline/{namespace}/scores.csv",
        },
    }
    cluster.apply(body)
    status = cluster.wait_for_prediction(namespace, lambda prediction: prediction.status.is_over).status
    assert status.stage is PredictionStage.SUCCEEDED, status
    assert status.rejected is not None
    assert (status.rows, status.rejected.rows) == (ROWS, WITHOUT_PH)
