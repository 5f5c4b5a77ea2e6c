"""The list of licences has each package of each image, and each licence is allowed."""

from email.message import Message
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from dev import licences, pins

LIST = licences.table(licences.LIST.read_text())


def test_list_has_each_pin_of_each_image() -> None:
    pinned = {
        (pin.name, pin.version, image) for image, environment in pins.IMAGES.items() for pin in pins.read(environment).values()
    }
    assert {(*package, image) for package, (_, images) in LIST.items() for image in images.split(", ")} == pinned


def test_each_licence_in_an_image_is_allowed() -> None:
    rejected = {name: expression for (name, _), (expression, _) in LIST.items() if not licences.allowed(expression)}
    assert rejected == {}


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
def test_allowed_evaluates_a_licence_expression(expression: str, *, allowed: bool) -> None:
    assert licences.allowed(expression) is allowed


BSD_3_CLAUSE_TEXT = "Redistribution and use in source and binary forms … may be used to endorse or\npromote products …"


@pytest.mark.parametrize(
    ("metadata_fields", "text", "licence"),
    [
        ({"License-Expression": "Apache-2.0 OR MIT", "License": "MIT"}, "", "Apache-2.0 OR MIT"),
        ({"License": "Apache License, Version 2.0"}, "", "Apache-2.0"),
        ({"License": "MIT license"}, "", "MIT"),
        ({"Classifier": "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"}, "", "MPL-2.0"),
        ({"License": "BSD"}, BSD_3_CLAUSE_TEXT, "BSD-3-Clause"),
        ({"License": "BSD"}, "Redistribution and use in source and binary forms …", "BSD-2-Clause"),
        ({"License": "BSD"}, "do as you like", "BSD"),
        ({"License": "all of this text\nand more", "Classifier": "License :: OSI Approved :: MIT License"}, "", "MIT"),
        ({"License": "GPLv3"}, "", "GPLv3"),
        ({"Classifier": "License :: OSI Approved :: European Union Licence"}, "", "European Union Licence"),
        ({}, "", ""),
    ],
)
def test_licence_is_read_from_the_packages_metadata(
    metadata_fields: dict[str, str], text: str, licence: str, tmp_path: Path
) -> None:
    assert licences.licence(_distribution(tmp_path, metadata_fields, text)) == licence


def _distribution(folder: Path, metadata_fields: dict[str, str], text: str) -> Distribution:
    metadata = Message()
    for key, value in {"Metadata-Version": "2.4", "Name": "example", "Version": "1", **metadata_fields}.items():
        metadata[key] = value.replace("\n", "\n        ")
    information = folder / "example-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(metadata.as_string())
    (information / "LICENSE").write_text(text)
    (information / "RECORD").write_text("example-1.dist-info/LICENSE,,\n")
    return PathDistribution(information)
