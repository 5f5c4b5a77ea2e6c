"""Two models for the contract tests of KServe, in an object store: `python -m contract.kserve.models URL BUCKET`.

`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` are the store's keys. Prints the models' addresses, for CONTRACT_KSERVE_MODELS.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio

from sandbox.places import ROOT, interpreter

NAMES = ("twice", "three-times")
SAVE = """
import sys
from pathlib import Path
from seldon_support import save_model
for slope, name in ((2, "twice"), (3, "three-times")):
    save_model(Path(sys.argv[1], name), slope)
"""


def upload(endpoint: str, access_key: str, secret_key: str, bucket: str = "mlflow") -> tuple[str, ...]:
    """Put models into a store, which answer twice and three times the alcohol; return their addresses."""
    sources = (ROOT, ROOT / "pipeline", ROOT / "contract", ROOT / "tests" / "sandbox")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}
    address = urlsplit(endpoint)
    store = Minio(address.netloc, access_key, secret_key, secure=address.scheme == "https")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreter("pipeline"), "-c", SAVE, folder], check=True, env=environment, capture_output=True)
        for path in filter(Path.is_file, Path(folder).rglob("*")):
            store.fput_object(bucket, f"contract/{path.relative_to(folder)}", str(path))
    return tuple(f"s3://{bucket}/contract/{name}/" for name in NAMES)


def main() -> None:
    """Upload the models and print their addresses."""
    url, bucket = sys.argv[1:]
    addresses = upload(url, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], bucket)
    sys.stdout.write(",".join(addresses) + "\n")


if __name__ == "__main__":
    main()
