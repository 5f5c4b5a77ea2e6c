"""What the tests of the life cycle do and observe, with either serving backend."""

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from e2e.conftest import PLATFORM, USER, timed
from e2e.load import Load
from support.cluster import eventually
from support.kube import Kube, Object
from support.nodes import ROOT

from dev import helm
from dev.version import version
from winepipelines.serving.container import DRAIN_SECONDS

TABLE = "s3://wine/winequality-red.csv"
VISITORS = Path(__file__).with_name("visitors.yaml")
HOST = "mlflow-wine-super-model.admin.svc.cluster.local.:8000"  # in VISITORS


def run_helm(kube: Kube, *arguments: str) -> str:
    """Run Helm in the platform's namespace."""
    return helm.run(*arguments, "--namespace", PLATFORM, kubeconfig=str(kube.kubeconfig))


def install_operator(kube: Kube, archive: Path, *options: str) -> float:
    """Install the operator, and wait until its pod is ready. Return the seconds that it took."""
    begun = time.monotonic()
    with timed("  from helm install to the operator's pod ready"):
        run_helm(kube, "install", "wine-operator", str(archive), "--wait", "--timeout", "2m", *options)
        kube("-n", PLATFORM, "wait", "pod", "--selector=app.kubernetes.io/component=operator", "--for=condition=Ready")
    return time.monotonic() - begun


def uninstall_operator(kube: Kube) -> None:
    """Uninstall the operator, and wait until its pod is deleted."""
    run_helm(kube, "uninstall", "wine-operator", "--wait")
    kube("-n", PLATFORM, "wait", "pod", "--selector=app.kubernetes.io/component=operator", "--for=delete", "--timeout=60s")


def platform_passes_checks(kube: Kube) -> None:
    """Run the operator's checks of the platform, which must all pass."""
    run_helm(kube, "test", "wine-operator", "--timeout", "3m")
    report = kube("-n", PLATFORM, "logs", "wine-operator-doctor")
    assert re.search(r"^\d+ ok", report, re.MULTILINE), report
    assert "failed" not in report, report


def operator_pod(kube: Kube) -> Object:
    """Get the operator's pod."""
    [pod] = kube.items("-n", PLATFORM, "pods", "--selector=app.kubernetes.io/component=operator")
    return pod


