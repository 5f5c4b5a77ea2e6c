"""The metrics that Seldon's executor would give, under its names and labels: dashboards and alerts find what they found before.

Source: seldon-core 1.18, `executor/api/metric`. The executor measures a request (`server`) and its own call of the model
(`client`); here they are the same. Its summaries with quantiles are left out: take quantiles of the histograms. Every label has
few values: the services, methods and codes that this server has, and the pod's own names.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from wineserver.environment import Environment

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
SERVER = "seldon_api_executor_server_requests_seconds"
CLIENT = "seldon_api_executor_client_requests_seconds"
FEEDBACK = "seldon_api_model_feedback"
REWARD = "seldon_api_model_feedback_reward"
METHODS = frozenset({"get", "head", "post", "options"})
Key = tuple[str, str, str]  # service, method, code


@dataclass
class _Series:
    """Requests of one kind: how many in each bucket, the last of which has no upper bound, and their seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a request."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """The counts up to each bound."""
        total, found = 0, []
        for bound, count in zip((*map(str, map(float, BUCKETS)), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class Metrics:
    """Counts requests, in the event loop alone, and feedback, in any thread."""

    def __init__(self, environment: Environment) -> None:
        identity = environment.identity
        image, version = identity.image_parts()
        self._pod = [identity.deployment, identity.predictor, identity.predictor_version]
        self._model = [environment.name, image, version]
        self._counted = not environment.behind_executor
        self._server: dict[Key, _Series] = {}
        self._client: dict[Key, _Series] = {}
        self._lock = threading.Lock()
        self._feedback = 0
        self._reward = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def count(self, service: str, model_path: str, method: str, code: int, seconds: float) -> None:
        """Count an answered request of a service; `model_path` is the path by which the executor would have called the model."""
        method = method.lower()
        kind = (method if method in METHODS else "other", str(code))
        self._server.setdefault((service, *kind), _Series()).add(seconds)
        if model_path:
            self._client.setdefault((model_path, *kind), _Series()).add(seconds)

    def count_feedback(self, reward: float) -> None:
        """Count a reward, as Seldon's servers do; none is no feedback."""
        if reward:
            with self._lock:
                self._feedback += 1
                self._reward += reward

    def exposition(self) -> tuple[bytes, str]:
        """Return all metrics in Prometheus' text form, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families. Behind the executor the requests are its own to count, and would be counted twice."""
        pod, model = ["deployment_name", "predictor_name", "predictor_version"], ["model_name", "model_image", "model_version"]
        if self._counted:
            server = HistogramMetricFamily(
                SERVER, "A histogram of latencies of this server", labels=[*pod, "service", "method", "code"]
            )
            client = HistogramMetricFamily(
                CLIENT, "A histogram of latencies of the model", labels=[*pod, "service", *model, "method", "code"]
            )
            for (service, method, code), series in self._server.items():
                server.add_metric([*self._pod, service, method, code], series.buckets(), series.seconds)
            for (service, method, code), series in self._client.items():
                client.add_metric([*self._pod, service, *self._model, method, code], series.buckets(), series.seconds)
            yield server
            yield client
        labels = [*self._pod, *self._model, "feedback"]
        for name, text, value in (
            (FEEDBACK, "Feedback with a reward", self._feedback),
            (REWARD, "Sum of the rewards", self._reward),
        ):
            counter = CounterMetricFamily(name, text, labels=[*pod, *model, "method"])
            if self._feedback:
                counter.add_metric(labels, value)
            yield counter
