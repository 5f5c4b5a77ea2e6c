"""The workflows on GitHub are pinned, have the least rights, leak no secret and make no value a command."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dev import pins

FOLDER = pins.ROOT / ".github/workflows"
FILES = sorted(path.name for path in FOLDER.glob("*.yml"))
WORKFLOWS = {name: yaml.load((FOLDER / name).read_text(), yaml.BaseLoader) for name in FILES}  # noqa: S506 - it makes texts only
JOBS = [(name, job) for name in FILES for job in WORKFLOWS[name]["jobs"]]
WRITES = {
    ("release.yml", "images"): {"id-token", "attestations"},
    ("release.yml", "chart"): {"id-token"},
    ("release.yml", "publish"): {"contents"},
}
"""All that any job may write."""


def _steps(workflow: str, job: str) -> list[dict[str, Any]]:
    return list(WORKFLOWS[workflow]["jobs"][job].get("steps", []))


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)
    else:
        yield str(node)


def test_there_are_both() -> None:
    assert FILES == ["ci.yml", "release.yml"]


@pytest.mark.parametrize("name", FILES)
def test_a_workflow_grants_nothing_and_runs_for_nobodys_fork_with_secrets(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    assert not {"pull_request_target", "workflow_run"} & WORKFLOWS[name]["on"].keys()


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_job_has_the_rights_that_it_needs(name: str, job: str) -> None:
    rights = WORKFLOWS[name]["jobs"][job]["permissions"]
    assert {right for right, level in rights.items() if level != "read"} == WRITES.get((name, job), set())
    assert set(rights.values()) <= {"read", "write"}


@pytest.mark.parametrize(("name", "job"), [one for one in JOBS if _steps(*one)])
def test_a_job_ends(name: str, job: str) -> None:
    assert 0 < int(WORKFLOWS[name]["jobs"][job]["timeout-minutes"]) <= 120


def test_an_action_is_a_commit_with_its_version_beside_it() -> None:
    pinned = re.compile(r"uses: (?P<action>[\w./-]+)@(?P<commit>[0-9a-f]{40}) # v\d+\.\d+\.\d+")
    commits: dict[str, set[str]] = {}
    for name in FILES:
        for line in (FOLDER / name).read_text().splitlines():
            if "uses:" in line and "uses: ./" not in line:
                found = pinned.search(line)
                assert found, f"{name}: {line.strip()}"
                commits.setdefault(found["action"], set()).add(found["commit"])
    assert {action: found for action, found in commits.items() if len(found) != 1} == {}


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_no_value_becomes_part_of_a_command(name: str, job: str) -> None:
    for step in _steps(name, job):
        assert "${{" not in step.get("run", ""), "by env, where it stays a value"


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_secret_is_given_to_the_login_alone_and_only_for_a_release(name: str, job: str) -> None:
    for step in _steps(name, job):
        told = [text for text in _strings(step) if "secrets." in text or "secrets[" in text]
        if told:
            assert step["uses"].startswith("docker/login-action@")
            assert (name, WORKFLOWS[name]["jobs"][job]["environment"]) == ("release.yml", "release")
    assert "secrets" not in WORKFLOWS[name]["jobs"][job], "none is handed on to another workflow"
    assert not any("secrets." in text for text in _strings(WORKFLOWS[name]["jobs"][job].get("env", {})))


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_checkout_keeps_no_credentials(name: str, job: str) -> None:
    for step in _steps(name, job):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_ci_runs_what_everybody_runs() -> None:
    assert {"run": "bash .ci/run"} in _steps("ci.yml", "check")


def test_nothing_is_pushed_before_all_else_has_passed() -> None:
    jobs = WORKFLOWS["release.yml"]["jobs"]
    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert {*jobs["images"]["needs"]} == {"tag", "ci", "sbom"}
    assert "images" in jobs["chart"]["needs"]
    assert {"images", "chart"} <= {*jobs["publish"]["needs"]}


def test_what_is_pushed_is_what_the_chart_asks_for() -> None:
    release = WORKFLOWS["release.yml"]
    assert release["jobs"]["images"]["strategy"]["matrix"]["image"] == list(pins.IMAGES)
    chart = yaml.safe_load((pins.ROOT / "deploy/charts/wine-operator/Chart.yaml").read_text())
    named = [one["image"].rpartition(":")[0] for one in yaml.safe_load(chart["annotations"]["artifacthub.io/images"])]
    where = f"{release['env']['REGISTRY']}/{release['env']['REPOSITORY']}"
    assert named == [f"{where}/{image}" for image in pins.IMAGES]


def test_images_are_built_on_a_base_that_is_named_by_digest() -> None:
    text = (pins.ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE_IMAGE=docker\.io/library/python:[\w.-]+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    bases, stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE), re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE)
    assert set(bases) <= {"${BASE_IMAGE}", *stages}
