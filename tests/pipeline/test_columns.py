"""The rule for column names that training, batch scoring and the model server share."""

import pytest

from winecolumns import lower_snake


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fixed acidity", "fixed_acidity"),
        ("Fixed.Acidity", "fixed_acidity"),
        ("FIXED-ACIDITY ", "fixed_acidity"),
        ("__fixed  acidity__", "fixed_acidity"),
        ("pH", "ph"),
        ("Säure (g/l)", "säure_g_l"),
        ("fixedAcidity", "fixedacidity"),
        (" -- ", ""),
        ("Sa\u0308ure", "säure"),
    ],
)
def test_lower_snake_keeps_letters_and_digits(name: str, expected: str) -> None:
    assert lower_snake(name) == expected
    assert lower_snake(expected) == expected
