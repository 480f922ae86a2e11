"""Datasets with features that librosa computes: built of recordings once, of committed clips after that, and loaded for training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from conftest import run, tone, write_audio
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader

from clipmill import ClipDataset, build, open_dataset, padded
from clipmill.pipelines.dataset.records_io import read_commit
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.read.clip_source import clips
from clipmill.pipelines.run.report import Report
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")

RATE = 8000
HOP = 128
STFT = {"n_fft": 512, "hop_length": HOP}
EVERY: dict[str, Any] = {
    "mfcc": {"n_mfcc": 10, "n_mels": 40, **STFT},
    "chroma": {**STFT, "tuning": 0},
    "zero_crossing_rate": {"frame_length": 512, "hop_length": HOP},
    "spectral_centroid": STFT,
    "spectral_rolloff": STFT,
    "spectral_contrast": {**STFT, "n_bands": 4},
    "tonnetz": {"hop_length": HOP, "n_octaves": 4, "bins_per_octave": 12, "tuning": 0},
    "deltas": {"width": 5},
    "cqt": {"hop_length": HOP, "n_bins": 36},
}
COLUMNS = [
    "mfcc", "chroma", "zero_crossing_rate", "spectral_centroid", "spectral_rolloff", "spectral_contrast", "tonnetz", "mfcc_delta",
    "mfcc_delta2", "cqt",
]  # fmt: skip


def config(place: Path, root: Path, features: dict[str, Any], layout: str = "inside") -> dict[str, Any]:
    source = {
        "name": "s",
        "root": str(place / "in"),
        "segment": {"mode": "window", "length_s": 1.0, "tail": "keep"},
        "label": "x",
    }
    return {
        "name": "t", "sources": [source], "audio": {"sample_rate_hz": RATE, "channels": "keep"}, "features": features,
        "limits": {"max_rejected_share": 1}, "output": {"root": str(root), "shard_seconds": 2, "features": layout},
    }  # fmt: skip


def made(plain: dict[str, Any]) -> Report:
    report = build(plain)
    report.raise_for_status()
    *_, verdict = verify(Root(plain["output"]["root"]))
    assert not verdict.problems
    return report


def rows(root: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in clips(open_dataset(root), "train", features=True)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with recordings of 1.4 and 2.1 s, of which one has two channels: clips of 0.1, 0.4 and 1 s."""
    for i, (seconds, channels) in enumerate([(2.1, 1), (1.4, 2), (2.1, 1)]):
        write_audio(tmp_path / f"in/r{i}.wav", tone(seconds, RATE, channels, hz=200 + 90 * i, seed=i), RATE)
    return tmp_path


def overwritten(folder: Path) -> None:
    """Leave nobody a recording to read: what is there under their names is another thing, with the old size and time."""
    for path in folder.glob("*.wav"):
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("layout", ["inside", "beside"])
def test_features_are_made_again_of_the_committed_clips(place: Path, layout: str) -> None:
    wanted = {
        **EVERY,
        "deltas": {"width": 7, "mode": "nearest", "orders": 1},
        "chroma": {**STFT, "n_chroma": 24, "tuning": 0},
    }
    scratch = made(config(place, place / "scratch", wanted, layout))
    first = made(config(place, place / "out", {**EVERY, "deltas": {"width": 5, "mode": "nearest"}}, layout))
    assert first.decoded_s > 5
    overwritten(place / "in")
    again = made(config(place, place / "out", wanted, layout))
    assert (again.status, again.decoded_s, again.shards_from_clips) == ("published", 0, again.shards_planned)
    assert again.shards_planned and again.snapshot.counts == scratch.snapshot.counts  # type: ignore[union-attr]
    ours, theirs = rows(place / "out"), rows(place / "scratch")
    assert ours.keys() == theirs.keys() and len(ours) == 8
    for clip, row in ours.items():
        assert {*COLUMNS} - {"mfcc_delta2"} <= row.keys() and "mfcc_delta2" not in row
        for name in row.keys() & {*COLUMNS}:
            assert np.array_equal(row[name], theirs[clip][name]), name
    assert not made(config(place, place / "out", wanted, layout)).shards_built


