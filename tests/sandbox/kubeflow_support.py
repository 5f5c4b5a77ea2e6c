"""The Kubeflow stand-in as a process, and small pipelines for it."""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
import yaml
from kfp import compiler, dsl, kubernetes

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0  # seconds: a node has packages to import, and machines differ
OVER = ("SUCCEEDED", "FAILED")
Json = dict[str, Any]


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def write(folder: str, text: str, out: dsl.Output[dsl.Dataset]) -> str:
    """Note that it ran, and hand the text on as an artifact and as a parameter."""
    from pathlib import Path

    with (Path(folder) / "wrote").open("a") as note:
        note.write("x")
    Path(out.path).write_text(text)
    return text.upper()


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def wait_and_check(folder: str, data: dsl.Input[dsl.Dataset], shout: str, run: str, about: dict[str, int]) -> str:
    """Wait while there is a file `hold`, fail if there is a file `broken`, say what came in."""
    import json
    import os
    import time
    from pathlib import Path

    place = Path(folder)
    (place / "pid").write_text(str(os.getpid()))
    while (place / "hold").exists():
        time.sleep(0.01)
    if (place / "broken").exists():
        raise RuntimeError("failed as requested")
    message = {"data": Path(data.path).read_text(), "shout": shout, "run": run, "about": about}
    (place / "message").write_text(json.dumps(message))
    return "done"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def look_around(folder: str) -> None:
    """Write down what a step can see of its surroundings."""
    import json
    import os
    from pathlib import Path

    import numpy as np

    seen = {"environment": dict(os.environ), "cwd": str(Path.cwd()), "random": np.random.random()}
    seen["command"] = Path(f"/proc/{os.getpid()}/cmdline").read_text()
    seen["open"] = [path.name for path in Path("/proc/self/fd").iterdir()]
    (Path(folder) / f"seen-{os.getpid()}").write_text(json.dumps(seen))


@dsl.pipeline(name="two-steps")
def two_steps(folder: str, text: str, about: dict[str, int] = {"revision": 3}, number: int = 1, wanted: bool = True) -> str:  # noqa: B006
    """A pipeline of two steps that can be held and broken by files."""
    wrote = write(folder=folder, text=text).set_caching_options(False)
    checked = wait_and_check(
        folder=folder,
        data=wrote.outputs["out"],
        shout=wrote.outputs["Output"],
        run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        about=about,
    ).set_caching_options(False)
    return checked.output


@dsl.pipeline(name="with-secret")
def with_secret(folder: str, secret: str = "credentials") -> None:
    """Two steps that look around, the first with a secret: its name is a parameter, and one more that may be missing."""
    first = look_around(folder=folder).set_caching_options(False)
    kubernetes.use_secret_as_env(first, secret_name=secret, secret_key_to_env={"accesskey": "AWS_ACCESS_KEY_ID"})
    kubernetes.use_secret_as_env(first, "no-such-secret", {"key": "NOT_THERE"}, optional=True)
    kubernetes.use_secret_as_env(first, "wine-model-key", {"current": "WINE_MODEL_KEY"}, optional=True)
    kubernetes.use_secret_as_env(first, "wine-model-key", {"previous": "WINE_MODEL_KEY_PREVIOUS"}, optional=True)
    look_around(folder=folder).set_caching_options(False).after(first)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def speak_and_fail(folder: str) -> None:
    """Leave a termination message where the container has one, and fail."""
    import os
    from pathlib import Path

    Path(os.environ.get("WINE_TERMINATION_LOG", "/dev/termination-log")).write_text("no more wine")
    raise RuntimeError(folder)


@dsl.pipeline(name="with-last-words")
def with_last_words(folder: str) -> None:
    """A step that says why it fails."""
    speak_and_fail(folder=folder).set_caching_options(False)


