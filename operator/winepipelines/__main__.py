"""The command line: `python -m winepipelines run|render|doctor`."""

import argparse
import os
import sys

import kopf

from winepipelines import logs, render
from winepipelines.doctor import command as doctor
from winepipelines.handlers import register
from winepipelines.settings import Settings, SettingsError


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
    logs.set_up("debug" if verbose else settings.log_level, settings.log_format)
    probe = f"http://{settings.probe_host}:{settings.probe_port}/healthz" if settings.probe_port else None
    kopf.run(
        registry=register(settings),
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        standalone=True,
        liveness_endpoint=probe,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
