"""Recordings cut where they are silent: a first pass finds the places, the second one cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydub
import pydub.silence
import pytest
import soundfile as sf
from conftest import shard_hashes, write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill.stages.decode.first_pass import Heard
from clipmill.stages.silence_clips import common
from clipmill.stages.spans import Range

RATE = 16000
SPOKEN = [(0.5, 1.5), (2.5, 3.0), (5.0, 8.0), (9.0, 9.4)]
"""Where the recording has sound, in seconds."""


def recording(channels: int = 1) -> np.ndarray:
    y, random = np.zeros((10 * RATE, channels)), np.random.default_rng(3)
    for start, stop in SPOKEN:
        a, b = round(start * RATE), round(stop * RATE)
        y[a:b] = random.standard_normal((b - a, channels)) * 0.1
    return y


def built(root: Path, out: Path, segment: dict[str, Any], **more: Any) -> clipmill.Report:
    source = {"name": "s", "root": str(root), "segment": {"mode": "silence", **segment}, **more.pop("source", {})}
    config = {
        "name": "c",
        "sources": [source],
        "audio": {"sample_rate_hz": RATE, **more.pop("audio", {})},
        "output": {"root": str(out)},
        **more,
    }
    return clipmill.build(config, quiet=True).raise_for_status()


def times(out: Path, *more: str) -> list[Any]:
    rows = clipmill.open_dataset(out).manifest().to_pylist()
    return sorted(
        (round(r["start_s"], 3), round(r["start_s"] + r["duration_s"], 3), *(r[name] for name in more)) for r in rows
    )


@pytest.mark.parametrize("ending", ["wav", "flac"])
@pytest.mark.parametrize("rate", [RATE, 44100])
def test_clips_are_where_something_is_heard(ending: str, rate: int, tmp_path: Path) -> None:
    import soxr

    write_audio(tmp_path / f"in/a.{ending}", soxr.resample(recording(), RATE, rate), rate, "PCM_16")
    report = built(tmp_path / "in", tmp_path / "out", {"pad_s": 0.0})
    assert np.allclose(times(tmp_path / "out"), SPOKEN, atol=0.005)
    assert report.snapshot.counts.clips_candidates == 4
    built(tmp_path / "in", tmp_path / "out2", {"pad_s": 0.1})
    assert np.allclose(times(tmp_path / "out2"), [(a - 0.1, b + 0.1) for a, b in SPOKEN], atol=0.005)


def test_the_clips_are_those_of_split_on_silence(corpora: Path, tmp_path: Path) -> None:
    file = corpora / "coqui-tts/tests/data/ljspeech/wavs/LJ001-0001.wav"
    y, rate = sf.read(file, dtype="int16")
    write_audio(tmp_path / "in/a.wav", y[:, None] / 32768, rate, "PCM_16")
    segment = pydub.AudioSegment(y.tobytes(), frame_rate=rate, sample_width=2, channels=1)
    pieces = pydub.silence.split_on_silence(segment, 120, -38, keep_silence=50)
    built(
        tmp_path / "in",
        tmp_path / "out",
        {"below_dbfs": -38, "min_silence_s": 0.12, "pad_s": 0.05},
        audio={"sample_rate_hz": rate},
    )
    found = [b - a for a, b in times(tmp_path / "out")]
    assert len(found) == len(pieces) > 3 and np.allclose(found, [len(p) / 1000 for p in pieces], atol=0.003)


def test_rows_are_cut_each_by_itself(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", recording(), RATE, "PCM_16")
    (tmp_path / "in/a.csv").write_text("start,end,label\n0,6,x\n8.2,8.8,nothing\n7,9.9,y\n")
    rows = {"annotations": {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end", "label": "label"}}}
    report = built(tmp_path / "in", tmp_path / "out", {"pad_s": 0.0}, source=rows)
    assert [label for *_, label in times(tmp_path / "out", "label")] == ["x", "x", "x", "y", "y"]
    assert np.allclose(
        [t[:2] for t in times(tmp_path / "out")],
        [(0.5, 1.5), (2.5, 3.0), (5.0, 6.0), (7.0, 8.0), (9.0, 9.4)],
        atol=0.005,
    )
    assert report.snapshot.counts.dropped == {"no_activity": 1} and report.snapshot.counts.annotations_used == 3


def test_a_silent_recording_is_told(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", recording(), RATE, "PCM_16")
    write_audio(tmp_path / "in/silent.wav", np.zeros((3 * RATE, 1)), RATE, "PCM_16")
    report = built(tmp_path / "in", tmp_path / "out", {})
    assert report.snapshot.counts.dropped == {"no_activity": 1}


def test_one_item_however_long_and_the_same_bytes_on_ray(tmp_path: Path, ray_session: None) -> None:
    for i in range(3):
        write_audio(tmp_path / f"in/r{i}.wav", np.concatenate([recording()] * (1 + 2 * i)), RATE, "PCM_16")
    more = {"source": {"bytes_per_second": 2 * RATE}}
    for out, workers in (("one", None), ("two", 2)):
        source = {"name": "s", "root": str(tmp_path / "in"), "segment": {"mode": "silence"}, **more["source"]}
        config = {"name": "c", "sources": [source], "output": {"root": str(tmp_path / out), "shard_seconds": 10}}
        clipmill.build(config, workers=workers, quiet=True).raise_for_status()
    assert shard_hashes(tmp_path / "one") == shard_hashes(tmp_path / "two")
    assert clipmill.open_dataset(tmp_path / "one").snapshot.counts.clips_kept == 4 * (1 + 3 + 5)


class Found:
    """Stands for what listens: it has heard something at some frames, at 1 Hz."""

    remarks = ()

    def __init__(self, active: list[tuple[int, int]]) -> None:
        self.active = active

    def add(self, y: np.ndarray) -> None: ...

    def clips_in(self, start: int, stop: int) -> list[tuple[int, int]]:
        return common(self.active, start, stop)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=4),
    st.lists(st.lists(st.integers(0, 80), max_size=12, unique=True).map(sorted), min_size=1, max_size=2),
)  # fmt: skip
def test_parts_are_what_ranges_and_sound_have_in_common(rows: list[tuple[int, int]], edges: list[list[int]]) -> None:
    active = [list(zip(own[::2], own[1::2], strict=False)) for own in edges]
    ranges = [Range(i, float(start), float(start + n)) for i, (start, n) in enumerate(rows)]
    parts = Heard([Found(own) for own in active], None, 1, 100).parts(ranges)  # type: ignore[misc]
    assert [p.start_s for p in parts] == sorted(p.start_s for p in parts)
    for r in ranges:
        own = [p for p in parts if p.index == r.index]
        assert sorted(p.part for p in own) == list(range(len(own))) and own
        for lane, intervals in enumerate(active):
            of_lane = [p for p in own if p.lane == (lane if len(active) > 1 else None)]
            seconds = {t for p in of_lane for t in range(int(p.start_s), int(p.end_s or 0))}
            assert of_lane and seconds == {
                t for a, b in intervals for t in range(a, b) if r.start_s <= t < (r.end_s or 0)
            }


def test_what_is_heard_is_what_clips_are_made_of(tmp_path: Path) -> None:
    """Of one channel that is silent there are no clips, and none of a mix in which the channels cancel each other out."""
    y = recording(1)
    write_audio(
        tmp_path / "each/a.wav", np.concatenate([y, np.roll(y, RATE // 2, axis=0), 0 * y], axis=1), RATE, "PCM_16"
    )
    report = built(tmp_path / "each", tmp_path / "o", {"pad_s": 0.0}, audio={"channels": "each"})
    found = [(start, channel) for start, _, channel in times(tmp_path / "o", "channel")]
    assert sorted(found) == sorted([(round(a, 3), 0) for a, _ in SPOKEN] + [(round(a + 0.5, 3), 1) for a, _ in SPOKEN])
    assert report.snapshot.counts.dropped == {"no_activity": 1}
    write_audio(tmp_path / "mix/a.wav", np.concatenate([y, -y], axis=1), RATE, "PCM_16")
    write_audio(tmp_path / "mix/b.wav", np.concatenate([y, 0 * y], axis=1), RATE, "PCM_16")
    report = built(tmp_path / "mix", tmp_path / "o2", {})
    assert report.snapshot.counts.dropped == {"no_activity": 1} and report.snapshot.counts.clips_kept == 4
