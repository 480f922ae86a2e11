"""cluster.yaml against Ray's own schema and its checks."""

import json
from pathlib import Path

import jsonschema
import ray
import yaml

ROOT = Path(__file__).parents[1]
CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_it_is_valid_by_rays_schema_and_a_typo_is_not() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(CLUSTER, schema)
    for broken in ({**CLUSTER, "max_wrokers": 3}, {**CLUSTER, "available_node_types": []}):
        try:
            jsonschema.validate(broken, schema)
        except jsonschema.ValidationError:
            continue
        raise AssertionError("the schema accepts anything")


def test_ray_itself_accepts_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(json.loads(json.dumps(CLUSTER))))


def test_there_is_a_head_and_workers_for_decoding_and_for_features() -> None:
    types = CLUSTER["available_node_types"]
    assert CLUSTER["head_node_type"] in types
    workers = {
        name: kind["node_config"]["InstanceType"] for name, kind in types.items() if name != CLUSTER["head_node_type"]
    }
    assert any(kind.startswith(("g", "p")) for kind in workers.values()), "no GPU workers"
    assert any(kind.startswith(("c", "m")) for kind in workers.values()), "no CPU workers"
    assert sum(types[name]["max_workers"] for name in workers) <= CLUSTER["max_workers"]


def test_it_installs_what_is_locked_and_holds_no_key() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert "--require-hashes -r ~/clipmill/requirements.lock" in text
    assert "AKIA" not in text
    assert "secret" not in text.lower()
    for name in ("requirements.lock", "requirements-cluster.lock"):
        assert (ROOT / name).exists()
