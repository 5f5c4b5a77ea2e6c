"""The Secret that Seldon's initializer copies models with: settings of rclone, as environment variables."""

import base64
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from winepipelines.api.sourcesecret import StoreAccess
from winepipelines.platform.kubernetes import secret_values
from winepipelines.serving.seldon.naming import COPY_SECRET
from winepipelines.serving.storekeys import DEFAULT_REGION, SecretNames, access_of, form_of

PREFIX = "RCLONE_CONFIG_S3_"
COPIED_KEYS = re.compile(rf"{PREFIX}[A-Z0-9_]+")
KNOWN = (
    "mlflow-server-seldon-init-container-s3-credentials",  # of the guide, and of the MLflow charm 1.13
    "mlflow-server-seldon-rclone-secret",  # of the MLflow charm 2
    "mlflow-server-minio-artifact",  # likewise
    "mlpipeline-minio-artifact",  # of Kubeflow Pipelines, upstream and of the charms
)
"""Secrets with which a platform may store models. Those made for models come before that of Kubeflow Pipelines."""


@dataclass(frozen=True)
class RcloneSecret(SecretNames):
    """A Secret with rclone's settings of one remote, `S3`, or with the two keys of an S3 store in another form.

    The copy has only keys of that remote: the initializer gets the whole Secret as its environment, and any other variable could
    change what rclone does. `endpoint` is the store's address where the Secret has none.
    """

    endpoint: str = ""
    copy_name: ClassVar = COPY_SECRET
    known_names: ClassVar = KNOWN
    keys: ClassVar = tuple(f"{PREFIX}{key}" for key in ("TYPE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT"))
    public_keys: ClassVar = (f"{PREFIX}TYPE", f"{PREFIX}ENDPOINT")
    endpoint_key: ClassVar = f"{PREFIX}ENDPOINT"

    def required_keys(self, present: Collection[str]) -> tuple[str, ...]:
        """List the keys that must have a value: rclone's, unless the Secret has the two keys in another form."""
        form = form_of(present)
        is_other = form.access_key != f"{PREFIX}ACCESS_KEY_ID" and any(key in present for key in form.keys)
        return form.keys if is_other and not any(COPIED_KEYS.fullmatch(key) for key in present) else self.keys

    def copied(self, data: Mapping[str, str]) -> dict[str, str]:
        """Copy the keys of the remote and no other, or write those of another form as rclone's."""
        own = {key: value for key, value in data.items() if COPIED_KEYS.fullmatch(key)}
        if own or not data:
            return own
        access = self.access(secret_values({"data": dict(data)}))
        settings = {
            "TYPE": "s3",
            "PROVIDER": "minio",  # any store with addresses of the form <endpoint>/<bucket>
            "ENV_AUTH": "false",
            "ACCESS_KEY_ID": access.access_key,
            "SECRET_ACCESS_KEY": access.secret_key,
            "ENDPOINT": access.endpoint,
        }
        if access.region != DEFAULT_REGION:
            settings["REGION"] = access.region
        return {f"{PREFIX}{key}": base64.b64encode(value.encode()).decode() for key, value in settings.items()}

    def annotations(self, _: Mapping[str, str]) -> dict[str, str]:
        """Add none: the initializer reads only keys."""
        return {}

    def access(self, values: Mapping[str, str]) -> StoreAccess:
        """Read the settings as rclone does: an endpoint without a scheme is https."""
        own = {key: value for key, value in values.items() if COPIED_KEYS.fullmatch(key)}
        return access_of(own, "") if own else access_of(values, self.endpoint)
