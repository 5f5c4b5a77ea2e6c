"""Metrics: values of the platform's checks, reconciles and stages, and their endpoint."""

import socket
import urllib.request
from dataclasses import replace

from support.survey import GOOD, SETTINGS, evaluate

from winepipelines.doctor.observations import Outage, Reach
from winepipelines.metrics import Metrics

READY = evaluate(GOOD)
NO_MLFLOW = evaluate(replace(GOOD, mlflow=Outage(SETTINGS.mlflow_url, Reach.NO_CONNECTION)))


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"winepipelines_{name}", labels)


def test_platform_metrics_are_absent_before_the_first_check() -> None:
    assert sample(Metrics(), "platform_ready") is None


def test_platform_metrics_follow_the_checks() -> None:
    metrics = Metrics()
    metrics.checked(READY)
    assert sample(metrics, "platform_ready") == 1
    assert sample(metrics, "platform_check", check="mlflow answers") == 1
    metrics.checked(NO_MLFLOW)
    assert sample(metrics, "platform_ready") == 0
    assert sample(metrics, "platform_check", check="mlflow answers") == 0
    assert sample(metrics, "platform_check", check="mlflow authorizes the operator") is None, "a skipped check has no value"


def test_reconciles_and_errors_are_counted() -> None:
    metrics = Metrics()
    metrics.reconciled(0.2, False)
    metrics.reconciled(0.2, True)
    assert sample(metrics, "reconcile_seconds_count") == 2
    assert sample(metrics, "reconcile_errors_total") == 1


def test_resources_are_counted_by_stage() -> None:
    metrics = Metrics()
    metrics.count_stages(lambda: {"Serving": 3})
    assert sample(metrics, "resources", stage="Serving") == 3


def test_metrics_are_served_over_http() -> None:
    metrics = Metrics()
    metrics.checked(READY)
    port = _free_port()
    stop = metrics.serve("127.0.0.1", port)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        stop()
    assert "winepipelines_platform_ready 1.0" in text
    assert "process_resident_memory_bytes" in text


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
