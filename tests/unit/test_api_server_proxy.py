"""The connection to the API server uses the proxy of the environment, as other clients of Kubernetes do."""

import pytest

from winepipelines.platform.kubernetes import proxy_of


@pytest.mark.parametrize(
    ("address", "bypassed", "expected"),
    [
        ("https://api.example.org:6443", "", "http://proxy:3128"),
        ("https://10.96.0.1:443", "10.96.0.1,.svc", None),
        ("https://kubernetes.default.svc", "10.96.0.1,.svc", None),
        ("http://127.0.0.1:8001", "", None),  # there is a proxy for https only
    ],
)
def test_proxy_of_environment_is_used_unless_bypassed(
    monkeypatch: pytest.MonkeyPatch, address: str, bypassed: str, expected: str | None
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", bypassed)
    assert proxy_of(address) == expected
