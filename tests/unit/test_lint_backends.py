"""A serving backend is named in its own folder and in the registry only."""

import pytest

from dev.lint_backends import REGISTRY, find, main


def test_operator_names_no_backend_outside_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("operator/winepipelines/render.py", "# Seldon copies it"),
        ("operator/winepipelines/platform/rclone.py", ""),
        ("operator/winepipelines/render.py", "# an InferenceService"),
        ("operator/winepipelines/serving/kserve/backend.py", "# as Seldon does"),
        ("operator/winepipelines/serving/seldon/backend.py", "# as KServe does"),
        (REGISTRY, "# as Seldon does"),
        (REGISTRY, "    from winepipelines.serving.seldon.naming import KIND"),
    ],
)
def test_mention_of_a_backend_is_found(path: str, text: str) -> None:
    assert len(list(find(path, text))) == 1


def test_backend_names_itself_in_its_folder_and_in_the_registry() -> None:
    assert not list(find("operator/winepipelines/serving/seldon/source.py", "# rclone, for Seldon"))
    assert not list(find("operator/winepipelines/serving/kserve/source.py", "# KServe"))
    assert not list(find(REGISTRY, 'BACKENDS = {"seldon": SeldonBackend}'))
