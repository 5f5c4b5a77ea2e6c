"""Metrics for Prometheus: the platform's checks, and the operator's own work. Served at `/metrics`; made by `handlers`."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from winepipelines.doctor.finding import Report, Result

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)  # seconds


class _Checks(Collector):
    """The last report, whole: a scrape never sees half of one."""

    def __init__(self) -> None:
        self.report: Report | None = None

    def collect(self) -> Iterator[Metric]:
        """Give the samples: none before the first report."""
        ready = GaugeMetricFamily("winepipelines_platform_ready", "1 where no check of the platform fails, else 0")
        checks = GaugeMetricFamily(
            "winepipelines_platform_check",
            "1 where this check passes, 0 where it fails; none where it was skipped",
            labels=["check"],
        )
        if self.report is not None:
            ready.add_metric([], float(not self.report.failures))
            for check, passes in _results(self.report).items():
                checks.add_metric([check], float(passes))
        yield ready
        yield checks


class _Resources(Collector):
    """How many resources there are in each stage, counted when asked."""

    def __init__(self, name: str, about: str, stages: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._about, self._stages = name, about, stages

    def collect(self) -> Iterator[Metric]:
        """Give the samples."""
        resources = GaugeMetricFamily(self._name, self._about, labels=["stage"])
        for stage, count in sorted(self._stages().items()):
            resources.add_metric([stage], count)
        yield resources


class Metrics:
    """What is measured."""

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._checks = _Checks()
        self.registry.register(self._checks)
        self._walks = Counter("winepipelines_platform_walks", "Times that the platform was checked", registry=self.registry)
        self._seconds = Histogram(
            "winepipelines_reconcile_seconds", "Duration of one look at a resource", registry=self.registry, buckets=BUCKETS
        )
        self._errors = Counter(
            "winepipelines_reconcile_errors", "Looks at a resource that ended in a defect", registry=self.registry
        )

    def count_stages(self, stages: Callable[[], Mapping[str, int]]) -> None:
        """Have WinePipelines counted by stage."""
        self.registry.register(_Resources("winepipelines_resources", "WinePipelines by the stage that their status says", stages))

    def count_predictions(self, stages: Callable[[], Mapping[str, int]]) -> None:
        """Have WinePredictions counted by stage."""
        about = "WinePredictions by the stage that their status says"
        self.registry.register(_Resources("winepipelines_predictions", about, stages))

    def checked(self, report: Report) -> None:
        """Take the platform's last report."""
        self._checks.report = report
        self._walks.inc()

    def reconciled(self, seconds: float, failed: bool) -> None:
        """Take the duration of a reconcile, and whether it ended in a defect."""
        self._seconds.observe(seconds)
        if failed:
            self._errors.inc()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serve them on a thread; return what ends it."""
        server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


def _results(report: Report) -> dict[str, bool]:
    """Say of each check whether it passes; of several findings of one name the worst counts."""
    results: dict[str, bool] = {}
    for finding in report.findings:
        if finding.result is not Result.SKIPPED:
            results[finding.check] = results.get(finding.check, True) and finding.result is not Result.FAILED
    return results
