"""Whether a bucket can be read with some credentials, and if not, in the store's own word. Called by `doctor`."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from winepipelines.platform import boundedpools
from winepipelines.platform.answering import causes, with_why
from winepipelines.resource.errors import Unavailable

boundedpools.bound_all()
PROBE = ".winepipelines-doctor"  # an object that is not there
ABSENT = "NoSuchKey"
SAMPLED = 5  # objects


@dataclass(frozen=True)
class StoreAccess:
    """Where a store is, and how to ask it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


async def sample(uri: str, access: StoreAccess, seconds: float) -> tuple[str, ...]:
    """List the first objects of an address's bucket, with their checksums: two stores that list the same are one.

    Nothing where the store refuses, or the bucket is empty. Raises Unavailable where the store does not answer in time.
    """
    return await asyncio.to_thread(_sample, uri, access, seconds)


def _sample(uri: str, access: StoreAccess, seconds: float) -> tuple[str, ...]:
    with _client(access, seconds) as client:
        try:
            listed = itertools.islice(client.list_objects(urlsplit(uri).netloc, recursive=True), SAMPLED)
            return tuple(f"{one.object_name} {one.etag} {one.size}" for one in listed)
        except S3Error:
            return ()


async def refusal(uri: str, access: StoreAccess, seconds: float) -> str:
    """Try to list and to read at an `s3://` address; return the code of what was refused, nothing where all is well.

    Raises Unavailable where the store does not answer in time.
    """
    return await asyncio.to_thread(_refusal, uri, access, seconds)


def _refusal(uri: str, access: StoreAccess, seconds: float) -> str:
    parts = urlsplit(uri)
    name = f"{parts.path.strip('/')}/{PROBE}".lstrip("/")
    with _client(access, seconds) as client:
        try:
            next(iter(client.list_objects(parts.netloc, prefix=name)), None)
            client.get_object(parts.netloc, name, length=1).close()
        except S3Error as error:
            return "" if error.code == ABSENT else str(error.code)
    return ""


@contextlib.contextmanager
def _client(access: StoreAccess, seconds: float) -> Iterator[Minio]:
    """Make a client, and close its connections. Raises Unavailable where the store does not answer it."""
    endpoint = urlsplit(access.endpoint)
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=seconds), retries=False)
    try:
        yield Minio(
            endpoint.netloc,
            access_key=access.access_key,
            secret_key=access.secret_key,
            secure=endpoint.scheme == "https",
            region=access.region,
            http_client=pool,
        )
    except (urllib3.exceptions.HTTPError, MinioException, ValueError) as error:
        message = f"the object store at {access.endpoint} does not answer"
        raise Unavailable("StoreUnavailable", with_why(message, "; ".join(causes(error)))) from None
    finally:
        pool.clear()
