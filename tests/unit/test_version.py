"""The version is said in one place and the same wherever it is repeated; a tag of it is a release."""

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

import winepipelines
from dev import release, version
from winepipelines.settings import Settings

CHANGELOG = (version.ROOT / version.HISTORY).read_text()


def test_it_is_the_same_wherever_it_is_said() -> None:
    assert {path: versions for path, versions in version.said().items() if {*versions} != {version.version()}} == {}


def test_the_operator_starts_steps_and_servers_of_its_own_version() -> None:
    settings = Settings("http://kfp", "http://mlflow", "http://minio")
    assert winepipelines.__version__ == version.version()
    assert settings.steps_image == f"winepipelines/steps:{version.version()}"
    assert settings.server_image == f"winepipelines/server:{version.version()}"


def test_another_one_is_said_everywhere_at_once(tmp_path: Path) -> None:
    for path in [*version.said(), version.HISTORY]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(version.ROOT / path, tmp_path / path)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    changed = version.write("7.8.9-rc.1", tmp_path)
    assert {"pyproject.toml", "deploy/charts/wine-operator/Chart.yaml", "pipeline/winesteps/components.py"} <= {*changed}
    assert version.version(tmp_path) == "7.8.9-rc.1"
    assert {one for versions in version.said(tmp_path).values() for one in versions} == {"7.8.9-rc.1"}
    assert (tmp_path / version.HISTORY).read_text() == CHANGELOG
    assert version.write(version.version(), tmp_path)
    assert all((tmp_path / path).read_bytes() == (version.ROOT / path).read_bytes() for path in changed)


@pytest.mark.parametrize("text", ["1.2", "v1.2.3", "1.2.3+build", "latest", "1.2.3 "])
def test_what_helm_and_registries_do_not_both_take_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not of the form"):
        version._version(text)


class TestChangelog:
    def test_it_tells_of_this_version_or_of_what_will_be_in_it(self) -> None:
        sections = release.sections(CHANGELOG)
        assert next(iter(sections)) == release.UNRELEASED, "what comes next has its place"
        assert sections.get(version.version()) or sections[release.UNRELEASED]

    def test_each_section_but_the_first_has_a_date(self) -> None:
        dated = [bool(match["date"]) for match in release.SECTION.finditer(CHANGELOG)]
        assert dated == [False] + [True] * (len(dated) - 1)


TEXT = "# Changelog\n\n## [Unreleased]\n\n## [1.1.0] - 2026-12-01\n### Added\n- One thing.\n\n## [1.0.0] - 2026-11-01\n- First.\n"


class TestRelease:
    def test_its_notes_are_its_section(self) -> None:
        assert release.notes("v1.1.0", "1.1.0", TEXT) == "### Added\n- One thing."
        assert release.notes("v1.0.0", "1.0.0", TEXT) == "- First."

    @pytest.mark.parametrize("tag", ["v1.1.1", "1.1.0", "v1.1", ""])
    def test_a_tag_that_is_not_the_version_is_refused(self, tag: str) -> None:
        with pytest.raises(release.ReleaseError, match=r"pyproject\.toml says 1\.1\.0"):
            release.notes(tag, "1.1.0", TEXT)

    @pytest.mark.parametrize("section", ["", "## [1.2.0]\n- No date.\n", "## [1.2.0] - 2026-12-02\n"])
    def test_a_version_without_a_dated_section_is_refused(self, section: str) -> None:
        with pytest.raises(release.ReleaseError, match="no section"):
            release.notes("v1.2.0", "1.2.0", TEXT + section)