@dsl.pipeline(name="with-limit")
def with_limit(folder: str) -> None:
    """A step that is held, and may run for a second."""
    wrote = write(folder=folder, text="x").set_caching_options(False)
    held = wait_and_check(folder=folder, data=wrote.outputs["out"], shout="", run="", about={})
    kubernetes.set_timeout(held.set_caching_options(False), 1)


@dsl.pipeline(name="with-volume")
def with_volume(folder: str) -> None:
    """A step that only a real pod can run."""
    kubernetes.mount_pvc(look_around(folder=folder), pvc_name="some", mount_path="/data")


@dsl.pipeline(name="with-loop")
def with_loop(folder: str) -> None:
    """Steps in a loop, and one that a condition leaves out."""
    with dsl.ParallelFor([1, 2, 3]):
        look_around(folder=folder).set_caching_options(False)
    with dsl.If(folder == "nowhere"):
        look_around(folder=folder).set_caching_options(False)


@functools.cache
def compiled(pipeline: Callable[..., Any]) -> Json:
    """A pipeline as an operator sends it inline."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        documents = list(yaml.safe_load_all(path.read_text()))
    return documents[0] if len(documents) == 1 else {"pipeline_spec": documents[0], "platform_spec": documents[1]}


class Server:
    """One server: its process, and its API."""

    def __init__(self, state: Path, *flags: str, environment: dict[str, str] | None = None) -> None:
        self.state = state
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._flags = flags
        self._environment = environment or {}
        self.session = requests.Session()
        self.start()

    def start(self) -> None:
        """Start it, on the same port and state as before."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.kubeflow", "--port", str(self.port), "--state", str(self.state), *self._flags],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self._environment},
        )
        eventually(lambda: self.answers() or self.process.poll() is not None, "the server answers")
        assert self.process.poll() is None, "the server ended at once"

    def answers(self) -> bool:
        """Whether it serves."""
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(self.url("/healthz"), timeout=5).ok
        return False

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """End the server; its runs go on."""
        self.process.send_signal(sent)
        self.process.wait(TIMEOUT)

    def url(self, path: str) -> str:
        """The address of something in the API."""
        return f"http://127.0.0.1:{self.port}/apis/v2beta1{path}"

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET."""
        return self.session.get(self.url(path), timeout=30, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        """POST of JSON."""
        return self.session.post(self.url(path), json=body, timeout=30, **options)

    def delete(self, path: str) -> requests.Response:
        """DELETE."""
        return self.session.delete(self.url(path), timeout=30)

    def submit(self, pipeline: Callable[..., Any], parameters: Json, **more: Any) -> str:
        """Create a run; its id."""
        body = {"display_name": "a run", "pipeline_spec": compiled(pipeline), **more}
        answer = self.post("/runs", {**body, "runtime_config": {"parameters": parameters}})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    def run(self, run_id: str) -> Json:
        """A run as it is now."""
        answer = self.get(f"/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        run: Json = answer.json()
        return run

    def until(self, run_id: str, *states: str) -> Json:
        """A run as soon as it is in one of these states."""
        eventually(lambda: self.run(run_id)["state"] in states, f"the run is {' or '.join(states)}")
        return self.run(run_id)

    def logs(self, run_id: str) -> str:
        """What a run's worker and steps wrote: to read when a test fails."""
        return "\n".join(path.read_text() for path in sorted((self.state / "runs" / run_id).rglob("*.log")))


def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, f"not within {TIMEOUT:.0f} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(state: Path, *flags: str, warm: bool = False, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """A server that is ended after use, with its runs. A warm one has seconds to import what these small steps do not use."""
    server = Server(state, "--orphan-seconds", "0.5", *([] if warm else ["--cold"]), *flags, environment=environment)
    try:
        yield server
    finally:
        server.stop()


def error(answer: requests.Response, status: int, code: int) -> str:
    """The text of an error, which must be of that status and code and have the form of the API's errors."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert set(body) <= {"code", "message", "details"}
    return json.dumps(body)
