"""Memory and temporary space are bounded by the clip, not by the recording, and a recording beyond the limits says so."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from conftest import build_here, clips_of, tone, write_audio

import clipmill.stages.clip_buffer
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_snapshot
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.graph import stages_of, whole_shard
from clipmill.pipelines.run.progress import Watch
from clipmill.pipelines.run.retry import retry
from clipmill.pipelines.run.shard_work import ClipsOfShard, MakeBlock, OnGpu, WriteBlock
from clipmill.schemas.records import Commit
from clipmill.stages.arrow_rows import stream_bytes, stream_table
from clipmill.stages.clip_buffer import MEMORY_BYTES, ClipBuffer
from clipmill.stages.storage.root import Root
from clipmill.stages.write.clip_sums import ShardStatistics
from clipmill.stages.write.shard_files import TarFile

pytestmark = pytest.mark.usefixtures("in_process")

WINDOWS = {"mode": "window", "length_s": 0.5}


def message(n_rows: int, payload: int = 1 << 20) -> pa.Table:
    """A table of lengths as it comes out of a pipe or a file: all columns are views of one buffer, which is mostly payload."""
    columns = {"duration_s": np.full(n_rows, 0.5), "pcm": [bytes(payload // n_rows)] * n_rows}
    return stream_table(stream_bytes(pa.table(columns)))


def test_statistics_keep_numbers_and_not_what_they_came_with() -> None:
    statistics = ShardStatistics([])
    kept: list[Any] = []
    for _ in range(4):
        statistics.add(message(8))
        kept.append(statistics._lengths_s[-1])
    assert all(lengths.base is None and lengths.flags.owndata for lengths in kept)
    assert statistics.finish().lengths.clips == 32


def test_what_is_held_is_counted_by_what_it_keeps_in_memory() -> None:
    whole = pa.table({"pcm": [bytes(MEMORY_BYTES // 4)] * 8})
    with ClipBuffer() as held:
        held.add(whole.slice(0, 1))
        assert held.size_bytes > 0, "one row of eight keeps all of them"
        assert [t.num_rows for t in held.release()] == [1]


def test_a_tar_does_not_remember_its_members(tmp_path: Path) -> None:
    with open(tmp_path / "a.tar", "wb") as sink:
        file = TarFile("a.tar", sink, ["clip_id", "level_dbfs", "audio"], [])
        for i in range(3):
            audio = pa.array([{"bytes": b"x", "path": f"{i}.flac"}])
            file.add(pa.table({"clip_id": [str(i)], "level_dbfs": [-20.0], "audio": audio}))
            assert file._tar.getmembers() == []
        assert file.finish().rows == 3
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["0.flac", "0.json", "1.flac", "1.json", "2.flac", "2.json"]


def peak_mb(config: Path) -> tuple[float, int]:
    """Build in a process of its own; return the most memory that it had, in MB, and how many clips came out."""
    # Not ru_maxrss, in which the process that it was forked from counts.
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests'); from conftest import build_here;"
        f" commits = build_here(Path({str(config)!r}));"
        " status = dict(line.split(':') for line in open('/proc/self/status'));"
        " print(int(status['VmHWM'].split()[0]) / 1000, sum(c.counts.clips_kept for c in commits))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    peak, clips = done.stdout.split()
    return float(peak), int(clips)


def constant(path: Path, seconds: float, rate: int = 16000) -> Path:
    """Write a FLAC of a constant at -20 dBFS, in the largest blocks: 14 bytes for 4 seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="flac") as file:
        track = file.add_stream("flac", rate=rate, layout="mono", options={"frame_size": "65535", "strict": "-2"})
        track.format = "s16"
        left = round(seconds * rate)
        while left:
            frame = av.AudioFrame.from_ndarray(np.full((1, min(left, 65535)), 3277, np.int16), "s16", "mono")
            frame.sample_rate = rate
            left -= frame.samples
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
    return path


