"""What the server reads in a model's folder is what MLflow reads there."""

from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import Model, ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from sklearn.linear_model import LinearRegression

from wineserver.folder import DATATYPES, MAX_BYTES, Description, ModelFolderError

COLUMNS = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8, unique=True)
NUMERIC = st.sampled_from([DataType.double, DataType.float, DataType.integer, DataType.long])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as MLflow saves it, with an example."""
    table = pd.DataFrame(
        {"fixed acidity": [7.4, 7.8, 6.0], "count": np.array([1, 2, 3], "int64"), "größe": np.array([1, 2, 4], "float32")}
    )
    fitted = LinearRegression().fit(table, [1.0, 2.0, 3.0])
    signature = infer_signature(table, fitted.predict(table))
    options: dict[str, Any] = {"serialization_format": "cloudpickle", "pip_requirements": []}
    mlflow.sklearn.save_model(
        fitted, str(tmp_path / "m"), signature=signature, input_example=table[["count", "größe", "fixed acidity"]], **options
    )
    return tmp_path / "m"


def test_description_is_what_mlflow_reads(folder: Path) -> None:
    found, expected = Description.read(folder), Model.load(str(folder))
    assert expected.signature is not None
    assert list(found.columns) == expected.signature.inputs.input_names()
    assert [DATATYPES[column.type.name] for column in expected.signature.inputs.inputs] == list(found.datatypes)
    assert found.flavors == expected.flavors
    assert found.run == (expected.run_id or "")
    assert found.example == (7.4, 1.0, 1.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(COLUMNS, st.lists(NUMERIC, min_size=8, max_size=8), st.sampled_from(["", "0123456789abcdef0123456789abcdef"]))
def test_any_signature_of_numbers_is_read_as_mlflow_reads_it(
    tmp_path: Path, names: list[str], types: list[Any], run: str
) -> None:
    inputs = Schema([ColSpec(kind, name) for name, kind in zip(names, types, strict=False)])
    Model(run_id=run or None, signature=ModelSignature(inputs)).save(str(tmp_path / "MLmodel"))
    found, expected = Description.read(tmp_path), Model.load(str(tmp_path)).signature
    assert expected is not None
    assert list(found.columns) == expected.inputs.input_names()
    assert list(found.datatypes) == [DATATYPES[column.type.name] for column in expected.inputs.inputs]
    assert (found.run, found.example) == (run, ())


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (None, "no signature with named columns"),
        (Schema([ColSpec(DataType.double)]), "no signature with named columns"),
        (Schema([TensorSpec(np.dtype("float64"), (-1, 3))]), "no signature with named columns"),
        (Schema([TensorSpec(np.dtype("float64"), (-1, 3), "x")]), "no signature with named columns"),
        (Schema([ColSpec(DataType.double, "a"), ColSpec(DataType.string, "colour")]), "the column colour .* is of type string"),
        (Schema([ColSpec(DataType.boolean, "organic")]), "the column organic .* is of type boolean"),
    ],
)
def test_other_signatures_are_refused(tmp_path: Path, inputs: Schema | None, problem: str) -> None:
    Model(signature=None if inputs is None else ModelSignature(inputs)).save(str(tmp_path / "MLmodel"))
    with pytest.raises(ModelFolderError, match=problem):
        Description.read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"text",
        b"\xff\xfe",
        b"{" * 100_000,
        b"a: &a [*a]",
        b"!!python/object/apply:os.system ['true']",
        b"signature: {inputs: '[[[['}",
        b"signature: {inputs: '" + b"[" * 100_000 + b"'}",
        b"signature: {inputs: '[1, 2]'}",
        b"signature: []",
        b"#" * (MAX_BYTES + 1),
    ],
)
def test_nonsense_is_refused_on_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "MLmodel").write_bytes(content)
    with pytest.raises(ModelFolderError) as refused:
        Description.read(tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"columns": ["count"], "data": []}', b"[" * 100_000, b'{"columns": 1, "data": 2}']
)
def test_an_example_that_does_not_fit_is_left_out(folder: Path, content: bytes) -> None:
    (folder / "input_example.json").write_bytes(content)
    assert Description.read(folder).example == ()
