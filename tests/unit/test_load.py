"""What is read of the log of the client that asks a served model without pause."""

import pytest
from e2e.load import Load

OK = [f"03:00:{second:02} {second}.0 ok 5.3" for second in range(1, 21)]
LOST = "03:00:21 1.5 failed URLError(ConnectionRefusedError(111, 'Connection refused')) b''"


def test_answers_and_failures_are_told_apart() -> None:
    load = Load.read([*OK, LOST])
    assert (load.count, load.failures) == (21, (LOST,))
    assert set(load.values) == {5.3}
    assert str(load).startswith("21 requests, 1 failed, p50 10 ms, p95 19 ms, p99 20 ms, p100 20 ms, 03:00:21 ")


@pytest.mark.parametrize(("percent", "milliseconds"), [(0, 1), (5, 1), (50, 10), (95, 19), (100, 20)])
def test_a_percentile_is_the_nearest_rank(percent: float, milliseconds: float) -> None:
    assert Load.read(reversed(OK)).percentile(percent) == milliseconds


def test_a_client_that_got_no_answer_at_all_is_told_of_too() -> None:
    assert str(Load.read([LOST])) == f"1 requests, 1 failed, {LOST}"
