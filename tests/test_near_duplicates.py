"""Recordings that sound alike: found in other encodings, levels and rates, and told from others."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from conftest import run, write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill.pipelines.read.near_duplicates import find_near_duplicates
from clipmill.stages.effects import codec
from clipmill.stages.fingerprint import is_empty, pairs_of_peaks, signature, similarity


@pytest.fixture(scope="module")
def recordings(corpora: Path) -> dict[str, tuple[np.ndarray, int]]:
    files = [
        *sorted(corpora.glob("esc10/*/*.ogg"))[::24],
        *sorted(corpora.glob("coqui-tts/tests/data/ljspeech/wavs/*.wav"))[:6],
    ]
    assert len(files) == 16
    read = {file.stem: sf.read(file, dtype="float32", always_2d=True) for file in files}
    return {name: (y.T, rate) for name, (y, rate) in read.items()}


def test_copies_are_told_from_other_recordings(recordings: dict[str, tuple[np.ndarray, int]]) -> None:
    own = {name: signature(pairs_of_peaks(y, rate)) for name, (y, rate) in recordings.items()}
    assert max(similarity(own[a], own[b]) for a, b in combinations(own, 2)) < 0.12
    lossy, resampled = [], []
    for name, (y, rate) in recordings.items():
        coded = codec.apply(y, rate, {"name": "mp3", "bit_rate_kbps": 96}, None) * np.float32(0.5)  # type: ignore[arg-type]
        lossy.append(similarity(own[name], signature(pairs_of_peaks(coded, rate))))
        other = soxr.resample(y.T, rate, 16000).T.astype(np.float32)
        resampled.append(similarity(own[name], signature(pairs_of_peaks(other, 16000))))
    assert sum(value > 0.15 for value in lossy) >= len(lossy) - 1 and min(resampled) > 0.5


def test_a_dataset_lists_its_pairs(recordings: dict[str, tuple[np.ndarray, int]], tmp_path: Path) -> None:
    names = list(recordings)[:12:3]
    for i, name in enumerate(names):
        y, rate = recordings[name]
        write_audio(tmp_path / f"in/train/{i}.wav", y.T, rate, "PCM_16")
    y, rate = recordings[names[1]]
    write_audio(tmp_path / "in/test/copy.flac", soxr.resample(y.T, rate, 22050) * 0.4, 22050, "PCM_16")
    write_audio(tmp_path / "in/test/silent.wav", np.zeros((8000, 1)), 8000, "PCM_16")
    source = {
        "name": "s",
        "root": str(tmp_path / "in"),
        "segment": {"mode": "window", "length_s": 2},
        "fields": r"(?P<side>\w+)/",
    }
    source["segment"]["tail"] = "keep"  # type: ignore[index]
    config = {
        "name": "n",
        "sources": [source],
        "split": {"from": "side", "map": {"train": "train", "test": "test"}},
        "output": {"root": str(tmp_path / "out")},
    }
    clipmill.build(config, quiet=True).raise_for_status()
    found = find_near_duplicates(clipmill.open_dataset(tmp_path / "out"))
    (pair,) = found.table.to_pylist()
    assert {pair["recording_a"], pair["recording_b"]} == {"s/train/1.wav", "s/test/copy.flac"} and pair[
        "similarity"
    ] > 0.3
    assert (found.recordings, found.too_quiet, found.skipped) == (5, 1, 0)
    told = json.loads(run("show", tmp_path / "out", "--near-duplicates", "--json"))
    assert told["near_duplicates"] == [pair]
    text = run("show", tmp_path / "out", "--near-duplicates")
    assert "5 recordings compared, 1 pair alike" in text and "test and train" in text


@given(st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=300), st.sets(st.integers(0, 2**32 - 1), max_size=300))
def test_a_signature_estimates_what_sets_have_in_common(a: set[int], b: set[int]) -> None:
    def of(values: set[int]) -> np.ndarray:
        return signature(np.array(sorted(values), np.uint32))

    share = len(a & b) / len(a | b)
    assert abs(similarity(of(a), of(b)) - share) <= 0.3
    assert np.array_equal(np.minimum(of(a), of(b)), of(a | b)), "signatures of parts are joined by their minimum"
    assert is_empty(of(b)) == (not b) and similarity(of(a), of(a)) == 1


@pytest.mark.parametrize("n", [1, 511, 512, 600])
def test_short_and_silent_clips_have_no_pairs(n: int) -> None:
    assert len(pairs_of_peaks(np.zeros((1, n), np.float32), 8000)) == 0
