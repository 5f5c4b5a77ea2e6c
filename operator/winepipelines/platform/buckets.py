"""Access to a bucket with given credentials: what they may do below a prefix, and the object store's error codes otherwise.

Nothing here changes the store. Reading is tried on an object that does not exist. Writing is tried by uploading an empty part to
a multipart upload that does not exist: a store authorizes that like any write (`s3:PutObject`; `Write` in SeaweedFS) before it
looks for the upload, and then answers `NoSuchUpload`. A conditional write will not do: a store that ignores the condition writes.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.sourcesecret import StoreAccess, StoreOperation
from winepipelines.platform import boundedpools
from winepipelines.platform.answering import causes, unanswered

boundedpools.bound_all()
PROBE = ".winepipelines-doctor"  # an object and an upload that do not exist
EXPECTED = {"NoSuchKey", "NoSuchUpload"}  # of those who may read and write
CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
ANSWER_BYTES = 8192
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


async def refusals(
    uri: str, access: StoreAccess, operations: Collection[StoreOperation], seconds: float
) -> Mapping[StoreOperation, str]:
    """Try operations below an `s3://` address; return the error codes of the store for those that fail.

    Raises Unavailable if the store does not answer in time.
    """
    return await asyncio.to_thread(_refusals, uri, access, operations, seconds)


def _refusals(
    uri: str, access: StoreAccess, operations: Collection[StoreOperation], seconds: float
) -> Mapping[StoreOperation, str]:
    parts = urlsplit(uri)
    name = f"{parts.path.strip('/')}/{PROBE}".lstrip("/")
    codes = {}
    with _client(access, seconds) as client:
        for operation in operations:
            try:
                code = TRIES[operation](client, parts.netloc, name, seconds)
            except S3Error as error:
                code = str(error.code)
            if code and code not in EXPECTED:
                codes[operation] = code
    return codes


def _list(client: Minio, bucket: str, name: str, _seconds: float) -> str:
    next(iter(client.list_objects(bucket, prefix=name)), None)
    return ""


def _read(client: Minio, bucket: str, name: str, _seconds: float) -> str:
    client.get_object(bucket, name, length=1).close()
    return ""


def _write(client: Minio, bucket: str, name: str, seconds: float) -> str:
    """Upload a part of an unknown upload, with a signed address: the client has no public method for a part."""
    url = client.get_presigned_url("PUT", bucket, name, extra_query_params={"partNumber": "1", "uploadId": PROBE.strip(".")})
    with _pool(seconds) as pool:
        answer = pool.request("PUT", url, body=b"", redirect=False, preload_content=False)
        text = answer.read(ANSWER_BYTES).decode(errors="replace")
        answer.release_conn()
    if found := CODE.search(text):
        return found[1]
    return "" if answer.status < HTTPStatus.MULTIPLE_CHOICES else f"HTTP {answer.status}"


TRIES: Mapping[StoreOperation, Callable[[Minio, str, str, float], str]] = {
    StoreOperation.LIST: _list,
    StoreOperation.READ: _read,
    StoreOperation.WRITE: _write,
}


@contextlib.contextmanager
def _pool(seconds: float) -> Iterator[urllib3.PoolManager]:
    """Make a pool of connections, and close them."""
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=seconds), retries=False)
    try:
        yield pool
    finally:
        pool.clear()


@contextlib.contextmanager
def _client(access: StoreAccess, seconds: float) -> Iterator[Minio]:
    """Make a client, and close its connections. Raises Unavailable if the store does not answer."""
    endpoint = urlsplit(access.endpoint)
    try:
        with _pool(seconds) as pool:
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
