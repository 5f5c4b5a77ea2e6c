"""The server predicts what the estimator itself predicts for the same data frame, to the last bit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wineserver import model as served
from winesteps import estimator, model

ROWS = (1, 2, 3, 7, 8, 16, 33, 400)


@pytest.mark.parametrize("algorithm", ["ElasticNet", "RandomForest", "HistGradientBoosting"])
def test_predictions_are_those_of_the_estimator_to_the_last_bit(algorithm: str, table: Path, tmp_path: Path) -> None:
    split = estimator.split_rows(pd.read_parquet(table), "quality", 0.25, 1337)
    fitted, _ = estimator.fit(algorithm, estimator.check_parameters(algorithm, {}, 0.25, 1337), split, 1337)
    model.save(fitted, tmp_path / "model", split.x_test, split.x_test.head(3))
    loaded = served.load(tmp_path / "model")
    values = split.x_test.to_numpy().tolist()
    for count in ROWS:
        rows = values[:count]
        expected = fitted.predict(pd.DataFrame(np.array(rows), columns=split.x_test.columns))
        np.testing.assert_array_equal(loaded.predict(loaded.schema.from_rows(rows)), expected, strict=True)
        reordered = [row[::-1] for row in rows]
        matrix = loaded.schema.from_rows(reordered, list(split.x_test.columns)[::-1])
        np.testing.assert_array_equal(loaded.predict(matrix), expected, strict=True)
