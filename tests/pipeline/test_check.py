"""The check of the data: what counts as changed, what it costs, and what is left in MLflow."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from support.website import Answer, Site

from winecontract.reasons import Reason
from winecontract.tags import PREFIX
from winesteps import tracking
from winesteps.check import Checked, compare, report
from winesteps.download import ATTEMPTS
from winesteps.failures import Attempt, StepFailure, reporting

CSV, OTHER = b"a;quality\n" + b"1;5\n" * 30, b"a;quality\n" + b"1;6\n" * 30
KNOWN, CHANGED = hashlib.sha256(CSV).hexdigest(), hashlib.sha256(OTHER).hexdigest()
ETAG = '"5d4-a"'
OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "check": "c-1"}


def refused(reason: Reason, url: str, **options: Any) -> str:
    with pytest.raises(StepFailure) as caught:
        compare(url, wait=lambda _seconds: None, **options)
    assert caught.value.reason is reason
    return caught.value.message


class TestCompare:
    """Comparing the bytes."""

    def test_compare_finds_no_change_when_the_digest_is_known(self, site: Site) -> None:
        url = site.give("/wine.csv", Answer(CSV, headers={"ETag": '"new"'}))
        assert compare(url, known_sha256=KNOWN, known_etag=ETAG) == Checked(changed=False, sha256=KNOWN, etag='"new"')

    def test_compare_finds_a_change_when_the_digest_differs(self, site: Site) -> None:
        url = site.give("/wine.csv", Answer(OTHER))
        assert compare(url, known_sha256=KNOWN) == Checked(changed=True, sha256=CHANGED, etag="")

    def test_compare_transfers_nothing_when_the_entity_tag_holds(self, site: Site) -> None:
        url = site.give("/wine.csv", Answer(status=304, length=None))
        assert compare(url, known_sha256=KNOWN, known_etag=ETAG) == Checked(changed=False, sha256=KNOWN, etag=ETAG)
        assert site.asked[0][1]["If-None-Match"] == ETAG

    def test_compare_reads_no_body_when_the_server_ignores_the_condition(self, site: Site) -> None:
        url = site.give("/wine.csv", Answer(b"", headers={"ETag": ETAG}, length=10**12))
        assert not compare(url, known_sha256=KNOWN, known_etag=ETAG).changed, "and nothing was read"

    def test_compare_sends_the_entity_tag_after_a_redirect(self, site: Site) -> None:
        site.give("/new", Answer(status=304, length=None))
        url = site.give("/old", Answer(status=302, headers={"Location": "/new"}))
        assert not compare(url, known_sha256=KNOWN, known_etag=ETAG).changed
        assert site.asked[1][1]["If-None-Match"] == ETAG

    @pytest.mark.parametrize("etag", ['W/"5d4-a"', "5d4-a", '"a"\r\nX: y'])
    def test_compare_sends_no_weak_entity_tag(self, site: Site, etag: str) -> None:
        url = site.give("/wine.csv", Answer(CSV))
        assert not compare(url, known_sha256=KNOWN, known_etag=etag).changed
        assert "If-None-Match" not in site.asked[0][1]

    @pytest.mark.parametrize("etag", ["", ETAG])
    def test_compare_finds_no_change_when_nothing_is_known(self, site: Site, etag: str) -> None:
        url = site.give("/wine.csv", Answer(CSV, headers={"ETag": '"now"'}))
        assert compare(url, known_etag=etag) == Checked(changed=False, sha256=KNOWN, etag='"now"')

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (Answer(b"<!doctype html>"), Reason.DATA_NOT_CSV),
            (Answer(b""), Reason.DATA_NOT_CSV),
            (Answer(CSV, length=None), Reason.DATA_TOO_LARGE),
            (Answer(status=404), Reason.DATA_NOT_FOUND),
            (Answer(status=503), Reason.DATA_UNREACHABLE),
        ],
    )
    def test_compare_fails_as_download_does(self, site: Site, answer: Answer, reason: Reason) -> None:
        refused(reason, site.give("/wine.csv", answer), known_sha256=KNOWN, known_etag=ETAG, max_bytes=100)
        assert len(site.asked) == (1 if reason.permanent else ATTEMPTS)

    def test_compare_rejects_an_invalid_digest(self, site: Site) -> None:
        assert "known_sha256" in refused(Reason.PARAMETERS_INVALID, site.give("/", Answer(CSV)), known_sha256="' OR 1=1")


class TestCompareInTheObjectStore:
    """s3 addresses, with a web server in the place of the object store."""

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access-hidden")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-hidden")

    @pytest.mark.parametrize(("answer", "changed"), [(Answer(status=304, length=None), False), (Answer(OTHER), True)])
    def test_compare_sends_the_entity_tag(self, site: Site, answer: Answer, changed: bool) -> None:
        site.give("/bucket/wine.csv", answer)
        found = compare(
            "s3://bucket/wine.csv", known_sha256=KNOWN, known_etag=ETAG, s3_endpoint_url=f"http://127.0.0.1:{site.port}"
        )
        assert found.changed is changed
        assert site.asked[0][1]["If-None-Match"] == ETAG


def record(store: str, **owner: str) -> tracking.Record:
    return tracking.Record(store, "wine", owner=OWNER | owner, kfp_run="run-1")


def reported(store: str, changed: bool = False, **owner: str) -> str:
    attempt = Attempt()
    report(Checked(changed, KNOWN, ETAG), record(store, **owner), attempt)
    assert attempt.run_id is not None
    return attempt.run_id


def runs(store: str) -> list[Run]:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("wine")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def step_tags(run: Run) -> Mapping[str, str]:
    return {name.removeprefix(PREFIX): value for name, value in run.data.tags.items() if name.startswith(PREFIX)}


def test_report_writes_a_run(store: str) -> None:
    reported(store, changed=True)
    (run,) = runs(store)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "data-check")
    assert step_tags(run) == {
        "namespace": "admin",
        "name": "mlflow",
        "uid": "1f0c",
        "check": "c-1",
        "kfp-run": "run-1",
        "data-changed": "true",
        "data-sha256": KNOWN,
        "data-etag": ETAG,
    }


def test_report_deletes_earlier_checks_of_the_resource(store: str) -> None:
    """And nobody else's run goes: not another resource's, not a training's."""
    others = {reported(store, uid="2f0c")}
    training = tracking.Record(store, "wine", owner={"name": "mlflow", "uid": "1f0c", "revision": 7})
    others.add(tracking.start_run(tracking.connect(training), training))
    for number in range(4):
        last = reported(store, check=f"c-{number}")
    assert {run.info.run_id for run in runs(store)} == {*others, last}


def test_report_deletes_nothing_without_an_owner(store: str) -> None:
    for _ in range(2):
        report(Checked(changed=False, sha256=KNOWN, etag=""), tracking.Record(store, "wine"), Attempt())
    assert len(runs(store)) == 2


def test_report_succeeds_when_deleting_earlier_checks_fails(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reported(store)

    def refuse(_self: MlflowClient, _run: str) -> None:
        raise MlflowException("not you", error_code=7)  # PERMISSION_DENIED

    monkeypatch.setattr(MlflowClient, "delete_run", refuse)
    reported(store, check="c-2")
    assert [run.info.status for run in runs(store)] == ["FINISHED", "FINISHED"]
    assert "deleting the runs of earlier checks failed" in caplog.text


def test_failed_check_is_recorded_and_deletes_no_other(store: str) -> None:
    reported(store)
    with pytest.raises(StepFailure), reporting("check", record(store, check="c-2")):
        raise StepFailure(Reason.DATA_NOT_FOUND, "gone")
    failed, _ = runs(store)
    assert failed.info.status == "FAILED"
    assert step_tags(failed).items() >= {"check": "c-2", "failed-step": "check", "failure-reason": "DataNotFound"}.items()
