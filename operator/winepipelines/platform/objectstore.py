"""The object store: is a model there, for those who will copy it? Called by `observe`.

Seldon's init container copies a prefix that does not exist with success, and the server then starts on an empty folder; so it is
looked at beforehand, with the credentials and the endpoint that rclone will use.
"""

import re
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from winecontract.text import clean
from winepipelines.endpoints import are_written_alike
from winepipelines.engine.threads import Threads
from winepipelines.platform import boundedpools
from winepipelines.platform.answering import causes, with_why
from winepipelines.resource.errors import Unavailable
from winepipelines.resource.observed import StoredModel
from winepipelines.settings import Settings

boundedpools.bound_all()
PREFIX = "RCLONE_CONFIG_S3_"
ABSENT = {"NoSuchKey", "NoSuchObject"}
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
# Nothing but a folder of a bucket: `s3,endpoint=http://…:bucket/…` or `:http,url=…:` would have rclone take the credentials
# elsewhere. The address is the experiment's, and whoever makes an experiment chooses it.
S3_FOLDER = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[A-Za-z0-9_=+.@-]{1,255}){1,32}")
ADDRESS_LIMIT = 1024


class ObjectStore:
    """The store that Seldon copies models from."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        timeout = urllib3.Timeout(connect=5, read=settings.request_seconds)
        self._threads = Threads("object store")
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False)

    async def stored(self, uri: str, rclone: dict[str, str]) -> StoredModel:
        """Look whether a model's `MLmodel` can be read, with the settings that rclone will have.

        Raises Unavailable where the store does not answer.
        """
        address = self.address(uri)
        if (why := self.refusal(uri)) is not None:
            return StoredModel(uri, False, "ModelAddressUnusable", why)
        bucket, _, folder = address.removeprefix("s3://").partition("/")
        return await self._threads.run(self._look, address, bucket, folder, rclone)

    def address(self, uri: str) -> str:
        """Turn MLflow's address of an artifact into the store's."""
        destination = self._settings.artifacts_destination
        if uri.startswith("mlflow-artifacts:/") and not uri.startswith("mlflow-artifacts://") and destination:
            return f"{destination.rstrip('/')}/{uri.removeprefix('mlflow-artifacts:').lstrip('/')}"
        return uri

    def refusal(self, uri: str) -> str | None:
        """Say why rclone cannot copy from MLflow's address with the Seldon secret, and what to set; None where it can."""
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
            f"{where}, and Seldon's secret is for s3 only: the tracking server needs --default-artifact-root s3://… "
            f"for the experiment (one that exists keeps the root it was made with)"
        )

    def _look(self, uri: str, bucket: str, folder: str, rclone: dict[str, str]) -> StoredModel:
        secret = f"the Secret {self._settings.source_secret} in namespace {self._settings.platform_namespace}"
        where = rclone.get(f"{PREFIX}ENDPOINT", "")
        try:
            endpoint = urlsplit(where if "://" in where else f"https://{where}")  # as rclone reads it
            client = Minio(
                endpoint.netloc,
                access_key=rclone.get(f"{PREFIX}ACCESS_KEY_ID"),
                secret_key=rclone.get(f"{PREFIX}SECRET_ACCESS_KEY"),
                secure=endpoint.scheme == "https",
                region=rclone.get(f"{PREFIX}REGION") or "us-east-1",
                http_client=self._pool,
            )
        except ValueError as error:
            message = f"{PREFIX}ENDPOINT in {secret} is {where[:200]!r}, which is no address of an object store: {error}"
            return StoredModel(uri, False, "StoreEndpointInvalid", message)
        try:
            response = client.get_object(bucket, f"{folder}/MLmodel", length=1)
            response.close()
            response.release_conn()
        except S3Error as error:
            return self._not_read(error, uri, bucket, where, secret)
        except (urllib3.exceptions.HTTPError, MinioException, ValueError) as error:
            message = f"the object store at {where} does not answer (its address is in {secret})"
            raise Unavailable("StoreUnavailable", with_why(message, "; ".join(causes(error)))) from None
        return StoredModel(uri, True)

    def _not_read(self, error: S3Error, uri: str, bucket: str, where: str, secret: str) -> StoredModel:
        """Explain the store's answer.

        Raises Unavailable where it may be another one the next time.
        """
        ours = self._settings.s3_endpoint_url
        other = not are_written_alike(where, ours)
        hint = f"; {secret} names {where}, while the platform's store is {ours}: are they one?" if other else ""
        if error.code == "NoSuchBucket":
            message = f"there is no bucket {bucket} in the object store at {where}, where Seldon would copy {uri} from{hint}"
            return StoredModel(uri, False, "BucketMissing", message)
        if error.code in ABSENT:
            return StoredModel(uri, False, "ModelMissing", f"there is no {uri}/MLmodel in the object store at {where}{hint}")
        if error.code in DENIED:
            message = f"the object store at {where} refuses {uri} to the credentials of {secret} ({error.code})"
            return StoredModel(uri, False, "StoreAccessDenied", message)
        raise Unavailable("StoreUnavailable", f"the object store at {where} answered {error.code} to {uri}")
