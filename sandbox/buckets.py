"""Create the object store's buckets: `python -m sandbox.buckets NAME...`, run by `platform` in the pipeline environment.

Address and credentials come from `MLFLOW_S3_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
"""

import os
import sys

import boto3


def make_buckets(names: list[str]) -> None:
    """Create the buckets that are missing."""
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], region_name="us-east-1")
    present = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    for name in names:
        if name not in present:
            store.create_bucket(Bucket=name)


if __name__ == "__main__":
    make_buckets(sys.argv[1:])
