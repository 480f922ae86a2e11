"""Every command on an s3:// root, who may see what there, and what must never be seen: secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import clipmill_here, shard_hashes, tone, upload_source, write_audio
from s3_proxy import before

from clipmill.stages.storage.root import Root

OUTPUT = {"formats": ["parquet", "webdataset"], "shard_seconds": 2}
COMMANDS = (["status"], ["failures"], ["show"], ["verify"], ["gc"], ["gc", "--delete"])


def clipmill(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clipmill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=240, check=False)


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    for i in range(4):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, 16000, seed=i), 16000)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    segment = {"mode": "window", "length_s": 0.25}
    return {"root": tmp_path / "in", "name": "s", "segment": segment, "bytes_per_second": 32000}


def test_all_commands_work_and_none_tells_a_secret(
    source: dict[str, Any],
    bucket: str,
    endpoint: str,
    tmp_path: Path,
    make_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    options = {"endpoint_url": endpoint, "key": os.environ["AWS_ACCESS_KEY_ID"], "secret": "${THE_SECRET}"}
    root = f"s3://{bucket}/out"
    limits = {"max_rejected_share": 1.0}
    config = make_config(source, output={"root": root, "storage_options": options, **OUTPUT}, limits=limits)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {"THE_SECRET": secret, "TMPDIR": str(temporary)}
    monkeypatch.setenv("THE_SECRET", secret)
    said = []
    for round in range(2):
        done = clipmill("build", config, **env)
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
        if round == 0:
            (tmp_path / "in/r1.wav").unlink()
    for words in (*COMMANDS, ["diff", "1", "2"]):
        done = clipmill(words[0], config, *words[1:], **env)
        assert done.returncode == 0, (words, done.stderr)
        told = clipmill_here(words[0], config, *words[1:], "--json")
        assert told.returncode == 0, (words, told.stderr)
        json.loads(told.stdout.splitlines()[-1])
        said += [done.stdout, done.stderr, told.stdout, told.stderr]
    assert "broken.wav" in "".join(said)
    # What must be refused is told without the key as well.
    wrong = clipmill("build", config, **{**env, "THE_SECRET": "x" + secret})
    said += [wrong.stdout, wrong.stderr]
    stored = Root(root, {"endpoint_url": endpoint})
    names = list(stored.sizes(""))
    assert any(n.startswith("snapshots/") for n in names)
    assert any(n.startswith("builds/") for n in names)
    for text in (*(t.encode() for t in said), *(stored.read_bytes(n) for n in names)):
        assert secret.encode() not in text
        assert b"X-Amz-Signature" not in text
    left = [p for p in temporary.rglob("*") if p.is_file() and not p.name.startswith("clipmill-")]
    assert sum(p.stat().st_size for p in left) < 100_000, "shards were put on a disk"


def test_a_public_bucket_needs_no_credentials(
    source: dict[str, Any], bucket: str, endpoint: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    there = upload_source(source, bucket, endpoint)
    there["storage_options"] = {"endpoint_url": endpoint, "anon": True}
    store = Root(there["root"], {"endpoint_url": endpoint})
    store.fs.call_s3("put_bucket_acl", Bucket=bucket, ACL="public-read")
    for name in store.sizes(""):
        store.fs.call_s3("put_object_acl", Bucket=bucket, Key=f"in/{name}", ACL="public-read")
    config = make_config(there, output={"root": str(tmp_path / "out"), **OUTPUT})
    env = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")} | {"AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-m", "clipmill", "build", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert len(shard_hashes(tmp_path / "out")) > 2


def test_the_source_and_the_output_can_be_at_two_endpoints(
    source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path]
) -> None:
    with before(endpoint) as (address, proxy):
        there = {**upload_source(source, bucket, endpoint), "storage_options": {"endpoint_url": address}}
        output = {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}, **OUTPUT}
        done = clipmill("build", make_config(there, output=output))
        assert done.returncode == 0, done.stderr
        assert proxy.seen
        assert not [p for _, p, _ in proxy.seen if "/out/" in p]


@pytest.fixture
def address_without_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running cluster whose machines know nothing of the store."""
    from ray.cluster_utils import Cluster

    with monkeypatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("AWS_", "S3_"))]:
            patch.delenv(name)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield str(cluster.address)
    cluster.shutdown()


@pytest.mark.slow
def test_credentials_reach_a_cluster_and_not_its_logs(
    source: dict[str, Any], bucket: str, endpoint: str, address_without_keys: str, make_config: Callable[..., Path]
) -> None:
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    there = upload_source(source, bucket, endpoint)
    output = {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}, **OUTPUT}
    done = clipmill("build", make_config(there, output=output), "--address", address_without_keys)
    assert done.returncode == 0, done.stderr
    logs = Path(os.path.realpath("/tmp/ray/session_latest")) / "logs"
    if logs.is_dir():
        found = [p for p in logs.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
        assert not found
