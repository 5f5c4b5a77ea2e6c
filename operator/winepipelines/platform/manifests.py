"""Render manifests from the Jinja2 templates in `templates/`.

Values are inserted with `tojson`, so that no value can add YAML structure.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

Manifest = dict[str, Any]


class Manifests:
    """The templates of a folder."""

    def __init__(self, folder: str | Path) -> None:
        """Read templates from `<folder>/manifests`."""
        self._environment = Environment(
            loader=FileSystemLoader(Path(folder) / "manifests"),
            undefined=StrictUndefined,
            autoescape=False,  # noqa: S701 - YAML, not HTML: every value goes through tojson
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def load(self, templates: Iterable[str]) -> None:
        """Read templates before they are used.

        Raises OSError, jinja2.TemplateError.
        """
        for template in templates:
            self._environment.get_template(template)

    def render(self, template: str, **values: object) -> list[Manifest]:
        """Render a template to its documents."""
        text = self._environment.get_template(template).render(values)
        return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def covers(live: object, wanted: object) -> bool:
    """Whether an object has all desired fields; fields that others have added are ignored."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(key in live and covers(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and all(any(covers(item, want) for item in live) for want in wanted)
    return live == wanted


def digest(manifest: Manifest) -> str:
    """Hash a manifest, so that a later change of it is detected."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
