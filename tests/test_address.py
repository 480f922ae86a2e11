"""The same build on a cluster that runs already, by --address and by RAY_ADDRESS."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import build_here, shard_hashes, tone, write_audio


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield str(cluster.address)
    cluster.shutdown()


# test_crashes.py compares the bytes of a build with --address as well.
@pytest.mark.parametrize("how", [pytest.param("--address", marks=pytest.mark.slow), "RAY_ADDRESS"])
def test_a_running_cluster_gives_the_same_bytes(
    how: str, address: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i in range(4):
        write_audio(tmp_path / "in" / f"{i}.wav", tone(1.0, 22050, seed=i), 22050)
    source = {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}, "bytes_per_second": 44100}
    more = {"features": {"log_mel": {"n_fft": 512}}, "output": {"root": str(tmp_path / "out"), "shard_seconds": 2}}
    config = make_config(source, **more)
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "clipmill", "build", str(config)]
    if how == "--address":
        command += ["--address", address]
    else:
        env["RAY_ADDRESS"] = address
    # From another folder: the workers must not need this one to find the code.
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "8 kept" in done.stdout
    here = make_config(source, name="test", **{**more, "output": {"root": str(tmp_path / "here"), "shard_seconds": 2}})
    build_here(here)
    assert shard_hashes(tmp_path / "here") == shard_hashes(tmp_path / "out") != {}
