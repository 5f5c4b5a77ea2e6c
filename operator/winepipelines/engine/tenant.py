"""For whom work is done. Set by `queue`, read by `threads`: what lies between them need not pass it on."""

from contextvars import ContextVar

TENANT: ContextVar[str] = ContextVar("tenant", default="")
"""The tenant, a namespace, that the current task works for; empty for work that is everybody's."""
