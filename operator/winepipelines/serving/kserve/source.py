"""The Secret that KServe's storage initializer copies models with: keys of an S3 store, and its address in annotations."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from winepipelines.api.sourcesecret import StoreAccess
from winepipelines.platform.kubernetes import secret_values
from winepipelines.serving.kserve.naming import COPY_SECRET
from winepipelines.serving.storekeys import AWS, ENDPOINT, KUBEFLOW, REGION, SecretNames, access_of, form_of

KNOWN = (
    "kserve-controller-s3",  # of the KServe charm
    "mlflow-server-minio-artifact",  # of the MLflow charm 2
    "mlpipeline-minio-artifact",  # of Kubeflow Pipelines, upstream and of the charms
)
"""Secrets with which a platform may store models. Those made for models come before that of Kubeflow Pipelines."""


@dataclass(frozen=True)
class StorageSecret(SecretNames):
    """A Secret with the two keys of an S3 store, in one of several forms.

    `AWS_ENDPOINT_URL` and `AWS_DEFAULT_REGION` are optional; `endpoint` is the store's address where the Secret has none.
    """

    endpoint: str
    copy_name: ClassVar = COPY_SECRET
    known_names: ClassVar = KNOWN
    keys: ClassVar = KUBEFLOW.keys
    public_keys: ClassVar = (ENDPOINT, REGION)
    endpoint_key: ClassVar = ENDPOINT

    def required_keys(self, present: Collection[str]) -> tuple[str, ...]:
        """List the two keys in the form of which the Secret has one."""
        return form_of(present).keys

    def copied(self, data: Mapping[str, str]) -> dict[str, str]:
        """Name the two keys as KServe does."""
        form = form_of(data.keys())
        return {name: data[key] for name, key in zip(AWS.keys, form.keys, strict=True) if key in data}

    def annotations(self, data: Mapping[str, str]) -> dict[str, str]:
        """Build KServe's annotations with the store's address."""
        access = self.access(secret_values({"data": dict(data)}))
        address = urlsplit(access.endpoint)
        https = "1" if address.scheme == "https" else "0"
        return {
            "serving.kserve.io/s3-endpoint": address.netloc,
            "serving.kserve.io/s3-region": access.region,
            "serving.kserve.io/s3-usehttps": https,
            "serving.kserve.io/s3-verifyssl": https,
        }

    def access(self, values: Mapping[str, str]) -> StoreAccess:
        """Read the two keys and the store's address. An address without a scheme is https."""
        return access_of(values, self.endpoint)
