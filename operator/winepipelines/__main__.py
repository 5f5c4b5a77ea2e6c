"""The command line: `python -m winepipelines run|render|doctor|explain`."""

import argparse
import asyncio
import logging
import os
import sys

from winepipelines import logs, render, startup
from winepipelines.doctor import command as doctor
from winepipelines.environment import SettingsError, unknown_variables
from winepipelines.explain import command as explain
from winepipelines.serving.backends import Backends, all_settings, backends_of
from winepipelines.settings import Settings
from winepipelines.startup import StartError

logger = logging.getLogger("winepipelines")


def main() -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m winepipelines", description=sys.modules["winepipelines"].__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="watch WinePipeline resources and act, until interrupted")
    run.add_argument("--verbose", action="store_true", help="log every request")
    about = "print every object that would be applied for a resource, and the run that would be submitted; uses no cluster"
    render.add_arguments(commands.add_parser("render", help=about, description=about))
    about = "check the platform; report each problem and its fix; changes nothing"
    doctor.add_arguments(commands.add_parser("doctor", help=about, description=about))
    about = "explain from a resource's dump which check decided, and the facts that it used; uses no cluster"
    explain.add_arguments(commands.add_parser("explain", help=about, description=about))
    options = parser.parse_args()
    logs.ignore_deprecations()
    try:
        if options.command == "render":
            return render.run(options, os.environ)
        if options.command == "doctor":
            return doctor.run(options, os.environ, backends_of)
        if options.command == "explain":
            return explain.run(options, os.environ)
        settings = Settings.from_environment()
        backends = backends_of(settings)
    except SettingsError as error:
        print(f"winepipelines: {error}", file=sys.stderr)
        return 2
    return _run(settings, backends, verbose=options.verbose)


def _run(settings: Settings, backends: Backends, *, verbose: bool) -> int:
    """Run the operator; return 0 after a signal, 1 if it cannot start or fails unexpectedly."""
    logs.set_up("debug" if verbose else settings.log_level, settings.log_format)
    for name in unknown_variables(all_settings()):
        logger.warning("Ignoring an unknown variable", extra={"fields": {"variable": name}})
    try:
        asyncio.run(startup.check(settings, backends))
        import kopf  # not before: an operator that cannot start reports that sooner

        from winepipelines.handlers import register

        kopf.run(
            registry=register(settings, backends),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
        )
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        if (why := start_error(error)) is not None:
            logger.critical("Cannot start: %s", why)
        else:
            logger.critical("Ended by an unexpected error", exc_info=error)
        return 1
    return 0


def start_error(error: BaseException) -> StartError | None:
    """Find the cause of an error that says why the operator cannot start; None if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StartError):
            return cause
        if type(cause).__module__.startswith("kopf.") and type(cause).__name__.startswith("API"):  # what ends its watches
            return StartError(
                f"the API server refuses a watch ({cause}). Give the operator the rights of deploy/operator/rbac.yaml"
            )
        cause = cause.__cause__ or cause.__context__
    return None


if __name__ == "__main__":
    sys.exit(main())
