"""Requests to numbers, and every way a request can be wrong."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wineserver.rows import InputError, Schema, Tensor

COLUMNS = ("acidity", "sugar", "alcohol")
SCHEMA = Schema(COLUMNS, (7.4, 1.9, 9.4))
ROWS: list[Any] = [[7.4, 1.9, 9.4], [7, 2, 10]]


def tensor(data: Any, shape: list[int], name: str = "x", datatype: str = "FP64") -> Tensor:
    return Tensor(name, shape, datatype, data)


def test_rows_are_read_as_they_stand() -> None:
    assert SCHEMA.from_rows(ROWS).tolist() == [[7.4, 1.9, 9.4], [7.0, 2.0, 10.0]]
    assert SCHEMA.from_rows(ROWS, []).tolist() == SCHEMA.from_rows(ROWS, list(COLUMNS)).tolist()


@given(st.permutations(range(3)))
def test_names_in_any_order_give_the_same_rows(order: list[int]) -> None:
    shuffled = [[row[i] for i in order] for row in ROWS]
    assert SCHEMA.from_rows(shuffled, [COLUMNS[i] for i in order]).tolist() == SCHEMA.from_rows(ROWS).tolist()


@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), min_size=1, max_size=20))
def test_every_form_of_a_request_means_the_same_rows(rows: Any) -> None:
    expected = np.array(rows)
    flat = [value for row in rows for value in row]
    shape = [len(rows), 3]
    columns = [tensor([row[i] for row in rows], [len(rows)], name) for i, name in enumerate(COLUMNS)]
    for read in (
        SCHEMA.from_rows(rows),
        SCHEMA.from_tensor(shape, flat),
        SCHEMA.from_inputs([tensor(flat, shape)]),
        SCHEMA.from_inputs([tensor(rows, shape)]),
        SCHEMA.from_inputs(columns[::-1]),
    ):
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    ("rows", "names", "problem"),
    [
        ([], None, "there are no rows"),
        (None, None, "there are no rows"),
        ("text", None, "there are no rows"),
        ([1, 2, 3], None, "not a list of rows"),
        ([[1, 2, 3], None], None, "not a list of rows"),
        ([[1, 2, 3], [1, 2]], None, "row 2 has 2 values"),
        ([[]], None, "row 1 has 0 values"),
        ([[1, 2, "3"]], None, 'row 1, column "alcohol": "3" is not a finite number'),
        ([[1, 2, 3], [None, 2, 3]], None, 'row 2, column "acidity": null is not a finite number'),
        ([[True, 2, 3]], None, 'column "acidity": true is not'),
        ([[1, [2], 3]], None, 'column "sugar": [2] is not'),
        ([[1, 2, float("nan")]], None, 'column "alcohol": NaN is not'),
        ([[1, 2, 1e39]], None, "1e+39 is not"),
        (
            [[1, 2, 10**400]],
            None,
            'row 1, column "alcohol": a whole number of more than 64 bits is not a finite',
        ),
        (ROWS, ["acidity", "sugar", "colour"], "unknown columns: colour"),
        (ROWS, ["acidity", "sugar"], "missing columns: alcohol"),
        (ROWS, ["acidity", "sugar", "alcohol", "sugar"], 'repeated columns: "sugar" and "sugar"'),
        (ROWS, "acidity", "the names are not a list of texts"),
        (ROWS, [1, 2, 3], "the names are not a list of texts"),
        ([[9.4, "x", 1.9]], ["alcohol", "acidity", "sugar"], 'column "acidity": "x"'),
    ],
)
def test_message_has_the_problem_and_what_is_expected(rows: Any, names: Any, problem: str) -> None:
    with pytest.raises(InputError) as refused:
        SCHEMA.from_rows(rows, names)
    assert problem in str(refused.value)
    assert "expected rows of 3 numbers: acidity, sugar, alcohol; for example [7.4, 1.9, 9.4]" in str(refused.value)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([], "there are no rows"),
        ([tensor([], [0, 3])], "is not [rows, columns]"),
        ([tensor([1, 2, 3], [3])], "is not [rows, columns]"),
        ([tensor([1, 2, 3, 4], [1, 3])], "the shape [1, 3] needs 3 values"),
        ([tensor([1, 2], [1, 2])], "row 1 has 2 values"),
        ([tensor(["a", "b", "c"], [1, 3], datatype="BYTES")], 'the datatype "BYTES"'),
        ([tensor(5, [1, 3])], "needs 3 values"),
        ([tensor([1], [1], "acidity"), tensor([1], [1], "sugar")], "missing columns: alcohol"),
        ([tensor([1, 2], [2], name) for name in COLUMNS[:2]] + [tensor([1], [1], "alcohol")], '"alcohol" is not a column of 2'),
        ([tensor([1], [7], name) for name in COLUMNS], '"acidity" is not a column of 1'),
    ],
)
def test_inference_requests_are_refused_with_their_reason(inputs: Any, problem: str) -> None:
    with pytest.raises(InputError, match="expected rows of 3 numbers") as refused:
        SCHEMA.from_inputs(inputs)
    assert problem in str(refused.value)


@pytest.mark.parametrize("shape", [None, [3], [0, 3], [-1, -3], [True, 3], [1, 3, 1], "13"])
def test_a_tensor_needs_two_sizes(shape: Any) -> None:
    with pytest.raises(InputError, match="is not \\[rows, columns\\]"):
        SCHEMA.from_tensor(shape, [1, 2, 3])


def test_a_model_of_one_column_takes_both_forms() -> None:
    schema = Schema(("x",))
    assert schema.from_inputs([tensor([1, 2], [2, 1])]).tolist() == [[1.0], [2.0]]
    assert schema.from_inputs([tensor([1, 2], [2])]).tolist() == [[1.0], [2.0]]


def test_long_messages_stay_short() -> None:
    schema = Schema(tuple(f"column number {i}" for i in range(1000)), (0.0,) * 1000)
    with pytest.raises(InputError) as refused:
        schema.from_rows([["x" * 10_000] * 1000])
    assert len(str(refused.value)) < 1500
    assert "for example" not in str(refused.value)
