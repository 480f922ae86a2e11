"""Silence at the ends of clips: cut off as pydub finds it; ids stay, times follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pydub
import pydub.silence
import pytest
import soundfile as sf
from conftest import write_audio

import clipmill
from clipmill.stages.clips.trim import heard_range

RATE = 16000


def built(root: Path, out: Path, clips: list[Any], **segment: Any) -> list[dict[str, Any]]:
    source = {"name": "s", "root": str(root), "segment": segment or {"mode": "whole"}}
    config = {
        "name": "t",
        "sources": [source],
        "clips": clips,
        "audio": {"sample_rate_hz": RATE},
        "output": {"root": str(out)},
    }
    report = clipmill.build(config, quiet=True).raise_for_status()
    rows = clipmill.ClipDataset(out, "train", ["clip_id", "start_s", "duration_s", "n_samples", "audio"])
    return [{**row, "dropped": report.snapshot.counts.dropped} for row in rows]


def padded(before_s: float, tone_s: float, after_s: float) -> np.ndarray:
    y = np.zeros(round((before_s + tone_s + after_s) * RATE))
    first, n = round(before_s * RATE), round(tone_s * RATE)
    y[first : first + n] = 0.3 * np.sin(2 * np.pi * 440 * np.arange(n) / RATE)
    return y


@pytest.mark.parametrize("pad_s", [0.0, 0.05])
def test_times_follow_and_ids_stay(pad_s: float, tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", padded(0.5, 1.0, 0.25)[:, None], RATE, "PCM_16")
    (before,) = built(tmp_path / "in", tmp_path / "one", [])
    (after,) = built(tmp_path / "in", tmp_path / "two", [{"trim": {"below_dbfs": -50, "pad_s": pad_s}}])
    assert after["clip_id"] == before["clip_id"]
    assert after["start_s"] == pytest.approx(0.5 - pad_s, abs=0.011)
    assert (
        after["duration_s"] == pytest.approx(1.0 + 2 * pad_s, abs=0.021)
        and after["n_samples"] == after["audio"].shape[1]
    )
    first = round(after["start_s"] * RATE)
    assert np.array_equal(after["audio"], before["audio"][:, first : first + after["n_samples"]]), (
        "the samples are those of the recording"
    )


def test_windows_are_trimmed_each_and_silent_ones_are_dropped(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", padded(1.5, 1.0, 0.5)[:, None], RATE, "PCM_16")
    rows = built(tmp_path / "in", tmp_path / "out", [{"trim": {}}], mode="window", length_s=1.0)
    assert [round(r["start_s"], 2) for r in rows] == [1.5, 2.0] and rows[0]["dropped"] == {"silent_throughout": 1}


def test_it_is_what_pydub_finds_on_real_recordings(corpora: Path) -> None:
    files = sorted(corpora.glob("fsdd/recordings/*.wav"))[::50]
    assert len(files) == 30
    for file in files:
        y, rate = sf.read(file, dtype="int16")
        segment = pydub.AudioSegment(y.tobytes(), frame_rate=rate, sample_width=2, channels=1)
        lead = pydub.silence.detect_leading_silence(segment, -40)
        trail = pydub.silence.detect_leading_silence(segment.reverse(), -40)
        first, last = heard_range(y[None] / np.float32(32768), rate, -40, 0)
        if first == last:
            assert lead >= len(segment) - 10
            continue
        assert abs(first / rate * 1000 - lead) <= 10 and abs((len(y) - last) / rate * 1000 - trail) <= 10.2


def test_it_agrees_with_librosa_within_a_frame() -> None:
    y = padded(0.4, 1.2, 0.7).astype(np.float32)
    _, (start, stop) = librosa.effects.trim(y, top_db=40, frame_length=512, hop_length=128)
    first, last = heard_range(y[None], RATE, -50, 0)
    assert abs(first - start) <= 512 and abs(last - stop) <= 512


def test_the_loudest_frame_decides_and_edges_hold() -> None:
    assert heard_range(np.zeros((1, 100), np.float32), RATE, -50, 1) == (0, 0)
    assert heard_range(np.ones((2, 1), np.float32), RATE, -50, 1) == (0, 1)
    assert heard_range(np.ones((1, 777), np.float32), RATE, 0, 0) == (0, 777), "exactly at the threshold is heard"
