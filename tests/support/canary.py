"""A served model on a platform that splits traffic, for tests of canaries and rollbacks."""

from support.world import World

from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.observed import ServerView

CANARY = {"canary": {"steps": [10, 50], "pause": "5m"}}
SPLITS = ServerView(server=ModelServer(image="server:1"), splits_traffic=True)


def canary_world() -> World:
    """Build a world in which revision 1 is served and the platform splits traffic."""
    world = World(server=SPLITS)
    world.change(serving=CANARY)
    world.serve()
    return world


def weights(world: World) -> tuple[int, int | None, int]:
    """Return the served revision, the revision of the canary, and its weight in percent."""
    applied = world.applied
    assert applied is not None
    return applied.model.revision, applied.canary.revision if applied.canary else None, applied.weight
