"""Training runs in a single pod: the same model, conditions and record as with a pod for each step."""

from pathlib import Path

from support.cluster import Body, Cluster, ready, says
from support.operator import OperatorProcess

from winepipelines.api.status import ConditionType

SINGLE = {"pods": "Single"}


def _pods_of(run: Body) -> list[str]:
    """List the tasks of a run that have a pod."""
    names = [str(task["display_name"]) for task in run["run_details"]["task_details"]]
    return sorted(name for name in names if name == "executor" or name.endswith("-driver"))


def test_run_in_a_single_pod_serves_the_same_model(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    three = cluster.wait(namespace, ready)
    cluster.apply(cluster.resource(namespace, "single", training=SINGLE))
    single = cluster.wait(namespace, ready, "single")
    assert cluster.predict(namespace, "single") == cluster.predict(namespace)
    assert single.status.served is not None
    assert three.status.served is not None
    assert single.status.served.model.metrics == three.status.served.model.metrics
    assert single.status.served.model.data == three.status.served.model.data
    runs = {run["run_id"]: run for run in cluster.runs(namespace)}
    assert single.status.run is not None
    assert three.status.run is not None
    assert _pods_of(runs[single.status.run.id]) == ["executor", "root-driver", "training-driver"]
    assert len(_pods_of(runs[three.status.run.id])) == 7


def test_other_pods_start_no_run_and_the_next_run_uses_them(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    cluster.apply(cluster.resource(namespace, training=SINGLE))
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.spec.training.pods == "Single"
    assert (pipeline.status.revision, len(cluster.runs(namespace))) == (1, 1)
    cluster.apply(cluster.resource(namespace, training={**SINGLE, "parameters": {"alpha": 0.01}}))
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 2
    assert sorted(_pods_of(run).count("executor") for run in cluster.runs(namespace)) == [1, 3]


def test_failure_in_a_single_pod_names_the_step(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    file = Path(cluster.info.data_folder, f"{namespace}.csv")
    file.write_text((cluster.info.data_folder / "winequality-red.csv").read_text().replace('"quality"', '"taste"'))
    cluster.apply(cluster.resource(namespace, url=f"{cluster.info.data_base_url}/{file.name}", training=SINGLE))
    pipeline = cluster.wait(namespace, says(ConditionType.TRAINED, "ColumnMissing"))
    condition = pipeline.status.condition(ConditionType.TRAINED)
    assert condition is not None
    assert condition.message.startswith("Step preprocess failed: There is no column 'quality'")
    [run] = cluster.runs(namespace)
    assert _pods_of(run).count("executor") == 1
