"""docs/reference/rights.md lists the operator's RBAC rights, and no others."""

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


def test_rights_page_lists_exactly_the_granted_rights() -> None:
    page = (ROOT / "docs/reference/rights.md").read_text()
    listed = set()
    for row in re.findall(r"^\| (`[^|]+) \|", page.partition("## Rule by rule")[2].partition("\n## ")[0], re.MULTILINE):
        listed |= set(re.findall(r"`([a-z./0-9]+)`", row))
    assert listed == _granted()


def test_rbac_manifest_has_no_wildcard() -> None:
    assert "*" not in re.sub(r"#.*", "", (ROOT / "deploy/operator/rbac.yaml").read_text())


def test_security_pages_name_files_that_exist() -> None:
    for page in ("explanation/threat-model.md", "reference/rights.md"):
        named = {ROOT / path for path in re.findall(r"`((?:tests|bench|deploy)/[\w./-]+)`", (ROOT / "docs" / page).read_text())}
        assert named
        assert [str(path) for path in named if not path.exists()] == []
