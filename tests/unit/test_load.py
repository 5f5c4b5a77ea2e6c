"""Evaluation of the log of a client that sends predictions continuously."""

import pytest
from e2e.load import Load

OK = [f"03:00:{second:02} {second}.0 ok 5.3" for second in range(1, 21)]
FAILED = "03:00:21 1.5 failed URLError(ConnectionRefusedError(111, 'Connection refused')) b''"


def test_load_counts_answers_and_failures() -> None:
    load = Load.read([*OK, FAILED])
    assert (load.count, load.failures) == (21, (FAILED,))
    assert set(load.values) == {5.3}
    assert str(load).startswith("21 requests, 1 failed, p50 10 ms, p95 19 ms, p99 20 ms, p100 20 ms, 03:00:21 ")


@pytest.mark.parametrize(("percent", "milliseconds"), [(0, 1), (5, 1), (50, 10), (95, 19), (100, 20)])
def test_percentile_is_the_nearest_rank(percent: float, milliseconds: float) -> None:
    assert Load.read(reversed(OK)).percentile(percent) == milliseconds


def test_summary_without_any_answer_lists_the_failure() -> None:
    assert str(Load.read([FAILED])) == f"1 requests, 1 failed, {FAILED}"
