"""Each right of the operator is on the page that says what it is worth to an attacker, and no other is."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def _granted() -> set[str]:
    manifests = list(yaml.safe_load_all((ROOT / "deploy/operator/rbac.yaml").read_text()))
    rules = [rule for manifest in manifests if "rules" in manifest for rule in manifest["rules"]]
    return {
        f"{resource}.{group}" if group else resource
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_every_right_is_on_the_page() -> None:
    page = (ROOT / "docs/rights.md").read_text()
    told = set()
    for row in re.findall(r"^\| (`[^|]+) \|", page.partition("## Rule by rule")[2].partition("\n## ")[0], re.MULTILINE):
        told |= set(re.findall(r"`([a-z./0-9]+)`", row))
    assert told == _granted()


def test_nothing_is_granted_for_everything() -> None:
    assert "*" not in re.sub(r"#.*", "", (ROOT / "deploy/operator/rbac.yaml").read_text())


def test_pages_on_security_lead_to_files_that_exist() -> None:
    for page in ("security.md", "rights.md"):
        text = (ROOT / "docs" / page).read_text()
        linked = {ROOT / "docs" / path for path in re.findall(r"\]\(([a-z./-]+)(?:#[a-z-]+)?\)", text)}
        named = {ROOT / path for path in re.findall(r"`((?:tests|bench|deploy)/[\w./-]+)`", text)}
        assert [str(path) for path in linked | named if not path.exists()] == []
        assert linked
        assert named
