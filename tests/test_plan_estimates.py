"""What `plan` estimates from headers, compared with what builds of real corpora give."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from conftest import run, tone, upload_source, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load_config
from clipmill.pipelines.plan.header_sample import MOST_HEADERS, Wanted, _windows, choose
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.header_process import read_headers
from clipmill.pipelines.run.preview import plan
from clipmill.schemas.config.raw_config import Raw
from clipmill.stages.decode.header_length import MOST_BYTES, HeaderLength, header_length

FEATURES = {"log_mel": {"n_mels": 80, "hop_length": 160, "n_fft": 1024}, "mfcc": {"n_mfcc": 20}}
MODES: dict[str, dict[str, Any]] = {
    "whole": {"mode": "whole"},
    "windows": {"mode": "window", "length_s": 0.5},
    "overlapping": {"mode": "window", "length_s": 1.0, "hop_s": 0.4, "tail": "keep"},
    "padded": {"mode": "window", "length_s": 2.0, "tail": "pad_zero", "keep_every": 3},
    "fixed": {"mode": "fixed", "length_s": 2.0},
}


def config_of(place: Path, root: Path, segment: dict[str, Any], **more: Any) -> dict[str, Any]:
    source = {"name": "s", "root": str(root), "segment": segment, **more.pop("source", {})}
    limits = {"max_rejected_share": 1.0}
    return {
        "name": "x",
        "sources": [source],
        "features": FEATURES,
        "output": {"root": str(place)},
        "limits": limits,
        **more,
    }


def write_stereo(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, 16000)


def close(estimate: float, real: float, share: float = 0.3) -> bool:
    return abs(estimate - real) <= share * real


@pytest.fixture(scope="module")
def parts(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A part of each real corpus: Ogg of 5 s, WAV of half a second at 8 kHz, and speech at several rates."""
    made = {}
    for name, pattern, step in (
        ("esc10", "esc10/**/*.ogg", 8),
        ("fsdd", "fsdd/recordings/*.wav", 12),
        ("speech", "coqui-tts/**/*.wav", 3),
    ):
        folder = tmp_path_factory.mktemp(name)
        for i, path in enumerate(sorted(corpora.glob(pattern))[::step]):
            shutil.copy(path, folder / f"{i:03d}{path.suffix}")
        made[name] = folder
    return made


@pytest.mark.parametrize("corpus", ["esc10", "fsdd", "speech"])
@pytest.mark.parametrize("mode", MODES)
def test_clips_and_bytes_are_within_30_percent(
    parts: dict[str, Path], tmp_path: Path, in_process: None, corpus: str, mode: str
) -> None:
    config = config_of(tmp_path / "out", parts[corpus], MODES[mode])
    estimate = plan(config).estimate
    built = build(config, quiet=True, accept=True).snapshot
    assert built is not None
    assert close(estimate.clips, built.counts.clips_stored), (estimate.clips, built.counts.clips_stored)
    assert close(estimate.clip_s, built.seconds.kept_s)
    if built.counts.clips_stored >= 20:  # a shard of few clips is mostly its own header
        assert close(estimate.stored_bytes, built.bytes_stored), (estimate.stored_bytes, built.bytes_stored)
    assert estimate.rough == ()


def test_rows_channels_and_copies_count(tmp_path: Path, in_process: None) -> None:
    for i in range(6):
        stereo = np.hstack([tone(6.0, 16000, seed=i), tone(6.0, 16000, seed=i + 9)])
        write_stereo(tmp_path / f"in/r{i}.flac", stereo)
        (tmp_path / f"in/r{i}.csv").write_text("0.5,1.75\n2,5.9\n4,90\n")
    annotations = {"sidecar": "{stem}.csv", "header": False, "columns": {"start": 0, "end": 1}}
    augment = [{"augment": {"copies": 2, "gain_db": [-6, 6]}}]
    for segment in ({"mode": "annotation"}, {"mode": "window", "length_s": 0.5}):
        source = {"annotations": annotations, "channels": "each"}
        config = config_of(tmp_path / str(segment["mode"]), tmp_path / "in", segment, source=source, clips=augment)
        estimate = plan(config).estimate
        built = build(config, quiet=True, accept=True).snapshot
        assert built is not None
        assert close(estimate.clips, built.counts.clips_stored), (segment, estimate.clips, built.counts.clips_stored)
        assert estimate.clips % 6 == 0, "two channels, a clip and two copies"


