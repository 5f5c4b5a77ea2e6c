"""The newest known version of each watched object."""

from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name


class Cache(dict[Key, Object]):
    """The objects of one kind."""

    def put(self, item: Object) -> bool:
        """Store an object unless this or a newer version is known. Return whether it was stored."""
        known, new = (self.get(key_of(item)) or {}).get("metadata", {}), item["metadata"]
        # An event may arrive after the answer to a later write.
        if known.get("uid") == new["uid"] and int(new["resourceVersion"]) <= int(known["resourceVersion"]):
            return False
        self[key_of(item)] = item
        return True

    def drop(self, item: Object) -> bool:
        """Remove an object, unless another one of its name is known. Return whether it was known."""
        known = self.get(key_of(item))
        if not known or known["metadata"]["uid"] != item["metadata"]["uid"]:
            return False
        del self[key_of(item)]
        return True

    def relist(self, items: list[Object]) -> None:
        """Replace all known objects by a listing."""
        for key in self.keys() - {key_of(item) for item in items}:
            del self[key]
        for item in items:
            self.put(item)


def key_of(item: Object) -> Key:
    """Return namespace and name."""
    return item["metadata"]["namespace"], item["metadata"]["name"]


def owner_of(item: Object) -> Key:
    """Return namespace and name of the controlling owner. The name is "" if there is none."""
    owners = item["metadata"].get("ownerReferences", [])
    return item["metadata"]["namespace"], next((owner["name"] for owner in owners if owner.get("controller")), "")
