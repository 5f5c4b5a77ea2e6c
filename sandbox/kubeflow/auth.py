"""Authentication by bearer token (TokenReview) and authorization (SubjectAccessReview).

Source: backend/src/apiserver/auth and ResourceManager.IsAuthorized. The real server believes a `kubeflow-userid` header; the
mesh in front of it refuses that header from anyone else, and so does `api`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .cluster import Cluster
from .errors import ApiError

AUDIENCE = "pipelines.kubeflow.org"
_PREFIX = "Bearer "


@dataclass(frozen=True)
class Caller:
    """Return a request's Authorization headers."""

    authorization: Sequence[str]


class Gate:
    """Authentication and authorization of one server."""

    def __init__(self, multi_user: bool, reviewer: Cluster | None) -> None:
        """Take the mode, and the cluster for reviews. Without a cluster, every client has all rights."""
        self.multi_user = multi_user
        self._reviewer = reviewer

    def check(self, caller: Caller, verb: str, resource: str, namespace: str, name: str = "") -> None:
        """Authorize the caller.

        Raises:
            ApiError: 401 where it is not known who calls, 403 where that one has no such right.

        """
        if self._reviewer is None:
            return
        user = self._user(self._reviewer, caller)
        wanted = {"namespace": namespace, "verb": verb, "group": AUDIENCE, "version": "v1beta1", "resource": resource}
        if name:
            wanted["name"] = name
        allowed, reason = self._reviewer.review_access(user, wanted)
        if not allowed:
            raise ApiError(7, f"User '{user}' is not authorized with reason: {reason} (request: {wanted})", "Unauthorized access")

    @staticmethod
    def _user(reviewer: Cluster, caller: Caller) -> str:
        why = "Request header error: there is no user identity header."
        if len(caller.authorization) == 1:
            header = caller.authorization[0]
            why = f"Header 'Authorization' is incorrectly formatted. Expected prefix '{_PREFIX}'"
            if header.startswith(_PREFIX):
                user, audiences, why = reviewer.review_token(header.removeprefix(_PREFIX), AUDIENCE)
                if user and AUDIENCE in audiences:
                    return user
                why = f"Authentication failure: Review.Status.Authenticated is false. Error {why}"
        raise ApiError(16, "Failed to check authorization. User identity is empty in the request header", f"[{why}]")