def test_what_only_a_build_can_hear_is_called_rough_and_is_known_after_one(
    parts: dict[str, Path], tmp_path: Path, in_process: None
) -> None:
    for name, segment, clips in (
        ("silence", {"mode": "silence"}, None),
        ("dropped", {"mode": "window", "length_s": 0.5}, [{"silence": {"min_dbfs": -30}}]),
    ):
        config = config_of(tmp_path / name, parts["esc10"], segment, **({"clips": clips} if clips else {}))
        before = plan(config).estimate
        assert before.rough, name
        built = build(config, quiet=True, accept=True).snapshot
        assert built is not None
        after = plan(config).estimate
        assert after.rough == ()
        assert close(after.clips, built.counts.clips_stored, 0.02)
        assert close(after.stored_bytes, built.bytes_stored, 0.05)


def test_shards_do_not_depend_on_the_sample(parts: dict[str, Path], tmp_path: Path) -> None:
    config = config_of(tmp_path / "out", parts["esc10"], MODES["windows"])
    config["output"]["shard_seconds"] = 20
    sampled, plain = plan(config), plan(config, sample=False)
    assert len(sampled.plan.keys) > 1
    assert (sampled.plan.keys, sampled.plan.shard_s) == (plain.plan.keys, plain.plan.shard_s)
    assert sampled.estimate.headers_read > 0 == plain.estimate.headers_read
    assert sampled.estimate.clip_s != plain.estimate.clip_s
    assert plan(config).estimate == sampled.estimate


def test_at_most_200_headers_are_read_of_every_kind_of_file(tmp_path: Path) -> None:
    for i in range(230):
        write_audio(tmp_path / f"in/r{i:03d}.wav", tone(0.25, 8000, seed=i % 3), 8000)
    for i in range(5):
        write_audio(tmp_path / f"in/f{i}.flac", tone(0.5, 8000, seed=i), 8000)
    config = config_of(tmp_path / "out", tmp_path / "in", {"mode": "whole"})
    previewed = plan(config)
    assert previewed.estimate.headers_read == MOST_HEADERS
    assert previewed.estimate.clips == 235
    assert previewed.estimate.clip_s == pytest.approx(230 * 0.25 + 5 * 0.5, rel=0.01)
    chosen = choose(previewed.plan.table)
    assert chosen == choose(previewed.plan.table)
    assert len({one.recording_id for one in chosen}) == MOST_HEADERS
    assert any(one.path.endswith(".flac") for one in chosen)
    assert choose(previewed.plan.table.slice(0, 0)) == []


def wav_of(path: Path, seconds: int, rate: int = 16000) -> Path:
    """Write a sparse WAV, which takes no room on the disk."""
    n = seconds * rate * 2
    with path.open("wb") as file:
        file.write(
            b"RIFF" + struct.pack("<I", 36 + n) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
        )
        file.write(b"data" + struct.pack("<I", n))
        file.truncate(44 + n)
    return path


