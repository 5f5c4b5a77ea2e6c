"""GitHub workflows: pinned actions, least privilege, no leaked secrets, no expressions in commands."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dev import pins

FOLDER = pins.ROOT / ".github/workflows"
FILES = sorted(path.name for path in FOLDER.glob("*.yml"))
WORKFLOWS = {name: yaml.load((FOLDER / name).read_text(), yaml.BaseLoader) for name in FILES}  # noqa: S506 - BaseLoader creates strings only
JOBS = [(name, job) for name in FILES for job in WORKFLOWS[name]["jobs"]]
WRITES = {
    ("release.yml", "images"): {"id-token", "attestations"},
    ("release.yml", "chart"): {"id-token"},
    ("release.yml", "publish"): {"contents"},
}
"""Permissions to write, by workflow and job."""


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


def test_workflows_are_ci_and_release() -> None:
    assert FILES == ["ci.yml", "release.yml"]


@pytest.mark.parametrize("name", FILES)
def test_workflow_grants_no_permissions_and_gives_no_secrets_to_forks(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    assert not {"pull_request_target", "workflow_run"} & WORKFLOWS[name]["on"].keys()


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_job_has_only_the_permissions_it_needs(name: str, job: str) -> None:
    rights = WORKFLOWS[name]["jobs"][job]["permissions"]
    assert {right for right, level in rights.items() if level != "read"} == WRITES.get((name, job), set())
    assert set(rights.values()) <= {"read", "write"}


@pytest.mark.parametrize(("name", "job"), [one for one in JOBS if _steps(*one)])
def test_job_has_a_timeout(name: str, job: str) -> None:
    assert 0 < int(WORKFLOWS[name]["jobs"][job]["timeout-minutes"]) <= 120


def test_action_is_pinned_to_one_commit_with_its_version() -> None:
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
def test_command_contains_no_expression(name: str, job: str) -> None:
    for step in _steps(name, job):
        assert "${{" not in step.get("run", ""), "pass the value through env, where a shell does not run it"


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_only_the_registry_login_of_a_release_gets_secrets(name: str, job: str) -> None:
    for step in _steps(name, job):
        secrets = [text for text in _strings(step) if "secrets." in text or "secrets[" in text]
        if secrets:
            assert step["uses"].startswith("docker/login-action@")
            assert (name, WORKFLOWS[name]["jobs"][job]["environment"]) == ("release.yml", "release")
    assert "secrets" not in WORKFLOWS[name]["jobs"][job], "no secret is passed to another workflow"
    assert not any("secrets." in text for text in _strings(WORKFLOWS[name]["jobs"][job].get("env", {})))


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_checkout_persists_no_credentials(name: str, job: str) -> None:
    for step in _steps(name, job):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_ci_runs_the_same_script_as_contributors() -> None:
    assert {"run": "bash .ci/run"} in _steps("ci.yml", "check")


def test_images_are_pushed_after_all_checks() -> None:
    jobs = WORKFLOWS["release.yml"]["jobs"]
    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert {*jobs["images"]["needs"]} == {"tag", "ci", "sbom"}
    assert "images" in jobs["chart"]["needs"]
    assert {"images", "chart"} <= {*jobs["publish"]["needs"]}


def test_pushed_images_match_those_of_the_chart() -> None:
    release = WORKFLOWS["release.yml"]
    assert release["jobs"]["images"]["strategy"]["matrix"]["image"] == list(pins.IMAGES)
    chart = yaml.safe_load((pins.ROOT / "deploy/charts/wine-operator/Chart.yaml").read_text())
    named = [one["image"].rpartition(":")[0] for one in yaml.safe_load(chart["annotations"]["artifacthub.io/images"])]
    where = f"{release['env']['REGISTRY']}/{release['env']['REPOSITORY']}"
    assert named == [f"{where}/{image}" for image in pins.IMAGES]


def test_base_image_is_pinned_by_digest() -> None:
    text = (pins.ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE_IMAGE=docker\.io/library/python:[\w.-]+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    bases, stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE), re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE)
    assert set(bases) <= {"${BASE_IMAGE}", *stages}
