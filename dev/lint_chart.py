"""Check the Helm charts: `make lint-chart`.

Linted strictly and rendered with several sets of values, of which each manifest is then checked against its schema and each pod
against the Pod Security Standard *restricted*.
"""

import sys
from pathlib import Path

import yaml

from dev import helm, lint_manifests, pod_security

SETS = Path(__file__).parents[1] / "tests/chart/values"
"""By chart, a folder of sets of values. Those of platforms are in the chart itself."""


def main() -> int:
    """Check everything; print each finding; return the exit status."""
    findings = []
    checked = 0
    for values in sorted([*SETS.glob("*/*.yaml"), *helm.CHARTS.glob("*/values-*.yaml")]):
        chart, where = helm.CHARTS / values.parent.name, f"{values.parent.name}, {values.name}"
        try:
            helm.run("lint", str(chart), "--strict", "--kube-version", helm.KUBERNETES, "--values", str(values))
            manifests = helm.template(yaml.safe_load(values.read_text()), chart=chart)
        except helm.HelmError as error:
            findings.append(f"{where}: {error}")
            continue
        checked += len(manifests)
        named = [(f"{where}: {one['kind']} {one['metadata']['name']}", one) for one in manifests]
        findings += lint_manifests.check(named)
        findings += [
            f"{where}: {violation}"
            for where, manifest in named
            for pod in pod_security.pods(manifest)
            for violation in pod_security.violations(pod)
        ]
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{checked} manifests of the charts, {len(findings)} findings")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
