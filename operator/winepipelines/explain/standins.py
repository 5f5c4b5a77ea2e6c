"""Answer queries from what a status records: the last observations stand in for new ones.

A query that the status cannot answer stays open: that is what the operator would observe next.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.observed import (
    BackendsView,
    ChildrenView,
    DeploymentView,
    PlatformVerdict,
    PredictionCheck,
    Presence,
    RunState,
    RunView,
    SecretState,
    ServerView,
    StepsView,
)
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.prediction import WinePrediction
from winepipelines.api.status import Condition, ConditionType, Run, Status
from winepipelines.engine.decision import Query
from winepipelines.pipelines.queries import (
    GetBackends,
    GetChildren,
    GetDeployment,
    GetPlatformHealth,
    GetRunSettings,
    GetServer,
    GetSteps,
    ListRuns,
    ProbeEndpoint,
)

IN_PLACE = ChildrenView(SecretState("", "", exists=True), None, ())


@dataclass(frozen=True)
class StandIn:
    """An answer, and the field of the status that it is taken from."""

    answer: object
    source: str


class StandIns(Mapping[Query[object], object]):
    """The answers that a resource's status has. `used` lists those that were read."""

    def __init__(self, resource: WinePipeline | WinePrediction, now: datetime) -> None:
        """Read them from a resource."""
        self.used: dict[str, str] = {}  # query: source
        self._resource, self._now = resource, now

    def __getitem__(self, query: Query[object]) -> object:
        """Return the answer to a query. Raises KeyError if the status has none."""
        found = self._find(query)
        if found is None:
            raise KeyError(query)
        self.used[type(query).__name__] = found.source
        return found.answer

    def __iter__(self) -> Iterator[Query[object]]:
        """No answer is listed: they are looked up by their query."""
        return iter(())

    def __len__(self) -> int:
        """Return 0, see `__iter__`."""
        return 0

    def _find(self, query: Query[object]) -> StandIn | None:
        run, status = self._resource.status.run or Run(), self._resource.status
        if isinstance(query, ListRuns):
            return _runs(query, run)
        if isinstance(query, GetRunSettings):
            return StandIn(run.settings_hash, "status.run.settingsHash") if run.settings_hash else None
        if isinstance(query, GetSteps):
            known = run.id == query.run_id and run.workflow and run.problem is None
            return StandIn(StepsView(known=True, workflow=run.workflow), "status.run.workflow") if known else None
        if not isinstance(status, Status) or (find := OF_PIPELINES.get(type(query))) is None:
            return None
        return find(query, status, self._now)


def _runs(query: ListRuns, run: Run) -> StandIn | None:
    if query.name != run.name or (run.submitted_at is not None and not run.id):
        return None
    if not run.id:
        return StandIn((), "status.run")
    created = run.submitted_at or run.started_at
    if created is None or run.state not in {*RunState}:
        return None
    return StandIn((RunView(run.id, run.name, RunState(run.state), created, run.finished_at, run.url),), "status.run")


def _children(_query: Any, status: Status, _now: datetime) -> StandIn | None:
    return StandIn(IN_PLACE, _source(ConditionType.PREPARED)) if _is_true(status, ConditionType.PREPARED) else None


def _server(query: Any, status: Status, _now: datetime) -> StandIn | None:
    holders = [holder for holder in (status.candidate, status.served) if holder is not None]
    server = next((holder.model.server for holder in holders if holder.model.runtime is query.runtime), ModelServer())
    splits = any(holder.canary is not None and holder.canary.percent for holder in holders[:1] if holder is status.candidate)
    view = ServerView(
        version=status.inputs_hash.partition("-")[2],
        server=server,
        splits_traffic=splits,
        takes_unsigned=_is_true(status, ConditionType.ACCEPTED),
    )
    return StandIn(view, "status.inputsHash and the recorded models")


def _deployment(query: Any, status: Status, _now: datetime) -> StandIn | None:
    deployed, candidate, served = status.condition(ConditionType.DEPLOYED), status.candidate, status.served
    if deployed is None or query.rollout is None:
        return None
    is_canary = query.rollout.canary is not None
    if candidate is not None and query.rollout.model == candidate.model and _is_about(candidate.revision, status):
        view = DeploymentView(
            Presence.CURRENT, rolled_out=deployed.status == "True", reason=deployed.reason, message=deployed.message
        )
    elif candidate is not None and is_canary and candidate.canary is not None:
        started = candidate.rollout_started_at is not None
        view = DeploymentView(Presence.CURRENT, not started, not started, reason=deployed.reason if started else "")
    elif served is not None and query.rollout.model == served.model and not is_canary:
        view = DeploymentView(Presence.CURRENT, rolled_out=deployed.status == "True")
    else:
        return None
    return StandIn(view, _source(ConditionType.DEPLOYED))


def _probe(query: Any, status: Status, now: datetime) -> StandIn | None:
    verified, candidate, served = status.condition(ConditionType.ENDPOINT_VERIFIED), status.candidate, status.served
    is_known = served is not None and query.model == served.model
    is_known = is_known or (candidate is not None and query.model == candidate.model and served is None)
    if verified is None or not is_known:
        return None
    url, protocol = (status.endpoint.url, status.endpoint.protocol) if status.endpoint else ("", "")
    last, passed = status.last_prediction, verified.status == "True"
    failure = ("", "") if passed else (verified.reason, verified.message)
    at = last.time if last is not None else now
    return StandIn(PredictionCheck(at, passed, None, 0, *failure, url, protocol), _source(ConditionType.ENDPOINT_VERIFIED))


def _health(_query: Any, status: Status, _now: datetime) -> StandIn | None:
    found = status.condition(ConditionType.PLATFORM_READY)
    verdict = None if found is None else PlatformVerdict(found.status == "True", found.reason, found.message)
    return StandIn(verdict, _source(ConditionType.PLATFORM_READY))


def _backends(_query: Any, status: Status, _now: datetime) -> StandIn | None:
    """Take the backends that the status names as the enabled ones."""
    holders = (status.served, status.candidate, status.previous, status.migration, status.retiring)
    names = tuple(dict.fromkeys(holder.backend for holder in holders if holder is not None and holder.backend))
    default = names[0] if names else "the default"
    return StandIn(BackendsView((*names, *(() if names else (default,))), default, default), "status.served.backend")


OF_PIPELINES: Mapping[type, Callable[[Any, Status, datetime], StandIn | None]] = {
    GetBackends: _backends,
    GetChildren: _children,
    GetServer: _server,
    GetDeployment: _deployment,
    ProbeEndpoint: _probe,
    GetPlatformHealth: _health,
}


def _is_about(revision: int, status: Status) -> bool:
    """Tell whether the conditions of a rollout describe the candidate: it serves, or nothing else does."""
    return status.served is None or status.served.revision == revision or _canary_is_over(status)


def _canary_is_over(status: Status) -> bool:
    canary = status.candidate.canary if status.candidate is not None else None
    return canary is not None and canary.promoted


def _is_true(status: Status, kind: ConditionType) -> bool:
    condition: Condition | None = status.condition(kind)
    return condition is not None and condition.status == "True"


def _source(kind: ConditionType) -> str:
    return f"status.conditions[{kind}]"
