"""The object store: is a model there, for those who will copy it? Called by `observe`.

Seldon's init container copies a prefix that does not exist with success, and the server then starts on an empty folder; so it is
looked at beforehand, with the credentials and the endpoint that rclone will use.
"""

import asyncio
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from winepipelines.resource.errors import Unavailable
from winepipelines.resource.observed import StoredModel
from winepipelines.settings import Settings

PREFIX = "RCLONE_CONFIG_S3_"
ABSENT = {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


class ObjectStore:
    """The store that Seldon copies models from."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        timeout = urllib3.Timeout(connect=5, read=settings.request_seconds)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False)

    async def stored(self, uri: str, rclone: dict[str, str]) -> StoredModel:
        """Look whether a model's `MLmodel` can be read, with the settings that rclone will have.

        Raises Unavailable where the store does not answer.
        """
        address = self.address(uri)
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc:
            message = f"the model is at {uri}, which rclone cannot copy: MLflow must keep artifacts in s3://, or the chart's "
            return StoredModel(uri, False, "ModelAddressUnusable", message + "artifactsDestination must say where they are")
        return await asyncio.to_thread(self._look, address, parts.netloc, parts.path.strip("/"), rclone)

    def address(self, uri: str) -> str:
        """Turn MLflow's address of an artifact into the store's."""
        destination = self._settings.artifacts_destination
        if uri.startswith("mlflow-artifacts:") and destination:
            return f"{destination.rstrip('/')}/{urlsplit(uri).path.lstrip('/')}"
        return uri

    def _look(self, uri: str, bucket: str, folder: str, rclone: dict[str, str]) -> StoredModel:
        endpoint = urlsplit(rclone[f"{PREFIX}ENDPOINT"])
        client = Minio(
            endpoint.netloc,
            access_key=rclone[f"{PREFIX}ACCESS_KEY_ID"],
            secret_key=rclone[f"{PREFIX}SECRET_ACCESS_KEY"],
            secure=endpoint.scheme == "https",
            region=rclone.get(f"{PREFIX}REGION") or "us-east-1",
            http_client=self._pool,
        )
        secret = f"the Secret {self._settings.source_secret} in namespace {self._settings.platform_namespace}"
        try:
            response = client.get_object(bucket, f"{folder}/MLmodel", length=1)
            response.close()
            response.release_conn()
        except S3Error as error:
            if error.code in ABSENT:
                return StoredModel(uri, False, "ModelMissing", f"there is no {uri}/MLmodel in the object store ({error.code})")
            if error.code in DENIED:
                message = f"the object store refuses {uri} to the credentials of {secret} ({error.code})"
                return StoredModel(uri, False, "StoreAccessDenied", message)
            raise Unavailable("StoreUnavailable", f"the object store answered {error.code} to {uri}") from None
        except (urllib3.exceptions.HTTPError, MinioException):
            where = f"{endpoint.scheme}://{endpoint.netloc}"
            message = f"the object store at {where} does not answer (its address is in {secret})"
            raise Unavailable("StoreUnavailable", message) from None
        return StoredModel(uri, True)
