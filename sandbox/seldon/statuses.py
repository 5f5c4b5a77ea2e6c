"""Writes statuses, each only when it says something new. Used by `controller` and `node`."""

from typing import Any

from sandbox.seldon.api import Api, ApiError
from sandbox.seldon.cache import Cache, Key

Object = dict[str, Any]


class Statuses:
    """Writes statuses that differ from those that are known, or were written last."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._written: dict[tuple[str, str], Object] = {}

    async def write(self, resource: str, cache: Cache, key: Key, status: Object) -> None:
        """Write one object's status; it may be gone. Raises ApiError."""
        item = cache.get(key)
        if item is None or item.get("status") == status:
            return
        mark = (resource, item["metadata"]["uid"])
        if self._written.get(mark) == status:
            return  # the API server has left something out of it
        try:
            cache.put(await self._api.set_status(resource, item, status))
        except ApiError as error:
            if error.code not in (404, 422):  # gone, or another object of that name (the patch tests it)
                raise
            return
        self._written[mark] = status

    def forget(self, resource: str, uid: str) -> None:
        """Forget an object that is gone."""
        self._written.pop((resource, uid), None)
