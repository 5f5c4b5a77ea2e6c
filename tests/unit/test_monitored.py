"""Monitored observers and actors: a kind that the API server does not serve is reported, and is no failed call."""

from types import SimpleNamespace
from typing import Any

import pytest

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.doctor.calls import CallMonitor
from winepipelines.monitored import MonitoredActor, MonitoredObserver
from winepipelines.pipelines.actions import ApplyChildren
from winepipelines.pipelines.queries import GetPlatformHealth
from winepipelines.platform.kubernetes import KindMissing


class Missing:
    async def answer(self, _query: object, _resource: object, /) -> object:
        raise KindMissing("seldondeployments")

    async def perform(self, _action: object, _resource: object, /) -> None:
        raise KindMissing("seldondeployments")


@pytest.mark.parametrize("is_action", [False, True], ids=["query", "action"])
async def test_missing_kind_is_reported_and_requests_no_check(is_action: bool) -> None:
    checks: list[None] = []
    monitor, resource = CallMonitor(lambda: None, lambda: checks.append(None)), SimpleNamespace(namespace="admin", name="wine")
    system: Any = Missing()
    observer, actor = MonitoredObserver(system, monitor), MonitoredActor(system, monitor)
    call = actor.perform(ApplyChildren(), resource) if is_action else observer.answer(GetPlatformHealth(), resource)
    with pytest.raises(PlatformError, match="does not serve seldondeployments") as caught:
        await call
    assert caught.value.reason == Reason.CRD_MISSING
    assert not checks
