"""Clips of fixed length: one for each recording or annotated range, padded or cropped."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill.schemas.config import Segment
from clipmill.schemas.errors import ConfigError
from clipmill.stages.spans import fixed_clip, fixed_range

RATE = 8000
LENGTHS_S = {"short": 0.4, "even": 1.0, "long": 3.5, "cells": 9.0}


def ramp(seconds: float) -> np.ndarray:
    """Samples that tell where they stand in their recording."""
    return (np.arange(round(seconds * RATE)) + 1) / 32768 / 4


def built(root: Path, out: Path, segment: dict[str, Any], **more: Any) -> dict[str, np.ndarray]:
    """Return the samples of the clips by the stem of their recordings."""
    source = {"name": "s", "root": str(root), "segment": {"mode": "fixed", **segment}, **more.pop("source", {})}
    config = {"name": "f", "sources": [source], "audio": {"sample_rate_hz": RATE}, "output": {"root": str(out)}, **more}
    report = clipmill.build(config, quiet=True).raise_for_status()
    assert not report.snapshot.counts.clips_dropped and not report.snapshot.counts.clips_rejected
    clips = clipmill.ClipDataset(out, "train", ["clip_id", "audio", "recording_id", "start_s", "duration_s"])
    return {row["clip_id"]: (row["recording_id"], row["start_s"], row["audio"].numpy()[0]) for row in clips}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixed")
    for name, seconds in LENGTHS_S.items():
        write_audio(folder / f"{name}.wav", ramp(seconds)[:, None], RATE, "PCM_16")
    return folder


@pytest.mark.parametrize("crop", ["start", "center"])
@pytest.mark.parametrize("pad", ["zero", "repeat", "edge", "noise"])
def test_every_recording_gives_one_clip_of_the_length(pad: str, crop: str, corpus: Path, tmp_path: Path) -> None:
    clips = built(corpus, tmp_path, {"length_s": 1.0, "pad": pad, "crop": crop})
    assert len(clips) == len(LENGTHS_S)
    for recording, start_s, y in clips.values():
        whole = ramp(LENGTHS_S[Path(recording).stem])
        spare = max(0, len(whole) - RATE)
        first = spare // 2 if crop == "center" else 0
        part = whole[first : first + RATE]
        assert len(y) == RATE and start_s == first / RATE
        np.testing.assert_allclose(y[: len(part)], part, atol=4e-5)
        behind = y[len(part) :]
        if pad == "zero":
            assert not behind.any()
        elif pad == "edge" and len(behind):
            np.testing.assert_allclose(behind, part[-1], atol=4e-5)
        elif pad == "repeat" and len(behind):
            np.testing.assert_allclose(behind, np.resize(part, len(behind)), atol=4e-5)
        elif len(behind):
            assert 10 ** (-55 / 20) < np.sqrt(np.mean(behind**2)) < 10 ** (-45 / 20)


def test_annotated_ranges_and_files_that_do_not_state_their_length(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", ramp(6.0)[:, None], RATE, "PCM_16")
    (tmp_path / "in/a.csv").write_text("start,end,label\n1,4,x\n5,5.5,y\n")
    rows = {"annotations": {"sidecar": "{stem}.csv", "columns": {"start": "start", "end": "end", "label": "label"}}}
    clips = built(tmp_path / "in", tmp_path / "out", {"length_s": 2.0, "crop": "center"}, source=rows)
    assert sorted(start_s for _, start_s, _ in clips.values()) == [1.5, 5.0]


@pytest.mark.parametrize(("container", "codec"), [("matroska", "aac"), ("adts", "aac")])
def test_the_middle_of_a_file_whose_length_is_not_stated(container: str, codec: str, tmp_path: Path) -> None:
    y = np.zeros(RATE * 7, np.float32)
    y[RATE * 3 : RATE * 4] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    content = io.BytesIO()
    with av.open(content, "w", format=container) as out:
        stream = out.add_stream(codec, rate=RATE, layout="mono")
        step = stream.codec_context.frame_size or 1024
        for i in range(0, len(y), step):
            frame = av.AudioFrame.from_ndarray(y[None, i : i + step], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    ending = {"matroska": "mka", "adts": "aac"}[container]
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/a.{ending}").write_bytes(content.getvalue())
    (_, start_s, clip), *others = built(tmp_path / "in", tmp_path / "out", {"length_s": 1.0, "crop": "center"}).values()
    assert not others and abs(start_s - 3.0) < 0.1 and 0.25 < np.sqrt(np.mean(clip**2)) < 0.4


@given(
    st.integers(0, 10**6), st.integers(1, 10**6), st.floats(0.001, 600), st.sampled_from([8000, 11025, 44100]),
    st.sampled_from(["start", "center"]),
)  # fmt: skip
def test_a_clip_is_within_what_is_decoded_for_it(start: int, n: int, length_s: float, rate: int, crop: Any) -> None:
    spec = Segment(mode="fixed", length_s=length_s, crop=crop)
    clip = fixed_clip(start, start + n, spec, rate)
    assert start <= clip.start < clip.stop <= start + n
    first_s, stop_s = fixed_range(start / rate, (start + n) / rate, spec)
    assert first_s - 1e-3 <= clip.start / rate and clip.stop / rate <= stop_s + 1e-3


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"mode": "fixed"}, "mode fixed needs length_s"),
        ({"mode": "fixed", "length_s": 1, "tail": "keep"}, "tail belongs to mode window, not fixed"),
        ({"mode": "window", "length_s": 1, "crop": "center"}, "crop belongs to mode fixed, not window"),
        ({"mode": "whole", "length_s": 1}, "length_s belongs to mode fixed and window|window and fixed"),
        ({"mode": "fixed", "length_s": 1e-6}, "length_s must be at least one sample"),
    ],
)
def test_mistakes_are_named(segment: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = {"name": "s", "root": "/in", "segment": segment}
    with pytest.raises(ConfigError, match=message):
        clipmill.load_config({"name": "f", "sources": [source], "output": {"root": str(tmp_path)}})
