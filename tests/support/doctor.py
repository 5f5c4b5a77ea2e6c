"""The doctor command as a user runs it, and a platform that tests break and restore."""

import contextlib
import copy
import io
import json
import os
import sqlite3
import subprocess
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import yaml
from kubernetes.aio.config import kube_config
from support.cluster import Body, Cluster

from sandbox.components import base_environment, components
from sandbox.plan import load
from sandbox.platform import Sandbox
from winepipelines.doctor import command
from winepipelines.serving.backends import backends_of


@dataclass(frozen=True)
class Diagnosis:
    """The exit status and the findings, by check. Of several findings of a check it has the worst."""

    status: int
    findings: Mapping[str, Mapping[str, Any]]

    def of(self, result: str) -> set[str]:
        """Return the names of the checks with this result."""
        return {check for check, finding in self.findings.items() if finding["result"] == result}


class Doctor:
    """Runs the doctor command on a sandbox, with the operator's settings and, by default, the operator's credentials."""

    def __init__(self, sandbox: Sandbox) -> None:
        plan = load(sandbox.folder)
        assert plan is not None, "the sandbox is not running"
        component = components(plan)["operator"]
        self._environment = {**base_environment(), **component.environment}
        self._python = component.command[0]
        self._administrator = str(plan.kubeconfig)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the command in a process of its own; return exit status and output."""
        line = [self._python, "-m", "winepipelines", "doctor", *arguments]
        done = subprocess.run(line, env=self._environment, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def diagnose(self, *arguments: str, administrator: bool = False, changes: Mapping[str, str] | None = None) -> Diagnosis:
        """Run the command in this process, which saves the imports, and parse its report."""
        environment = {**self._environment, **(changes or {})}
        if administrator:
            environment["KUBECONFIG"] = self._administrator
        parser = ArgumentParser()
        command.add_arguments(parser)
        printed = io.StringIO()
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(
                kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", environment["KUBECONFIG"]
            ),  # kube_config read the variable when it was imported
            contextlib.redirect_stdout(printed),
        ):
            status = command.run(parser.parse_args(["-o", "json", *arguments]), environment, backends_of)
        report = json.loads(printed.getvalue())
        assert report["exitStatus"] == status
        order = ("ok", "skipped", "warning", "failed")
        ranked = sorted(report["findings"], key=lambda finding: order.index(finding["result"]))
        return Diagnosis(status, {finding["check"]: finding for finding in ranked})


class BreakablePlatform:
    """A platform that tests break and restore."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.cluster = Cluster(sandbox)
        self.doctor = Doctor(sandbox)

    @contextmanager
    def changed(self, kind: str, name: str, change: Callable[[Body], None], namespace: str = "kubeflow") -> Iterator[None]:
        """Change an object, and restore it at exit."""
        before = self.cluster.get(kind, namespace, name)
        assert before is not None
        after = copy.deepcopy(before)
        change(after)
        self._replace(after)
        try:
            yield
        finally:
            self._replace(before)

    @contextmanager
    def absent(self, kind: str, name: str, namespace: str = "kubeflow") -> Iterator[None]:
        """Delete an object, and restore it at exit."""
        before = self.cluster.get(kind, namespace, name)
        assert before is not None
        self.cluster.delete(kind, namespace, name)
        try:
            yield
        finally:
            self._replace(before)

    @contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        self.sandbox.stop(component)
        try:
            yield
        finally:
            self.sandbox.start(component)

    @contextmanager
    def artifacts_at(self, root: str) -> Iterator[None]:
        """Change the artifact location of MLflow's default experiment, and restore it at exit."""
        database = self.cluster.info.folder / "mlflow.db"
        update = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0"
        with sqlite3.connect(database, timeout=20) as connection:
            [before] = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
            connection.execute(update, (root,))
        try:
            yield
        finally:
            with sqlite3.connect(database, timeout=20) as connection:
                connection.execute(update, (before,))

    def _replace(self, body: Body) -> None:
        metadata = {
            key: value for key, value in body["metadata"].items() if key in ("name", "namespace", "labels", "annotations")
        }
        clean = {key: value for key, value in body.items() if key != "status"} | {"metadata": metadata}
        verb = "replace" if self._exists(body) else "create"
        self.sandbox.kubectl(verb, "-f", "-", stdin=yaml.safe_dump(clean))

    def _exists(self, body: Body) -> bool:
        metadata = body["metadata"]
        return self.cluster.get(body["kind"].lower(), metadata.get("namespace", "default"), metadata["name"]) is not None
