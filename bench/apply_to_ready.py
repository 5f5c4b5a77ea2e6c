"""Measure the time from apply to Ready, relative to a baseline script that does the same work: `make bench`.

Both run several times on the same sandbox, in turn. The ratio of the medians must not exceed its limit. The script downloads,
preprocesses, trains, evaluates and logs in one process. The operator runs the same work as three steps of a Kubeflow Pipelines
run, and then serves and checks the model. The benchmark also measures the memory of the idle operator.

The sandbox forks its steps from a process that has imported their packages, as a node has its images cached. The script imports
them itself. For a fair ratio, the script's import time is therefore added to the operator's time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from support.cluster import Cluster, ready

from sandbox.components import base_environment
from sandbox.places import interpreter
from sandbox.platform import Sandbox

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.5  # time from apply to Ready, as a multiple of the baseline script's
MEMORY = 150_000  # maximal memory of the idle operator, in kilobytes


def main() -> int:
    """Measure, print the results and compare them with the limits. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with Sandbox(f"bench-{os.getpid()}", report=lambda line: print(f"  {line}", file=sys.stderr)) as sandbox:
        cluster = Cluster(sandbox)
        _settle(cluster)
        rows = [(_operator(cluster, number), *_script(cluster)) for number in range(rounds)]
        resident = _resident(sandbox)
    applied, scripted, imports = (statistics.median(times) for times in zip(*rows, strict=True))
    ratio = (applied + imports) / scripted
    print(f"apply to Ready    median {applied:6.2f} s   {_spread(rows, 0)}")
    print(f"baseline script   median {scripted:6.2f} s   {_spread(rows, 1)}")
    print(f"  of it, imports  median {imports:6.2f} s   {_spread(rows, 2)}")
    print(f"ratio as measured        {applied / scripted:6.2f}")
    print(f"ratio with the imports   {ratio:6.2f}     (at most {LIMIT})")
    print(f"operator, idle           {resident / 1000:6.0f} MB  (at most {MEMORY / 1000:.0f})")
    return 0 if ratio <= LIMIT and resident <= MEMORY else 1


def _settle(cluster: Cluster) -> None:
    """Serve one resource before the measurement, so that one-time costs (imports, first connections) are not measured."""
    cluster.namespace("bench")
    cluster.apply(cluster.resource("bench", "first"))
    cluster.wait("bench", ready, "first", seconds=180)
    _script(cluster)


def _operator(cluster: Cluster, number: int) -> float:
    body = cluster.resource("bench", f"round-{number}")
    began = time.perf_counter()
    cluster.apply(body)
    cluster.wait("bench", ready, body["metadata"]["name"])
    return time.perf_counter() - began


def _script(cluster: Cluster) -> tuple[float, float]:
    """Run the baseline script. Return its total seconds, including the interpreter's start, and the seconds of its imports."""
    info = cluster.info
    keys = {"AWS_ACCESS_KEY_ID": info.s3_access_key, "AWS_SECRET_ACCESS_KEY": info.s3_secret_key}
    command = [interpreter("pipeline"), str(ROOT / "bench" / "baseline.py"), "--url", info.data_url]
    command += ["--tracking-uri", info.mlflow_url, "--s3-endpoint", info.s3_endpoint, "--experiment", "baseline"]
    began = time.perf_counter()
    done = subprocess.run(command, env={**base_environment(), **keys}, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"the baseline script failed:\n{done.stderr}")
    return took, float(json.loads(done.stdout)["seconds"]["import"])


def _resident(sandbox: Sandbox) -> int:
    """Return the operator's resident memory in kilobytes."""
    [pid] = [int(path.read_text().split()[0]) for path in (sandbox.folder / "run").glob("operator*") if path.is_file()]
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def _spread(rows: list[tuple[float, float, float]], column: int) -> str:
    times = sorted(row[column] for row in rows)
    return f"({times[0]:.2f} to {times[-1]:.2f}, {len(times)} rounds)"


if __name__ == "__main__":
    sys.exit(main())
