"""List the licence of each package in the images: `make licences`.

`--check` fails if docs/reference/licences.md is stale.

The licence comes from the package's own metadata, as an SPDX expression. If one is not allowed, it is printed and nothing is
written.
"""

import re
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution

from license_expression import ExpressionError, LicenseExpression, get_spdx_licensing

from dev import pins

LIST = pins.ROOT / "docs/reference/licences.md"
HEAD = "| package | version | licence | images |\n|---|---|---|---|\n"  # what is above is written by hand
SPDX = get_spdx_licensing()

ALLOWED = {
    # Require a notice at most.
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0"),
    *("Unlicense", "ZPL-2.1", "Zlib"),
    # Requires changed files of the package to be published; none is changed.
    "MPL-2.0",
}
WORDS = {  # the field License and the classifiers, in lower case, without "license" and punctuation
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2 0": "Apache-2.0",
    "apache version 2 0": "Apache-2.0",
    "apache software": "Apache-2.0",
    "3 clause bsd": "BSD-3-Clause",
    "bsd": "BSD",
    "mit": "MIT",
    "mozilla public 2 0 mpl 2 0": "MPL-2.0",
    "python software foundation": "PSF-2.0",
}
READ = {  # not, or not fully, in the metadata: read in the package's licence file
    "huey": "MIT",
    "py-grpc-prometheus": "Apache-2.0",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "skops": "MIT",
}


def main() -> int:
    """Write the list, or report that it is stale; return the exit status."""
    environments = {environment: pins.installed(environment) for environment in sorted(set(pins.IMAGES.values()))}
    found: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for image, environment in pins.IMAGES.items():
        for pin in pins.read(environment).values():
            expression = licence(environments[environment][pin.name])
            found.setdefault((pin.name, pin.version), (expression, []))[1].append(image)
    outside = {name: expression for (name, _), (expression, _) in found.items() if not allowed(expression)}
    for name, expression in outside.items():
        print(f"{name}: {expression or 'no licence in its metadata'}: not among those of dev/licences.py", file=sys.stderr)
    if outside:
        return 1
    rows = [f"| {name} | {held} | {says} | {', '.join(images)} |\n" for (name, held), (says, images) in sorted(found.items())]
    old = LIST.read_text()
    text = old.partition(HEAD)[0] + HEAD + "".join(rows)
    if "--check" in sys.argv[1:]:
        if old != text:
            print(f"{LIST.relative_to(pins.ROOT)} is stale: make licences", file=sys.stderr)
            return 1
        return 0
    LIST.write_text(text)
    return 0


def licence(distribution: Distribution) -> str:
    """Return a package's licence as an SPDX expression, else in its own words; "" if it has none."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    name = str(metadata["Name"]).lower().replace("_", "-")
    if name in READ:
        return READ[name]
    field = "".join(metadata.get_all("License", []))
    classifiers = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier", []) if one.startswith("License :: ")]
    for stated in (field, " OR ".join(map(_spdx, classifiers))):
        if (stated and (known := _spdx(stated)) in SPDX.known_symbols) or is_expression(stated):
            return known if known in SPDX.known_symbols else stated
        if _spdx(stated) == "BSD":
            return _bsd(distribution)
    return field or " OR ".join(classifiers)


def is_expression(text: str) -> bool:
    """Whether a text is an SPDX expression of known licences."""
    try:
        return SPDX.parse(text, validate=True) is not None
    except ExpressionError:
        return False


def allowed(expression: str) -> bool:
    """Whether an expression can be satisfied by allowed licences only."""
    return is_expression(expression) and _holds(SPDX.parse(expression))


def table(page: str) -> Mapping[tuple[str, str], tuple[str, str]]:
    """Read the list: licence and images by name and version."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.partition(HEAD)[2].splitlines()]
    return {(name, version): (expression, images) for name, version, expression, images in rows}


def _holds(node: LicenseExpression) -> bool:
    if isinstance(node, SPDX.OR):
        return any(map(_holds, node.args))
    if isinstance(node, SPDX.AND):
        return all(map(_holds, node.args))
    return str(node) in ALLOWED


def _spdx(stated: str) -> str:
    words = " ".join(re.sub(r"licen[cs]e|[^0-9a-z]", " ", stated.lower()).split())
    return WORDS.get(words, stated.strip())


def _bsd(distribution: Distribution) -> str:
    """Tell BSD licences apart by their text."""
    files = [path for path in distribution.files or () if re.search("licen[cs]e|copying", path.name, re.IGNORECASE)]
    text = " ".join(" ".join(path.read_text().split()) for path in files if path.suffix in {"", ".txt", ".md", ".rst"})
    if "Redistribution and use in source and binary forms" not in text:
        return "BSD"
    return "BSD-3-Clause" if "endorse or promote" in text else "BSD-2-Clause"


if __name__ == "__main__":
    sys.exit(main())
