"""`python -m sandbox.kubeflow`: the stand-in's server. It ends at SIGTERM; its runs continue."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import signal
import sys
from pathlib import Path

from aiohttp import web

from . import specs
from .api import application
from .auth import Gate
from .cluster import Cluster
from .execution import Execution
from .experiments import Experiments
from .runs import Runs, Settings
from .store import Store


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.kubeflow", description="Kubeflow Pipelines' v2beta1 REST.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of runs, artifacts and logs")
    parser.add_argument("--kubeconfig", type=Path, help="without it there are no secrets and no Workflows")
    parser.add_argument("--namespace", default="kubeflow", help="of all runs, without --multi-user")
    parser.add_argument("--multi-user", action="store_true", help="an experiment is mandatory and decides the namespace")
    parser.add_argument("--authenticate", action="store_true", help="require bearer tokens; implies --multi-user")
    parser.add_argument(
        "--terminate-seconds", type=float, default=1.0, help="from :terminate to FAILED (default 1; a real one took 17)"
    )
    parser.add_argument("--orphan-seconds", type=float, default=20.0, help="how long runs go on without a server (default 20)")
    parser.add_argument("--cold", action="store_true", help="steps import their packages themselves: for tests of small steps")
    options = parser.parse_args()
    if options.authenticate and not options.kubeconfig:
        parser.error("--authenticate needs --kubeconfig: tokens are checked by the API server")
    return options


async def _serve(options: argparse.Namespace) -> None:
    state: Path = options.state.resolve()
    kubeconfig: Path | None = options.kubeconfig and options.kubeconfig.resolve()
    cluster = Cluster(kubeconfig) if kubeconfig else None
    store = Store(state)
    multi_user: bool = options.multi_user or options.authenticate
    gate = Gate(multi_user, cluster if options.authenticate else None)
    with contextlib.closing(store.create()):
        experiments = Experiments(store, gate)
        execution = Execution(state, kubeconfig, options.orphan_seconds, cold=options.cold)
        settings = Settings(options.namespace, options.terminate_seconds)
        runs = Runs(state, store, gate, experiments, execution, cluster, settings)
        runner = web.AppRunner(application(runs, experiments, multi_user), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, options.host, options.port).start()
        execution.start(runs.worker_ended)
        execution.in_thread(specs.warm_up)
        if cluster:
            execution.in_thread(cluster.warm_up)
        execution.in_thread(runs.resume)
        ended = asyncio.Event()
        for sent in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sent, ended.set)
        logging.info("serving on port %s", options.port)
        await ended.wait()
        await runner.cleanup()


def main() -> None:
    """Serve until terminated."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    options.state.mkdir(parents=True, exist_ok=True)
    with (options.state / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another server uses {options.state}")
        asyncio.run(_serve(options))


if __name__ == "__main__":
    main()