class Counted:
    """A stream that counts what is read of it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.n_read = 0

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.n_read += len(content)
        return content

    def seek(self, *where: int) -> int:
        return self._file.seek(*where)


def test_headers_are_read_and_never_whole_files(tmp_path: Path) -> None:
    big = wav_of(tmp_path / "big.wav", 20_000)
    paths = {big: 20_000.0}
    for extension in ("flac", "ogg", "mp3", "aiff"):
        paths[tmp_path / f"r.{extension}"] = 60.0
        write_audio(tmp_path / f"r.{extension}", np.random.default_rng(0).uniform(-0.5, 0.5, (44100 * 60, 1)), 44100)
    for path, seconds in paths.items():
        stream, size = Counted(path), path.stat().st_size
        found = header_length(stream, size)  # type: ignore[arg-type]
        assert found is not None, path
        assert found.seconds == pytest.approx(seconds, rel=0.01), path
        assert found.n_channels == 1
        assert stream.n_read <= 2 * MOST_BYTES
        if size > MOST_BYTES:
            assert stream.n_read < size / 3, (path, stream.n_read, size)
    raw = Raw(sample_rate_hz=8000, encoding="s16le")
    assert header_length(Counted(big), 32_000, raw) == HeaderLength(2.0, 1, 8000)  # type: ignore[arg-type]


@given(
    content=st.binary(max_size=300),
    head=st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x03", b"\xff\xfb\x90", b"\x00\x00\x00\x20ftyp"]),
)
def test_no_content_raises_anything(tmp_path_factory: pytest.TempPathFactory, content: bytes, head: bytes) -> None:
    import io

    data = head + content
    found = header_length(io.BytesIO(data), len(data))
    assert found is None or found.seconds > 0


def test_a_file_that_never_answers_costs_only_its_own_header(tmp_path: Path) -> None:
    for i in range(3):
        write_audio(tmp_path / f"r{i}.wav", tone(1.0, 8000), 8000)
    os.mkfifo(tmp_path / "r1a.wav")  # opening it waits for somebody who writes
    config = load_config(config_of(tmp_path / "out", tmp_path, {"mode": "whole"})).config
    names = ["r0.wav", "r1.wav", "r1a.wav", "r2.wav", "gone.wav"]
    wanted = [Wanted(name, "s", name, 16_044) for name in names]
    found = read_headers(config, wanted, each_s=1.0)
    assert set(found) == {"r0.wav", "r1.wav", "r2.wav"}
    assert all(length == HeaderLength(1.0, 1, 8000) for length in found.values())


def test_headers_of_objects_are_read_by_ranges(endpoint: str, bucket: str, tmp_path: Path) -> None:
    for i in range(4):
        write_audio(tmp_path / f"in/r{i}.wav", tone(3.0, 8000, seed=i), 8000)
    source = upload_source(
        {"name": "s", "root": str(tmp_path / "in"), "segment": {"mode": "window", "length_s": 0.5}}, bucket, endpoint
    )
    config = {**config_of(tmp_path / "out", tmp_path / "in", {}), "sources": [source]}
    estimate = plan(config).estimate
    assert estimate.headers_read == 4
    assert estimate.clips == 24


def test_time_is_a_range_from_the_last_build(
    tmp_path: Path, make_config: Callable[..., Path], in_process: None
) -> None:
    write_audio(tmp_path / "in/r0.wav", tone(20.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}})
    first = plan(config).estimate
    assert 0 < first.least_work_s < first.work_s < first.most_work_s
    assert not first.of_last_build
    run("build", config)
    (note,) = (p for p in (tmp_path / "out/builds").glob("*.json"))
    assert plan(config).estimate.most_work_s == 0, "nothing is left to do"
    from clipmill.schemas.seal import sealed, unsealed

    record = unsealed(note.read_bytes())
    record["numbers"]["rates"]["decoded_x_realtime"], record["numbers"]["seconds"]["work"] = 2.0, 10.0
    note.write_bytes(sealed(record))
    write_audio(tmp_path / "in/r1.wav", tone(60.0, 8000, seed=5), 8000)
    again = plan(config).estimate
    assert again.of_last_build
    assert again.least_work_s < again.work_s < again.most_work_s
    assert again.work_s == pytest.approx(80 / 2.0, rel=0.35), "both recordings are in one shard"
    text = run("plan", config)
    assert "at the speed of the last build" in text


def test_the_command_says_where_the_numbers_come_from(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/r0.flac", tone(4.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in", "segment": {"mode": "speech"}})
    assert "from 1 header and annotations" in run("plan", config)
    assert "rough, because nothing is heard yet: segment mode speech" in run("plan", config)
    assert "from file sizes and annotations" in run("plan", config, "--no-sample")
    estimate = json.loads(run("plan", config, "--json"))["estimate"]
    assert estimate["headers_read"] == 1
    assert estimate["rough"]


@given(
    length=st.floats(0.05, 30), window=st.sampled_from([0.5, 1.0, 2.0, 3.0]), part=st.sampled_from([0.25, 0.5, 1.0]),
    tail=st.sampled_from(["drop", "keep", "pad_zero"]), every=st.integers(1, 4),
)  # fmt: skip
def test_windows_are_counted_as_they_are_cut(length: float, window: float, part: float, tail: str, every: int) -> None:
    counts, seconds, padding = _windows(np.array([length]), window, window * part, tail, every)
    starts = [k * window * part for k in range(10_000) if k * window * part < length - 1e-6]
    full = [s for s in starts if s + window <= length + 1e-6]
    n = len(full) + (tail != "drop" and len(full) < len(starts))
    assert counts[0] == -(-n // every)
    assert 0 <= padding[0] <= seconds[0] <= counts[0] * window + 1e-6
