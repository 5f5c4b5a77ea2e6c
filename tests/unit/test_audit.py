"""The audit distinguishes known vulnerabilities, none, and no answer. pip-audit is real, the OSV service is a fake."""

import json
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import audit, pins

TODAY = date(2026, 11, 25)
HASH = "0" * 64
FLAW = audit.Flaw("jinja2", "3.1.0", ("GHSA-1", "CVE-2026-1"), ("3.1.9",))


class Service:
    """A fake OSV service. `flaws` are the ids per package and version; `status` is the status of each answer."""

    def __init__(self) -> None:
        self.flaws: dict[tuple[str, str], list[str]] = {audit.CANARY: ["CVE-2020-14343"]}
        self.queried: list[tuple[str, str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                package = (query["package"]["name"], query["version"])
                outer.queried.append(package)
                body = json.dumps(
                    {"vulns": list(map(_vulnerability, outer.flaws.get(package, [])))} if package in outer.flaws else {}
                )
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        def _vulnerability(name: str) -> dict[str, Any]:
            return {"id": name, "summary": "bad", "affected": [], "aliases": [f"{name}-ALIAS"]}

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/query"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    fake = Service()
    thread = threading.Thread(target=fake.server.serve_forever)
    thread.start()
    monkeypatch.setenv("AUDIT_URL", fake.url)
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
    thread.join()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Write two requirements files and an empty list of acceptances; return their folder."""
    for environment, package in (("operator", "jinja2==3.1.0"), ("pipeline", "scikit-learn==1.9.1")):
        (tmp_path / f"{environment}.txt").write_text(f"{package} \\\n    --hash=sha256:{HASH}\n")
    (tmp_path / "audit-ignore.yaml").write_text("ignored: []\n")
    monkeypatch.setattr(pins, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(audit, "IGNORED", tmp_path / "audit-ignore.yaml")
    return tmp_path


def test_audit_passes_when_no_vulnerability_is_known(service: Service, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main() == audit.CLEAN == 0
    assert "no known flaws" in capsys.readouterr().out
    assert service.queried == [audit.CANARY, ("jinja2", "3.1.0"), ("scikit-learn", "1.9.1")]


def test_known_vulnerability_is_reported_with_its_environment(
    service: Service, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.flaws["scikit-learn", "1.9.1"] = ["PYSEC-2026-7"]
    assert audit.main() == audit.FLAWED == 1
    assert "KNOWN FLAW: scikit-learn 1.9.1 (pipeline): PYSEC-2026-7, PYSEC-2026-7-ALIAS" in capsys.readouterr().out


def test_accepted_vulnerability_is_reported_and_passes(
    service: Service, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.flaws["jinja2", "3.1.0"] = ["GHSA-1"]
    entry = {"id": "GHSA-1-ALIAS", "package": "jinja2", "reason": "no template is a user's", "until": date.max}
    (pinned / "audit-ignore.yaml").write_text(yaml.safe_dump({"ignored": [entry]}))
    assert audit.main() == audit.CLEAN
    assert "accepted until 9999-12-31: jinja2 3.1.0 (operator): GHSA-1" in capsys.readouterr().out


def test_audit_is_unknown_when_the_service_fails(service: Service, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service.status = 503
    assert audit.main() == audit.UNKNOWN == 3
    assert "COULD NOT ASK" in capsys.readouterr().err


def test_audit_is_unknown_when_the_service_is_unreachable(
    service: Service, pinned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    monkeypatch.setenv("AUDIT_URL", f"http://127.0.0.1:{port}/v1/query")
    assert audit.main() == audit.UNKNOWN
    assert "Connection refused" in capsys.readouterr().err


def test_audit_is_unknown_when_the_service_misses_the_canary(
    service: Service, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.flaws.clear()
    assert audit.main() == audit.UNKNOWN
    assert "does not know of any flaw in pyyaml 5.3" in capsys.readouterr().err


def test_skipped_package_is_reported(service: Service, pinned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = [{"name": "jinja2", "skip_reason": "not on the index"}]
    monkeypatch.setattr(audit, "answers", lambda *_: skipped)
    with pytest.raises(audit.CouldNotAskError, match=r"no answer about jinja2 3\.1\.0 of operator\.txt"):
        audit.ask(pinned / "operator.txt")


def test_pin_without_a_hash_is_rejected(service: Service, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pinned / "operator.txt").write_text("jinja2==3.1.0\n")
    assert audit.main() == audit.MISUSED == 2
    assert "jinja2==3.1.0" in capsys.readouterr().err


def test_every_pin_of_a_file_is_queried(service: Service) -> None:
    assert audit.ask(pins.REQUIREMENTS / "bootstrap.txt") == []
    assert {*service.queried} == {(pin.name, pin.version) for pin in pins.read("bootstrap").values()}


def test_environments_of_images_are_audited() -> None:
    assert {*pins.IMAGES.values(), "dev", "bootstrap"} <= {*audit.environments()}


@pytest.mark.parametrize("environment", audit.environments())
def test_requirements_have_pins_with_hashes(environment: str) -> None:
    assert pins.read(environment)


class TestJudging:
    def _judge(self, *accepted: audit.Acceptance) -> tuple[list[str], list[str]]:
        return audit.judge({FLAW: ["operator"]}, list(accepted), TODAY)

    def test_finding_names_the_fixed_version(self) -> None:
        findings, notes = self._judge()
        assert findings == ["KNOWN FLAW: jinja2 3.1.0 (operator): GHSA-1, CVE-2026-1: fixed in 3.1.9"]
        assert notes == []

    @pytest.mark.parametrize("name", ["GHSA-1", "CVE-2026-1"])
    def test_acceptance_holds_on_its_last_day_for_each_id(self, name: str) -> None:
        findings, notes = self._judge(audit.Acceptance(name, "jinja2", "why", TODAY))
        assert findings == []
        assert notes == ["accepted until 2026-11-25: jinja2 3.1.0 (operator): GHSA-1, CVE-2026-1: why"]

    def test_expired_acceptance_fails(self) -> None:
        findings, _ = self._judge(audit.Acceptance("GHSA-1", "jinja2", "why", date(2026, 11, 24)))
        assert findings == ["ACCEPTANCE ENDED 2026-11-24: jinja2 3.1.0 (operator): GHSA-1, CVE-2026-1"]

    def test_acceptance_does_not_apply_to_another_package(self) -> None:
        findings, notes = self._judge(audit.Acceptance("GHSA-1", "pyyaml", "why", TODAY))
        assert len(findings) == 1
        assert notes == ["nothing pinned has pyyaml: GHSA-1: its acceptance may be removed"]

    def test_expired_acceptance_without_a_finding_fails(self) -> None:
        findings, _ = audit.judge({}, [audit.Acceptance("GHSA-1", "jinja2", "why", date(2026, 11, 24))], TODAY)
        assert findings == ["ACCEPTANCE ENDED 2026-11-24: jinja2: GHSA-1; nothing pinned has it: remove it"]


class TestAcceptances:
    def test_each_acceptance_of_the_project_has_a_reason_and_a_pinned_package(self) -> None:
        for one in audit.acceptances(audit.IGNORED.read_text()):
            assert one.reason
            assert one.package in {name for environment in audit.environments() for name in pins.read(environment, None)}

    @pytest.mark.parametrize(
        "entry",
        [
            "{id: CVE-1, package: jinja2, reason: why}",
            "{id: CVE-1, package: jinja2, until: 2027-01-31}",
            "{id: CVE-1, package: jinja2, reason: ' ', until: 2027-01-31}",
            "{id: CVE-1, package: jinja2, reason: why, until: someday}",
            "{id: CVE-1, package: jinja2, reason: why, until: 2027-01-31, severity: low}",
            "CVE-1",
        ],
    )
    def test_acceptance_without_reason_or_date_is_rejected(self, entry: str) -> None:
        with pytest.raises(ValueError, match=r"audit-ignore\.yaml.*"):
            audit.acceptances(f"ignored: [{entry}]")
