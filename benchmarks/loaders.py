"""Feeding training: the same clips through ClipDataset, webdataset and datasets, in turns, in clips a second.

    python -m benchmarks.loaders [--hours 0.5] [--rounds 3] [--corpus FOLDER] [--workers 2]

Each gives batches of 64 of what training takes, as tensors: log-mels with labels, or decoded audio with labels; from the same snapshot on disk,
shuffled by shard and by a buffer of 1,000 clips, with PyTorch's DataLoader and so many loading processes. The first round is not counted.
"datasets" streams the Parquet files, "cached" is the copy of them that load_dataset makes, in random order.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from benchmarks.contenders.clipmill_build import configured
from benchmarks.corpus import make_corpus
from clipmill.pipelines.config_file import loads
from clipmill.pipelines.dataset.published import Published, open_dataset
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build

BATCH, BUFFER = 64, 1000
_BOTH = "formats: [parquet, webdataset], shard_seconds: 300"
Sample = dict[str, Any]


def waveform(content: bytes) -> torch.Tensor:
    y, _ = sf.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(y.T))


def of_clipmill(published: Published, column: str) -> Iterable[Sample]:
    return ClipDataset(published, "train", (column, "label_id"), shuffle=True, buffer_size=BUFFER)


class OfWebDataset:
    """What becomes of a sample of webdataset. Plain classes, so that loading processes can be given them."""

    def __init__(self, column: str, ids: dict[str, int]) -> None:
        self._column, self._ids = column, ids

    def __call__(self, sample: dict[str, bytes]) -> Sample:
        label = self._ids.get(json.loads(sample["json"])["label"], -1)
        if self._column == "audio":
            return {"audio": waveform(sample["flac"]), "label_id": label}
        return {"log_mel": torch.from_numpy(np.load(io.BytesIO(sample["log_mel.npy"]))), "label_id": label}


def of_webdataset(published: Published, column: str) -> Iterable[Sample]:
    import webdataset

    urls = published.uris("train", "webdataset")
    clips = webdataset.WebDataset(
        urls, shardshuffle=100, empty_check=False, nodesplitter=None, select_files=_wanted(column)
    )
    return clips.shuffle(BUFFER).map(OfWebDataset(column, _ids(published)))


def _wanted(column: str) -> Callable[[str], bool]:
    ends = (".json", ".flac") if column == "audio" else (".json", ".log_mel.npy")
    return _Ending(ends)


class _Ending:
    def __init__(self, ends: tuple[str, ...]) -> None:
        self._ends = ends

    def __call__(self, name: str) -> bool:
        return name.endswith(self._ends)


class OfDatasets:
    def __init__(self, column: str, ids: dict[str, int]) -> None:
        self._column, self._ids = column, ids

    def __call__(self, row: Sample) -> Sample:
        label = self._ids.get(row["label"], -1)
        if self._column == "audio":
            return {"audio": waveform(row["audio"]["bytes"]), "label_id": label}
        values = torch.as_tensor(np.asarray(row["log_mel"], np.float32)).reshape(
            *(int(n) for n in row["log_mel_shape"])
        )
        return {"log_mel": values, "label_id": label}


def of_datasets(published: Published, column: str) -> Iterable[Sample]:
    clips = _hugging_face(published, column, streaming=True)
    return _Mapped(clips.shuffle(seed=0, buffer_size=BUFFER), OfDatasets(column, _ids(published)))


def of_cached_datasets(published: Published, column: str) -> Iterable[Sample]:
    """Random access to what `datasets` has copied to its cache before."""
    clips = _hugging_face(published, column, streaming=False).shuffle(seed=0)
    return _At(clips, OfDatasets(column, _ids(published)))  # type: ignore[return-value]


def _ids(published: Published) -> dict[str, int]:
    return {label: i for i, label in enumerate(published.classes)}


def _hugging_face(published: Published, column: str, streaming: bool) -> Any:
    from datasets import Audio, load_dataset

    stored = [column, "label", *([f"{column}_shape"] if column != "audio" else [])]
    found: Any = load_dataset(
        "parquet", data_files=published.uris("train"), split="train", streaming=streaming, columns=stored
    )
    return found.cast_column("audio", Audio(decode=False)) if column == "audio" else found.with_format("numpy")


class _At(Dataset[Sample]):
    def __init__(self, clips: Any, of: Callable[[Sample], Sample]) -> None:
        self._clips, self._of = clips, of

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, i: int) -> Sample:
        return self._of(self._clips[i])


class _Mapped(IterableDataset[Sample]):
    """What `datasets`' own map would do, which makes Arrow of the tensors again."""

    def __init__(self, clips: Iterable[Sample], of: Callable[[Sample], Sample]) -> None:
        self._clips, self._of = clips, of

    def __iter__(self) -> Iterator[Sample]:
        return map(self._of, self._clips)


WAYS = {"clipmill": of_clipmill, "webdataset": of_webdataset, "datasets": of_datasets, "cached": of_cached_datasets}


def rate(clips: Iterable[Sample], workers: int, n_clips: int) -> float:
    """Return the clips a second of an epoch, from the first request to the last batch."""
    loader = DataLoader(clips, batch_size=BATCH, num_workers=workers, collate_fn=padded)  # type: ignore[arg-type]
    started, n = time.perf_counter(), 0
    for batch in loader:
        n += len(batch["label_id"])
    if n != n_clips:
        raise SystemExit(f"{n} clips came of {n_clips}")
    return n / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipmill-bench-") as folder:
        corpus = o.corpus or Path(folder) / "corpus"
        if o.corpus is None:
            make_corpus(corpus, o.hours)
        both = configured(corpus, Path(folder) / "out").replace("output: {", f"output: {{{_BOTH}, ")
        config = loads(both)
        report = build(config, workers=2, quiet=True)
        published = open_dataset(report.root)
        n_clips = int(published.snapshot.by_split["train"]["clips"])
        print(
            f"{n_clips:,} clips, {len(published.uris('train'))} shards, {o.workers} loading processes, {o.rounds} rounds in turns"
        )
        print(f"{'':<12}{'':<12}{'clips a second':>26}   clipmill is faster by")
        for column in ("log_mel", "audio"):
            rates: dict[str, list[float]] = {way: [] for way in WAYS}
            for k in range(o.rounds + 1):
                for way, clips in WAYS.items():
                    found = rate(clips(published, column), o.workers, n_clips)
                    if k:
                        rates[way].append(found)
            for way, found_rates in rates.items():
                ratios = [a / b for a, b in zip(rates["clipmill"], found_rates, strict=True)]
                told = f"{statistics.median(found_rates):,.0f} ({min(found_rates):,.0f}-{max(found_rates):,.0f})"
                faster = (
                    ""
                    if way == "clipmill"
                    else f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                )
                print(f"{column:<12}{way:<12}{told:>26}   {faster}", flush=True)


if __name__ == "__main__":
    main()
