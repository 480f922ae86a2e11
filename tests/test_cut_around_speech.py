"""Recordings cut around speech: pauses that are known are found, clips have their lengths, and what is left out is told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import soxr
from conftest import shard_hashes, write_audio

import clipmill
from clipmill.schemas.errors import ConfigError

pytest.importorskip("silero_vad")
pytest.importorskip("onnxruntime")
RATE = 16000


@pytest.fixture(scope="module")
def sentences(corpora: Path) -> list[np.ndarray]:
    """Six sentences without the silence around them."""
    found = []
    for file in sorted(corpora.glob("coqui-tts/tests/data/ljspeech/wavs/*.wav"))[:6]:
        y, rate = sf.read(file, dtype="float32")
        x = soxr.resample(y, rate, RATE)
        loud = np.flatnonzero(np.abs(x) > 0.02)
        found.append(x[loud[0] : loud[-1]])
    assert len(found) == 6
    return found


def spoken(sentences: list[np.ndarray], pause_s: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return sentences with pauses of a faint hiss, and where they are, in seconds."""
    hiss, parts, places, at = np.random.default_rng(0), [], [], 0
    for sentence in sentences:
        pause = hiss.standard_normal(round(pause_s * RATE)) * 3e-4
        at += len(pause)
        places.append((at / RATE, (at + len(sentence)) / RATE))
        parts += [pause, sentence]
        at += len(sentence)
    return np.concatenate([*parts, hiss.standard_normal(RATE) * 3e-4])[:, None], places


def built(
    root: Path, out: Path, segment: dict[str, Any], **more: Any
) -> tuple[clipmill.Report, list[tuple[float, float]]]:
    source = {"name": "s", "root": str(root), "segment": {"mode": "speech", **segment}}
    config = {"name": "c", "sources": [source], "output": {"root": str(out)}}
    report = clipmill.build(config, quiet=True, **more).raise_for_status()
    rows = clipmill.open_dataset(out).manifest().to_pylist()
    return report, sorted((r["start_s"], r["start_s"] + r["duration_s"]) for r in rows)


def test_known_pauses_are_where_clips_end(sentences: list[np.ndarray], tmp_path: Path) -> None:
    y, places = spoken(sentences, 2.0)
    write_audio(tmp_path / "in/a.wav", y, RATE, "PCM_16")
    _, clips = built(tmp_path / "in", tmp_path / "out", {"max_gap_s": 1.0, "max_s": 30})
    assert len(clips) == len(places)
    for (start, stop), (first, last) in zip(clips, places, strict=True):
        assert start == pytest.approx(first - 0.1, abs=0.35) and stop == pytest.approx(last + 0.1, abs=0.35)


@pytest.mark.parametrize(("min_s", "max_s"), [(1, 20), (3, 8), (0.5, 2)])
def test_clips_have_their_lengths_and_cuts_are_told(
    min_s: float, max_s: float, sentences: list[np.ndarray], tmp_path: Path
) -> None:
    y, places = spoken(sentences, 0.3)
    write_audio(tmp_path / "in/a.wav", y, RATE, "PCM_16")
    report, clips = built(tmp_path / "in", tmp_path / "out", {"min_s": min_s, "max_s": max_s})
    assert all(min_s - 1e-6 <= stop - start <= max_s + 1e-6 for start, stop in clips)
    assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(clips))
    covered = sum(stop - start for start, stop in clips)
    assert covered > 0.85 * sum(stop - start for start, stop in places)
    assert ("speech_cut" in report.snapshot.counts.remarked) == (max_s == 2)


def test_rows_are_packed_each_by_itself(sentences: list[np.ndarray], tmp_path: Path) -> None:
    y, places = spoken(sentences[:2], 2.0)
    write_audio(tmp_path / "in/a.wav", y, RATE, "PCM_16")
    (start, stop), (second, _) = places
    rows = [(start, stop, "x"), (stop - 0.3, second + 0.2, "y"), (start + 1, start + 1.4, "short")]
    (tmp_path / "in/a.csv").write_text(
        "start,end,label\n" + "".join(f"{a:.3f},{b:.3f},{label}\n" for a, b, label in rows)
    )
    columns = {"start": "start", "end": "end", "label": "label"}
    source = {
        "name": "s",
        "root": str(tmp_path / "in"),
        "segment": {"mode": "speech"},
        "annotations": {"sidecar": "{stem}.csv", "columns": columns},
    }
    report = clipmill.build(
        {"name": "c", "sources": [source], "output": {"root": str(tmp_path / "out")}}, quiet=True
    ).raise_for_status()
    found = clipmill.open_dataset(tmp_path / "out").manifest().to_pylist()
    assert (
        found and all(row["duration_s"] >= 1 - 1e-6 for row in found) and "short" not in {row["label"] for row in found}
    )
    assert report.snapshot.counts.remarked == {"speech_left_out": 1} and report.snapshot.counts.annotations_used == 3


def test_no_speech_no_clips(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", np.random.default_rng(0).standard_normal((5 * RATE, 1)) * 0.001, RATE, "PCM_16")
    source = {"name": "s", "root": str(tmp_path / "in"), "segment": {"mode": "speech"}}
    config = {
        "name": "c",
        "sources": [source],
        "output": {"root": str(tmp_path / "out")},
        "limits": {"min_clips": 0, "allow_empty_splits": True},
    }
    report = clipmill.build(config, quiet=True)
    assert report.snapshot.counts.dropped == {"no_activity": 1}


def test_the_same_bytes_on_ray(sentences: list[np.ndarray], tmp_path: Path, ray_session: None) -> None:
    for i in range(2):
        y, _ = spoken(sentences[3 * i : 3 * i + 3], 0.6)
        write_audio(tmp_path / f"in/r{i}.flac", soxr.resample(y, RATE, 22050 * (1 + i)), 22050 * (1 + i), "PCM_16")
    built(tmp_path / "in", tmp_path / "one", {})
    built(tmp_path / "in", tmp_path / "two", {}, workers=2)
    assert shard_hashes(tmp_path / "one") == shard_hashes(tmp_path / "two")


def test_lengths_must_fit(tmp_path: Path) -> None:
    source = {"name": "s", "root": "/in", "segment": {"mode": "speech", "min_s": 3, "max_s": 5}}
    with pytest.raises(ConfigError, match="max_s 5 must be at least twice min_s 3"):
        clipmill.load_config({"name": "c", "sources": [source], "output": {"root": str(tmp_path)}})
