"""Measure how long a model takes to load from a pickle, joblib, skops and plain numbers: `make bench`.

    PYTHONPATH=contract:pipeline:. $(dev/environment pipeline) bench/model_formats.py

Each format of the guide's model is loaded in new processes, with imports, as when a server starts; then again in a process that
has imported everything. Verification adds the digest of the folder. Ratios are relative to the pickle.
"""

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import skops.io
from sklearn.linear_model import ElasticNet

from winecontract import linear, signatures

ROOT = Path(__file__).resolve().parents[1]
STARTS = 3

PROGRAMS: Mapping[str, str] = {
    "pickle": "import pickle; load = lambda path: pickle.load(open(path / 'model.pkl', 'rb'))",
    "joblib": "import joblib; load = lambda path: joblib.load(path / 'model.joblib')",
    "skops": "import skops.io; load = lambda path: skops.io.load(path / 'model.skops')",
    "numbers": "import numpy; from winecontract import linear; load = lambda path: numpy.array(linear.read(path).coefficients)",
}
MEASURE = """
import gc, json, re, sys, time; gc.disable(); began = time.perf_counter()
from pathlib import Path
{program}
folder = Path(sys.argv[1])
load(folder)
took = time.perf_counter() - began
again = []
for _ in range(200):
    began = time.perf_counter()
    load(folder)
    again.append(time.perf_counter() - began)
size = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([took, sorted(again)[100], int(size) / 1024]))
"""


def save(folder: Path) -> None:
    """Write the guide's model in every format."""
    columns = [f"column_{number}" for number in range(11)]
    rows = pd.DataFrame(np.random.default_rng(1).random((1199, 11)), columns=columns)
    fitted = ElasticNet(alpha=0.01).fit(rows, rows["column_0"] * 2 - rows["column_5"])
    (folder / "model.pkl").write_bytes(pickle.dumps(fitted))
    joblib.dump(fitted, folder / "model.joblib")
    skops.io.dump(fitted, folder / "model.skops")
    linear.Linear.of(columns, fitted.coef_, fitted.intercept_).write(folder)


def measured(program: str, folder: Path) -> tuple[float, float, float]:
    """Return medians over new processes that load the model: seconds of the first load, seconds of later loads, and MiB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "contract")}
    command = [sys.executable, "-c", MEASURE.format(program=program), str(folder)]
    found = []
    for _ in range(STARTS):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    first, again, size = (statistics.median(values) for values in zip(*found, strict=True))
    return first, again, size


def digested(folder: Path) -> float:
    """Return the seconds that a digest takes."""
    began = time.perf_counter()
    signatures.digest(folder)
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder)
        print(f"{'format':8} {'start, s':>9} {'ratio':>6} {'memory, MiB':>12} {'warm load, ms':>14} {'ratio':>6}")
        base: tuple[float, float] | None = None
        for form, program in PROGRAMS.items():
            first, again, size = measured(program, folder)
            base = base or (first, again)
            ratios = first / base[0], again / base[1]
            print(f"{form:8} {first:9.3f} {ratios[0]:6.2f} {size:12.0f} {again * 1000:14.3f} {ratios[1]:6.2f}")
        print(f"digest of the folder: {digested(folder) * 1000:.3f} ms")
        (folder / "large").write_bytes(os.urandom(100_000_000))
        print(f"digest of 100 MB: {digested(folder):.3f} s")


if __name__ == "__main__":
    main()
