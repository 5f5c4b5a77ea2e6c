"""The operator's adapter reports unreachable MLflow servers and rejected credentials, and sends credentials to no other host."""

import pytest
from support.mlflow import expected
from support.mlflow_server import MODEL_TAGS, Server, refusal
from support.proxy import Call, Proxy

from sandbox.mlflow_server import variant
from winepipelines.api.errors import PlatformError, Refused, Unavailable


async def test_wrong_path_is_reported(server: Server) -> None:
    wrong = server.info.mlflow_url + "/no/such/path"
    with pytest.raises(PlatformError) as caught:
        await server.adapter(mlflow_url=wrong).records("found", expected())
    assert isinstance(caught.value, Refused)
    assert "WINE_MLFLOW_URL" in caught.value.message or caught.value.reason == "MlflowUnauthorized"


async def test_path_prefix_of_a_reverse_proxy_is_supported(server: Server) -> None:
    """The proxy strips the prefix as an ingress does; the server does not know it."""
    server.log(server.experiment("prefixed"), MODEL_TAGS)

    def stripped(call: Call) -> None:
        assert call.path.startswith("/tools/mlflow/")

    root = server.info.mlflow_url
    with Proxy(root, before=stripped, strip="/tools/mlflow") as proxy:
        adapter = server.adapter(mlflow_url=f"{proxy.url}/tools/mlflow")
        assert (await adapter.records("prefixed", expected())).model is not None


async def test_rejected_host_name_is_reported(server: Server) -> None:
    if variant(server.name).series == 2:
        pytest.skip("MLflow 2 accepts every host name")
    prefix = variant(server.name).prefix
    upstream = server.info.mlflow_url.removesuffix(prefix)
    with Proxy(upstream, keep_host=True, address="127.0.0.2") as proxy:  # an address that the server does not allow
        strange = f"{proxy.url}{prefix}"
        error = await refusal(server.adapter(mlflow_url=strange))
    assert error.reason == "MlflowHostRejected"
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in error.message
    assert strange.split("/")[2] in error.message


async def test_stopped_server_is_reported_as_unavailable(server: Server) -> None:
    error = await refusal(server.adapter(mlflow_url="http://127.0.0.1:9"))
    assert isinstance(error, Unavailable)
    assert error.message.startswith("MLflow at http://127.0.0.1:9 does not answer: its host refuses the connection")


async def test_token_is_sent_with_every_request_and_read_again_when_rejected(server: Server) -> None:
    """Gateways in front of MLflow authenticate by token."""
    values = {"MLFLOW_TRACKING_TOKEN": "first"}
    known = {"first"}
    seen: list[str] = []

    def guard(call: Call) -> int | None:
        seen.append(call.headers.get("Authorization", ""))
        return None if seen[-1].removeprefix("Bearer ") in known else 401

    user = server.info.mlflow_user
    with Proxy(server.info.mlflow_url, before=guard, basic=(user, server.info.mlflow_password) if user else None) as proxy:
        adapter = server.adapter(values, mlflow_url=proxy.url, mlflow_secret="mlflow-tracking-credentials")
        await adapter.records("never", expected())
        assert set(seen) == {"Bearer first"}
        known = {"second"}  # rotated: the Secret is read again after a rejection
        error = await refusal(adapter)
        assert error.reason == "MlflowUnauthorized"
        assert "first" not in error.message
        assert "mlflow-tracking-credentials" in error.message
        values["MLFLOW_TRACKING_TOKEN"] = "second"
        await adapter.records("never", expected())
    assert seen[-1] == "Bearer second"


async def test_redirect_is_not_followed(server: Server) -> None:
    """A redirect may lead to a login page or to another host. Credentials are sent to the configured address only."""
    with Proxy(server.info.mlflow_url, before=lambda _: 302) as proxy:
        error = await refusal(server.adapter({"MLFLOW_TRACKING_TOKEN": "mine"}, mlflow_url=proxy.url))
    assert error.reason == "MlflowRequestRejected"
    assert "302" in error.message


class TestAuthentication:
    """The server that requires a password."""

    @pytest.fixture(autouse=True)
    def password_required(self, server: Server) -> None:
        if not server.credentials:
            pytest.skip("this server requires no password")

    async def test_missing_credentials_are_reported_with_the_setting(self, server: Server) -> None:
        error = await refusal(server.adapter({}, mlflow_secret=""))
        assert (error.reason, "WINE_MLFLOW_SECRET" in error.message) == ("MlflowUnauthorized", True)

    async def test_wrong_password_is_reported_without_showing_it(self, server: Server) -> None:
        wrong = {**server.credentials, "MLFLOW_TRACKING_PASSWORD": "not-the-password"}
        error = await refusal(server.adapter(wrong))
        assert isinstance(error, Refused)
        assert error.reason == "MlflowUnauthorized"
        assert "401" in error.message
        assert "mlflow-tracking-credentials" in error.message
        assert "not-the-password" not in error.message

    async def test_changed_credentials_are_read_again(self, server: Server) -> None:
        values = {**server.credentials, "MLFLOW_TRACKING_PASSWORD": "not-yet"}
        adapter = server.adapter(values)
        await refusal(adapter)
        values.update(server.credentials)
        await adapter.records("never", expected())
