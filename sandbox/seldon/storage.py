"""What the init container does: `rclone copy <modelUri> /mnt/models` with the secret's RCLONE_CONFIG_S3_* variables.

As rclone: an address under which nothing lies is copied
with success.
"""

import functools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

Variables = dict[str, str]
PREFIX = "RCLONE_CONFIG_"
AT_A_TIME = 4  # rclone's --transfers
SECONDS = 5.0  # to connect and between bytes


class CopyError(Exception):
    """The copy failed; the message is the line that rclone would end with, or the end of another initializer's log."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def copy(uri: str, variables: Variables, folder: Path) -> int:
    """Copy what lies under `uri` (`<remote>://bucket/prefix`) to a `folder`, emptied before; return the number of files.

    Raises CopyError: an unknown remote, a wrong key, a bucket that does not exist, an endpoint that does not answer.
    """
    remote, separator, path = uri.partition("://")
    if not separator:
        remote, separator, path = uri.partition(":")
    bucket, _, prefix = path.strip("/").partition("/")
    if not separator or not bucket:
        raise CopyError(f'Failed to create file system for "{uri}": not an address of the form s3://bucket/path')
    try:
        client = _client(remote, tuple(sorted(variables.items())))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)  # in a pod it is a volume, which stays
        keys = _keys(client, bucket, prefix)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda key: _download(client, bucket, key, folder / _name(key, prefix)), keys))
    except (ClientError, BotoCoreError, Boto3Error, ValueError) as error:
        raise CopyError(f'Failed to copy: error reading source root directory "{path}": {_describe(error)}') from error
    except OSError as error:
        raise CopyError(f"Failed to copy: {error}") from error
    return len(keys)


@functools.lru_cache(maxsize=32)  # a client takes longer to make than a model to copy
def _client(remote: str, variables: tuple[tuple[str, str], ...]) -> Any:
    start = f"{PREFIX}{remote.upper()}_"
    settings = {name.removeprefix(start): value for name, value in variables if name.startswith(start)}
    if settings.get("TYPE") != "s3":
        raise CopyError(f'Failed to create file system for "{remote}:": didn\'t find section in config file')
    if settings.get("ENV_AUTH", "false") == "true":
        raise CopyError("Failed to create file system: NoCredentialProviders: no valid providers in chain")
    key = settings.get("ACCESS_KEY_ID")
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.get("ENDPOINT") or None,
        aws_access_key_id=key or None,
        aws_secret_access_key=settings.get("SECRET_ACCESS_KEY") or None,
        region_name=settings.get("REGION") or "us-east-1",
        config=Config(
            signature_version="s3v4" if key else UNSIGNED,  # never whatever credentials this machine may have
            connect_timeout=SECONDS,
            read_timeout=SECONDS,
            retries={"max_attempts": 1},
            max_pool_connections=AT_A_TIME,
            s3={"addressing_style": "path"},
        ),
    )


def _keys(client: Any, bucket: str, prefix: str) -> list[str]:
    """The keys under a folder; or, where there is none, the one object of that very name, as rclone copies it."""
    start = f"{prefix}/" if prefix else ""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
    found = [item["Key"] for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")]
    if found or not prefix:
        return found
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return [item["Key"] for item in listed.get("Contents", []) if item["Key"] == prefix]


def _name(key: str, prefix: str) -> str:
    return key.removeprefix(prefix).lstrip("/") or key.rpartition("/")[2]


def _download(client: Any, bucket: str, key: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    client.download_file(bucket, key, str(target))


def _describe(error: Exception) -> str:
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        return f"{details.get('Code', 'Error')}: {details.get('Message', '')} status code: {status}"
    return str(error)
