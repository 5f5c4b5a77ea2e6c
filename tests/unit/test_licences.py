"""Every package in an image is listed with its licence, and each licence is one that was decided about."""

from email.message import Message
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from dev import licences, pins

LIST = licences.table(licences.LIST.read_text())


def test_the_list_has_each_pin_of_each_image() -> None:
    held = {
        (pin.name, pin.version, image) for image, environment in pins.IMAGES.items() for pin in pins.read(environment).values()
    }
    assert {(*package, image) for package, (_, images) in LIST.items() for image in images.split(", ")} == held


def test_no_licence_in_an_image_is_outside_the_allowed_ones() -> None:
    outside = {name: expression for (name, _), (expression, _) in LIST.items() if not licences.allowed(expression)}
    assert outside == {}


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT AND PSF-2.0", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-only", False),
        ("LGPL-2.1-or-later", False),
        ("BUSL-1.1", False),
        ("BSD", False),
        ("Our own terms", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_by_what_it_leaves_to_choose(expression: str, *, allowed: bool) -> None:
    assert licences.allowed(expression) is allowed


THREE_CLAUSES = "Redistribution and use in source and binary forms … may be used to endorse or\npromote products …"


@pytest.mark.parametrize(
    ("said", "text", "licence"),
    [
        ({"License-Expression": "Apache-2.0 OR MIT", "License": "MIT"}, "", "Apache-2.0 OR MIT"),
        ({"License": "Apache License, Version 2.0"}, "", "Apache-2.0"),
        ({"License": "MIT license"}, "", "MIT"),
        ({"Classifier": "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"}, "", "MPL-2.0"),
        ({"License": "BSD"}, THREE_CLAUSES, "BSD-3-Clause"),
        ({"License": "BSD"}, "Redistribution and use in source and binary forms …", "BSD-2-Clause"),
        ({"License": "BSD"}, "do as you like", "BSD"),
        ({"License": "all of this text\nand more", "Classifier": "License :: OSI Approved :: MIT License"}, "", "MIT"),
        ({"License": "GPLv3"}, "", "GPLv3"),
        ({"Classifier": "License :: OSI Approved :: European Union Licence"}, "", "European Union Licence"),
        ({}, "", ""),
    ],
)
def test_a_licence_is_read_from_what_the_package_says(said: dict[str, str], text: str, licence: str, tmp_path: Path) -> None:
    assert licences.licence(_distribution(tmp_path, said, text)) == licence


def _distribution(folder: Path, said: dict[str, str], text: str) -> Distribution:
    metadata = Message()
    for key, value in {"Metadata-Version": "2.4", "Name": "example", "Version": "1", **said}.items():
        metadata[key] = value.replace("\n", "\n        ")
    information = folder / "example-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(metadata.as_string())
    (information / "LICENSE").write_text(text)
    (information / "RECORD").write_text("example-1.dist-info/LICENSE,,\n")
    return PathDistribution(information)
