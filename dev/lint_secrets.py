"""Find secrets that are checked in: `make lint`. Print each with its file and line; exit with 1 if there is one.

detect-secrets knows the form of keys, tokens and passwords in addresses, and texts too random to be words. What is accepted, such
as a test's made-up password, is in dev/secrets-accepted.yaml by its SHA-256, with a reason; what is accepted there and no longer
found is an error too. Passwords in Python code are left to ruff (S106, S107): here, a Secret's name often has the word secret.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings, get_plugins, transient_settings

ROOT = Path(__file__).resolve().parents[1]
ACCEPTED = "dev/secrets-accepted.yaml"
LEFT_OUT = ("requirements/", ACCEPTED)
"""Hashes of packages, and of what is accepted."""
BY_KEYWORD = ("deploy/charts/wine-operator/values", "deploy/charts/wine-sandbox/values", "deploy/examples/", "docs/", ".github/")
"""Where the text after a word such as `password` is checked, whatever its form."""
NO_DIGESTS = ("tests/",)
"""Where random hex digits are accepted: they are digests of models and templates."""


@dataclass(frozen=True)
class Found:
    """A text that looks like a secret."""

    path: str
    line: int
    kind: str
    value: str

    @property
    def mark(self) -> str:
        """How dev/secrets-accepted.yaml names the text."""
        return hashlib.sha256(self.value.encode()).hexdigest()[:12]


def find(root: Path, paths: Iterable[str]) -> Iterator[Found]:
    """Scan files, given by their paths below `root`."""
    with default_settings():
        plugins = [{"name": type(plugin).__name__, **plugin.json()} for plugin in get_plugins()]
    for path in paths:
        if path.startswith(LEFT_OUT):
            continue
        off = {"KeywordDetector"} if not path.startswith(BY_KEYWORD) else set()
        off |= {"HexHighEntropyString"} if path.startswith(NO_DIGESTS) else set()
        with transient_settings({"plugins_used": [plugin for plugin in plugins if plugin["name"] not in off]}):
            for secret in scan_file(str(root / path)):
                yield Found(path, secret.line_number, secret.type, secret.secret_value or "")


def judge(found: Iterable[Found], accepted: Iterable[dict[str, str]]) -> list[str]:
    """List what is wrong: secrets that nobody has accepted, and acceptances of what is not there."""
    known = [(entry["under"], entry["sha256"]) for entry in accepted if entry["reason"]]
    left, wrong = set(known), []
    for secret in found:
        if fits := {(under, mark) for under, mark in known if mark == secret.mark and secret.path.startswith(under)}:
            left -= fits
        else:
            wrong.append(
                f"{secret.path}:{secret.line}: {secret.kind}. Remove it, and replace it where it is in use: git keeps it. "
                f"If it is no secret, accept {secret.mark} in {ACCEPTED} with a reason"
            )
    return wrong + [f"{ACCEPTED}: {mark} is not found under {under}: remove it" for under, mark in sorted(left)]


def main() -> int:
    """Check all files that are checked in."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603, S607 - git, on our own files
    paths = [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]
    wrong = judge(find(ROOT, paths), yaml.safe_load((ROOT / ACCEPTED).read_text())["accepted"])
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
