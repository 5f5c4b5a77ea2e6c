"""The doctor command with wrong settings and absent or slow systems: it ends within seconds and prints no credential."""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.config import kube_config

from winepipelines.__main__ import main
from winepipelines.doctor.schema import KINDS, missing_fields
from winepipelines.platform import network
from winepipelines.platform.network import Network
from winepipelines.platform.token import TokenUnreadable, claims


class Command:
    """Runs the command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        # The default is read on import.
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "no-kubeconfig"))
        self.set("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # the command sets it; monkeypatch restores it
        for name in ("KFP", "MLFLOW", "S3_ENDPOINT"):
            self.set(f"WINE_{name}_URL", "http://127.0.0.1:1")

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    def unset(self, name: str) -> None:
        self._monkeypatch.delenv(name)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit status and the output."""
        self._monkeypatch.setattr("sys.argv", ["winepipelines", "doctor", "--timeout", "2", *arguments])
        status = main()
        out, err = self._capsys.readouterr()
        return status, out + err

    def findings(self, *arguments: str) -> dict[str, Any]:
        status, text = self.run("-o", "json", *arguments)
        report = json.loads(text)
        assert report["exitStatus"] == status
        return {finding["check"]: finding for finding in report["findings"]}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(monkeypatch, capsys, tmp_path)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Return the URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def token(**shown: object) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "RS256"}, shown)]
    return ".".join([*parts, "c2lnbmF0dXJl"])


def test_missing_setting_is_a_finding(command: Command) -> None:
    command.unset("WINE_MLFLOW_URL")
    status, text = command.run()
    assert status == 2
    assert "WINE_MLFLOW_URL=http://mlflow-server" in text
    assert "Needs: mlflow answers" in text


def test_malformed_setting_is_reported_with_its_name(command: Command) -> None:
    command.set("WINE_WORKERS", "many")
    status, text = command.run()
    assert status == 2
    assert text.startswith("winepipelines: WINE_WORKERS")


