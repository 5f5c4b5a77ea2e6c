"""Measure batch scoring, relative to requests to the endpoint in a loop, and the memory of the step: `make bench`.

    PYTHONPATH=contract:operator:pipeline:tests:. $(dev/environment pipeline-dev) bench/batch.py [--rows 10000000]

A WinePipeline trains and serves a model in a sandbox. The benchmark requests predictions row by row over one connection, as an
efficient loop in a notebook would. Then a process of the step scores a CSV file of random wine rows, from the object store into
the object store. Its time includes the interpreter's start, imports, loading the model, download and upload. Its peak memory is
the kernel's VmHWM. Both use the same model and machine.
"""

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import numpy as np
from support.cluster import Cluster, ready

from sandbox.components import base_environment
from sandbox.places import interpreter
from sandbox.platform import Sandbox
from winepipelines.api.status import ServedModel

ROOT = Path(__file__).resolve().parents[1]
FLOOR = 20.0  # minimal throughput of the step, as a multiple of the endpoint's
LIMIT_KB = 1 << 20  # maximal peak memory of the step's process
LOOP_SECONDS = 5.0
LINES_A_WRITE = 100_000
STEP = """
import json, re, sys
from pathlib import Path
from winesteps.shortlived import uncollected
with uncollected():
    from winesteps.failures import Attempt
    from winesteps.predict import Task, predict
    from winesteps.tracking import Record
    url, output, run, digest, mlflow, store = sys.argv[1:]
    done = predict(Task(url, output, run, model_digest=digest), store, Record(mlflow, "wine-predictions", store), Attempt())
peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())
print(json.dumps({**done.content, "peak": int(peak[1])}))
"""


def main() -> int:
    """Measure, print the results and compare them with the limits. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the file (default: %(default)s)")
    rows = parser.parse_args().rows
    with Sandbox(f"batch-{os.getpid()}", report=lambda line: print(f"  {line}", file=sys.stderr)) as sandbox:
        cluster = Cluster(sandbox)
        cluster.namespace("bench")
        cluster.apply(cluster.resource("bench"))
        pipeline = cluster.wait("bench", ready, seconds=180)
        assert pipeline.status.served is not None, "it is Ready"
        answered = _endpoint(cluster)
        size = _upload(cluster, rows)
        began = time.perf_counter()
        result = _step(cluster, pipeline.status.served)
        took = time.perf_counter() - began
    ratio = rows / took / answered
    print(f"endpoint, one row at a time  {answered:12,.0f} rows/s")
    print(
        f"batch step, all of it        {rows / took:12,.0f} rows/s   {rows:,} rows, {size / 1e6:,.0f} MB of CSV in {took:.1f} s"
    )
    print(f"  of it, scoring only        {result['rowsPerSecond']:12,.0f} rows/s")
    print(f"ratio                        {ratio:12,.0f}          (at least {FLOOR:.0f})")
    print(f"memory at its peak           {result['peak'] / 1000:12,.0f} MB      (at most {LIMIT_KB / 1000:,.0f})")
    return 0 if result["scored"] == rows and ratio >= FLOOR and result["peak"] <= LIMIT_KB else 1


def _endpoint(cluster: Cluster) -> float:
    """Return the rows per second that the endpoint answers, one row per request."""
    table = np.loadtxt(ROOT / "data" / "winequality-red.csv", delimiter=";", skiprows=1)[:, :-1]
    connection = http.client.HTTPConnection(urlsplit(cluster.info.gateway_url).netloc, timeout=20)
    began, answered = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < LOOP_SECONDS:
        body = json.dumps({"data": {"ndarray": [table[answered % len(table)].tolist()]}})
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/seldon/bench/mlflow/api/v1.0/predictions", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the endpoint answered {answer.status}: {content[:500]!r}")
        answered += 1
    return answered / passed


def _upload(cluster: Cluster, rows: int) -> int:
    """Upload a file with this number of rows, drawn from the wine data. Return its size in bytes."""
    header, *lines = (ROOT / "data" / "winequality-red.csv").read_bytes().splitlines()
    dice = np.random.default_rng(1)
    info = cluster.info
    store = boto3.client(
        "s3",
        endpoint_url=info.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=info.s3_access_key,
        aws_secret_access_key=info.s3_secret_key,
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(header + b"\n")
        for start in range(0, rows, LINES_A_WRITE):
            drawn = dice.integers(0, len(lines), min(LINES_A_WRITE, rows - start))
            file.write(b"\n".join([lines[number] for number in drawn]) + b"\n")
        file.flush()
        store.upload_file(file.name, "mlpipeline", "bench/wine.csv")
        return file.tell()


def _step(cluster: Cluster, served: ServedModel) -> dict[str, float]:
    """Run the step in its own process, as Kubeflow does. Return its report, with its peak memory in kilobytes."""
    info = cluster.info
    keys = {"AWS_ACCESS_KEY_ID": info.s3_access_key, "AWS_SECRET_ACCESS_KEY": info.s3_secret_key}
    arguments = [
        "s3://mlpipeline/bench/wine.csv",
        "s3://mlpipeline/bench/scored.parquet",
        served.model.mlflow_run,
        served.model.digest,
    ]
    command = [interpreter("pipeline"), "-c", STEP, *arguments, info.mlflow_url, info.s3_endpoint]
    environment = {
        **base_environment(),
        **keys,
        "PYTHONPATH": os.pathsep.join(str(ROOT / root) for root in ("pipeline", "contract")),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the step failed:\n{done.stderr}")
    found = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return dict(json.loads(found[0]))


if __name__ == "__main__":
    sys.exit(main())
