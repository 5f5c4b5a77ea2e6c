"""The Secret that KServe's storage initializer copies models with: keys of an S3 store, and its address in annotations."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from winepipelines.api.sourcesecret import StoreAccess
from winepipelines.platform.kubernetes import secret_values
from winepipelines.serving.kserve.naming import COPY_SECRET

ACCESS_KEY, SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
ENDPOINT, REGION = "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"
FORMS = (("accesskey", "secretkey"), (ACCESS_KEY, SECRET_KEY))
"""Names of the two keys: in Kubeflow's own Secret for artifacts, and as AWS's tools name them."""
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class StorageSecret:
    """A Secret with the two keys of an S3 store, in one of two forms.

    `AWS_ENDPOINT_URL` and `AWS_DEFAULT_REGION` are optional; `endpoint` is the store's address where the Secret has none.
    """

    name: str
    endpoint: str
    copy_name: ClassVar = COPY_SECRET
    keys: ClassVar = FORMS[0]
    public_keys: ClassVar = (ENDPOINT, REGION)
    endpoint_key: ClassVar = ENDPOINT

    def required_keys(self, present: Collection[str]) -> tuple[str, ...]:
        """List the two keys in the form of which the Secret has one."""
        return next((form for form in reversed(FORMS) if any(key in present for key in form)), self.keys)

    def copied(self, data: Mapping[str, str]) -> dict[str, str]:
        """Name the two keys as KServe does."""
        form = self.required_keys(data.keys())
        return {name: data[key] for name, key in zip(FORMS[1], form, strict=True) if key in data}

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
        endpoint = values.get(ENDPOINT, "").strip() or self.endpoint
        access_key, secret_key = self.required_keys(values.keys())
        return StoreAccess(
            endpoint if "://" in endpoint else f"https://{endpoint}",
            values.get(access_key, ""),
            values.get(secret_key, ""),
            values.get(REGION, "").strip() or DEFAULT_REGION,
        )
