"""Fixtures that several unit tests use."""

from collections.abc import AsyncIterator

import pytest
from support.toy import House, controller
from support.world import World

from winepipelines.engine.controller import Controller
from winepipelines.engine.queue import FairQueue


@pytest.fixture
def world() -> World:
    """A new WinePipeline and its platform."""
    return World()


@pytest.fixture
async def queue() -> AsyncIterator[FairQueue]:
    """A work queue, stopped after the test."""
    queue = FairQueue(10)
    yield queue
    await queue.stop()


@pytest.fixture
def house() -> House:
    """A house without lamps, for the engine's tests."""
    return House()


@pytest.fixture
async def lamps(house: House, queue: FairQueue) -> AsyncIterator[Controller]:
    """Lamps that wait for events once they are lit."""
    lamps = controller(house, queue=queue)
    yield lamps
    await lamps.stop()
