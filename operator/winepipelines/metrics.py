"""Metrics for Prometheus: the platform checks and the operator's own work, served at `/metrics`."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from winepipelines.doctor.finding import Report, Result

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)  # seconds


class _Checks(Collector):
    """The last report. It is replaced as a whole, so that a scrape never sees half of one."""

    def __init__(self) -> None:
        self.report: Report | None = None

    def collect(self) -> Iterator[Metric]:
        """Return the samples: none before the first report."""
        ready = GaugeMetricFamily("winepipelines_platform_ready", "1 if no platform check fails, else 0")
        checks = GaugeMetricFamily(
            "winepipelines_platform_check",
            "1 if this platform check passes, 0 if it fails; no sample if it was skipped",
            labels=["check"],
        )
        if self.report is not None:
            ready.add_metric([], float(not self.report.failures))
            for check, passes in _results(self.report).items():
                checks.add_metric([check], float(passes))
        yield ready
        yield checks


class _Resources(Collector):
    """The number of resources in each stage, counted at each scrape."""

    def __init__(self, name: str, about: str, stages: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._about, self._stages = name, about, stages

    def collect(self) -> Iterator[Metric]:
        """Return the samples."""
        resources = GaugeMetricFamily(self._name, self._about, labels=["stage"])
        for stage, count in sorted(self._stages().items()):
            resources.add_metric([stage], count)
        yield resources


class Metrics:
    """The metrics of one operator."""

    def __init__(self) -> None:
        """Create the metrics, with nothing measured yet."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._checks = _Checks()
        self.registry.register(self._checks)
        self._check_runs = Counter(
            "winepipelines_platform_check_runs", "Completed runs of the platform checks", registry=self.registry
        )
        self._seconds = Histogram(
            "winepipelines_reconcile_seconds", "Duration of one reconcile in seconds", registry=self.registry, buckets=BUCKETS
        )
        self._errors = Counter(
            "winepipelines_reconcile_errors", "Reconciles that failed with an unexpected error", registry=self.registry
        )

    def count_stages(self, stages: Callable[[], Mapping[str, int]]) -> None:
        """Count WinePipelines by stage at each scrape."""
        self.registry.register(_Resources("winepipelines_resources", "WinePipelines by the stage in their status", stages))

    def count_predictions(self, stages: Callable[[], Mapping[str, int]]) -> None:
        """Count WinePredictions by stage at each scrape."""
        about = "WinePredictions by the stage in their status"
        self.registry.register(_Resources("winepipelines_predictions", about, stages))

    def checked(self, report: Report) -> None:
        """Record a report of the platform checks."""
        self._checks.report = report
        self._check_runs.inc()

    def reconciled(self, seconds: float, failed: bool) -> None:
        """Record the duration of a reconcile in seconds, and whether it failed with an unexpected error."""
        self._seconds.observe(seconds)
        if failed:
            self._errors.inc()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serve the metrics on a thread; return the function that stops it."""
        server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


def _results(report: Report) -> dict[str, bool]:
    """Return for each check whether it passes. Of several findings of one check the worst counts."""
    results: dict[str, bool] = {}
    for finding in report.findings:
        if finding.result is not Result.SKIPPED:
            results[finding.check] = results.get(finding.check, True) and finding.result is not Result.FAILED
    return results
