"""The watch of Workflows goes on where it was, begins anew where it must, and says when it cannot be."""

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
    """A list, or the bytes of a watch as they come."""

    def __init__(self, body: Any = None, chunks: list[bytes] | None = None) -> None:
        self._chunks = chunks or [json.dumps(body).encode()]
        self.content = self

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    def close(self) -> None:
        """Nothing is open."""


class Over(Exception):
    """There is nothing more to be heard."""


class Server(Kubernetes):
    """Answers what it was told to, and remembers what it was asked. In the end it is gone."""

    def __init__(self, *answers: Response | Exception) -> None:
        self._turn = asyncio.Semaphore()
        self._answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def open(self, path: str, accept: str, **query: Any) -> Any:
        assert path == "/apis/argoproj.io/v1alpha1/workflows"
        assert "PartialObjectMetadata" in accept, "whole Workflows are as large as their pipelines"
        self.asked.append(query)
        if not self._answers:
            raise Over
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def listed(version: str, *workflows: tuple[str, str], more: str = "") -> Response:
    items = [workflow(version, run, phase) for run, phase in workflows]
    return Response({"metadata": {"resourceVersion": version, "continue": more}, "items": items or None})


def workflow(version: str, run: str, phase: str) -> dict[str, Any]:
    labels = {"pipeline/runid": run} | ({"workflows.argoproj.io/phase": phase} if phase else {})
    return {"metadata": {"resourceVersion": version, "labels": labels}}


def event(kind: str, version: str, run: str = "1", phase: str = "Running") -> bytes:
    return json.dumps({"type": kind, "object": workflow(version, run, phase)}).encode() + b"\n"


EXPIRED = json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}).encode() + b"\n"


async def heard(server: Server) -> list[Hint | None]:
    """All that is heard until the server is gone."""
    hints: list[Hint | None] = []
    try:
        async with aclosing(Workflows(server, (0.0, 0.0)).hints()) as stream:
            async for hint in stream:
                hints.append(hint)  # noqa: PERF401 - what came before the end is kept
    except Over:
        return hints
    raise AssertionError("the watch goes on for ever")


async def test_what_is_listed_comes_first_and_then_what_moves() -> None:
    server = Server(
        listed("5", ("1", "")),
        Response(chunks=[event("MODIFIED", "6") + event("ADDED", "7", "2"), event("DELETED", "8")]),
    )
    assert await heard(server) == [
        Hint({"1": ""}, complete=True),
        Hint({"1": "Running"}),
        Hint({"2": "Running"}),
        Hint({"1": None}),
    ]
    assert [query.get("resource_version") for query in server.asked] == [None, "5", "8"], "on from where it was"


async def test_no_workflows_are_a_list_too() -> None:
    """Kubernetes writes an empty list of metadata as null."""
    assert await heard(Server(listed("5"))) == [Hint({}, complete=True)]


async def test_pages_are_one_list() -> None:
    server = Server(listed("5", ("1", ""), more="next"), listed("5", ("2", "")))
    assert await heard(server) == [Hint({"1": "", "2": ""}, complete=True)]
    assert [query.get("_continue") for query in server.asked[:2]] == [None, "next"]


async def test_a_bookmark_moves_nothing_but_the_version() -> None:
    bookmark = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}).encode() + b"\n"
    server = Server(listed("5"), Response(chunks=[bookmark]))
    assert len(await heard(server)) == 1
    assert server.asked[-1]["resource_version"] == "99"


async def test_an_event_may_come_in_pieces_of_any_size() -> None:
    whole = event("MODIFIED", "6")
    server = Server(listed("5"), Response(chunks=[whole[index : index + 1] for index in range(len(whole))]))
    assert (await heard(server))[1:] == [Hint({"1": "Running"})]


async def test_a_version_that_is_too_old_is_no_outage() -> None:
    server = Server(listed("5"), Response(chunks=[EXPIRED]), listed("9", ("1", "Running")))
    assert await heard(server) == [Hint({}, complete=True), Hint({"1": "Running"}, complete=True)]


@pytest.mark.parametrize(
    "error", [lambda: ApiException(status=404), lambda: ApiException(status=403), lambda: ApiException(status=410), TimeoutError]
)
async def test_what_cannot_be_watched_is_said_and_tried_again(error: Callable[[], Exception]) -> None:
    server = Server(error(), listed("5"), error(), listed("6"))
    assert await heard(server) == [None, Hint({}, complete=True), None, Hint({}, complete=True)]


class Servers(Kubernetes):
    """Answers for several namespaces; each is silent when it has said all."""

    def __init__(self, **answers: list[Response | Exception]) -> None:
        self._turn = asyncio.Semaphore()
        self._answers = answers

    async def open(self, path: str, accept: str, **query: Any) -> Any:
        namespace = path.removeprefix("/apis/argoproj.io/v1alpha1/namespaces/").removesuffix("/workflows")
        if not self._answers[namespace]:
            await asyncio.Event().wait()
        answer = self._answers[namespace].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_of_some_namespaces_each_is_watched_and_one_that_cannot_be_loses_its_own_alone() -> None:
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
            assert not hint.complete, "there are others elsewhere"
            phases |= hint.phases
    assert Hint({"1": None}) in hints


async def test_a_defect_of_one_watch_ends_them_all() -> None:
    stream = Workflows(Servers(red=[Over()], white=[]), (0.0, 0.0), ("red", "white")).hints()
    async with aclosing(stream):
        with pytest.raises(Over):
            await asyncio.wait_for(anext(stream), 5)
