"""Whether a bucket can be read with some credentials, and if not, in the store's own word. Called by `doctor`."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from winepipelines.platform.answering import causes, with_why
from winepipelines.resource.errors import Unavailable

PROBE = ".winepipelines-doctor"  # an object that is not there
ABSENT = "NoSuchKey"


@dataclass(frozen=True)
class StoreAccess:
    """Where a store is, and how to ask it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


async def refusal(uri: str, access: StoreAccess, seconds: float) -> str:
    """Try to list and to read at an `s3://` address; return the code of what was refused, nothing where all is well.

    Raises Unavailable where the store does not answer in time.
    """
    return await asyncio.to_thread(_refusal, uri, access, seconds)


def _refusal(uri: str, access: StoreAccess, seconds: float) -> str:
    parts, endpoint = urlsplit(uri), urlsplit(access.endpoint)
    name = f"{parts.path.strip('/')}/{PROBE}".lstrip("/")
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=seconds), retries=False)
    client = Minio(
        endpoint.netloc,
        access_key=access.access_key,
        secret_key=access.secret_key,
        secure=endpoint.scheme == "https",
        region=access.region,
        http_client=pool,
    )
    try:
        next(iter(client.list_objects(parts.netloc, prefix=name)), None)
        client.get_object(parts.netloc, name, length=1).close()
    except S3Error as error:
        return "" if error.code == ABSENT else str(error.code)
    except (urllib3.exceptions.HTTPError, MinioException, ValueError) as error:
        message = f"the object store at {access.endpoint} does not answer"
        raise Unavailable("StoreUnavailable", with_why(message, "; ".join(causes(error)))) from None
    finally:
        pool.clear()
    return ""
