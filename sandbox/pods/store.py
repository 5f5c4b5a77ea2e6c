"""Fill the object store when it answers: `python -m sandbox.pods.store BUCKET…`.

Address and credentials come from the variables that `sandbox.buckets` reads. The wine table becomes s3://wine/winequality-red.csv.
"""

import os
import sys
import time

import boto3

from sandbox.buckets import make_buckets
from sandbox.components import STORE_HEALTH, answers
from sandbox.places import ROOT

TABLE = ROOT / "data/winequality-red.csv"
DATA_BUCKET = "wine"
RETRY = 0.5  # seconds between two attempts


def main() -> None:
    """Wait, create the buckets and upload the table. The kubelet restarts it if that fails."""
    address = os.environ["MLFLOW_S3_ENDPOINT_URL"]
    while not answers(f"{address}{STORE_HEALTH}"):
        time.sleep(RETRY)
    make_buckets([*sys.argv[1:], DATA_BUCKET])
    store = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
    store.upload_file(str(TABLE), DATA_BUCKET, TABLE.name)


if __name__ == "__main__":
    main()
