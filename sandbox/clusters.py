"""The API server of a sandbox: its own control plane, its own kind cluster, or a cluster of the user.

    builtin   etcd, kube-apiserver and the controllers are components like others
    kind      the program `kind` makes a cluster, and deletes it
    current   a context of the user's kubeconfig; what is made there, and removed from there, is `ownership`'s

The rest is the same on each: the platform's processes run on this machine and talk with that API server.
"""

from collections.abc import Callable
from pathlib import Path

from sandbox import certificates, engines, kubeconfigs, manifests, ownership
from sandbox import kind as programs
from sandbox.errors import ClusterError, EngineError, SandboxError
from sandbox.kind import Kind
from sandbox.kubeconfigs import Access
from sandbox.plan import BUILTIN, CURRENT, KIND, Plan

Report = Callable[[str], None]


def check(kind: str, name: str, previous: Plan | None) -> str:
    """Check what a kind of cluster needs on this machine, before anything is built or created. Return the container engine.

    The engine is empty where none is needed. One that a cluster was made with stays its engine.
    Raises ClusterError.
    """
    if kind != KIND:
        return ""
    if not programs.is_installed():
        raise ClusterError(f"CLUSTER=kind needs the program kind: {programs.INSTALL}")
    try:
        if previous is None:
            engine = engines.for_kind()
        else:
            engine = engines.choose([previous.engine]) if previous.engine else _engine_of(kind_name(name))
    except EngineError as error:
        raise ClusterError(f"CLUSTER=kind needs a container engine. {error}") from None
    if previous is None and kind_name(name) in Kind(engine).clusters():
        raise ClusterError(
            f"There is a kind cluster {kind_name(name)} that this sandbox did not create. Delete it "
            f"({engines.KIND_VARIABLE}={engine} kind delete cluster --name {kind_name(name)}) or give the sandbox another name."
        )
    return engine


def choose(kind: str, context: str, previous: Plan | None, kubectl: Path) -> Access | None:
    """Return the context to use, or None if the sandbox creates the cluster. Touches no server.

    Raises ClusterError if there is none, or the user has not allowed its use.
    """
    if kind != CURRENT:
        return None
    access = kubeconfigs.of_context(kubectl, context)
    if previous and previous.kubeconfig.exists() and access.server != Access.read(previous.kubeconfig).server:
        raise ClusterError(f"Sandbox '{previous.name}' is {where(previous)}, not on {access.server}. {_down(previous)}")
    if not context and not kubeconfigs.is_on_this_machine(access.server):
        raise ClusterError(
            f"Context {access.context} is {access.server}, which is not obviously on this machine. The sandbox makes kinds, "
            "namespaces and cluster roles there, and removes them in the end. If that is what you want, name the context: "
            f"make demo CLUSTER=current CLUSTER_CONTEXT='{access.context}' (python -m sandbox up --cluster current --context …)."
        )
    return access


def join(plan: Plan, access: Access | None, report: Report) -> None:
    """Write the administrator's kubeconfig. Create the cluster if it is the sandbox's own.

    Raises ClusterError where it has what the sandbox would make, from someone else: nothing has been written then.
    """
    if plan.cluster == BUILTIN:
        certificates.make(plan.certificates)
        server = plan.url("apiserver", "https")
        kubeconfigs.of_control_plane(plan.certificates, server, "admin").write(plan.kubeconfig)
        manager = kubeconfigs.of_control_plane(plan.certificates, server, "controller-manager")
        manager.write(plan.certificates / "controller-manager.kubeconfig")
        return
    if plan.cluster == KIND:
        access = _join_kind(plan, report)
    if access:  # otherwise it was joined before, and its kubeconfig exists
        access.write(plan.kubeconfig)
    report(f"creating the platform's objects {where(plan)}")
    ownership.check_access(plan)
    ownership.check(plan, manifests.platform(plan))


def leave(plan: Plan) -> None:
    """Remove what the sandbox created in a cluster.

    Raises SandboxError where that fails, for instance because the cluster does not answer.
    """
    if plan.cluster == KIND:
        _leave_kind(plan)
    elif plan.cluster == CURRENT and plan.kubeconfig.exists():
        try:
            ownership.remove(plan)
        except SandboxError as error:
            raise SandboxError(
                f"the sandbox's objects are still {where(plan)}: {error}\nCorrect that and repeat the command. "
                f"If the cluster is gone for good: rm -r '{plan.folder}'"
            ) from error


def conflict(plan: Plan, kind: str | None, context: str) -> str:
    """Explain why a running sandbox cannot move to another API server. Return an empty string if it need not move."""
    elsewhere = kind not in (None, plan.cluster) or (context and plan.kubeconfig.exists() and context != _context(plan))
    return f"Sandbox '{plan.name}' is {where(plan)}. {_down(plan)}" if elsewhere else ""


def where(plan: Plan) -> str:
    """Describe the API server of a sandbox."""
    if plan.cluster == BUILTIN:
        return "on its own control plane"
    if not plan.kubeconfig.exists():
        return f"on a cluster of its own, {kind_name(plan.name)}" if plan.cluster == KIND else "on a cluster of yours"
    return f"on context {_context(plan)}, {Access.read(plan.kubeconfig).server}"


def kind_name(sandbox: str) -> str:
    """Return the name of a sandbox's kind cluster."""
    return f"wine-{sandbox}"


def _context(plan: Plan) -> str:
    return Access.read(plan.kubeconfig).context


def _down(plan: Plan) -> str:
    return f"Take it down first: python -m sandbox down --name {plan.name}"


def _join_kind(plan: Plan, report: Report) -> Access:
    name, file = kind_name(plan.name), plan.folder / "kind.kubeconfig"  # a file of its own: the user's kubeconfig is not changed
    kind = Kind(plan.engine)
    if name in kind.clusters():
        kind.export(name, file)
    else:
        report(
            f"kind creates the cluster {name} with {plan.engine}: this takes a minute or more, and pulls an image the first time"
        )
        kind.create(name, file)
    return kubeconfigs.of_context(plan.programs["kubectl"], kubeconfig=file)


def _leave_kind(plan: Plan) -> None:
    name = kind_name(plan.name)
    try:
        Kind(plan.engine or _engine_of(name)).delete(name)
    except SandboxError as error:
        raise SandboxError(
            f"the kind cluster {name} may still be there: {error}\nCorrect that and repeat the command. If the cluster is gone "
            f"for good: rm -r '{plan.folder}'"
        ) from error


def _engine_of(name: str) -> str:
    """Find the engine that already runs the cluster, which plans of earlier versions do not record; otherwise choose one."""
    working = (engine for engine in engines.FOR_KIND if not engines.why_not(engine))
    return next((engine for engine in working if name in Kind(engine).clusters()), "") or engines.for_kind()
