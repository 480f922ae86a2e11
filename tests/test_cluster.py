"""A cluster: its files for AWS, Google Cloud and Azure against Ray's own schema and its checks, and the GPUs that it adds when asked."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.run.cluster import GPUS_TO_COME, connect_to_ray
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ConfigError

ROOT = Path(__file__).parents[1]
FILES = {
    name: yaml.safe_load((ROOT / name).read_text())
    for name in ("cluster.yaml", "cluster-gcp.yaml", "cluster-azure.yaml")
}
RAY = Path(ray.__file__).parent
each_file = pytest.mark.parametrize("name", FILES)


@each_file
def test_it_is_valid_by_rays_schema_and_a_typo_is_not(name: str) -> None:
    schema = json.loads((RAY / "autoscaler/ray-schema.json").read_text())
    cluster = FILES[name]
    jsonschema.validate(cluster, schema)
    for broken in ({**cluster, "max_wrokers": 3}, {**cluster, "available_node_types": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


@each_file
def test_ray_itself_accepts_it(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(json.loads(json.dumps(FILES[name]))))


def machine(name: str, node: dict[str, Any]) -> str:
    """Return the type of a node's machine."""
    given = node["node_config"].get("azure_arm_parameters", node["node_config"])
    key = {"cluster.yaml": "InstanceType", "cluster-gcp.yaml": "machineType", "cluster-azure.yaml": "vmSize"}[name]
    return str(given[key])


@each_file
def test_there_is_a_head_and_workers_for_decoding_and_for_features(name: str) -> None:
    cluster = FILES[name]
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}, "the head decodes nothing"
    workers = {kind: machine(name, node) for kind, node in types.items() if kind != cluster["head_node_type"]}
    assert any(kind.startswith(("g", "p", "Standard_N")) for kind in workers.values()), "no GPU workers"
    assert any(kind.startswith(("c", "m", "Standard_F", "Standard_D")) for kind in workers.values()), "no CPU workers"
    assert sum(types[kind]["max_workers"] for kind in workers) <= cluster["max_workers"]
    if cluster["provider"]["type"] != "aws":  # Ray does not look up the machines of every cloud
        assert types["gpu_worker"]["resources"]["GPU"] == 1
        assert all(types[kind]["resources"]["CPU"] > 0 for kind in workers)


def test_azure_knows_the_parameters() -> None:
    template = json.loads((RAY / "autoscaler/_private/_azure/azure-vm-template.json").read_text())
    for node in FILES["cluster-azure.yaml"]["available_node_types"].values():
        assert node["node_config"]["azure_arm_parameters"].keys() <= template["parameters"].keys()


@each_file
def test_it_installs_what_is_locked_and_holds_no_key(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "--require-hashes -r ~/clipmill/requirements.lock" in text
    assert "AKIA" not in text
    assert "secret" not in text.lower()
    for lock in ("requirements.lock", "requirements-cluster.lock"):
        assert (ROOT / lock).exists()


def test_all_of_them_start_ray_in_the_same_way() -> None:
    first, *others = FILES.values()
    for other in others:
        for key in (
            "file_mounts",
            "rsync_exclude",
            "rsync_filter",
            "head_start_ray_commands",
            "worker_start_ray_commands",
        ):
            assert other[key] == first[key]
        assert set(first["setup_commands"]) <= set(other["setup_commands"])


@pytest.mark.parametrize(
    ("device", "named", "expected"),
    [("auto", None, ("cpu", 0)), ("auto", "2", ("cuda", 2)), ("cuda", "2", ("cuda", 2)), ("cpu", "2", ("cpu", 0))],
)
def test_a_build_asks_for_the_gpus_that_a_cluster_can_add(
    ray_session: None, monkeypatch: pytest.MonkeyPatch, device: str, named: str | None, expected: tuple[str, int]
) -> None:
    if named is not None:
        monkeypatch.setenv(GPUS_TO_COME, named)
    with connect_to_ray(config_of(device), None, None) as cluster:
        assert (cluster.device, cluster.feature_actors) == expected


def test_without_a_gpu_now_or_to_come_cuda_is_an_error(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=GPUS_TO_COME), connect_to_ray(config_of("cuda"), None, None):
        pass
    for wrong in ("two", "-1", "1.5", "99999"):
        monkeypatch.setenv(GPUS_TO_COME, wrong)
        with pytest.raises(ConfigError, match="not a number of GPUs"), connect_to_ray(config_of("auto"), None, None):
            pass


def config_of(device: str) -> Config:
    plain = {"name": "c", "sources": [{"name": "s", "root": "in"}], "features": {"log_mel": {}, "device": device}}
    return load_config({**plain, "output": {"root": "out"}}).config
