"""One sandbox: up, down, and single components stopped and started."""

import functools
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox import clusters, manifests, mlflow_database, mlflow_server, parallel, places, plan, processes, programs
from sandbox.components import Component, base_environment, components, python_environment, store_environment
from sandbox.errors import ClusterError, ComponentError, PortTakenError, SandboxError
from sandbox.kserve import installation
from sandbox.kubectl import kubectl
from sandbox.locks import alone
from sandbox.plan import BACKENDS, BOTH, BUILTIN, CLUSTERS, CURRENT, KIND, KNATIVE, KSERVE, MODES, SELDON, STANDARD, Info, Plan
from sandbox.processes import Process

BUCKETS = ("mlflow", "mlpipeline")
LOOK_EVERY = 0.05  # seconds
TIMEOUT = 10.0  # seconds that stopping may take before it is enforced
ATTEMPTS = 3  # of a start, when another program takes a port first
TAKEN = ("address already in use", "port is already in use")
STATELESS = frozenset({"apiserver", "controller-manager", "data"})  # nothing is lost when these are killed
STORES = frozenset({"etcd", "store", "mlflow"})


class Sandbox:
    """A sandbox by name, running or not. As a context manager it goes down at the end, even if this process is killed.

    `without` names components to leave out, for instance `{"operator"}`, or `manifests`, what is in the cluster from the start;
    `authenticate` makes Kubeflow Pipelines require tokens; `audit` has the API server log the operator's requests (see
    `Plan.audit_log`); `environment` has more variables by component, for instance `{"operator": {"WINE_POLL_SECONDS": "5"}}`.
    They count from the next `up` of a sandbox of which nothing runs. `cluster` is the API server (see `clusters`; None: as
    before, else builtin), `backend` its serving backend: `kserve` and `both` run KServe beside Seldon's stand-in, and need the
    builtin cluster; `both` gives the operator the rights for either. `context` is the user's context for `current` (empty: the
    current one, if it is on this machine), `mlflow` the variant of the tracking server (see `mlflow_server`). `report` gets a
    line for each step.
    """

    def __init__(
        self,
        name: str = "default",
        folder: Path | None = None,
        *,
        without: Collection[str] = (),
        authenticate: bool = False,
        audit: bool = False,
        mlflow: str = "direct",
        environment: Mapping[str, Mapping[str, str]] | None = None,
        cluster: str | None = None,
        backend: str | None = None,
        mode: str | None = None,
        context: str = "",
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name):
            raise SandboxError(f"'{name}' is no name for a sandbox: lower-case letters, digits and dashes, at most 40")
        self.name = name
        self.folder = (folder or places.cache_folder() / "sandboxes" / name).absolute()
        self.without = frozenset(without)
        self.authenticate = authenticate
        self.audit = audit
        self.mlflow = mlflow
        self.environment = environment or {}
        if cluster not in (None, *CLUSTERS):
            raise SandboxError(f"'{cluster}' is no cluster; there are {', '.join(CLUSTERS)}")
        if backend not in (None, *BACKENDS):
            raise SandboxError(f"'{backend}' is no serving backend; there are {', '.join(BACKENDS)}")
        if backend in (KSERVE, BOTH) and cluster not in (None, BUILTIN):
            raise SandboxError(f"KServe runs in the cluster '{BUILTIN}' only: others do not reach its webhooks on this machine")
        if context and cluster != CURRENT:
            raise SandboxError("a context is for the cluster 'current' only")
        if mode not in (None, *MODES):
            raise SandboxError(f"'{mode}' is no mode of KServe; there are {', '.join(MODES)}")
        self.cluster, self.context, self.backend, self.mode = cluster, context, backend, mode
        self.report = report
        self._guard: subprocess.Popen[bytes] | None = None

    # -- the whole --

    def up(self) -> Info:
        """Start what is not running and wait until all of it answers.

        Raises SandboxError; what was started is stopped again then, and the logs stay. ClusterError: nothing was started, and
        nothing made in the cluster.
        """
        with alone(self.folder):
            before = [name for name, alive in self.running().items() if alive]
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return self._up()
                except BaseException as error:
                    self._stop_all(gently=False, spare=before)
                    if not isinstance(error, PortTakenError) or before or attempt == ATTEMPTS:
                        raise
                    self.report(f"{error.args[0].splitlines()[0]} Its port was taken: again, with others")
        raise AssertionError("unreachable: the last attempt returns or raises")

    def down(self, *, keep_state: bool = False) -> None:
        """Stop everything; and forget everything, unless it is kept for the next `up`. Harmless when nothing runs.

        Raises SandboxError where a cluster of the user's cannot be left as it was: all that is known of the sandbox stays then.
        """
        with alone(self.folder):
            self._stop_all(gently=keep_state)
            if not keep_state:
                if current := plan.load(self.folder):
                    clusters.leave(current)
                shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def info(self) -> Info:
        """Addresses, paths and credentials.

        Raises SandboxError when there is no such sandbox.
        """
        return self._plan.info()

    def running(self) -> dict[str, bool]:
        """Whether each component's process is alive, by name; empty where there is no sandbox."""
        current = plan.load(self.folder)
        return {name: self._alive(name) for name in components(current)} if current else {}

    # -- one component --

    def start(self, name: str) -> None:
        """Start a component on the port that it had, and wait until it answers. Harmless when it runs."""
        self._start(self._component(name), threading.Event())

    def stop(self, name: str, *, kill: bool = False) -> None:
        """Stop a component; `kill` is `kill -9`, without notice. Harmless when it is stopped.

        What stands for a pod goes on when its stand-in stops, as a pod does.
        """
        self._component(name)
        processes.stop(self._known([name]), TIMEOUT, signal.SIGKILL if kill else signal.SIGTERM)

    def restart(self, name: str, *, kill: bool = False) -> None:
        """Stop a component, then start it."""
        self.stop(name, kill=kill)
        self.start(name)

    def log(self, name: str) -> Path:
        """The path of a component's log."""
        self._component(name)
        return self._plan.logs / f"{name}.log"

    # -- the cluster --

    def kubectl(self, *arguments: str, stdin: str | None = None, as_operator: bool = False) -> str:
        """Run kubectl as the administrator, or as the operator's service account; return what it printed.

        Raises KubectlError.
        """
        return kubectl(self._plan, *arguments, stdin=stdin, as_operator=as_operator)

    def add_namespace(self, *names: str) -> None:
        """Make users' namespaces, with the label of a Kubeflow profile and the object store's credentials."""
        manifests.add_namespaces(self._plan, names)

    # -- as a context --

    def __enter__(self) -> Self:
        # Whatever becomes of this process, the pipe's end closes with it and the guard takes the sandbox down.
        guard = [sys.executable, "-m", "sandbox", "guard", "--name", self.name, "--folder", str(self.folder)]
        environment = {**base_environment(), **python_environment("")}
        self._guard = subprocess.Popen(guard, env=environment, stdin=subprocess.PIPE, start_new_session=True)
        try:
            self.up()
        except BaseException:
            self._release_guard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.down()
        finally:
            self._release_guard()

    def _release_guard(self) -> None:
        if self._guard:
            self._guard.communicate(b"done")
            self._guard = None

    # -- how --

    @property
    def _plan(self) -> Plan:
        current = plan.load(self.folder)
        if current is None:
            raise SandboxError(f"there is no sandbox '{self.name}'; start it with: python -m sandbox up --name {self.name}")
        return current

    def _component(self, name: str) -> Component:
        known = components(self._plan)
        if name not in known:
            raise SandboxError(f"there is no component '{name}'; there are {', '.join(known)}")
        return known[name]

    def _up(self) -> Info:
        started = time.monotonic()
        current = plan.load(self.folder)
        if current and (conflict := clusters.conflict(current, self.cluster, self.context)):
            raise ClusterError(conflict)
        if current is None or not any(self._alive(name) for name in components(current)):
            processes.stop_marked(self.folder)
            current = self._make_plan(current)
        known = components(current)
        if unknown := self.without - known.keys() - {"manifests"}:
            raise SandboxError(f"there is no component {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        wanted = {name: each for name, each in known.items() if name not in self.without}
        if wanted and all(self._alive(name) for name in wanted):
            self.report(f"sandbox '{self.name}' is up already")
            return current.info()
        given_up = threading.Event()
        steps = {name: parallel.Step(functools.partial(self._start, each, given_up), each.needs) for name, each in wanted.items()}
        if "store" in wanted:
            steps["buckets"] = parallel.Step(functools.partial(self._make_buckets, current), ("store",))
        if "manifests" not in self.without and (current.cluster != BUILTIN or "apiserver" in wanted):
            steps["manifests"] = parallel.Step(functools.partial(self._apply_manifests, current), ("apiserver",))
        parallel.run(steps, given_up)
        self.report(f"sandbox '{self.name}' is up after {time.monotonic() - started:.1f} s")
        return current.info()

    def _make_plan(self, previous: Plan | None) -> Plan:
        cluster = self.cluster or (previous.cluster if previous else BUILTIN)
        backend = self.backend or (previous.backend if previous else SELDON)
        mode = self.mode or (previous.mode if previous else STANDARD)
        kserve = backend in (KSERVE, BOTH)
        engine = clusters.check(cluster, self.name, previous)
        with ThreadPoolExecutor() as pool:
            server = mlflow_server.variant(self.mlflow).environment
            pipeline, operator, mlflow = (pool.submit(places.interpreter, name) for name in ("pipeline", "operator", server))
            initializer = pool.submit(places.interpreter, "kserve-storage") if kserve else None
            found = programs.find(
                self.report, control_plane=cluster == BUILTIN, kserve=kserve, knative=kserve and mode == KNATIVE
            )
            # Keep the cluster unless one is named: the user may have switched contexts since.
            known = self.cluster is None and previous is not None and previous.kubeconfig.exists()
            access = None if known else clusters.choose(cluster, self.context, previous, found["kubectl"])
            current = Plan(
                self.name,
                self.folder,
                plan.choose_ports(previous),
                *plan.choose_credentials(previous),
                programs=found,
                pipeline_python=pipeline.result(),
                operator_python=operator.result(),
                mark=plan.choose_mark(self.name, previous),
                cluster=cluster,
                engine=engine,
                backend=backend,
                mode=mode,
                kserve_python=initializer.result() if initializer else "",
                mlflow_python=mlflow.result(),
                mlflow=self.mlflow,
                authenticate=self.authenticate,
                audit=self.audit,
                environment=self.environment,
            )
        for name in ("", "home", "logs", "data", "run", "kubeflow", "seldon", "kserve-node"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        current.save()  # before anything is made elsewhere: `down` then knows of it
        try:
            clusters.join(current, access, self.report)
        except ClusterError:
            if previous is None:
                if cluster == KIND:
                    clusters.leave(current)
                shutil.rmtree(self.folder)
            raise
        shutil.copy(places.ROOT / "data" / "winequality-red.csv", current.data)
        mlflow_database.prepare(current)
        if kserve:
            installation.link_certificate(current.certificates / "apiserver", current.folder / "kserve")
        return current

    def _start(self, component: Component, given_up: threading.Event) -> None:
        """Start a component and wait until it answers, or until `given_up` is set."""
        started = time.monotonic()
        log = self._plan.logs / f"{component.name}.log"
        process = next(iter(self._known([component.name])), None)
        if process is None or not process.alive():
            if log.exists():
                log.replace(log.with_name(f"{component.name}.previous.log"))
            # At home the user has files that clients read: kubeconfigs, credentials, certificates.
            home = {"HOME": str(self.folder / "home"), "WINE_CACHE": str(places.cache_folder())}
            changes = self._plan.environment.get(component.name, {})
            environment = {**base_environment(), **home, **component.environment, **changes}
            process = processes.start(component.command, environment, log, self.folder)
            process.write(self._pid_file(component.name))
        while not (component.ready() and process.alive()):  # another program may answer on a port that was taken
            lasted = time.monotonic() - started
            if not process.alive():
                raise self._failure(f"{component.name} ended after {lasted:.1f} s", log)
            if lasted > component.timeout:
                raise self._failure(f"{component.name} did not answer within {lasted:.0f} s", log)
            if given_up.wait(LOOK_EVERY):
                raise SandboxError(f"{component.name} was given up because another component failed")
        self.report(f"{component.name:<20}{time.monotonic() - started:5.1f} s")

    def _failure(self, what: str, log: Path) -> ComponentError:
        text = log.read_text(errors="replace")
        end = "\n".join(text.strip().splitlines()[-15:]) or "(no output)"
        advice = f"All of its log: {log}. To begin afresh: python -m sandbox down --name {self.name}"
        kind = PortTakenError if any(words in text.lower() for words in TAKEN) else ComponentError
        return kind(f"{what}. The end of its log:\n{end}\n{advice}")

    def _make_buckets(self, current: Plan) -> None:
        environment = {**base_environment(), **python_environment(""), **store_environment(current)}
        command = [current.pipeline_python, "-m", "sandbox.buckets", *BUCKETS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SandboxError(f"the buckets could not be made: {done.stderr.strip()}")

    def _apply_manifests(self, current: Plan) -> None:
        started = time.monotonic()
        manifests.apply_platform(current)
        manifests.write_operator_tokens(current)
        self.report(f"{'manifests':<20}{time.monotonic() - started:5.1f} s")

    def _stop_all(self, *, gently: bool, spare: Collection[str] = ()) -> None:
        """Stop users before what they use. What is about to be forgotten need not be written out first."""
        started = {path.name for path in self._pid_file("").glob("*")} - set(spare)
        processes.stop(self._known(started - STATELESS - STORES), TIMEOUT)
        processes.stop(self._known(started & STATELESS), TIMEOUT, signal.SIGKILL)
        processes.stop(self._known(started & STORES), TIMEOUT, signal.SIGTERM if gently else signal.SIGKILL)
        if not spare:
            processes.stop_marked(self.folder)

    def _known(self, names: Collection[str]) -> list[Process]:
        """The processes that were started last under these names, alive or not."""
        return [process for name in names if (process := Process.read(self._pid_file(name)))]

    def _alive(self, name: str) -> bool:
        return any(process.alive() for process in self._known([name]))

    def _pid_file(self, name: str) -> Path:
        return self.folder / "run" / name