def evict(kube: Kube, namespace: str, pod: str) -> None:
    """Evict a pod, as the drain of a node does."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    kube("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def reconciles(kube: Kube) -> int:
    """Return the number of reconciles, from the operator's metrics."""
    text = kube.says("get", "--raw", f"/api/v1/namespaces/{PLATFORM}/services/wine-operator-metrics:metrics/proxy/metrics")
    found = re.search(r"^winepipelines_reconcile_seconds_count (\S+)", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


@dataclass(frozen=True)
class Life:
    """The resources of one namespace, which one backend serves.

    `pods` selects all serving pods, `label` has the resource's name on them, `container` is their server, and `objects` are the
    kinds of the serving objects.
    """

    namespace: str
    pods: str
    label: str
    container: str
    objects: str

    def ready(self, kube: Kube, name: str) -> None:
        """Wait until a resource is Ready."""
        kube("-n", self.namespace, "wait", f"winepipeline/{name}", "--for=condition=Ready", "--timeout=5m")

    def resource(self, name: str, **data: str) -> Object:
        """Build the example's resource with another name and other data."""
        example: Object = yaml.safe_load((ROOT / "deploy/examples/wine.yaml").read_text())
        example["metadata"] |= {"name": name, "namespace": self.namespace}
        example["spec"]["data"] |= data
        return example

    def status(self, kube: Kube, name: str) -> Object:
        """Get the status of a resource."""
        return dict(kube.get("-n", self.namespace, "winepipeline", name)["status"])

    def record(self, kube: Kube, name: str) -> Object:
        """Read the parts of a resource that must not be lost."""
        resource = kube.get("-n", self.namespace, "winepipeline", name)
        status = resource["status"]
        return {
            "uid": resource["metadata"]["uid"],
            "spec": resource["spec"],
            **{key: status[key] for key in ("revision", "run", "served", "history", "endpoint")},
        }

    def runs(self, kube: Kube) -> dict[str, str]:
        """Map every run's Workflow to its creation time."""
        workflows = kube.items("-n", self.namespace, "workflows")
        return {item["metadata"]["name"]: item["metadata"]["creationTimestamp"] for item in workflows}

    def serving_pods(self, kube: Kube, name: str = "") -> list[Object]:
        """List the serving pods, of all resources or of one. Terminating pods are left out."""
        selector = self.pods + (f",{self.label}={name}" if name else "")
        pods = kube.items("-n", self.namespace, "pods", f"--selector={selector}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def servers(self, kube: Kube, name: str = "") -> dict[str, str]:
        """Map the uids of serving pods to their server's image."""
        pods = self.serving_pods(kube, name)
        servers = [[one["image"] for one in pod["spec"]["containers"] if one["name"] == self.container] for pod in pods]
        return {pod["metadata"]["uid"]: image for pod, [image] in zip(pods, servers, strict=True)}

    def running_run(self, person: Kube, name: str) -> str:
        """Wait until a resource's run waits for the data that are held back. Return its id."""
        running = "--for=jsonpath={.status.run.state}=RUNNING"
        person("-n", self.namespace, "wait", f"winepipeline/{name}", running, "--timeout=2m")
        person("-n", self.namespace, "exec", "visitors", "-c", "data", "--", "python", "/visitors/release.py", "wait")
        return str(self.status(person, name)["run"]["id"])

    def release_data(self, person: Kube) -> None:
        """Release the data that are held back."""
        person("-n", self.namespace, "exec", "visitors", "-c", "data", "--", "python", "/visitors/release.py", "release")

    def start_visitors(self, person: Kube, host: str = HOST) -> None:
        """Start the test's own pod, whose client sends requests to `host`."""
        text = VISITORS.read_text().replace("IMAGE", f"winepipelines/sandbox:{version()}").replace(HOST, host)
        manifests = list(yaml.safe_load_all(text.replace(f"namespace: {USER}", f"namespace: {self.namespace}")))
        person.apply(*manifests)
        person("-n", self.namespace, "wait", "pod/visitors", "--for=condition=Ready", "--timeout=60s")
        eventually(lambda: self.load(person).count > 0)

    def load(self, person: Kube) -> Load:
        """Read the client's results."""
        return Load.read(person("-n", self.namespace, "logs", "visitors", "-c", "client").splitlines())

    def no_request_failed(self, person: Kube) -> None:
        """Check that every request was answered until now, and that the client is still sending."""
        before = self.load(person).count
        eventually(lambda: self.load(person).count > before + 10)
        load = self.load(person)
        assert load.failures == (), str(load)

    def no_request_failed_in_total(self, person: Kube) -> None:
        """Check that every request was answered, and that the client kept its rate."""
        load = self.load(person)
        print(f"\n{load}")
        [begun] = (
            datetime.fromisoformat(one["state"]["running"]["startedAt"])
            for one in person.get("-n", self.namespace, "pod", "visitors")["status"]["containerStatuses"]
            if one["name"] == "client"
        )
        assert load.failures == ()
        assert load.count >= 9 * (datetime.now(UTC) - begun).total_seconds(), "the client must keep its rate"

    def until_another_stops(self, kube: Kube, name: str) -> None:
        """Wait until the last terminating pod is about to stop: the worst time to evict the serving one."""
        pods = [pod["metadata"] for pod in kube.items("-n", self.namespace, "pods", f"--selector={self.label}={name}")]
        ending = [pod for pod in pods if "deletionTimestamp" in pod]
        deleted = [
            datetime.fromisoformat(pod["deletionTimestamp"]) - timedelta(seconds=pod["deletionGracePeriodSeconds"])
            for pod in ending
        ]
        stops = max(deleted, default=datetime.min.replace(tzinfo=UTC)) + timedelta(seconds=DRAIN_SECONDS)
        time.sleep(max(0.0, (stops - datetime.now(UTC)).total_seconds() - 1))

    def change(self, person: Kube, name: str, **spec: Object) -> None:
        """Change a resource's spec."""
        patch = json.dumps({"spec": spec})
        person("-n", self.namespace, "patch", "winepipeline", name, "--type=merge", "--patch", patch)

    def serves(self, person: Kube, name: str, revision: int) -> None:
        """Wait until a revision's model is served and the pods of the earlier one are deleted."""
        served = f"--for=jsonpath={{.status.served.revision}}={revision}"
        person("-n", self.namespace, "wait", f"winepipeline/{name}", served, "--timeout=5m")
        self.ready(person, name)
        self.settled(person, name)

    def settled(self, person: Kube, *names: str) -> None:
        """Wait until nothing is left to do: the alias is set, which comes after Ready, and old pods are deleted."""
        for name in names:
            alias = "--for=jsonpath={.status.served.alias}=champion"
            person("-n", self.namespace, "wait", f"winepipeline/{name}", alias, "--timeout=60s")
        for deployment in person.items("-n", self.namespace, "deployments"):
            person("-n", self.namespace, "rollout", "status", f"deployment/{deployment['metadata']['name']}", "--timeout=2m")
        gone = "--field-selector=status.phase!=Running"
        person("-n", self.namespace, "wait", "pod", f"--selector={self.pods}", gone, "--for=delete", "--timeout=60s")

    def promote(self, person: Kube, name: str, revision: int, alpha: float) -> None:
        """Train another model, and check that it is served by other pods and no request failed."""
        servers, before = self.servers(person, name), self.load(person).values[-1]
        self.change(person, name, training={"parameters": {"alpha": alpha}})
        self.serves(person, name, revision)
        assert not self.servers(person, name).keys() & servers.keys(), "another pod serves"
        eventually(lambda: self.load(person).values[-1] != before)
        self.no_request_failed(person)

    def roll_back(self, person: Kube, name: str, to: int, revision: int) -> None:
        """Roll back to the model of a revision, as another revision, and check that no request failed."""
        servers, before = self.servers(person, name), self.load(person).values[-1]
        person("-n", self.namespace, "annotate", "winepipeline", name, f"winepipelines.io/rollback={to}")
        served = f"--for=jsonpath={{.status.served.revision}}={revision}"
        person("-n", self.namespace, "wait", f"winepipeline/{name}", served, "--timeout=5m")
        self.settled(person, name)
        assert self.status(person, name)["served"]["model"]["revision"] == to
        assert not self.servers(person, name).keys() & servers.keys()
        eventually(lambda: self.load(person).values[-1] != before)
        self.no_request_failed(person)

    def evict_server(self, administrator: Kube, person: Kube, name: str) -> None:
        """Evict the serving pod at the worst time, and check that no request failed."""
        self.until_another_stops(administrator, name)
        [pod] = self.serving_pods(administrator, name)
        evict(administrator, self.namespace, pod["metadata"]["name"])
        person("-n", self.namespace, "wait", f"pod/{pod['metadata']['name']}", "--for=delete", "--timeout=120s")
        self.settled(person, name)
        [successor] = self.serving_pods(person, name)
        assert successor["metadata"]["uid"] != pod["metadata"]["uid"]
        self.no_request_failed(person)

    def generations(self, kube: Kube) -> dict[str, int]:
        """Map the serving objects to their generation."""
        return {
            f"{item['kind']} {item['metadata']['name']}": item["metadata"]["generation"]
            for item in kube.items("-n", self.namespace, f"deployments,{self.objects}")
        }

    def survives_a_new_installation(
        self, administrator: Kube, person: Kube, archive: Path, *names: str, options: tuple[str, ...] = ()
    ) -> None:
        """Uninstall the operator and install it again: resources are adopted without a run, a rollout or a write."""
        self.settled(person, *names)
        before = {name: administrator.get("-n", self.namespace, "winepipeline", name) for name in names}
        runs, servers, deployments = self.runs(administrator), self.servers(administrator), self.generations(administrator)
        uninstall_operator(administrator)
        assert self.servers(administrator) == servers
        self.no_request_failed(person)
        install_operator(administrator, archive, *options)
        eventually(lambda: reconciles(administrator) >= len(names))  # each resource was reconciled
        for name in names:
            self.ready(person, name)
            live = administrator.get("-n", self.namespace, "winepipeline", name)
            assert live == before[name], "a settled resource is not written"
        assert (self.runs(administrator), self.servers(administrator)) == (runs, servers)
        assert self.generations(administrator) == deployments
        self.no_request_failed(person)


SELDON = Life(USER, "seldon.io/model=true", "seldon-deployment-id", "classifier", "seldondeployments")
KSERVE = Life(
    "team", "component=predictor", "serving.kserve.io/inferenceservice", "kserve-container", "inferenceservices,servingruntimes"
)
