"""Writes statuses if they have changed."""

from typing import Any

from sandbox.seldon.api import Api, ApiError
from sandbox.seldon.cache import Cache, Key

Object = dict[str, Any]


class Statuses:
    """Writes statuses that differ from the known or last written ones."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._written: dict[tuple[str, str], Object] = {}

    async def write(self, resource: str, cache: Cache, key: Key, status: Object) -> None:
        """Write one object's status, if the object exists. Raises ApiError."""
        item = cache.get(key)
        if item is None or item.get("status") == status:
            return
        mark = (resource, item["metadata"]["uid"])
        if self._written.get(mark) == status:
            return  # the API server pruned a part of it
        try:
            cache.put(await self._api.set_status(resource, item, status))
        except ApiError as error:
            if error.code not in (404, 422):  # deleted, or another object of that name (the patch tests the uid)
                raise
            return
        self._written[mark] = status

    def forget(self, resource: str, uid: str) -> None:
        """Forget a deleted object."""
        self._written.pop((resource, uid), None)
