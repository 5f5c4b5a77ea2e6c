"""The command line, used from a checkout of its own in a folder whose name has a space."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from core_support import get, marked

from sandbox import places

PARTS = ("sandbox", "contract", "crds", "deploy", "data", "dev", "requirements", "operator", "pipeline", "templates")
LEFT_OUT = ("mlflow", "data", "store", "controller-manager", "seldon")


def test_every_command_works_in_a_path_with_a_space(tmp_path: Path) -> None:
    checkout, state = tmp_path / "a check out", tmp_path / "its state"
    for part in PARTS:
        shutil.copytree(places.ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(command: str, *more: str) -> str:
        words = [sys.executable, "-m", "sandbox", command, "--name", "spaced", "--folder", str(state), *more]
        done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        exported = run("up", "--quiet", *(f"--without={name}" for name in LEFT_OUT))
        script = f"{exported}\nkubectl get namespace admin -o name"
        assert subprocess.check_output(["bash", "-c", script], text=True) == "namespace/admin\n"
        facts = json.loads(run("info", "--json"))
        assert {name for name, alive in facts["running"].items() if alive} == {"etcd", "apiserver", "kubeflow", "operator"}
        assert "seldon (stopped)" in (shown := run("info"))
        assert facts["s3_secret_key"] not in shown
        run("add-namespace", "team-c")
        kubectl = [facts["kubectl"], "--kubeconfig", facts["kubeconfig"]]
        assert "team-c" in subprocess.check_output([*kubectl, "get", "namespaces"], text=True)
        run("restart", "kubeflow")
        assert "serving on port" in run("logs", "kubeflow")
        assert json.loads(get(f"{facts['kfp_url']}/apis/v2beta1/healthz"))["multi_user"]
    finally:
        run("down")
    assert not state.exists()
    assert marked(state) == []
