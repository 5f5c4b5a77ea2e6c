"""Access to a bucket with given credentials: whether they can read it, and if not, the error code of the object store."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.sourcesecret import StoreAccess
from winepipelines.platform import boundedpools
from winepipelines.platform.answering import causes, unanswered

boundedpools.bound_all()
PROBE = ".winepipelines-doctor"  # an object that does not exist
ABSENT = "NoSuchKey"
SAMPLED = 5  # objects


async def sample(uri: str, access: StoreAccess, seconds: float) -> tuple[str, ...]:
    """List the first objects of an address's bucket with their checksums: two addresses with the same list are of one store.

    Returns nothing if the store denies access, or the bucket is empty. Raises Unavailable if the store does not answer in time.
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
    """Try to list and to read at an `s3://` address; return the error code of the store, empty if both succeed.

    Raises Unavailable if the store does not answer in time.
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
    """Make a client, and close its connections. Raises Unavailable if the store does not answer."""
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
        raise unanswered(Unavailable, Reason.OBJECT_STORE_UNAVAILABLE, message, "; ".join(causes(error))) from None
    finally:
        pool.clear()
