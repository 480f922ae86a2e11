"""What crops, transforms and balance add to loading, in CPU time of one process without loading processes.

    python -m benchmarks.transforms [--clips 4000] [--rounds 3]

Builds half-second clips at 16 kHz of two labels, one of which has a share of the clips, with log-mels and pictures. Prints for each option
the CPU time that it adds to a clip, in µs: the median over the rounds, in which all options take turns, of the difference to plain loading.
Then how many times as long a shuffled epoch takes with `balance="label"`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

import clipmill
from clipmill import AddNoise, ClipDataset, Mixup, RandomGain, SpecAugment, padded

RATE_HZ, CLIP_S, BATCH = 16_000, 0.5, 64
SHARES = (0.5, 0.3, 0.1, 0.01)


def build(folder: Path, n_clips: int, share: float) -> str:
    """Build a dataset of clips of noise, and return its root. share : of the clips with the rarer label"""
    rng = np.random.default_rng(0)
    n_rare = max(1, round(n_clips * share))
    for label, n in (("rare", n_rare), ("usual", n_clips - n_rare)):
        (folder / "in" / label).mkdir(parents=True)
        y = rng.standard_normal(round(n * CLIP_S * RATE_HZ)).astype(np.float32) * 0.1
        sf.write(folder / "in" / label / "all.wav", y, RATE_HZ)
    config: dict[str, Any] = {
        "name": "loading",
        "sources": [
            {
                "name": "s",
                "root": str(folder / "in"),
                "label": {"from": "folder"},
                "segment": {"mode": "window", "length_s": CLIP_S},
            }
        ],
        "audio": {"sample_rate_hz": RATE_HZ},
        "features": {"log_mel": {}},
        "output": {"root": str(folder / "out"), "shard_seconds": 300, "images": {"height": 224, "width": 224, "colormap": "viridis"}},
    }  # fmt: skip
    return str(clipmill.build(config, quiet=True).raise_for_status().root)


def cpu_s(clips: ClipDataset, epoch: int, in_batches: bool = False) -> float:
    """Return the CPU time of an epoch, whose clips are taken one by one or collated in batches."""
    clips.set_epoch(epoch)
    batch: list[Any] = []
    begun = time.process_time()
    for clip in clips:
        batch.append(clip)
        if len(batch) == BATCH:
            if in_batches:
                padded(batch)
            batch = []
    return time.process_time() - begun


ALONE: dict[str, tuple[str, dict[str, Any]]] = {
    "crop_s=0.25, audio": ("audio", {"crop_s": 0.25}),
    "crop_s=0.25, log-mel": ("log_mel", {"crop_s": 0.25}),
    "SpecAugment": ("log_mel", {"transform": SpecAugment()}),
    "RandomGain": ("audio", {"transform": RandomGain()}),
    "AddNoise, white": ("audio", {"transform": AddNoise(noise="white")}),
    "AddNoise, pink": ("audio", {"transform": AddNoise(noise="pink")}),
    "a function that returns the sample": ("log_mel", {"transform": lambda sample: sample}),
}
"""By name of an option, the column that it works on, and the arguments that ask for it."""
IN_BATCHES: dict[str, tuple[str, dict[str, Any]]] = {
    'crop_s="shortest"': ("log_mel", {"crop_s": "shortest"}),
    "Mixup": ("log_mel", {"transform": Mixup()}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(build(Path(folder), asked.clips, SHARES[0]), asked.clips, asked.rounds)
    for share in SHARES:
        with tempfile.TemporaryDirectory() as folder:
            root = build(Path(folder), asked.clips, share)
            for column in ("log_mel", "audio"):
                usual, balanced = (
                    ClipDataset(root, "train", [column], shuffle=True, **more) for more in ({}, {"balance": "label"})
                )
                rounds = [cpu_s(balanced, epoch) / cpu_s(usual, epoch) for epoch in range(asked.rounds)]
                print(
                    f"balance, {share:4.0%} with one of two labels, {column:8}{statistics.median(rounds):6.1f} times an epoch",
                    flush=True,
                )


def compare(root: str, n_clips: int, n_rounds: int) -> None:
    """Print what each option adds to a clip."""
    columns = {"audio": ["audio"], "log_mel": ["log_mel"], "image": ["image"], "labels": ["log_mel", "labels"]}
    found: dict[str, list[float]] = {}
    for epoch in range(n_rounds + 1):
        plain = {name: cpu_s(ClipDataset(root, "train", asks), epoch) for name, asks in columns.items()}
        batched = cpu_s(ClipDataset(root, "train", columns["labels"]), epoch, in_batches=True)
        rows = {f"a clip with {name}": plain[name] for name in ("audio", "log_mel", "image")}
        for name, (column, more) in ALONE.items():
            rows[f"{name} adds"] = cpu_s(ClipDataset(root, "train", columns[column], **more), epoch) - plain[column]
        rows["decode_images adds"] = (
            cpu_s(ClipDataset(root, "train", ["image"], decode_images=True), epoch) - plain["image"]
        )
        for name, (_, more) in IN_BATCHES.items():
            rows[f"{name} adds"] = (
                cpu_s(ClipDataset(root, "train", columns["labels"], **more), epoch, in_batches=True) - batched
            )
        for name, seconds in rows.items() if epoch else ():  # the first epoch warms up
            found.setdefault(name, []).append(1e6 * seconds / n_clips)
    for name, values in found.items():
        print(f"{name:42}{statistics.median(values):6.0f} µs  ({min(values):.0f} to {max(values):.0f})", flush=True)


if __name__ == "__main__":
    main()
