"""The command line: `python -m winepipelines run|render|doctor`."""

import argparse
import asyncio
import logging
import os
import sys

from winepipelines import logs, render, startup
from winepipelines.doctor import command as doctor
from winepipelines.settings import Settings, SettingsError, unknown_variables
from winepipelines.startup import StartError

logger = logging.getLogger("winepipelines")


def main() -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m winepipelines", description=sys.modules["winepipelines"].__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="watch WinePipeline resources and act, until interrupted")
    run.add_argument("--verbose", action="store_true", help="log every request")
    about = "print every object that would be applied for a resource, and the run that would be submitted; asks no cluster"
    render.add_arguments(commands.add_parser("render", help=about, description=about))
    about = "look at the platform, say what is wrong with it and what mends it; changes nothing"
    doctor.add_arguments(commands.add_parser("doctor", help=about, description=about))
    options = parser.parse_args()
    logs.ignore_deprecations()
    try:
        if options.command == "render":
            return render.run(options, os.environ)
        if options.command == "doctor":
            return doctor.run(options, os.environ)
        settings = Settings.from_environment()
    except SettingsError as error:
        print(f"winepipelines: {error}", file=sys.stderr)
        return 2
    return _run(settings, verbose=options.verbose)


def _run(settings: Settings, *, verbose: bool) -> int:
    """Run the operator; return 0 after a signal, 1 where it could not start or a defect has ended it."""
    logs.set_up("debug" if verbose else settings.log_level, settings.log_format)
    for name in unknown_variables():
        logger.warning("Ignoring a variable that the operator does not know", extra={"fields": {"variable": name}})
    try:
        asyncio.run(startup.check(settings))
        import kopf  # not before: what cannot start says so sooner

        from winepipelines.handlers import register

        kopf.run(
            registry=register(settings),
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
            logger.critical("Ended by a defect", exc_info=error)
        return 1
    return 0


def start_error(error: BaseException) -> StartError | None:
    """Find in what has ended the operator why it could not start; None where it is something else."""
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
