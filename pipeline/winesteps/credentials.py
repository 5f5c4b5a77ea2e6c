"""Credentials for data behind http and https: from a Secret that the resource names, by the step's environment alone.

They are sent to the host of the address that the resource gives, over https unless it says otherwise, and never on to another
host that this one redirects to.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from winesteps.failures import Reason, StepFailure

MLFLOW_SECRET = "wine-mlflow-credentials"
"""Holds MLflow's credentials in the namespace of the run, if MLflow asks for any. The operator makes it."""
NO_SECRET = "winepipelines-no-credentials"
"""What the pipeline's parameter holds where no Secret is named: Kubernetes wants the name of one, which need not be there."""
USERNAME, PASSWORD, TOKEN = "WINE_DATA_USERNAME", "WINE_DATA_PASSWORD", "WINE_DATA_TOKEN"
"""Variables that the Secret's keys username, password and token become."""


@dataclass(frozen=True)
class Credentials:
    """What is sent as the header Authorization, and whether it may go over plain http."""

    authorization: str = field(repr=False)
    over_http: bool = False

    def may_go_to(self, url: str) -> bool:
        """Whether they may be sent to an address, as far as its scheme tells."""
        return urlsplit(url).scheme == "https" or self.over_http


def from_environment(secret: str, over_http: bool, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """Read the credentials of a Secret; None where none is named.

    Raises:
        StepFailure: CredentialsMissing where the Secret is absent, or has neither a token nor a user name and password, or both.

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
            Reason.CREDENTIALS_MISSING, f"{where} has the key token beside username or password: keep one or the other."
        )
    if not token and not (username and password):
        missing = "password" if username else "username"
        raise StepFailure(Reason.CREDENTIALS_MISSING, f"{where} lacks the key {missing}, or it is empty.")
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            message = f"{where} has a token with a space, a line break or another character that no header can hold."
            raise StepFailure(Reason.CREDENTIALS_MISSING, message)
        return Credentials(f"Bearer {token}", over_http)
    if ":" in username:
        raise StepFailure(
            Reason.CREDENTIALS_MISSING, f"{where} has a user name with a colon, which basic authentication cannot send."
        )
    return Credentials(f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}", over_http)
