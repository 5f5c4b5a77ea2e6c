"""Query a vulnerability service about every pin: `make audit`. Exits with

    0  it was asked about every pin, and knows of no flaw that requirements/audit-ignore.yaml does not accept
    1  it knows of flaws, or an acceptance has ended
    2  requirements/audit-ignore.yaml or the pins cannot be read
    3  it could not be asked: nothing is known

(make itself exits with 2 whenever this is not 0.) Asked is OSV, or what speaks its protocol at `AUDIT_URL`. First it is asked
about a package that is known to be flawed: a service that does not know that one knows nothing.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from dev import pins

LEFT_OUT = {"mlflow2", "mlserver", "kserve"}  # servers of tests and benchmarks alone
IGNORED = pins.REQUIREMENTS / "audit-ignore.yaml"
CANARY = ("pyyaml", "5.3")  # CVE-2020-14343
CLEAN, FLAWED, MISUSED, UNKNOWN = 0, 1, 2, 3


class CouldNotAskError(Exception):
    """The service gave no usable answer; the message has the cause."""


@dataclass(frozen=True)
class Flaw:
    """A known flaw of a pin. `names` are its identifiers, the service's own first."""

    package: str
    version: str
    names: tuple[str, ...]
    fixed_in: tuple[str, ...]


@dataclass(frozen=True)
class Acceptance:
    """A flaw that is accepted until a day, inclusive."""

    name: str
    package: str
    reason: str
    until: date


def main() -> int:
    """Query every environment, print the flaws, return the exit status."""
    try:
        accepted = acceptances(IGNORED.read_text())
        where: dict[Flaw, list[str]] = {}
        probe()
        for environment in environments():
            for flaw in ask(pins.REQUIREMENTS / f"{environment}.txt"):
                where.setdefault(flaw, []).append(environment)
    except ValueError as error:
        print(f"audit: {error}", file=sys.stderr)
        return MISUSED
    except CouldNotAskError as error:
        print(f"audit: COULD NOT ASK, so nothing is known: {error}", file=sys.stderr)
        return UNKNOWN
    findings, notes = judge(where, accepted, datetime.now(UTC).date())
    for line in (*notes, *findings):
        print(line)
    asked = f"{', '.join(environments())}: "
    print(asked + (f"{len(findings)} findings" if findings else "no known flaws that are not accepted"))
    return FLAWED if findings else CLEAN


def environments() -> list[str]:
    """List the environments to query, by the names of the files in requirements/."""
    return sorted({path.stem for path in pins.REQUIREMENTS.glob("*.txt")} - LEFT_OUT)


def acceptances(text: str) -> list[Acceptance]:
    """Read the accepted flaws. Raises ValueError, which names an incomplete entry."""
    entries = (yaml.safe_load(text) or {}).get("ignored") or []
    for entry in entries:
        if not isinstance(entry, dict) or entry.keys() != {"id", "package", "reason", "until"}:
            raise ValueError(f"{IGNORED.name}: an entry has id, package, reason and until: {entry}")
        if not isinstance(entry["until"], date) or not str(entry["reason"] or "").strip():
            raise ValueError(f"{IGNORED.name}: {entry['id']} needs a reason, and until as in 2027-01-31")
    return [Acceptance(str(one["id"]), str(one["package"]), str(one["reason"]), one["until"]) for one in entries]


def probe() -> None:
    """Query a version that is known to be flawed. Raises CouldNotAskError if the service does not know the flaw."""
    with TemporaryDirectory() as folder:
        canary = Path(folder, "canary.txt")
        canary.write_text("{}=={}\n".format(*CANARY))
        if not list(flaws(answers(canary, "--no-deps"))):
            raise CouldNotAskError("the service answers, but does not know of any flaw in {} {}, which has one".format(*CANARY))


def ask(requirements: Path) -> list[Flaw]:
    """Query the pins of one file.

    Raises CouldNotAskError, and ValueError if the file holds anything except pins with hashes.
    """
    expected = {(pin.name, pin.version) for pin in pins.parse(requirements.read_text(), {})}
    found = answers(requirements, "--require-hashes")
    reported = {(dependency["name"], dependency.get("version")) for dependency in found if "skip_reason" not in dependency}
    if missing := sorted(f"{name} {version}" for name, version in expected - reported):
        raise CouldNotAskError(f"no answer about {', '.join(missing)} of {requirements.name}")
    return list(flaws(found))


def answers(requirements: Path, *options: str) -> list[dict[str, Any]]:
    """Run pip-audit on a file; return its report for each package. Raises CouldNotAskError."""
    service = ["--vulnerability-service", "osv"]
    if url := os.environ.get("AUDIT_URL"):
        service += ["--osv-url", url]
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", *options, *service]
    command += ["--format", "json", "--aliases", "on", "--progress-spinner", "off", "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own
    try:  # it exits with 1 for flaws and for failures; only for flaws does it print a report
        return list(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines()
        raise CouldNotAskError(lines[-1] if lines else f"pip-audit exited with {done.returncode} and printed nothing") from None


def flaws(dependencies: Iterable[dict[str, Any]]) -> Iterator[Flaw]:
    """Read the flaws from the report of pip-audit."""
    for dependency in dependencies:
        for flaw in dependency.get("vulns", []):
            names = (flaw["id"], *sorted(flaw["aliases"]))
            yield Flaw(dependency["name"], dependency["version"], names, tuple(flaw["fix_versions"]))


def judge(where: dict[Flaw, list[str]], accepted: list[Acceptance], today: date) -> tuple[list[str], list[str]]:
    """Return findings that need action, and notes, one line each. `where` has the environments by flaw."""
    findings = []
    notes = []
    used = set()
    for flaw, environments in sorted(where.items(), key=lambda item: (item[0].package, item[0].names)):
        known = f"{flaw.package} {flaw.version} ({', '.join(environments)}): {', '.join(flaw.names)}"
        matching = [one for one in accepted if one.name in flaw.names and one.package == flaw.package]
        used.update(matching)
        if any(one.until >= today for one in matching):
            [*_, one] = sorted(matching, key=lambda one: one.until)
            notes.append(f"accepted until {one.until}: {known}: {one.reason}")
        elif matching:
            findings.append(f"ACCEPTANCE ENDED {matching[0].until}: {known}")
        else:
            remedy = f"fixed in {', '.join(flaw.fixed_in)}" if flaw.fixed_in else "no release fixes it"
            findings.append(f"KNOWN FLAW: {known}: {remedy}")
    for one in accepted:
        if one not in used and one.until < today:
            findings.append(f"ACCEPTANCE ENDED {one.until}: {one.package}: {one.name}; nothing pinned has it: remove it")
        elif one not in used:
            notes.append(f"nothing pinned has {one.package}: {one.name}: its acceptance may be removed")
    return findings, notes


if __name__ == "__main__":
    sys.exit(main())
