"""The doctor as a person runs it: a process of its own, against a sandbox."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.components import components
from sandbox.plan import load
from sandbox.platform import Sandbox


@dataclass(frozen=True)
class Diagnosis:
    """What it printed, by check; of several findings of one name the worst."""

    status: int
    findings: Mapping[str, Mapping[str, Any]]

    def of(self, result: str) -> set[str]:
        """Name the checks that ended so."""
        return {check for check, finding in self.findings.items() if finding["result"] == result}


class Doctor:
    """Sees the sandbox with the operator's settings, as the operator unless told otherwise."""

    def __init__(self, sandbox: Sandbox) -> None:
        plan = load(sandbox.folder)
        assert plan is not None, "the sandbox is up"
        component = components(plan)["operator"]
        base = {name: value for name, value in os.environ.items() if not name.startswith(("WINE_", "PYTEST_"))}
        self._environment = {**base, **component.environment}
        self._python = component.command[0]
        self._administrator = str(plan.kubeconfig)

    def run(self, *arguments: str, administrator: bool = False, changes: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Return the exit status and what it printed."""
        environment = {**self._environment, **(changes or {})}
        if administrator:
            environment["KUBECONFIG"] = self._administrator
        command = [self._python, "-m", "winepipelines", "doctor", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def diagnose(self, *arguments: str, administrator: bool = False, changes: Mapping[str, str] | None = None) -> Diagnosis:
        """Read what it says."""
        status, text = self.run("-o", "json", *arguments, administrator=administrator, changes=changes)
        report = json.loads(text)
        assert report["exitStatus"] == status
        order = ("ok", "skipped", "warning", "failed")
        ranked = sorted(report["findings"], key=lambda finding: order.index(finding["result"]))
        return Diagnosis(status, {finding["check"]: finding for finding in ranked})

    def text_file(self, folder: Path, name: str, text: str) -> str:
        """Write a file for it to read."""
        (folder / name).write_text(text)
        return str(folder / name)