@pytest.mark.parametrize("arguments", [["-o", "yaml"], ["--timeout", "0"], ["--url", "http://a", "-f", "wine.yaml"]])
def test_wrong_usage_exits_with_2(command: Command, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.run(*arguments)
    assert end.value.code == 2


@pytest.mark.parametrize("text", ["", "kind: Pod", "kind: WinePipeline\n---\nkind: WinePipeline", "{", "kind: WinePipeline"])
def test_file_must_contain_one_resource(command: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "wine.yaml").write_text(text)
    status, shown = command.run("-f", str(tmp_path / "wine.yaml"))
    assert status == 2
    assert "wine.yaml is not one WinePipeline" in shown
    assert command.run("-f", str(tmp_path / "none.yaml"))[0] == 2


def test_each_unreachable_system_is_reported(command: Command) -> None:
    found = command.findings()
    failed = {check: finding["reason"] for check, finding in found.items() if finding["result"] == "failed"}
    assert failed == {
        "kubernetes answers": "KubernetesUnreachable",
        "kubeflow answers": "KubeflowUnreachable",
        "mlflow answers": "MlflowUnreachable",
    }
    assert "the connection is refused" in found["mlflow answers"]["message"]


def test_missing_compiled_pipelines_are_reported(command: Command, tmp_path: Path) -> None:
    command.set("WINE_TEMPLATES", str(tmp_path))
    finding = command.findings()["kubeflow answers"]
    assert finding["reason"] == "SettingsIncomplete"
    assert "WINE_TEMPLATES" in finding["remedy"]


def test_command_is_not_delayed_by_systems_that_hang(command: Command, silent_server: str) -> None:
    for name in ("KFP", "MLFLOW", "S3_ENDPOINT"):
        command.set(f"WINE_{name}_URL", silent_server)
    started = time.monotonic()
    found = command.findings("--url", "http://127.0.0.1/x")
    assert time.monotonic() - started < 4
    assert "does not answer" in found["kubeflow answers"]["message"]
    assert "accepts the connection" in found["mlflow answers"]["message"]


def test_command_is_not_delayed_by_a_name_server_that_hangs(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    real = socket.getaddrinfo

    def resolve_slowly(host: Any, *arguments: Any, **more: Any) -> Any:
        if str(host).startswith("resolve_slowly.example.org"):
            end.wait(60)
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_slowly)
    for name in ("KFP", "MLFLOW", "S3_ENDPOINT"):
        command.set(f"WINE_{name}_URL", "http://resolve_slowly.example.org")
    started = time.monotonic()
    found = command.findings("--url", "http://resolve_slowly.example.org/wine.csv")
    assert time.monotonic() - started < 4
    end.set()
    assert found["kubeflow answers"]["reason"] == "KubeflowUnreachable"
    assert found["data host resolves"]["reason"] == "DataHostUnresolved"


class TestToken:
    def test_token_is_decoded_and_never_printed(self, command: Command, tmp_path: Path) -> None:
        text = token(sub="system:serviceaccount:kubeflow:wine-operator", aud=["https://kubernetes.default.svc"], exp=9e9)
        path = tmp_path / "token"
        path.write_text(text)
        command.set("WINE_KFP_TOKEN_FILE", str(path))
        finding = command.findings()["kubeflow token is usable"]
        assert "is for https://kubernetes.default.svc, not for pipelines.kubeflow.org" in finding["message"]
        _, printed = command.run()
        assert not any(part in printed for part in text.split("."))

    def test_expired_token_is_reported(self, command: Command, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(token(aud="pipelines.kubeflow.org", exp=1))
        command.set("WINE_KFP_TOKEN_FILE", str(path))
        assert command.findings()["kubeflow token is usable"]["message"].endswith("has expired")

    @pytest.mark.parametrize("content", ["", "a.b", "a.b.c", "a.bnVsbA.c", "a.e30x.c", "\x00\xff.."])
    def test_invalid_token_is_an_error_without_its_content(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "token"
        path.write_text(content, encoding="latin-1")
        with pytest.raises(TokenUnreadable) as error:
            claims(str(path))
        assert not content or content not in str(error.value)

    def test_missing_token_file_is_reported(self) -> None:
        with pytest.raises(TokenUnreadable, match="no such file"):
            claims("/nowhere/token")


class TestDns:
    """A resolver with the search domains of a pod."""

    KNOWN: dict[str, list[str]]

    @pytest.fixture(autouse=True)
    def resolver(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.KNOWN = {}
        real = socket.getaddrinfo
        search = ["admin.svc.cluster.local", "svc.cluster.local", "corp.example"]
        (tmp_path / "resolv.conf").write_text(f"# a pod's\nsearch {' '.join(search)}\noptions edns0 ndots:5\n")
        monkeypatch.setattr(network, "RESOLV_CONF", tmp_path / "resolv.conf")

        def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
            if host[:1].isdigit():
                return real(host, *arguments, **more)
            tried = [host] if host.endswith(".") else [*(f"{host}.{domain}." for domain in search), f"{host}."]
            found = next((self.KNOWN[name] for name in tried if name in self.KNOWN), None)
            if found is None:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def data_host(self, command: Command, url: str) -> dict[str, str]:
        return dict(command.findings("--url", url)["data host resolves"])

    def test_wildcard_search_domain_is_reported_with_the_absolute_name(self, command: Command) -> None:
        self.KNOWN = {"data.example.org.corp.example.": ["10.9.9.9"], "data.example.org.": ["192.0.2.7"]}
        finding = self.data_host(command, "https://data.example.org/wine.csv")
        assert finding["result"] == "failed"
        assert "The search domain corp.example answers" in finding["message"]
        assert finding["remedy"] == "spec.data.url: https://data.example.org./wine.csv"
        assert self.data_host(command, "https://data.example.org./wine.csv")["result"] == "ok"

    def test_host_resolves_to_the_same_addresses_with_and_without_a_dot(self, command: Command) -> None:
        self.KNOWN = {"data.example.org.": ["192.0.2.7", "192.0.2.8"]}
        finding = self.data_host(command, "https://data.example.org/wine.csv")
        assert finding["message"].startswith("data.example.org resolves to 192.0.2.7, 192.0.2.8, with and without")

    def test_unknown_host_is_unresolved(self, command: Command) -> None:
        assert self.data_host(command, "https://data.example.org/wine.csv")["reason"] == "DataHostUnresolved"

    def test_service_of_the_namespace_resolves(self, command: Command) -> None:
        self.KNOWN = {"files.admin.svc.cluster.local.": ["10.0.0.3"]}
        assert self.data_host(command, "http://files/wine.csv")["result"] == "ok"

    def test_system_without_an_address_is_distinguished_from_an_outage(self, command: Command) -> None:
        command.set("WINE_KFP_URL", "http://ml-pipeline.example.org:8888")
        assert "DNS has no address for its host" in command.findings()["kubeflow answers"]["message"]

    def test_cluster_name_is_skipped_outside_the_cluster(self, command: Command) -> None:
        command.set("WINE_KFP_URL", "http://ml-pipeline.kubeflow.svc.cluster.local:8888")
        finding = command.findings()["kubeflow answers"]
        assert finding["result"] == "skipped"
        assert finding["remedy"].startswith("kubectl -n kubeflow exec deploy/wine-operator")


async def test_invalid_name_has_no_address() -> None:
    assert await Network().resolve("a" * 70 + ".example.org") == ()
    assert await asyncio.wait_for(Network().resolve("localhost"), 5)


class TestSchema:
    """Fields of the operator's models must be in the OpenAPI schema that the API server serves."""

    @staticmethod
    def served(**spec: object) -> dict[str, Any]:

        def structure(model: Any) -> dict[str, Any]:
            schema = model.model_json_schema(by_alias=True)

            def resolved(part: dict[str, Any]) -> dict[str, Any]:
                if "$ref" in part:
                    part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
                for choice in part.get("anyOf", []):
                    if "$ref" in choice:
                        part = resolved(choice)
                out = {
                    key: {name: resolved(value) for name, value in part[key].items()} for key in ("properties",) if key in part
                }
                if isinstance(part.get("items"), dict):
                    out["items"] = resolved(part["items"])
                return out

            return resolved(schema)

        return {
            f"io.winepipelines.v1alpha1.{kind}": {
                "properties": {name: structure(model) for name, model in models.items()},
                "x-kubernetes-group-version-kind": [{"kind": kind, "group": "winepipelines.io", "version": "v1alpha1"}],
            }
            for kind, models in KINDS.items()
        }

    def test_no_field_is_missing(self) -> None:
        assert missing_fields(self.served()) == ()

    def test_missing_fields_are_listed(self) -> None:
        schemas = self.served()
        properties = next(iter(schemas.values()))["properties"]
        del properties["spec"]["properties"]["training"]["properties"]["seed"]
        del properties["status"]["properties"]["history"]
        del properties["status"]["properties"]["conditions"]["items"]["properties"]["reason"]
        assert missing_fields(schemas) == ("spec.training.seed", "status.conditions.reason", "status.history")

    def test_missing_kinds_are_listed(self) -> None:
        assert missing_fields({}) == ("WinePipeline", "WinePrediction")
