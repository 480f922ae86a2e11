"""Manifests under deploy/ and compose.yaml: valid by the schemas of what reads them, and consistent with clipmill."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import loads
from clipmill.pipelines.run.cluster import GPUS_TO_COME

TOP = Path(__file__).parents[1]
DEPLOY = TOP / "deploy"
RAYJOB = json.loads((TOP / "tests/schemas/rayjob.json").read_text())
COMPOSE = json.loads((TOP / "tests/schemas/compose-spec.json").read_text())
KINDS = {
    "RayJob": "#/$defs/rayjob",
    "Secret": "#/$defs/io.k8s.api.core.v1.Secret",
    "ConfigMap": "#/$defs/io.k8s.api.core.v1.ConfigMap",
}
OBJECTS = {o["kind"]: o for o in yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())}
SPEC = OBJECTS["RayJob"]["spec"]
CLUSTER = SPEC["rayClusterSpec"]
SERVICES = yaml.safe_load((TOP / "compose.yaml").read_text())["services"]


def problems(manifest: dict[str, Any]) -> list[str]:
    schema = {"$defs": RAYJOB["$defs"], "$ref": KINDS[manifest["kind"]]}
    return [f"{e.json_path}: {e.message[:200]}" for e in jsonschema.Draft202012Validator(schema).iter_errors(manifest)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_of_kubernetes_is_valid(kind: str) -> None:
    assert problems(OBJECTS[kind]) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec.ttlSecondAfterFinished", 600),
        ("spec.submissionMode", "k8s"),
        ("spec.entrypoint", None),
        ("spec.rayClusterSpec.enableInTreeAutoscaling", "yes"),
        ("spec.rayClusterSpec.autoscalerOptions.upscalingMode", "Fast"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.maxReplica", 3),
        ("spec.rayClusterSpec.workerGroupSpecs.0.groupName", None),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources.limit", {}),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.envFrom.0.secretRef.nane", "x"),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.volumes.0.emptyDir.sizeLimits", "1Gi"),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.readinessProbe.exec.command", "python"),
    ],
)
def test_a_mistake_in_it_is_found(place: str, value: Any) -> None:
    broken = copy.deepcopy(OBJECTS["RayJob"])
    *path, last = [int(p) if p.isdigit() else p for p in place.split(".")]
    inside: Any = broken
    for part in path:
        inside = inside[part]
    if value is None:
        del inside[last]
    else:
        inside[last] = value
    assert problems(broken), place


def containers() -> dict[str, dict[str, Any]]:
    groups = {"head": CLUSTER["headGroupSpec"], **{g["groupName"]: g for g in CLUSTER["workerGroupSpecs"]}}
    return {name: group["template"]["spec"]["containers"][0] for name, group in groups.items()}


def test_the_job_builds_what_its_config_map_holds() -> None:
    env, setting, command, subcommand, config = SPEC["entrypoint"].split()
    (gpu,) = (g for g in CLUSTER["workerGroupSpecs"] if g["groupName"] == "gpu")
    assert (env, command, setting) == ("env", "clipmill", f"{GPUS_TO_COME}={gpu['maxReplicas']}")
    assert subcommand in main.commands
    folder, name = config.rsplit("/", 1)
    text = OBJECTS["ConfigMap"]["data"][name]
    file = loads(text)
    assert file.config.output.root.startswith("s3://")
    for container in containers().values():
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        assert mounts["config"] == folder
        volumes = {v["name"]: v for v in CLUSTER["headGroupSpec"]["template"]["spec"]["volumes"]}
        assert mounts.keys() == volumes.keys()
        assert volumes["config"]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
        assert container["envFrom"][0]["secretRef"]["name"] == OBJECTS["Secret"]["metadata"]["name"]
        assert {e["name"]: e["value"] for e in container["env"]}["TMPDIR"] == mounts["scratch"]


def test_its_groups_scale_on_their_own_and_the_head_decodes_nothing() -> None:
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {g["groupName"]: g for g in CLUSTER["workerGroupSpecs"]}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    gpu = containers()["gpu"]["resources"]
    assert gpu["limits"]["nvidia.com/gpu"] == gpu["requests"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in containers()["cpu"]["resources"]["limits"]
    locked = re.search(r"^ray==(\S+)", (TOP / "requirements.lock").read_text(), re.M)
    assert locked is not None
    assert CLUSTER["rayVersion"] == locked[1].rstrip(" \\")
    assert SPEC["shutdownAfterJobFinishes"] is True
    assert SPEC["ttlSecondsAfterFinished"] > 0


def test_its_pods_run_as_the_images_user_with_its_commands() -> None:
    dockerfile = (TOP / "Dockerfile").read_text()
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]):
        security = group["template"]["spec"]["securityContext"]
        assert f"--uid {security['runAsUser']}" in dockerfile
        assert security["runAsNonRoot"] is True
    probes = [c[p]["exec"]["command"] for c in containers().values() for p in ("readinessProbe", "livenessProbe")]
    for command in probes:
        assert command[:2] == ["python", "-c"]
        compile(command[2], "probe", "exec")
    assert {v for k, v in OBJECTS["Secret"]["stringData"].items() if "KEY" in k} == {"change-me"}


def test_the_compose_file_is_valid_and_a_typo_is_not() -> None:
    whole = yaml.safe_load((TOP / "compose.yaml").read_text())
    validator = jsonschema.Draft201909Validator(COMPOSE)
    assert [f"{e.json_path}: {e.message}" for e in validator.iter_errors(whole)] == []
    for service, key, value in (("s3", "heathcheck", {}), ("clipmill", "depends_on", {"s3": {"condition": "healthy"}})):
        broken = {**whole, "services": {**SERVICES, service: {**SERVICES[service], key: value}}}
        assert list(validator.iter_errors(broken)), key


def test_its_services_fit_together() -> None:
    server, bucket, clipmill = SERVICES["s3"], SERVICES["bucket"], SERVICES["clipmill"]
    assert re.fullmatch(r"ghcr\.io/versity/versitygw:v\d+\.\d+\.\d+", server["image"]), "a version, not latest"
    port = server["ports"][0]
    assert port.startswith("127.0.0.1:"), "only this machine reaches it"
    for service in (bucket, clipmill):
        environment = service["environment"]
        assert environment["AWS_ENDPOINT_URL"] == f"http://s3:{port.rsplit(':', 1)[1]}"
        assert environment["AWS_ACCESS_KEY_ID"] == server["environment"]["ROOT_ACCESS_KEY"]
        assert environment["AWS_SECRET_ACCESS_KEY"] == server["environment"]["ROOT_SECRET_KEY"]
        assert service["build"]["args"].keys() <= set(re.findall(r"^ARG (\w+)", (TOP / "Dockerfile").read_text(), re.M))
    assert server["environment"]["VGW_HEALTH"] in server["healthcheck"]["test"][-1]
    assert clipmill["command"][0] in main.commands
    compile(bucket["entrypoint"][2], "bucket", "exec")
    assert f"s3.mkdir('{clipmill['command'][-1].split('/')[2]}')" in bucket["entrypoint"][2]


def test_the_demo_can_be_built_into_a_bucket(endpoint: str, bucket: str, tmp_path: Path, monkeypatch: Any) -> None:
    """What the service of the compose file does, with the environment that it gets, against a server of the tests."""
    from conftest import run

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    root = f"s3://{bucket}/demo"
    command = [
        root if word.startswith("s3://") else str(tmp_path / "demo") if word.startswith("/tmp") else word
        for word in SERVICES["clipmill"]["command"]
    ]
    run(*command)
    shown = json.loads(run("show", root, "--json"))
    assert shown["name"] == "demo-dogs"
    assert shown["clips"] > 0
    assert not (tmp_path / "demo/dataset").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in DEPLOY.glob("clipmill-nightly.*"):
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.M)
        (tmp_path / unit.name).write_text(text)
    units = [str(p) for p in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    assert "clipmill-nightly" not in done.stderr, done.stderr
    broken = tmp_path / "clipmill-nightly.service"
    broken.write_text(broken.read_text().replace("TimeoutStopSec=5min", "TimeoutStopSec=soon\nUser_=x"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    assert "clipmill-nightly" in done.stderr


def test_the_service_and_cron_run_commands_that_exist() -> None:
    service = (DEPLOY / "clipmill-nightly.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.*)$", service, re.M)
    cron = (DEPLOY / "clipmill.cron").read_text()
    jobs = [line for line in cron.splitlines() if re.match(r"[\d*]", line)]
    for line in (start, *jobs):
        words = line.split(" >> ")[0].split()
        at = next(
            i
            for i, w in enumerate(words[6 if line in jobs else 0 :], 6 if line in jobs else 0)
            if w.endswith("clipmill")
        )
        options = {o for p in main.commands[words[at + 1]].params for o in p.opts}
        assert {w for w in words[at + 2 :] if w.startswith("--")} <= options
    for line in jobs:
        assert re.fullmatch(r"(\S+ ){5}clipmill \S.*", line), "five fields of time and a user"
        assert "%" not in line, "a % ends the command for cron"
    assert set(re.search(r"RestartPreventExitStatus=(.*)", service)[1].split()) == {"2", "3"}  # type: ignore[index]
    assert "[Install]" in (DEPLOY / "clipmill-nightly.timer").read_text()
