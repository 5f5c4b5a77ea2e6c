"""Measure each algorithm, and a search, on the guide's data: `python bench/algorithms.py`, with pipeline/ on the path.

Prints the table of docs/how-to/choose-an-algorithm.md. Trains and measures with the code of the train step, without Kubeflow and
MLflow.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from winesteps import estimator, search
from winesteps.preprocess import preprocess

DATA = Path(__file__).resolve().parents[1] / "data" / "winequality-red.csv"
TEST_FRACTION, SEED = 0.25, 1337
Case = tuple[str, dict[str, Any], dict[str, Any]]

CASES: tuple[Case, ...] = (
    ("ElasticNet", {}, {}),
    ("ElasticNet", {"alpha": 0.01}, {}),
    ("ElasticNet", {}, {"alpha": [0.001, 0.01, 0.1, 0.5], "l1_ratio": [0.1, 0.5, 0.9]}),
    ("RandomForest", {}, {}),
    ("RandomForest", {}, {"max_features": [0.3, 0.5, 1]}),
    ("HistGradientBoosting", {}, {}),
    ("HistGradientBoosting", {}, {"learning_rate": [0.03, 0.1]}),
)
"""Algorithm, parameters and candidate values. The first row is the guide's."""

HEAD = "| algorithm | parameters | search | chosen | r2 | rmse | mae |\n|---|---|---|---|---|---|---|"


def measure(case: Case, table: pd.DataFrame) -> tuple[dict[str, float], dict[str, float]]:
    """Train as the train step does. Return the parameters that the search selected, and r2, rmse and mae of the held-out rows."""
    algorithm, given, values = case
    split = estimator.split_rows(table, "quality", TEST_FRACTION, SEED)
    parameters = estimator.check_parameters(algorithm, given, TEST_FRACTION, SEED)
    wanted = estimator.check_search(algorithm, values)
    parameters = {name: value for name, value in parameters.items() if name not in wanted}
    if wanted:
        parameters = dict(search.best(list(search.trials(algorithm, parameters, wanted, split, SEED))).parameters)
    fitted, _ = estimator.fit(algorithm, parameters, split, SEED)
    chosen = {name: parameters[name] for name in values}
    return chosen, estimator.evaluate(split.y_test, fitted.predict(split.x_test))


def row(case: Case, table: pd.DataFrame) -> str:
    """Format a row of the table."""
    algorithm, given, values = case
    chosen, measured = measure(case, table)
    numbers = " | ".join(f"{measured[name]:.3f}" for name in ("r2", "rmse", "mae"))
    return f"| {algorithm} | {_words(given)} | {_words(values)} | {_words(chosen)} | {numbers} |"


def guide_table(folder: Path) -> pd.DataFrame:
    """Return the guide's data, preprocessed as in the step."""
    preprocess(DATA, folder / "table")
    return pd.read_parquet(folder / "table")


def main() -> None:
    """Print the table, with the time of each row in a comment."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = guide_table(Path(folder))
    print(HEAD)
    for case in CASES:
        began = time.perf_counter()
        print(row(case, table), f"<!-- {time.perf_counter() - began:.1f} s -->", flush=True)


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"`{name}: {value}`" for name, value in values.items())


if __name__ == "__main__":
    main()
