"""Termination messages: how a step or the model server tells Kubernetes, and through it the operator, why it failed.

The message is one JSON object, `{"failure": {"step": …, "reason": …, "permanent": …, "message": …}}`. The kubelet copies it
to the status of the container; Argo Workflows copies it to the message of its node, after the container's name and exit code.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from winecontract.parsing import UnreadableError, parse_first_object

FILE = "/dev/termination-log"
VARIABLE = "WINE_TERMINATION_LOG"
"""Environment variable that names another file."""
MAX_BYTES = 4000
"""Maximum size of a message: the kubelet reads 4,096 bytes."""
_BEGIN = '{"failure":'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why a program failed. `step` is the name of a step, empty for the model server; `reason` is one of `reasons`."""

    step: str
    reason: str
    message: str
    permanent: bool = False

    def encode(self) -> bytes:
        """Encode the failure; a message that makes it too large is shortened."""
        content = {"step": self.step, "reason": str(self.reason), "permanent": self.permanent, "message": self.message}
        text = json.dumps({"failure": content}, ensure_ascii=False).encode(errors="replace")
        if len(text) <= MAX_BYTES or not self.message:
            return text
        return replace(self, message=self.message[: len(self.message) * 3 // 4]).encode()


def write(failure: Failure, variables: Mapping[str, str] = os.environ) -> None:
    """Write the termination message, if there is a file for it: the kubelet creates it, a program never does."""
    try:
        descriptor = os.open(variables.get(VARIABLE, FILE), os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(failure.encode())
    except OSError as error:
        log.debug("no termination message written: %s", error)


def read(text: str) -> Failure | None:
    """Find a failure in the text that Kubernetes or Argo reports; None if there is none.

    Anybody who can write to the namespace may have written it: the caller bounds and checks the fields.
    """
    begin = text.find(_BEGIN)
    if begin < 0:
        return None
    try:
        content = parse_first_object(text, begin)["failure"]
        step, reason, message = content.get("step"), content["reason"], content["message"]
        permanent = content["permanent"] is True
    except (UnreadableError, KeyError, TypeError, AttributeError):
        return None
    return Failure(step if isinstance(step, str) else "", str(reason), str(message), permanent)
