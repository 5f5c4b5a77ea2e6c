"""The version is defined in one place, all copies agree, and a tag with the version is a release."""

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

import winepipelines
from dev import release, version
from winepipelines.settings import Settings

CHANGELOG = (version.ROOT / version.HISTORY).read_text()


def test_copies_agree_with_the_version() -> None:
    assert {path: versions for path, versions in version.copies().items() if {*versions} != {version.version()}} == {}


def test_default_images_have_the_version_of_the_operator() -> None:
    settings = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio")
    assert winepipelines.__version__ == version.version()
    assert settings.steps_image == f"winepipelines/steps:{version.version()}"
    assert settings.server_image == f"winepipelines/server:{version.version()}"


def test_write_changes_the_version_in_all_copies(tmp_path: Path) -> None:
    for path in [*version.copies(), version.HISTORY]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(version.ROOT / path, tmp_path / path)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    changed = version.write("7.8.9-rc.1", tmp_path)
    assert {"pyproject.toml", "deploy/charts/wine-operator/Chart.yaml", "pipeline/winesteps/components.py"} <= {*changed}
    assert version.version(tmp_path) == "7.8.9-rc.1"
    assert {one for versions in version.copies(tmp_path).values() for one in versions} == {"7.8.9-rc.1"}
    assert (tmp_path / version.HISTORY).read_text() == CHANGELOG
    assert version.write(version.version(), tmp_path)
    assert all((tmp_path / path).read_bytes() == (version.ROOT / path).read_bytes() for path in changed)


@pytest.mark.parametrize("text", ["1.2", "v1.2.3", "1.2.3+build", "latest", "1.2.3 "])
def test_version_is_rejected_when_helm_or_a_registry_does_not_accept_it(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not of the form"):
        version._version(text)


class TestChangelog:
    def test_changelog_has_a_section_for_this_version_or_unreleased_changes(self) -> None:
        sections = release.sections(CHANGELOG)
        assert next(iter(sections)) == release.UNRELEASED, "the first section is for unreleased changes"
        assert sections.get(version.version()) or sections[release.UNRELEASED]

    def test_changelog_sections_except_the_first_have_a_date(self) -> None:
        dated = [bool(match["date"]) for match in release.SECTION.finditer(CHANGELOG)]
        assert dated == [False] + [True] * (len(dated) - 1)


TEXT = "# Changelog\n\n## [Unreleased]\n\n## [1.1.0] - 2026-12-01\n### Added\n- A command.\n\n## [1.0.0] - 2026-11-01\n- First.\n"


class TestRelease:
    def test_notes_are_the_section_of_the_version(self) -> None:
        assert release.notes("v1.1.0", "1.1.0", TEXT) == "### Added\n- A command."
        assert release.notes("v1.0.0", "1.0.0", TEXT) == "- First."

    @pytest.mark.parametrize("tag", ["v1.1.1", "1.1.0", "v1.1", ""])
    def test_notes_raise_when_the_tag_is_not_the_version(self, tag: str) -> None:
        with pytest.raises(release.ReleaseError, match=r"pyproject\.toml is 1\.1\.0"):
            release.notes(tag, "1.1.0", TEXT)

    @pytest.mark.parametrize("section", ["", "## [1.2.0]\n- No date.\n", "## [1.2.0] - 2026-12-02\n"])
    def test_notes_raise_when_the_version_has_no_dated_section(self, section: str) -> None:
        with pytest.raises(release.ReleaseError, match="no section"):
            release.notes("v1.2.0", "1.2.0", TEXT + section)
