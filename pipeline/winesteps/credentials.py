"""Credentials for data at http and https addresses: a Secret that the resource names, read from the step's environment.

They are sent only to the host of the resource's address, over https unless `credentialsOverHTTP` is set, and never to a host
that it redirects to.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from winecontract.reasons import Reason
from winesteps.failures import StepFailure

MLFLOW_SECRET = "wine-mlflow-credentials"
"""Name of the Secret with MLflow's credentials in the namespace of the run, if MLflow requires any. The operator creates it."""
NO_SECRET = "winepipelines-no-credentials"
"""Value of the pipeline's parameter if no Secret is named: Kubernetes requires a name, but the Secret can be absent."""
USERNAME, PASSWORD, TOKEN = "WINE_DATA_USERNAME", "WINE_DATA_PASSWORD", "WINE_DATA_TOKEN"
"""Variables that hold the Secret's keys username, password and token."""


@dataclass(frozen=True)
class Credentials:
    """Value of the header Authorization, and whether it may be sent over plain http."""

    authorization: str = field(repr=False)
    over_http: bool = False

    def may_go_to(self, url: str) -> bool:
        """Tell whether the scheme of an address allows sending them."""
        return urlsplit(url).scheme == "https" or self.over_http


def from_environment(secret: str, over_http: bool, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """Read the credentials of a Secret; None if none is named.

    Raises:
        StepFailure: CredentialsMissing if the Secret is absent, or has neither a token nor a user name and password, or both.

    """
    if secret in {"", NO_SECRET}:
        return None
    username, password, token = (environment.get(name, "").rstrip("\r\n") for name in (USERNAME, PASSWORD, TOKEN))
    where = f"The Secret {secret!r}, which credentialsSecret names,"
    if not any((username, password, token)):
        message = f"{where} is not in this namespace, or has none of the keys token, username and password."
        raise StepFailure(Reason.CREDENTIALS_MISSING, f"{message} Create it, then retrain.")
    if token and (username or password):
        raise StepFailure(
            Reason.CREDENTIALS_MISSING, f"{where} has the key token beside username or password. Keep one or the other."
        )
    if not token and not (username and password):
        missing = "password" if username else "username"
        raise StepFailure(Reason.CREDENTIALS_MISSING, f"{where} lacks the key {missing}, or the key is empty. Set it.")
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            message = f"{where} has a token with a space, a line break or another character that no header can hold. Correct it."
            raise StepFailure(Reason.CREDENTIALS_MISSING, message)
        return Credentials(f"Bearer {token}", over_http)
    if ":" in username:
        message = f"{where} has a user name with a colon, which basic authentication cannot send. Use a token."
        raise StepFailure(Reason.CREDENTIALS_MISSING, message)
    return Credentials(f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}", over_http)