@pytest.mark.parametrize("codec", [pytest.param("wav", marks=pytest.mark.slow), "flac"])
def test_memory_is_that_of_clips_however_long_the_recording(
    codec: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    peaks = {}
    for name, hours in (("short", 0.1), ("long", 1.5)):
        path = constant(tmp_path / name / "in" / "r.flac", hours * 3600)
        assert path.stat().st_size < 40_000
        config = make_config(
            {"root": path.parent, "segment": WINDOWS},
            name=name,
            output={"root": str(tmp_path / name / "out"), "audio_codec": codec},
        )
        peaks[name], clips = peak_mb(config)
        assert clips == hours * 7200
    # It is 173 MB of PCM. As WAV it goes to the disk beyond 64 MB; as FLAC it is small, and must not keep its PCM.
    assert peaks["long"] - peaks["short"] < 110, peaks


def test_a_declared_length_over_the_limit_is_refused_at_once(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in" / "long.wav", tone(12.0, 8000), 8000)
    write_audio(tmp_path / "in" / "short.wav", tone(10.0, 8000), 8000)
    commits = build_here(make_config({"root": tmp_path / "in", "segment": WINDOWS}, limits={"max_recording_s": 10}))
    (rejection,) = [r for c in commits for r in c.rejections]
    assert (rejection["recording_id"], rejection["reason"], rejection["kind"]) == (
        "s0/long.wav",
        "recording_too_long",
        "recording",
    )
    assert rejection["detail"] == "it lasts 12.0 s, longer than the 10 s that limits.max_recording_s allows"
    assert sum(c.seconds.decoded_s for c in commits) == 10
    assert sum(c.counts.clips_kept for c in commits) == 20


@pytest.mark.parametrize(
    ("name", "truncated"), [("long.mp3", "reject"), ("long.ogg", "reject"), ("long.wav", "keep")], ids=str
)
def test_a_recording_that_states_no_length_is_refused_where_it_passes_the_limit(
    name: str, truncated: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in" / name, tone(90.0, 22050), 22050)
    source = {"root": tmp_path / "in", "segment": WINDOWS}
    commits = build_here(make_config(source, limits={"max_recording_s": 60}, audio={"truncated": truncated}))
    (rejection,) = [r for c in commits for r in c.rejections]
    assert rejection["reason"] == "recording_too_long"
    assert rejection["detail"].endswith(" longer than the 60 s that limits.max_recording_s allows")
    assert sum(c.counts.clips_kept for c in commits) == 0, "the clips that were there already are void"


def test_of_a_part_the_recording_counts_where_its_length_is_known(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for name in ("known.wav", "known.ogg"):
        write_audio(tmp_path / "in" / name, tone(40.0, 8000), 8000)
        (tmp_path / "in" / f"{name}.csv").write_text("start,end\n1.0,2.0\n3.0,4.0\n")
    annotations = {"sidecar": "{name}.csv", "columns": {"start": "start", "end": "end"}}
    source = {"root": tmp_path / "in", "annotations": annotations, "segment": {"mode": "annotation"}}
    commits = build_here(make_config(source, limits={"max_recording_s": 20}))
    rejected = [(r["recording_id"], r["kind"], r["reason"]) for c in commits for r in c.rejections]
    assert sorted(rejected) == [
        (f"s0/known.{kind}", what, reason)
        for kind in ("ogg", "wav")
        for what, reason in 2 * [("annotation", "recording_rejected")] + [("recording", "recording_too_long")]
    ]
    assert clips_of(tmp_path / "out", commits) == []


def test_whole_recordings_are_too_long_before_they_are_clips(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for name in ("header.wav", "pages.ogg", "frames.mp3"):
        write_audio(tmp_path / "in" / name, tone(90.0, 16000), 16000)
    source = {"root": tmp_path / "in", "segment": {"mode": "whole", "max_clip_s": 20}}
    commits = build_here(make_config(source, limits={"max_rejected_share": 1, "max_recording_s": 60}))
    assert {r["reason"] for c in commits for r in c.rejections} == {"recording_too_long"}
    assert sum(c.seconds.decoded_s for c in commits) == 0


def test_a_raised_limit_and_a_retry_bring_the_clips(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for i, seconds in enumerate((2.0, 2.0, 30.0)):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(seconds, 8000, seed=i), 8000)
    source = {"root": tmp_path / "in", "segment": WINDOWS}
    limits = {"max_rejected_share": 1, "max_recording_s": 10}
    first = build(load(make_config(source, limits=limits)), quiet=True)
    assert first.snapshot is not None
    assert first.snapshot.counts.rejected == {"recording_too_long": 1}
    path = make_config(source, limits={**limits, "max_recording_s": 40})
    assert build(load(path), quiet=True).status == "unchanged", "limits stand in no key"
    done = CliRunner().invoke(main, ["retry", str(path), "--reason", "recording_too_long"])
    assert done.exit_code == 0, done.output
    assert "retried      1 rejected: 1 no longer rejected" in done.output
    snapshot = read_snapshot(Root(str(tmp_path / "out")), 2)
    assert (snapshot.counts.rejected, snapshot.counts.clips_kept) == ({}, 68)
    assert build(load(path), quiet=True).status == "unchanged"


def test_a_lowered_limit_and_a_retry_tell_what_they_cost(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for i, seconds in enumerate((2.0, 6.0, 30.0)):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(seconds, 8000, seed=i), 8000)
    source = {"root": tmp_path / "in", "segment": WINDOWS}
    build(load(make_config(source, limits={"max_rejected_share": 1, "max_recording_s": 10})), quiet=True)
    path = make_config(source, limits={"max_rejected_share": 1, "max_recording_s": 5})
    done = CliRunner().invoke(main, ["retry", str(path)])
    assert done.exit_code == 0, done.output
    assert "retried      1 rejected: 0 no longer rejected, 1 rejected again for the same reason" in done.output
    assert "now rejected 1 more that were used before: recording_too_long 1" in done.output
    snapshot = read_snapshot(Root(str(tmp_path / "out")), 2)
    assert snapshot.counts.rejected == {"recording_too_long": 2}
    assert "now rejected" not in CliRunner().invoke(main, ["retry", str(path)]).output


@pytest.fixture
def small_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipmill.stages.clip_buffer, "MEMORY_BYTES", 100_000)


@pytest.fixture
def bombs(tmp_path: Path, small_hold: None) -> dict[str, Any]:
    """Two recordings of which overlapping windows make 5 MB, among four that make 50 kB each; one has annotations."""
    for i in range(4):
        write_audio(tmp_path / "in" / f"good{i}.wav", tone(2.0, 16000, seed=i), 16000)
    for i in range(2):
        write_audio(tmp_path / "in" / f"bomb{i}.wav", tone(20.0, 16000, seed=9 + i), 16000)
    for path in sorted((tmp_path / "in").glob("*.wav")):
        end = 20 if "bomb" in path.name else 2
        path.with_suffix(".csv").write_text(f"start,end\n0,{end}\n{end - 1},{end}\n")
    annotations = {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end"}}
    return {
        "root": tmp_path / "in",
        "annotations": annotations,
        "segment": {"mode": "window", "length_s": 0.5, "hop_s": 0.05},
    }


def files_left() -> set[str]:
    """Temporary files that this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(link.readlink()))
        except FileNotFoundError:  # the folder's own
            continue
    return {f for f in found if tempfile.gettempdir() in f and "(deleted)" in f}


def test_clips_that_take_too_much_temporary_space_cost_their_recording(
    bombs: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    before = files_left()
    commits = build_here(make_config(bombs, limits={"max_temporary_mb": 3}, audio={}, features={}))
    assert len(files_left() - before) <= 1, "the report of the decoding process, and no spilled clips"
    assert len(commits) == 1
    rejections = commits[0].rejections
    assert [(r["recording_id"], r["kind"], r["reason"]) for r in rejections if r["kind"] == "recording"] == [
        ("s0/bomb0.wav", "recording", "recording_too_long"),
        ("s0/bomb1.wav", "recording", "recording_too_long"),
    ]
    assert "limits.max_temporary_mb" in rejections[0]["detail"]
    counts = commits[0].counts
    assert (counts.recordings_used, counts.recordings_rejected, counts.annotations_rejected) == (4, 2, 4)
    kept = clips_of(tmp_path / "out", commits)
    assert {c["recording_id"] for c in kept} == {f"s0/good{i}.wav" for i in range(4)}
    for i in range(2):
        (tmp_path / "in" / f"bomb{i}.wav").unlink()
        (tmp_path / "in" / f"bomb{i}.csv").unlink()
    alone = build_here(make_config(bombs, output={"root": str(tmp_path / "alone")}))
    assert clips_of(tmp_path / "alone", alone) == kept, "neighbours are what they are without them"


def test_more_space_and_a_retry_bring_the_clips(
    bombs: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    limits = {"max_rejected_share": 1, "max_temporary_mb": 3}
    first = build(load(make_config(bombs, limits=limits)), quiet=True)
    assert first.snapshot is not None
    assert first.snapshot.counts.rejected == {"recording_too_long": 2, "recording_rejected": 4}
    result = retry(load(make_config(bombs, limits={**limits, "max_temporary_mb": 100})), [], quiet=True)
    assert result.report.snapshot is not None
    assert result.report.snapshot.counts.rejected == {}
    assert result.rejected_again == set()


@pytest.mark.parametrize("moves", [False, True], ids=["stay", "one-changes"])
def test_with_feature_actors_the_shard_is_the_same(
    moves: bool, bombs: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    moving = tmp_path / "in/good1.wav"
    planned_ns = moving.stat().st_mtime_ns
    found = []
    for name in ("together", "apart"):
        path = make_config(
            bombs,
            features={"mfcc": {"n_mfcc": 3}},
            limits={"max_temporary_mb": 3},
            output={"root": str(tmp_path / name)},
        )
        file = load(path)
        plan = make_plan(file.config)
        if moves:
            os.utime(moving, ns=(1, 1))
        work = stages_of(file.config, plan, "cpu")
        if name == "together":
            row = whole_shard(work, Watch())(plan.shard(0))
        else:
            work = replace(work, cut=work.gpu_range)
            block = MakeBlock(work, ClipsOfShard(work, Watch()))(plan.shard(0))
            row = WriteBlock(work)(OnGpu(work)(block))
        os.utime(moving, ns=(planned_ns, planned_ns))
        assert row["error"][0].as_py() is None
        assert (row["key"][0].as_py() in plan.keys) is not moves
        found.append(Commit.from_json(row["commit"][0].as_py(), "test"))
    assert found[0].counts.recordings_rejected == (3 if moves else 2)
    assert found[0].key == found[1].key
    assert found[0].outputs == found[1].outputs
    assert found[0].rejections == found[1].rejections
    assert found[0].counts == found[1].counts


def test_a_full_disk_is_no_bad_recording(
    bombs: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file on a disk that has room for 200 kB."""

        def __init__(self, **_: Any) -> None:
            self.closed, self._size = False, 0

        def write(self, data: Any) -> int:
            self._size += len(data)
            if self._size > 200_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(data)

        def tell(self) -> int:
            return self._size

        def flush(self) -> None: ...

        def close(self) -> None:
            self.closed = True
            raise OSError(errno.ENOSPC, "No space left on device")  # as of what is still in its buffer

    there = SimpleNamespace(TemporaryFile=Full, gettempdir=lambda: "/there")
    monkeypatch.setattr(clipmill.stages.clip_buffer, "tempfile", there)
    file = load(make_config(bombs))
    plan = make_plan(file.config)
    run = whole_shard(stages_of(file.config, plan, "cpu"), Watch())
    (row,) = run(plan.shard(0)).to_pylist()
    assert (row["commit"], row["lasting"]) == (None, True)
    assert row["error"].startswith("cannot keep clips in temporary files under /there: No space left on device")
    assert "TMPDIR" in row["error"]
    assert not list((tmp_path / "out").rglob("*.parquet")), "nothing is left of it"
