"""A build that is killed, and one whose recordings are long."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import build_here, clipmill_here, kill_tree, shard_hashes, tone, write_audio

from clipmill.pipelines.dataset.records_io import committed_keys, snapshot_numbers
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.cluster import await_executors
from clipmill.stages.storage.root import Root

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_killed_build_publishes_nothing_and_the_next_one_finishes_it(
    sign: signal.Signals, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i in range(12):
        write_audio(tmp_path / "in" / f"{i}.wav", tone(20, 44100, 2, seed=i), 44100)
    source = {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}, "bytes_per_second": 176400}
    more = {"features": {"log_mel": {}, "spectrogram": {}}}
    config = make_config(source, **more, output={"root": str(tmp_path / "out"), "shard_seconds": 25})
    command = [sys.executable, "-m", "clipmill", "build", str(config), "--workers", "1"]
    out = Root(str(tmp_path / "out"))
    process = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore SIGINT, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while len(committed_keys(out)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "the build ended before it could be interrupted"
    if sign != signal.SIGKILL:
        process.send_signal(sign)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 1
        assert b"interrupted; what is committed is kept" in errors
        assert b"Traceback" not in errors
    else:
        kill_tree(process)
    there = committed_keys(out)
    assert snapshot_numbers(out) == []
    assert 2 <= len(there) < 12
    times = {key: (tmp_path / f"out/commits/{key}.json").stat().st_mtime_ns for key in there}
    if sign == signal.SIGKILL:
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=180)
    else:  # without Ray, and sooner
        done = clipmill_here("build", config)
    assert done.returncode == 0, done.stderr
    assert f"{len(there)} reused" in done.stdout
    assert times == {key: (tmp_path / f"out/commits/{key}.json").stat().st_mtime_ns for key in there}
    *_, verdict = verify(out)
    assert not verdict.problems
    build_here(make_config(source, **more, output={"root": str(tmp_path / "calm"), "shard_seconds": 25}))
    assert shard_hashes(tmp_path / "calm") == shard_hashes(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["wav", "mp3"])
def test_an_hour_takes_hardly_more_memory_than_a_minute(
    extension: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    import resource

    minute = (0.1 * np.random.default_rng(0).standard_normal((44100 * 60, 2))).astype(np.float32)

    def peak_mb(minutes: int) -> float:
        name = f"{extension}{minutes}"
        (tmp_path / name).mkdir()
        with sf.SoundFile(tmp_path / name / f"long.{extension}", "w", 44100, 2) as file:
            for _ in range(minutes):
                for k in range(0, len(minute), 65536):
                    file.write(minute[k : k + 65536])
        source = {"root": tmp_path / name, "segment": {"mode": "window", "length_s": 1.0}}
        config = make_config(
            source,
            name=name,
            features={"log_mel": {}, "mfcc": {}},
            output={"root": str(tmp_path / f"out{name}"), "shard_seconds": 80_000},
        )
        build_here(config)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    short = peak_mb(1)
    assert peak_mb(60) - short < 400


@pytest.mark.parametrize("name", ["StreamingExecutor-test_0", "iter_threaded"])
def test_ray_is_not_left_before_ray_datas_threads_have_ended(name: str) -> None:
    stop, ended = threading.Event(), []

    def last_words() -> None:
        stop.wait()
        time.sleep(0.3)
        ended.append(True)

    thread = threading.Thread(target=last_words, name=name, daemon=True)
    thread.start()
    stop.set()
    await_executors()
    assert ended
