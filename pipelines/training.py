"""Training: clips of a snapshot for PyTorch, in any number of processes, each of them once, and from where an interrupted epoch was left.

dataset = ClipDataset("s3://bucket/dataset", "train", columns=("log_mel", "label_id"))
loader = torch.utils.data.DataLoader(dataset, batch_size=64, num_workers=4, collate_fn=padded)
for epoch in range(10):
    dataset.set_epoch(epoch)
    for batch in loader: ...
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed
import torch.utils.data

from pipelines.published import Published, open_snapshot
from pipelines.sampling import Buffer, Consumer, Even, Line, shard_order
from schemas.errors import ClipmillError
from stages.encode import decode_clip
from stages.rows import list_values

Sample = dict[str, Any]


class ClipDataset(torch.utils.data.IterableDataset[Sample]):
    """The clips of a split.

    Gives a dictionary a clip, with the columns that were asked for: `audio` as a float32 tensor [channels, samples] in [-1, 1),
    features as float32 tensors of their shapes, `label_id` as the label's place in `classes` (-1 without a label), pictures as the
    bytes of a PNG, anything else as stored.

    Ranks of a distributed job and loading processes get disjoint parts that together are the split (`pipelines.sampling`). All ranks must
    have the same number of loading processes. `state_dict` and `load_state_dict` follow torchdata's StatefulDataLoader: each loading
    process goes on with exactly the clips that it has not given.

    root : of the dataset, or a `Published` snapshot
    split : as in the configuration
    columns : of the shards' Parquet files, and `label_id`
    snapshot : its number, the newest by default; an interrupted epoch goes on only in the snapshot that it began in
    shuffle : draw shards in an order of each epoch, and clips out of the next `buffer_size` ones
    buffer_size : clips in memory in each loading process, encoded audio and features
    seed : same seed, epoch and number of processes, same order
    even : "drop" or "repeat" a few clips so that all ranks have equally many, and with that equally many batches
    rank, n_ranks : of a distributed job; by default as torch.distributed or the environment (RANK, WORLD_SIZE) says
    normalise : have features come with mean 0 and standard deviation 1, of each "bin" or of "all" values
    normalise_by : the split whose statistics to normalise by; never one that is evaluated on
    storage_options : of the root

    classes : labels of all splits, sorted
    n_clips : that this rank gets in an epoch

    Raises
    ------
    ClipmillError : no such dataset, snapshot, split or column; or its shards are stored as WebDataset only
    """

    def __init__(
        self,
        root: str | Published,
        split: str,
        columns: Sequence[str] = ("audio", "label_id"),
        *,
        snapshot: int | None = None,
        shuffle: bool = False,
        buffer_size: int = 1000,
        seed: int = 0,
        even: Even | None = None,
        rank: int | None = None,
        n_ranks: int | None = None,
        normalise: Literal["bin", "all"] | None = None,
        normalise_by: str = "train",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.published = root if isinstance(root, Published) else open_snapshot(root, snapshot, storage_options)
        if even not in (None, "drop", "repeat"):
            raise ValueError(f"even is {even!r}; it can be None, 'drop' or 'repeat'")
        if buffer_size < 1:
            raise ValueError(f"buffer_size is {buffer_size}; at least 1 clip must be in memory")
        self.split, self.columns = split, tuple(columns)
        self.shuffle, self.buffer_size, self.seed, self.even = shuffle, buffer_size, seed, even
        self.classes = self.published.classes
        self._files = self.published.shards(split)
        self._rank = Consumer(*_rank_of_job(rank, n_ranks))
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # seen by loading processes that live on
        self._given = 0
        self._resumed: int | None = None
        self._check_columns()
        self._scales = _scales(self.published, normalise_by, normalise, self.columns) if normalise is not None else {}

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch. Reaches loading processes that live on, too."""
        self._epoch.fill_(epoch)

    @property
    def n_clips(self) -> int:
        return len(self._rank.stretch(sum(f.rows for f in self._files), self.even))

    def state_dict(self) -> dict[str, Any]:
        """Return how far this process is, and what the order depends on: plain numbers and text."""
        return {"given": self._given, "epoch": self.epoch, **self._order_depends_on()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the next iteration go on behind what was given when the state was taken.

        Raises
        ------
        ClipmillError : the order is another one now: other snapshot, seed, ranks or loading processes
        """
        for name, now in self._order_depends_on().items():
            if state[name] != now:
                raise ClipmillError(
                    f"cannot go on in this epoch: {name} was {state[name]} when it was left and is {now} now; begin a new epoch, or use"
                    " what was used then"
                )
        self.set_epoch(int(state["epoch"]))
        self._resumed = self._given = int(state["given"])

    def _order_depends_on(self) -> dict[str, Any]:
        who = self._consumer()
        return {
            "root": self.published.root.url, "snapshot": self.published.snapshot.number, "split": self.split,
            "shuffle": self.shuffle, "buffer_size": self.buffer_size, "seed": self.seed, "even": self.even,
            "rank": who.rank, "n_ranks": who.n_ranks, "worker": who.worker, "n_workers": who.n_workers,
        }  # fmt: skip

    def _consumer(self) -> Consumer:
        info = torch.utils.data.get_worker_info()
        worker, n_workers = (info.id, info.num_workers) if info is not None else (0, 1)
        return Consumer(self._rank.rank, self._rank.n_ranks, worker, n_workers)

    def __iter__(self) -> Iterator[Sample]:
        if torch.utils.data.get_worker_info() is not None:
            # What a loading process has inherited is not its own to collect: the parent's connections to Ray, for one, would be
            # closed under it. It also leaves the memory shared.
            gc.freeze()
        given, self._resumed = self._resumed or 0, None
        self._given = given
        return self._samples(given)

    def _samples(self, given: int) -> Iterator[Sample]:
        epoch, who = self.epoch, self._consumer()
        line = Line([f.rows for f in self._files], shard_order(len(self._files), self.seed, epoch, self.shuffle))
        stretch = who.stretch(line.n_clips, self.even)
        size = self.buffer_size if self.shuffle else 1
        buffer = Buffer(stretch, size, [self.seed, epoch, who.rank, who.worker])
        buffer.skip(given)
        with contextlib.closing(_Rows(self.published, self._files, self.columns)) as rows:
            held: dict[int, Sample] = {}
            for place in sorted(buffer.waiting):
                held[place] = rows.take(*line.find(place))
            while True:
                for place in buffer.fill():
                    held[place] = rows.take(*line.find(place))
                drawn = buffer.draw()
                if drawn is None:
                    break
                sample = self._finished(held.pop(drawn))
                self._given += 1
                yield sample

    def _finished(self, row: Sample) -> Sample:
        """Return a row as training wants it: tensors, the audio decoded."""
        sample: Sample = {}
        for name in self.columns:
            if name == "label_id":
                label = row["label"]
                sample[name] = self._ids.get(label, -1)
            elif name == "audio":
                sample[name] = _waveform(row[name]["bytes"])
            elif name == "image":
                sample[name] = row[name]["bytes"]
            elif isinstance(row[name], np.ndarray):
                sample[name] = torch.from_numpy(row[name])
                if name in self._scales:
                    mean, factor = self._scales[name]
                    sample[name].sub_(mean).mul_(factor)
            else:
                sample[name] = row[name]
        return sample

    def _check_columns(self) -> None:
        self._ids = {label: i for i, label in enumerate(self.classes)}
        if not self._files:
            return
        with _Shard(self.published, self._files[0].path) as shard:
            known = [n for n in shard.file.schema_arrow.names if not n.endswith("_shape")] + ["label_id"]
        for name in self.columns:
            if name not in known:
                raise ClipmillError(
                    f"{self.published.root.url}: there is no column {name!r}; there are {', '.join(known)}"
                )


def padded(samples: Iterable[Sample]) -> dict[str, Any]:
    """Put samples of unequal lengths together: a `collate_fn`.

    Tensors are padded with zeros at their ends to the longest in the batch and stacked, and `<name>_length` says how long each one was in
    its last dimension (int64 [batch]); numbers become a tensor; anything else stays a list.
    """
    rows = list(samples)
    batch: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if isinstance(values[0], torch.Tensor):
            batch[name] = _stacked(values)
            if values[0].ndim:
                batch[f"{name}_length"] = torch.tensor([v.shape[-1] for v in values])
        elif isinstance(values[0], int | float) and all(v is not None for v in values):
            batch[name] = torch.tensor(values)
        else:
            batch[name] = values
    return batch


def _stacked(values: list[torch.Tensor]) -> torch.Tensor:
    shapes = {tuple(v.shape) for v in values}
    if len(shapes) == 1:
        return torch.stack(values)
    longest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    found = values[0].new_zeros((len(values), *longest))
    for i, value in enumerate(values):
        part = found[i]
        for dimension, n in enumerate(value.shape):
            part = part.narrow(dimension, 0, n)
        part.copy_(value)
    return found


def _scales(
    published: Published, split: str, by: Literal["bin", "all"], columns: Sequence[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return what to subtract from features and then to multiply them by, [bins, 1] or [1, 1]. A constant bin becomes 0."""
    if by not in ("bin", "all"):
        raise ValueError(f"normalise is {by!r}; it can be None, 'bin' or 'all'")
    statistics = published.snapshot.statistics.get(split)
    n_clips = published.snapshot.by_split.get(split, {}).get("clips", 0)
    if statistics is None or statistics.lengths.clips != n_clips or not n_clips:
        raise ClipmillError(
            f"{published.root.url}: there are no statistics of all of split {split!r} to normalise by: give another normalise_by; shards"
            " that an older clipmill has built get them when they are built anew"
        )
    found = {}
    for name in set(columns) & statistics.features.keys():
        sums = statistics.features[name]
        mean, std = (sums.mean_by_bin, sums.std_by_bin) if by == "bin" else ([sums.mean], [sums.std])
        factor = [1 / s if s > 0 else 0.0 for s in std]
        found[name] = (torch.tensor(mean)[:, None], torch.tensor(factor)[:, None])
    return found


def _rank_of_job(rank: int | None, n_ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (n_ranks is None):
        raise ValueError("give rank and n_ranks together, or neither")
    if rank is not None and n_ranks is not None:
        return rank, n_ranks
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _waveform(content: bytes) -> torch.Tensor:
    """Return a stored clip as float32 [channels, samples] in [-1, 1)."""
    pcm, _ = decode_clip(content)
    y = torch.from_numpy(np.ascontiguousarray(pcm.T))
    return y.to(torch.float32) / 32768 if y.dtype == torch.int16 else y


class _Shard:
    """An open Parquet file and the row group that was read last."""

    def __init__(self, published: Published, path: str) -> None:
        self.path = path
        self._stream: IO[bytes] = published.root.open_read(path, whole=False)
        self.file = pq.ParquetFile(self._stream)
        metadata = self.file.metadata
        self._starts = np.cumsum([0, *(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))])
        self._group = -1
        self._columns: dict[str, list[Any]] = {}

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._stream.close()

    def row(self, i: int, columns: Sequence[str]) -> Sample:
        group = int(np.searchsorted(self._starts, i, side="right")) - 1
        if group != self._group:
            names = set(self.file.schema_arrow.names)
            stored = [*columns, *(f"{c}_shape" for c in columns if f"{c}_shape" in names)]
            table = self.file.read_row_group(group, columns=stored)
            self._columns = {name: _values(table[name]) for name in columns}
            for name in columns:
                if f"{name}_shape" in names:
                    shapes = table[f"{name}_shape"].to_pylist()
                    self._columns[name] = [v.reshape(s) for v, s in zip(self._columns[name], shapes, strict=True)]
            self._group = group
        place = i - int(self._starts[group])
        return {name: _own(values[place]) for name, values in self._columns.items()}


class _Rows:
    """Rows of shards, read a row group at a time; mostly asked for in their order."""

    def __init__(self, published: Published, files: Sequence[Any], columns: Sequence[str]) -> None:
        self._published, self._files = published, files
        self._columns = [c for c in columns if c != "label_id"]
        if "label_id" in columns and "label" not in columns:
            self._columns.append("label")
        self._open: _Shard | None = None

    def take(self, shard: int, row: int) -> Sample:
        path = self._files[shard].path
        if self._open is None or self._open.path != path:
            self.close()
            self._open = _Shard(self._published, path)
        return self._open.row(row, self._columns)

    def close(self) -> None:
        if self._open is not None:
            self._open.__exit__()
            self._open = None


def _values(column: pa.ChunkedArray) -> list[Any]:
    return list_values(column) if pa.types.is_list(column.type) else list(column.to_pylist())


def _own(value: Any) -> Any:
    """Return a value that does not keep its row group in memory; features as float32."""
    return np.array(value, np.float32) if isinstance(value, np.ndarray) else value
