"""The command line: `python -m sandbox up|down|info|…`, run from the repository's root in any of its environments."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.mlflow_server import VARIANTS
from sandbox.plan import BACKENDS, CLUSTERS, MODES
from sandbox.platform import Sandbox

SECRETS = ("s3_secret_key", "mlflow_password")


def main() -> int:
    """Run a command; return the exit status."""
    options = _parser().parse_args()
    try:
        _run(options, _sandbox(options))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox: interrupted; what was started has been stopped", file=sys.stderr)
        return 130
    return 0


def _sandbox(options: argparse.Namespace) -> Sandbox:
    if options.command != "up":
        return Sandbox(options.name, options.folder)
    without = {*options.without, *(["operator"] if options.no_operator else [])}

    def report(line: str) -> None:
        if not options.quiet:
            print(f"sandbox: {line}", file=sys.stderr, flush=True)

    return Sandbox(
        options.name,
        options.folder,
        without=without,
        authenticate=options.authenticate,
        cluster=options.cluster,
        backend=options.backend,
        mode=options.mode,
        context=options.context,
        mlflow=options.mlflow,
        report=report,
    )


def _run(options: argparse.Namespace, sandbox: Sandbox) -> None:
    match options.command:
        case "up":
            print(sandbox.up().exports)
        case "down":
            sandbox.down(keep_state=options.keep_state)
        case "info":
            _show(sandbox, as_json=options.json)
        case "add-namespace":
            sandbox.add_namespace(*options.namespaces)
        case "logs":
            print(sandbox.log(options.component).read_text(errors="replace"), end="")
        case "start" | "stop" | "restart":
            getattr(sandbox, options.command)(options.component)
        case "guard":
            if sys.stdin.buffer.read() != b"done":  # whoever started us was killed
                sandbox.down()


def _show(sandbox: Sandbox, *, as_json: bool) -> None:
    facts = {**asdict(sandbox.info), "running": sandbox.running()}
    if as_json:
        print(json.dumps(facts, indent=1, default=str))
        return
    for name, value in facts.items():
        if name == "running":
            value = ", ".join(f"{component}{'' if alive else ' (stopped)'}" for component, alive in value.items())
        print(f"{name:<22}{'(in --json)' if value and name in SECRETS else value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="The platform on one machine, see sandbox/README.md.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="default", help="which sandbox (default: %(default)s)")
    common.add_argument("--folder", type=Path, help="its state's folder (default: sandboxes/NAME in the cache folder)")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, about: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=about, description=about, parents=[common])

    up = command("up", "start what is not running; print how to point kubectl at it")
    up.add_argument("--no-operator", action="store_true", help="leave the operator out")
    up.add_argument("--without", action="append", default=[], metavar="COMPONENT", help="leave a component out")
    up.add_argument("--authenticate", action="store_true", help="Kubeflow Pipelines requires tokens, as behind a mesh")
    up.add_argument("--cluster", choices=CLUSTERS, help="which API server (default: as before, else builtin)")
    up.add_argument("--backend", choices=BACKENDS, help="the serving backend of the operator (default: as before, else seldon)")
    up.add_argument("--mode", choices=MODES, help="KServe's deployment mode (default: as before, else Standard)")
    up.add_argument("--context", default="", help="of the kubeconfig, for --cluster current; naming it is consent to use it")
    up.add_argument("--mlflow", choices=VARIANTS, default="direct", help="which tracking server (default: %(default)s)")
    up.add_argument("--quiet", action="store_true", help="no progress")
    down = command("down", "stop everything and forget it")
    down.add_argument("--keep-state", action="store_true", help="keep objects and data for the next up")
    info = command("info", "addresses, paths and what is running")
    info.add_argument("--json", action="store_true", help="everything, credentials too")
    command("add-namespace", "make users' namespaces").add_argument("namespaces", nargs="+")
    command("logs", "print a component's log").add_argument("component")
    for name in ("start", "stop", "restart"):
        command(name, f"{name} one component").add_argument("component")
    command("guard", "take the sandbox down when standard input ends (for tests)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