def test_what_is_too_short_is_counted_and_described(place: Path) -> None:
    report = made(config(place, place / "out", {**EVERY, "deltas": {"width": 9}}))
    counts = report.snapshot.counts  # type: ignore[union-attr]
    assert counts.rejected == {"clip_too_short_for_deltas": 2} and counts.clips_kept == 6
    told = run("failures", place / "out")
    assert "clip_too_short_for_deltas" in told and "set deltas.mode: nearest" in told
    (rejection,) = {row["detail"] for row in open_dataset(place / "out").rejections().to_pylist()}
    assert rejection == "mfcc: 7 frames, at least 9 are needed"
    columns = {c["name"]: c for c in open_dataset(place / "out").columns}
    assert [c for c in columns if columns[c].get("kind") == "feature"] == COLUMNS
    assert columns["spectral_centroid"]["unit"] == "Hz" and columns["cqt"]["shape"] == [36, "n_frames"]
    about = columns["mfcc_delta"]["settings"]
    assert about["of"] == "mfcc" and about["n_fft"] == 512 and about["frame_shift_s"] == HOP / RATE
    root = Root(str(place / "out"))
    commits = [read_commit(root, key) for key in report.snapshot.commits]  # type: ignore[union-attr]
    assert {commit.versions["librosa"] for commit in commits} == {librosa.__version__}


def test_crops_and_batches_are_librosas_frames(place: Path) -> None:
    made(config(place, place / "out", {**EVERY, "deltas": {"width": 5, "mode": "nearest"}}))
    whole = ClipDataset(place / "out", "train", ("audio", *COLUMNS, "clip_id"))
    by_clip = {sample["clip_id"]: sample for sample in whole}
    cropped = ClipDataset(
        place / "out", "train", ("audio", *COLUMNS, "clip_id", "start_s"), crop_s=0.32, pad="zero", seed=3
    )
    starts = set()
    for sample in cropped:
        clip = by_clip[sample["clip_id"]]
        y = clip["audio"].numpy().reshape(-1, clip["audio"].shape[-1])
        n_frames = 1 + round(0.32 * RATE) // HOP
        with threadpool_limits(1, "blas"):
            theirs = {
                "spectral_centroid": [librosa.feature.spectral_centroid(y=c, sr=RATE, **STFT) for c in y],
                "chroma": [librosa.feature.chroma_stft(y=c, sr=RATE, tuning=0.0, **STFT) for c in y],
                "zero_crossing_rate": [
                    librosa.feature.zero_crossing_rate(c, frame_length=512, hop_length=HOP) for c in y
                ],
            }
        assert {sample[name].shape[-1] for name in COLUMNS} == {n_frames}
        for name, values in theirs.items():
            stored = np.stack(values).astype(np.float32)
            places = [
                k for k in range(max(1, stored.shape[-1] - n_frames + 1)) if _is_at(sample[name].numpy(), stored, k)
            ]
            assert places, name
            starts |= {*places} if stored.shape[-1] >= n_frames and len(places) == 1 else set()
    assert len(starts) > 1, "crops at random places"
    loaded = ClipDataset(place / "out", "train", ("cqt", "tonnetz", "mfcc_delta"), normalise="bin")
    mono = [s for s in loaded if s["cqt"].ndim == 2]
    (batch,) = DataLoader(mono, batch_size=len(mono), collate_fn=padded)  # type: ignore[arg-type]
    assert batch["cqt"].shape[:2] == (len(mono), 36) and torch.isfinite(batch["cqt"]).all()
    assert sorted(set(batch["cqt_length"].tolist())) == [7, 63]


def _is_at(crop: np.ndarray, stored: np.ndarray, k: int) -> bool:
    part = stored[..., k : k + crop.shape[-1]]
    return np.array_equal(crop.reshape(len(stored), -1, crop.shape[-1])[..., : part.shape[-1]], part)
