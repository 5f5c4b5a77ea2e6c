"""The watch of Workflows resumes at its resource version, lists again if that has expired, and reports failures."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from kubernetes.aio.client import ApiException

from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.workflows import Hint, Workflows


class Response:
    """The response to a list request, or the chunks of a watch."""

    def __init__(self, body: Any = None, chunks: list[bytes] | None = None) -> None:
        self._chunks = chunks or [json.dumps(body).encode()]
        self.content = self

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    def close(self) -> None:
        """Do nothing: no connection is open."""


class NoMoreResponses(Exception):
    """The server has no more responses."""


class Server(Kubernetes):
    """An API server with a list of responses that records its requests. After the last it raises NoMoreResponses."""

    def __init__(self, *responses: Response | Exception) -> None:
        self._turn = asyncio.Semaphore()
        self._responses = list(responses)
        self.requests: list[dict[str, Any]] = []

    async def open(self, path: str, accept: str, **query: Any) -> Any:
        assert path == "/apis/argoproj.io/v1alpha1/workflows"
        assert "PartialObjectMetadata" in accept, "complete Workflows are as large as their pipelines"
        self.requests.append(query)
        if not self._responses:
            raise NoMoreResponses
        response = self._responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response


def listed(version: str, *workflows: tuple[str, str], more: str = "") -> Response:
    items = [workflow(version, run, phase) for run, phase in workflows]
    return Response({"metadata": {"resourceVersion": version, "continue": more}, "items": items or None})


def workflow(version: str, run: str, phase: str) -> dict[str, Any]:
    labels = {"pipeline/runid": run} | ({"workflows.argoproj.io/phase": phase} if phase else {})
    return {"metadata": {"resourceVersion": version, "labels": labels}}


def event(kind: str, version: str, run: str = "1", phase: str = "Running") -> bytes:
    return json.dumps({"type": kind, "object": workflow(version, run, phase)}).encode() + b"\n"


EXPIRED = json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}).encode() + b"\n"


async def hints_of(server: Server) -> list[Hint | None]:
    """Collect the hints until the server has no more responses."""
    hints: list[Hint | None] = []
    try:
        async with aclosing(Workflows(server, (0.0, 0.0)).hints()) as stream:
            async for hint in stream:
                hints.append(hint)  # noqa: PERF401 - the hints before the exception are needed
    except NoMoreResponses:
        return hints
    raise AssertionError("the watch has ended without an exception")


async def test_hints_are_the_list_and_then_the_changes() -> None:
    server = Server(
        listed("5", ("1", "")),
        Response(chunks=[event("MODIFIED", "6") + event("ADDED", "7", "2"), event("DELETED", "8")]),
    )
    assert await hints_of(server) == [
        Hint({"1": ""}, complete=True),
        Hint({"1": "Running"}),
        Hint({"2": "Running"}),
        Hint({"1": None}),
    ]
    assert [query.get("resource_version") for query in server.requests] == [None, "5", "8"], (
        "the watch must resume at the last version"
    )


async def test_hint_is_complete_when_there_are_no_workflows() -> None:
    """Kubernetes writes an empty list of metadata as null."""
    assert await hints_of(Server(listed("5"))) == [Hint({}, complete=True)]


async def test_hint_joins_all_pages_of_a_list() -> None:
    server = Server(listed("5", ("1", ""), more="next"), listed("5", ("2", "")))
    assert await hints_of(server) == [Hint({"1": "", "2": ""}, complete=True)]
    assert [query.get("_continue") for query in server.requests[:2]] == [None, "next"]


async def test_bookmark_changes_the_version_only() -> None:
    bookmark = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}).encode() + b"\n"
    server = Server(listed("5"), Response(chunks=[bookmark]))
    assert len(await hints_of(server)) == 1
    assert server.requests[-1]["resource_version"] == "99"


async def test_event_is_read_when_it_comes_in_single_bytes() -> None:
    whole = event("MODIFIED", "6")
    server = Server(listed("5"), Response(chunks=[whole[index : index + 1] for index in range(len(whole))]))
    assert (await hints_of(server))[1:] == [Hint({"1": "Running"})]


async def test_workflows_are_listed_again_when_the_version_has_expired() -> None:
    server = Server(listed("5"), Response(chunks=[EXPIRED]), listed("9", ("1", "Running")))
    assert await hints_of(server) == [Hint({}, complete=True), Hint({"1": "Running"}, complete=True)]


@pytest.mark.parametrize(
    "error", [lambda: ApiException(status=404), lambda: ApiException(status=403), lambda: ApiException(status=410), TimeoutError]
)
async def test_failed_watch_is_reported_and_retried(error: Callable[[], Exception]) -> None:
    server = Server(error(), listed("5"), error(), listed("6"))
    assert await hints_of(server) == [None, Hint({}, complete=True), None, Hint({}, complete=True)]


class Servers(Kubernetes):
    """An API server with responses for several namespaces. After the last response of a namespace, requests hang."""

    def __init__(self, **responses: list[Response | Exception]) -> None:
        self._turn = asyncio.Semaphore()
        self._responses = responses

    async def open(self, path: str, accept: str, **query: Any) -> Any:
        namespace = path.removeprefix("/apis/argoproj.io/v1alpha1/namespaces/").removesuffix("/workflows")
        if not self._responses[namespace]:
            await asyncio.Event().wait()
        response = self._responses[namespace].pop(0)
        if isinstance(response, Exception):
            raise response
        return response


async def test_failed_watch_of_a_namespace_loses_its_own_runs_only() -> None:
    lost = ApiException(status=403)
    servers = Servers(red=[listed("5", ("1", "Running")), lost, listed("9", ("3", ""))], white=[listed("6", ("2", "Running"))])
    phases: dict[str, str | None] = {}
    hints: list[Hint | None] = []
    stream = Workflows(servers, (0.0, 0.0), ("red", "white")).hints()
    async with aclosing(stream):
        while phases != {"1": None, "2": "Running", "3": ""}:
            hint = await asyncio.wait_for(anext(stream), 5)
            hints.append(hint)
            assert hint is not None
            assert not hint.complete, "a hint of one namespace is not complete"
            phases |= hint.phases
    assert Hint({"1": None}) in hints


async def test_unexpected_error_of_one_watch_ends_all() -> None:
    stream = Workflows(Servers(red=[NoMoreResponses()], white=[]), (0.0, 0.0), ("red", "white")).hints()
    async with aclosing(stream):
        with pytest.raises(NoMoreResponses):
            await asyncio.wait_for(anext(stream), 5)
