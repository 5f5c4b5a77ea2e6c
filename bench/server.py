"""Measure the model server beside MLServer, KServe's server and MLflow's: `make bench-server`.

    PYTHONPATH=contract:pipeline:. $(dev/environment pipeline-dev) bench/server.py [--algorithms ElasticNet] [--rows 1 1599]

All serve the same estimator at the same time, and get their requests in turn, in rounds: other work of the machine
slows all of them. The tables show medians over the rounds: processor time of the server's processes per request, and its ratio to
MLServer's in protocol v2; requests per second; p50 and p99 of one connection; resident memory; and the time from the start of the
process to its first answer. "over predict" is the processor time beyond a bare `predict` of a matrix in this process, the floor.
"""

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.algorithms import SEED, TEST_FRACTION, guide_table
from bench.servers import SERVERS, Ours, Request, Server
from winesteps import estimator, model

PEER = ("mlserver", "v2")
ROUNDS, ROUND_SECONDS = 5, 1.5
LIMITS = {1: 0.5, 1599: 1.0}
"""Most processor time per request relative to MLServer's, by rows, for the guide's model."""


@dataclass
class Measured:
    """The rounds of one server and protocol: milliseconds of the processor per request, seconds of each request."""

    server: Server
    request: Request
    processor: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Send requests on one connection for one round."""
        with self.server.connect() as connection:
            used, began = self.server.processor_seconds(), time.perf_counter()
            count, now = 0, began
            while now - began < ROUND_SECONDS:
                exchange(connection, self.request.content)
                count, before, now = count + 1, now, time.perf_counter()
                self.seconds.append(now - before)
        self.processor.append(1000 * (self.server.processor_seconds() - used) / count)
        self.per_second.append(count / (now - began))


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send a request, and return the body of its answer. Raises RuntimeError unless the answer's status is 200."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"{head[:100]!r} {body[:300]!r}")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    parts, size = [body], len(body)
    while size < length:
        parts.append(_receive(connection))
        size += len(parts[-1])
    return b"".join(parts)


def _receive(connection: socket.socket) -> bytes:
    if not (part := connection.recv(1 << 18)):
        raise RuntimeError("the server closed the connection before the end of its answer")
    return part


def main() -> int:
    """Measure, print the tables and compare with the limits. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=["ElasticNet", "RandomForest", "HistGradientBoosting"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 1599], help="in each request (default: 1 1599)")
    parser.add_argument("--servers", nargs="+", default=[server.name for server in SERVERS])
    options = parser.parse_args()
    print(f"{_machine()}; Python {platform.python_version()}")
    met = True
    for algorithm in options.algorithms:
        met &= measure(algorithm, options.rows, options.servers)
    return 0 if met else 1


def measure(algorithm: str, sizes: list[int], names: list[str]) -> bool:
    """Measure all servers with one algorithm; return whether the limits hold."""
    met = True
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        work = Path(temporary)
        split = estimator.split_rows(guide_table(work), "quality", TEST_FRACTION, SEED)
        fitted, _ = estimator.fit(algorithm, estimator.check_parameters(algorithm, {}, TEST_FRACTION, SEED), split, SEED)
        model.save(fitted, work / "model", split.x_test, split.x_test.head(3))
        servers = []
        for kind in (kind for kind in SERVERS if kind.name in names):
            (own := work / kind.name).mkdir()
            print(f"starting {kind.name}", file=sys.stderr)
            servers.append(stack.enter_context(kind(work / "model", own)))
        rows = pd.concat([split.x_train, split.x_test]).to_numpy().tolist()
        for size in sizes:
            asked = (rows * (size // len(rows) + 1))[:size]
            floor = _floor(fitted, asked)
            found = [Measured(server, request) for server in servers for request in server.requests(asked)]
            _check(fitted, split.x_test.columns, asked, found)
            for number in range(ROUNDS):
                print(f"{algorithm}, {size} rows, round {number + 1} of {ROUNDS}", file=sys.stderr)
                for each in found:
                    each.run()
            met &= report(algorithm, size, floor, found)
    return met


def report(algorithm: str, size: int, floor: float, found: list[Measured]) -> bool:
    """Print a table; return whether the limits hold."""
    peer = next((statistics.median(each.processor) for each in found if _key(each) == PEER), float("nan"))
    print(f"\n{algorithm}, {size:,} rows per request; a bare predict takes {floor:.3f} ms of the processor")
    heads = ("ms/request", "ratio", "over predict", "requests/s", "p50 ms", "p99 ms", "MB", "start s")
    print(f"{'server':12} {'protocol':10} " + " ".join(f"{head:>12}" for head in heads))
    met = True
    for each in found:
        used = statistics.median(each.processor)
        shares = statistics.quantiles(each.seconds, n=100)
        numbers = (used, used / peer, used - floor, statistics.median(each.per_second), 1000 * shares[49], 1000 * shares[98])
        memory = each.server.resident_megabytes()
        print(
            f"{each.server.name:12} {each.request.protocol:10} "
            + " ".join(f"{number:12.3f}" for number in numbers)
            + f" {memory:12.0f} {each.server.seconds:12.1f}"
        )
        if isinstance(each.server, Ours) and algorithm == "ElasticNet" and size in LIMITS:
            met &= not used / peer > LIMITS[size]  # without the peer there is nothing to compare
    if algorithm == "ElasticNet" and size in LIMITS:
        print(f"wineserver: at most {LIMITS[size]:.2f} of MLServer's: {'met' if met else 'NOT met'}")
    return met


def _check(fitted: Any, columns: Any, rows: list[list[float]], found: list[Measured]) -> None:
    """Compare each server's predictions with the estimator's, ours bit by bit. Raises RuntimeError."""
    expected = np.asarray(fitted.predict(pd.DataFrame(np.array(rows), columns=columns)))
    for each in found:
        with each.server.connect() as connection:
            values = np.array(each.server.values(json.loads(exchange(connection, each.request.content))))
        same = np.array_equal(values, expected) if isinstance(each.server, Ours) else np.allclose(values, expected)
        if not same:
            raise RuntimeError(f"{each.server.name} predicts {values[:3]}, the estimator {expected[:3]}")


def _floor(fitted: Any, rows: list[list[float]]) -> float:
    """Return the milliseconds of the processor of a bare predict, best of its rounds."""
    matrix, best = np.array(rows), float("inf")
    with warnings.catch_warnings(action="ignore"):  # scikit-learn warns of a matrix without names
        for _ in range(ROUNDS):
            began, count = time.process_time(), 0
            while time.process_time() - began < 0.2:
                fitted.predict(matrix)
                count += 1
            best = min(best, (time.process_time() - began) / count)
    return 1000 * best


def _key(each: Measured) -> tuple[str, str]:
    return each.server.name, each.request.protocol


def _machine() -> str:
    text = Path("/proc/cpuinfo").read_text()
    name = next(
        (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), platform.machine()
    )
    return f"{name}, {os.cpu_count()} processors"


if __name__ == "__main__":
    sys.exit(main())
