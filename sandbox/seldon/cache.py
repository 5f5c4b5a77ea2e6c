"""What the watches have told: the newest known version of each object. Used by `controller` and `node`."""

from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name


class Cache(dict[Key, Object]):
    """The objects of one kind."""

    def put(self, item: Object) -> bool:
        """Keep an object unless this or a newer version is known; say whether it was kept."""
        known, new = (self.get(key_of(item)) or {}).get("metadata", {}), item["metadata"]
        # An event may come after the answer to a later write.
        if known.get("uid") == new["uid"] and int(new["resourceVersion"]) <= int(known["resourceVersion"]):
            return False
        self[key_of(item)] = item
        return True

    def drop(self, item: Object) -> bool:
        """Forget an object, unless another one of its name is known; say whether it was known."""
        known = self.get(key_of(item))
        if not known or known["metadata"]["uid"] != item["metadata"]["uid"]:
            return False
        del self[key_of(item)]
        return True

    def relist(self, items: list[Object]) -> None:
        """Make a listing all that is known."""
        for key in self.keys() - {key_of(item) for item in items}:
            del self[key]
        for item in items:
            self.put(item)


def key_of(item: Object) -> Key:
    """Namespace and name."""
    return item["metadata"]["namespace"], item["metadata"]["name"]


def owner_of(item: Object) -> Key:
    """Namespace and name of the controlling owner; the name is "" where there is none."""
    owners = item["metadata"].get("ownerReferences", [])
    return item["metadata"]["namespace"], next((owner["name"] for owner in owners if owner.get("controller")), "")
