"""Gates, canaries, rollbacks and triggers on the whole platform: what a person sees, and what the systems are asked."""

import threading
from collections.abc import Callable
from pathlib import Path

from support.cluster import Cluster, eventually, ready, says, settled
from support.operator import OperatorProcess
from support.website import Answer, Site

from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType, Outcome

READY, ACCEPTED = ConditionType.READY, ConditionType.ACCEPTED
WINE = Path(__file__).parents[2] / "data" / "winequality-red.csv"


def annotate(cluster: Cluster, namespace: str, **asks: str) -> None:
    """Ask for something by annotation, as a person does."""
    words = [f"winepipelines.io/{name}={value}" for name, value in asks.items()]
    cluster.sandbox.kubectl("-n", namespace, "annotate", "--overwrite", "winepipeline", "mlflow", *words)


def revision_ended(number: int, outcome: Outcome) -> Callable[[WinePipeline], bool]:
    """Whether a revision has ended so."""

    def so(pipeline: WinePipeline) -> bool:
        return any(entry.revision == number and entry.outcome is outcome for entry in pipeline.status.history)

    return so


def test_a_retrain_of_unchanged_data_uses_the_model_that_is_there(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    first = cluster.wait(namespace, settled)
    pods = {pod["metadata"]["uid"] for pod in cluster.serving_pods(namespace)}
    annotate(cluster, namespace, retrain="again")
    again = cluster.wait(namespace, revision_ended(2, Outcome.UNCHANGED))
    assert ready(again)
    assert first.status.served is not None
    assert again.status.served is not None
    assert again.status.served.version == first.status.served.version
    assert {pod["metadata"]["uid"] for pod in cluster.serving_pods(namespace)} == pods


def test_a_worse_model_is_refused_and_ready_tells_of_it(
    cluster: Cluster, operator: OperatorProcess, namespace: str, site: Site
) -> None:
    """The same spec, trained on data most of which came to be nonsense: the served model is measured on the same rows."""
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
    refused = cluster.wait(namespace, revision_ended(2, Outcome.REFUSED))
    assert ready(refused)
    message = refused.status.condition(READY)
    assert message is not None
    assert "revision 1 answers" in message.message
    assert "revision 2 is refused: r2" in message.message
    assert refused.status.candidate is not None
    assert "served_r2" in refused.status.candidate.metrics, "the served model was measured on the same rows"
    assert 5 < cluster.predict(namespace) < 7


def test_after_a_spec_change_a_refusal_is_not_ready_and_the_earlier_model_answers(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, settled)
    training = {"parameters": {"alpha": 2.0, "l1_ratio": 1.0}}
    cluster.apply(cluster.resource(namespace, training=training, gate=[{"metric": "r2", "noWorseThanServed": 0.0}]))
    refused = cluster.wait(namespace, says(READY, "GateRefused"))
    answering = refused.status.condition(ConditionType.ANSWERING)
    assert answering is not None
    assert answering.status == "True"
    assert "is worse than the" in str(refused.status.condition(ACCEPTED))
    assert 5 < cluster.predict(namespace) < 7


def test_a_canary_takes_its_shares_and_no_request_fails(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    serving = {"canary": {"steps": [25, 50], "pause": "2s"}}
    cluster.apply(cluster.resource(namespace, serving=serving))
    cluster.wait(namespace, settled)
    stop, failures, asked = threading.Event(), list[Exception](), list[float]()

    def ask() -> None:
        while not stop.wait(0.02):
            try:
                asked.append(cluster.predict(namespace))
            except Exception as error:  # whatever it is, a user would have seen it
                failures.append(error)

    load = threading.Thread(target=ask)
    load.start()
    try:
        cluster.apply(cluster.resource(namespace, serving=serving, training={"parameters": {"alpha": 0.01}}))
        shared = cluster.wait(namespace, says(ConditionType.DEPLOYED, "OnTrial"))
        assert shared.status.endpoint is not None
        assert shared.status.endpoint.traffic == "75 % revision 1, 25 % revision 2"
        served = cluster.wait(namespace, settled)
    finally:
        stop.set()
        load.join()
    assert failures == []
    assert len(asked) > 20
    assert served.status.served is not None
    assert served.status.served.revision == 2
    assert served.status.endpoint is not None
    assert served.status.endpoint.traffic == ""
    assert len({round(value, 6) for value in asked}) == 2, "both have answered"


def test_a_person_goes_back_to_an_earlier_revision(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
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
    assert (back.status.served.revision, back.status.served.origin) == (3, 1)
    eventually(lambda: cluster.predict(namespace) == first)
    assert len(cluster.runs(namespace)) == runs


def test_a_person_cancels_a_run(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, says(ConditionType.TRAINED, "RunRunning"))
    annotate(cluster, namespace, cancel="1")
    cluster.wait(namespace, says(READY, "RunCanceled"))
    annotate(cluster, namespace, retrain="after all")
    cluster.wait(namespace, ready)


def test_other_bytes_behind_the_address_begin_a_revision_by_themselves(
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
    assert served.status.served.data_sha256 != first.status.served.data_sha256
