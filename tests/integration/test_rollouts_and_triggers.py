"""Gates, canaries, rollbacks and triggers on the whole platform."""

import threading
from collections.abc import Callable
from pathlib import Path

from support.cluster import Cluster, eventually, ready, says, settled
from support.operator import OperatorProcess
from support.parametrized import both_backends
from support.website import Answer, Site

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, RevisionOutcome

READY, ACCEPTED = ConditionType.READY, ConditionType.ACCEPTED
WINE = Path(__file__).parents[2] / "data" / "winequality-red.csv"


def annotate(cluster: Cluster, namespace: str, **requests: str) -> None:
    """Set request annotations, as a user does."""
    annotations = [f"winepipelines.io/{name}={value}" for name, value in requests.items()]
    cluster.sandbox.kubectl("-n", namespace, "annotate", "--overwrite", "winepipeline", "mlflow", *annotations)


def revision_ended(number: int, outcome: RevisionOutcome) -> Callable[[WinePipeline], bool]:
    """Return a condition: the history has this outcome of the revision."""

    def ended(pipeline: WinePipeline) -> bool:
        return any(entry.revision == number and entry.outcome is outcome for entry in pipeline.status.history)

    return ended


@both_backends
def test_retrain_reuses_the_model_when_the_data_are_unchanged(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    first = cluster.wait(namespace, settled)
    pods = {pod["metadata"]["uid"] for pod in cluster.serving_pods(namespace)}
    annotate(cluster, namespace, retrain="again")
    again = cluster.wait(namespace, revision_ended(2, RevisionOutcome.UNCHANGED))
    assert ready(again)
    assert first.status.served is not None
    assert again.status.served is not None
    assert again.status.served.model.version == first.status.served.model.version
    assert {pod["metadata"]["uid"] for pod in cluster.serving_pods(namespace)} == pods


@both_backends
def test_gate_refuses_a_worse_model_and_ready_reports_it(
    cluster: Cluster, operator: OperatorProcess, namespace: str, site: Site
) -> None:
    """The spec is the same, but most of the data became nonsense. The gate measures both models on the same rows."""
    lines = WINE.read_text().splitlines()
    url = site.give("/wine.csv", Answer("\n".join(lines).encode()))
    gate = [{"metric": "r2", "atLeast": 0.1}]
    cluster.apply(cluster.resource(namespace, url=url, gate=gate))
    cluster.wait(namespace, settled)
    shuffled = [line.rpartition(";")[0] for line in lines[1:]]
    qualities = [line.rpartition(";")[2] for line in lines[1:]]
    turned = qualities[:700] + qualities[1100:] + qualities[700:1100]
    nonsense = [lines[0], *(f"{row};{quality}" for row, quality in zip(shuffled, turned, strict=True))]
    site.give("/wine.csv", Answer("\n".join(nonsense).encode()))
    annotate(cluster, namespace, retrain="with other data")
    refused = cluster.wait(namespace, revision_ended(2, RevisionOutcome.GATE_FAILED))
    assert ready(refused)
    message = refused.status.condition(READY)
    assert message is not None
    assert "Revision 1 serves at" in message.message
    assert "Revision 2 failed the gate: r2" in message.message
    assert refused.status.candidate is not None
    assert "served_r2" in refused.status.candidate.model.metrics, "the gate measured the served model on the same rows"
    assert 5 < cluster.predict(namespace) < 7


@both_backends
def test_gate_failure_after_a_spec_change_is_not_ready_and_keeps_the_served_model(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, settled)
    training = {"parameters": {"alpha": 2.0, "l1_ratio": 1.0}}
    cluster.apply(cluster.resource(namespace, training=training, gate=[{"metric": "r2", "noWorseThanServed": 0.0}]))
    refused = cluster.wait(namespace, says(READY, "GateFailed"))
    answering = refused.status.condition(ConditionType.ENDPOINT_VERIFIED)
    assert answering is not None
    assert answering.status == "True"
    assert "is worse than" in str(refused.status.condition(ACCEPTED))
    assert 5 < cluster.predict(namespace) < 7


@both_backends
def test_canary_is_promoted_and_no_request_fails(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    serving = {"canary": {"steps": [25, 50], "pause": "4s"}}
    cluster.apply(cluster.resource(namespace, serving=serving))
    cluster.wait(namespace, settled)
    stop, failures, answers, shares = threading.Event(), list[Exception](), list[float](), list[int]()

    def promoted(pipeline: WinePipeline) -> bool:
        traffic = pipeline.status.endpoint.traffic if pipeline.status.endpoint else ()
        shares.extend(share.percent for share in traffic if share.revision == 2 and share.percent not in shares)
        return settled(pipeline)

    def predict() -> None:
        while not stop.wait(0.02):
            try:
                answers.append(cluster.predict(namespace))
            except Exception as error:  # any error would reach a user
                failures.append(error)

    load = threading.Thread(target=predict)
    load.start()
    try:
        cluster.apply(cluster.resource(namespace, serving=serving, training={"parameters": {"alpha": 0.01}}))
        served = cluster.wait(namespace, promoted)
    finally:
        stop.set()
        load.join()
    assert failures == []
    assert shares == ([25, 50] if cluster.backend.splits_traffic else [])
    assert len(answers) > 20
    assert served.status.served is not None
    assert served.status.served.revision == 2
    assert served.status.endpoint is not None
    assert served.status.endpoint.traffic == ()
    assert len({round(value, 6) for value in answers}) == 2, "both models answered"


@both_backends
def test_rollback_annotation_serves_an_earlier_revision(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, settled)
    first = cluster.predict(namespace)
    cluster.apply(cluster.resource(namespace, training={"parameters": {"alpha": 0.01}}))
    cluster.wait(namespace, settled)
    assert cluster.predict(namespace) != first
    runs = len(cluster.runs(namespace))
    annotate(cluster, namespace, rollback="1")
    back = cluster.wait(namespace, says(READY, "RolledBack"))
    assert back.status.served is not None
    assert (back.status.served.revision, back.status.served.model.revision) == (3, 1)
    eventually(lambda: cluster.predict(namespace) == first)
    assert len(cluster.runs(namespace)) == runs


def test_cancel_annotation_ends_a_run(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, says(ConditionType.TRAINED, "RunInProgress"))
    annotate(cluster, namespace, cancel="1")
    cluster.wait(namespace, says(READY, "RunCanceled"))
    annotate(cluster, namespace, retrain="after all")
    cluster.wait(namespace, ready)


def test_check_schedule_starts_a_revision_when_the_data_changed(
    cluster: Cluster, operator: OperatorProcess, namespace: str, site: Site
) -> None:
    wine = WINE.read_bytes()
    url = site.give("/wine.csv", Answer(wine, headers={"ETag": '"one"'}))
    cluster.apply(cluster.resource(namespace, data={"url": url, "checkSchedule": "* * * * *"}))
    first = cluster.wait(namespace, settled)
    site.give("/wine.csv", Answer(wine + wine.splitlines(keepends=True)[1], headers={"ETag": '"two"'}))
    changed = cluster.wait(namespace, lambda pipeline: pipeline.status.revision == 2, seconds=120)
    assert changed.status.trigger == "DataChange"
    assert first.status.served is not None
    served = cluster.wait(namespace, lambda pipeline: settled(pipeline) and pipeline.status.served.revision == 2)  # type: ignore[union-attr]
    assert served.status.served is not None
    assert served.status.served.model.data.sha256 != first.status.served.model.data.sha256
