"""The object store: check that a model exists where the serving backend will copy it from.

A backend may copy a prefix that does not exist with success, and its server then starts on an empty folder. So the operator
checks beforehand, with the credentials and the endpoint that the backend uses.
"""

import re
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.errors import Unavailable
from winepipelines.api.observed import StoredModel
from winepipelines.api.sourcesecret import StoreAccess
from winepipelines.endpoints import are_written_alike
from winepipelines.engine.threads import Threads
from winepipelines.platform import boundedpools
from winepipelines.platform.answering import causes, unanswered
from winepipelines.settings import Settings

boundedpools.bound_all()
ABSENT = {"NoSuchKey", "NoSuchObject"}
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
# Nothing but a folder of a bucket: a program that copies models may read options from an address, such as another endpoint, and
# would send the credentials there. The address is the experiment's, and whoever creates an experiment chooses it.
S3_FOLDER = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[A-Za-z0-9_=+.@-]{1,255}){1,32}")
ADDRESS_LIMIT = 1024


class ObjectStore:
    """The store that the serving backend copies models from."""

    def __init__(self, settings: Settings) -> None:
        """Use these settings; nothing connects yet."""
        self._settings = settings
        timeout = urllib3.Timeout(connect=5, read=settings.request_seconds)
        self._threads = Threads("object store")
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False)

    async def stored(self, uri: str, access: StoreAccess) -> StoredModel:
        """Check that a model's `MLmodel` can be read with the backend's access to the store.

        Raises Unavailable if the store does not answer.
        """
        address = self.address(uri)
        if (why := self.refusal(uri)) is not None:
            return StoredModel(uri, False, Reason.MODEL_ADDRESS_UNUSABLE, why)
        bucket, _, folder = address.removeprefix("s3://").partition("/")
        return await self._threads.run(self._check, address, bucket, folder, access)

    def address(self, uri: str) -> str:
        """Turn MLflow's address of an artifact into that of the store."""
        destination = self._settings.artifacts_destination
        if uri.startswith("mlflow-artifacts:/") and not uri.startswith("mlflow-artifacts://") and destination:
            return f"{destination.rstrip('/')}/{uri.removeprefix('mlflow-artifacts:').lstrip('/')}"
        return uri

    def refusal(self, uri: str) -> str | None:
        """Describe why a backend cannot copy from MLflow's address, and what to set; None if it can."""
        address = self.address(uri)
        if S3_FOLDER.fullmatch(address) and len(address) <= ADDRESS_LIMIT:
            return None
        scheme = "file" if uri.startswith(("/", ".")) else uri.partition(":")[0]
        where, destination = f"the model is at {clean(uri, 200)}", self._settings.artifacts_destination
        if scheme == "mlflow-artifacts" and uri.startswith("mlflow-artifacts://"):
            return f"{where}, which names another MLflow server: its artifact root must be mlflow-artifacts:/, without a host"
        if scheme == "mlflow-artifacts" and not destination:
            return (
                f"{where}, which only MLflow can read: WINE_ARTIFACTS_DESTINATION must say where the server keeps its artifacts, "
                "as its own --artifacts-destination does (s3://bucket/folder)"
            )
        if scheme == "mlflow-artifacts":
            return (
                f"{where}, and WINE_ARTIFACTS_DESTINATION is {destination}: together they give {clean(address, 200)}, which is "
                "no plain s3://bucket/folder"
            )
        if scheme == "s3" or not scheme.replace("-", "").isalnum():
            return f"{where}, which is no plain s3://bucket/folder"
        if scheme in ("models", "runs"):
            return f"{where}, a name in MLflow rather than an address: the step must record its run's artifact address"
        if scheme == "file":
            return (
                f"{where}, on a disk of the machine that MLflow or the step runs on: the tracking server needs "
                "--default-artifact-root s3://…, or --serve-artifacts with --artifacts-destination s3://…"
            )
        return (
            f"{where}, and models are copied from s3:// only: the tracking server needs --default-artifact-root s3://… "
            f"for the experiment (one that exists keeps the root it was made with)"
        )

    def _check(self, uri: str, bucket: str, folder: str, access: StoreAccess) -> StoredModel:
        try:
            endpoint = urlsplit(access.endpoint)
            client = Minio(
                endpoint.netloc,
                access_key=access.access_key,
                secret_key=access.secret_key,
                secure=endpoint.scheme == "https",
                region=access.region,
                http_client=self._pool,
            )
        except ValueError as error:
            message = (
                f"{access.endpoint_key} in {access.source} is {access.endpoint[:200]!r}, which is no address of an object store: "
                f"{error}"
            )
            return StoredModel(uri, False, Reason.OBJECT_STORE_ENDPOINT_INVALID, message)
        try:
            response = client.get_object(bucket, f"{folder}/MLmodel", length=1)
            response.close()
            response.release_conn()
        except S3Error as error:
            return self._not_read(error, uri, bucket, access)
        except (urllib3.exceptions.HTTPError, MinioException, ValueError) as error:
            message = f"the object store at {access.endpoint} does not answer (its address is in {access.source})"
            raise unanswered(Unavailable, Reason.OBJECT_STORE_UNAVAILABLE, message, "; ".join(causes(error))) from None
        return StoredModel(uri, True)

    def _not_read(self, error: S3Error, uri: str, bucket: str, access: StoreAccess) -> StoredModel:
        """Explain the store's answer.

        Raises Unavailable if the answer may be another one the next time.
        """
        ours, where, secret = self._settings.s3_endpoint_url, access.endpoint, access.source
        other = not are_written_alike(where, ours)
        hint = f"; {secret} names {where}, while the platform's store is {ours}: are they one?" if other else ""
        if error.code == "NoSuchBucket":
            message = f"there is no bucket {bucket} in the object store at {where}, where {uri} would be copied from{hint}"
            return StoredModel(uri, False, Reason.BUCKET_MISSING, message)
        if error.code in ABSENT:
            return StoredModel(
                uri, False, Reason.MODEL_MISSING, f"there is no {uri}/MLmodel in the object store at {where}{hint}"
            )
        if error.code in DENIED:
            message = f"the object store at {where} refuses {uri} to the credentials of {secret} ({error.code})"
            return StoredModel(uri, False, Reason.OBJECT_STORE_ACCESS_DENIED, message)
        message = f"the object store at {where} answered {error.code} to {uri}"
        raise Unavailable(Reason.OBJECT_STORE_UNAVAILABLE, message, status=error.response.status)
