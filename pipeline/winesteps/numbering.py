"""Find columns that number the rows, from which a model can learn the order of the file. Does no I/O."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from winesteps.reading.explain import yaml

# fmt: off
NAMES = frozenset({
    "column1", "id", "idx", "index", "item", "item_id", "key", "n", "no", "nr", "num", "number", "obs", "observation",
    "record", "record_id", "row", "row_id", "row_no", "row_num", "row_number", "rowid", "rowno", "rownum", "sample",
    "sample_id", "sampleid", "serial", "serial_no", "serial_number", "uid", "unnamed", "unnamed_0", "wine_id",
    "wineid", "x", "x1",
})
# fmt: on
"""Common names of such columns, in lower_snake form."""
MOST_WARNINGS = 5


def warnings(table: pa.Table, titles: Mapping[str, str], target: str) -> list[str]:
    """Warn about each feature that numbers the rows.

    Such a feature has distinct integers, and either changes by the same step from row to row or has the name of an index.
    """
    found: list[str] = []
    for name in table.column_names:
        if name == target:
            continue
        values = table[name].to_numpy()
        if not _numbers_rows(values, name):
            continue
        low, high = values.min(), values.max()
        title = yaml(titles.get(name, name)[:40])
        found.append(
            f"The column {title} numbers the rows ({low:.0f} to {high:.0f}), and the model learns from it. "
            f"If it is no property of the wine, drop it with data.columns.drop: [{title}]."
        )
    return found[:MOST_WARNINGS]


def _numbers_rows(values: np.ndarray, name: str) -> bool:
    if not np.array_equal(values, np.rint(values)):
        return False
    steps = np.diff(values)
    if len(steps) and steps[0] != 0 and (steps == steps[0]).all():
        return True
    return name in NAMES and len(np.unique(values)) == len(values)
