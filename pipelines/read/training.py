"""Load the clips of a snapshot in PyTorch: each clip once, in any number of processes, and from where an epoch was interrupted.

dataset = ClipDataset("s3://bucket/dataset", "train", columns=("log_mel", "label_id"))
loader = torch.utils.data.DataLoader(dataset, batch_size=64, num_workers=4, collate_fn=padded)
for epoch in range(10):
    dataset.set_epoch(epoch)
    for batch in loader: ...
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.utils.data

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.published import Published, open_dataset
from clipmill.pipelines.read.ranks import Group, Place, Ranks
from clipmill.pipelines.read.sampling import Buffer, Consumer, Even, Line, first_place, shard_order
from clipmill.pipelines.read.selection import selected_rows, thresholds_for
from clipmill.pipelines.read.shard_rows import ShardRows
from clipmill.pipelines.read.shared_epoch import SharedEpoch
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.label_columns import LABELS_COLUMN
from clipmill.stages.write.encode import decode_waveform

Sample = dict[str, Any]
_ID = "label_id"


class ClipDataset(torch.utils.data.IterableDataset[Sample]):
    """The clips of a split, as an iterable dataset of PyTorch.

    Yields one dictionary per clip with the requested columns: `audio` as a float32 tensor [channels, samples] in [-1, 1),
    features as float32 tensors of their shapes, `label_id` as the label's index in `classes` (-1 without a label), `labels` as
    float32 [classes] with 1 for each of the clip's labels, pictures as the bytes of a PNG, anything else as stored.

    Ranks of a distributed job and their loading processes get disjoint parts that together make up the split. All ranks must
    have the same number of loading processes. `state_dict` and `load_state_dict` follow torchdata's StatefulDataLoader: each loading
    process continues with exactly the clips that it has not yielded yet.

    root : root of the dataset, or what `open_dataset` returned
    split : name of the split, as in the configuration
    columns : columns of the Parquet shards, `label_id`, `labels`; by default `audio`, and `labels` if clips can have several, otherwise
        `label_id`
    snapshot : number of the snapshot, the newest by default; an interrupted epoch can only continue in the same snapshot
    shuffle : draw shards in another order each epoch, and clips at random from the next `buffer_size` ones
    buffer_size : number of clips that each loading process keeps in memory (encoded audio and features)
    seed : the same seed, epoch and number of processes give the same order
    even : "drop" or "repeat" a few clips so that all ranks have the same number of clips, and so of batches
    rank, n_ranks : place in a distributed job. By default they come from torch.distributed or the environment (RANK, WORLD_SIZE) when
        clips are first requested. With a loader that accelerate prepares, every process reads all clips, since accelerate divides them
    group : the torch.distributed.ProcessGroup whose ranks share the split, if it is not the default group; "none": ignore process groups
    batch_size : the loader's batch size, so that loading processes get whole batches and `len(loader)` is right with them
    normalise : scale features to mean 0 and standard deviation 1, per "bin" or over "all" values
    normalise_by : the split whose statistics are used; never one that you evaluate on
    where : only clips within thresholds on their columns, as in `{"snr_db": {"min": 15}}`; bounds are included, unknown values are not
    duplicates : "first": leave out clips with the samples of an earlier clip of the dataset, in any split; the order is the manifest's
    storage_options : for fsspec, as in a configuration

    classes : labels of all splits, in the order of their ids
    n_clips : number of clips that this rank gets per epoch in the present job; also `len()`

    Raises
    ------
    ClipmillError : the dataset, snapshot, split or column does not exist, or the shards are stored as WebDataset only. While reading: the
        process group contradicts rank and n_ranks, or has changed; or accelerate runs the job and has not prepared the loader
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Published,
        split: str,
        columns: Sequence[str] | None = None,
        *,
        snapshot: int | None = None,
        shuffle: bool = False,
        buffer_size: int = 1000,
        seed: int = 0,
        even: Even | None = None,
        rank: int | None = None,
        n_ranks: int | None = None,
        group: Group = None,
        batch_size: int | None = None,
        normalise: Literal["bin", "all"] | None = None,
        normalise_by: str = "train",
        where: Mapping[str, Any] | None = None,
        duplicates: Literal["first"] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.published = root if isinstance(root, Published) else open_dataset(root, snapshot, storage_options)
        _check_choice("even", even, (None, "drop", "repeat"))
        _check_choice("normalise", normalise, (None, "bin", "all"))
        _check_choice("shuffle", shuffle, (False, True))
        _check_whole("buffer_size", buffer_size, 1)
        _check_whole("seed", seed, 0)
        if batch_size is not None:
            _check_whole("batch_size", batch_size, 1)
        self.split = split
        self.shuffle, self.buffer_size, self.seed, self.even = shuffle, buffer_size, seed, even
        self.batch_size = batch_size
        self.classes = self.published.classes
        self._files = self.published.shards(split)
        self._where = thresholds_for(self.published, where)
        _check_choice("duplicates", duplicates, (None, "first"))
        self._duplicates = duplicates
        # Rows of the shards' files; None: all.
        self._rows: list[Any] | None = None
        if self._where is not None or duplicates is not None:
            paths = [f.path for f in self._files]
            self._rows = selected_rows(self.published, paths, split, self._where, duplicates is not None)
        self._ranks = Ranks(rank, n_ranks, group)
        self._epoch = SharedEpoch()  # seen by loading processes that live on
        self._pass: _Pass | None = None
        self._resumed: tuple[int, int] | None = None
        self._ids = {label: i for i, label in enumerate(self.classes)}
        self._has_lists = LABELS_COLUMN in self.published.snapshot.label_lists
        self.columns = self._checked(
            columns if columns is not None else ("audio", LABELS_COLUMN if self._has_lists else _ID)
        )
        self._scales = _scales(self.published, normalise_by, normalise, self.columns) if normalise is not None else {}

    def __repr__(self) -> str:
        order = f", shuffle=True, seed={self.seed}" if self.shuffle else ""
        return f"ClipDataset({self.published.root.url!r}, {self.split!r}, columns={list(self.columns)}{order})"

    @property
    def epoch(self) -> int:
        return self._epoch.get()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of the next iteration, also in persistent loading processes. Running iterations stay as they are."""
        _check_whole("epoch", epoch, 0)
        self._epoch.set(epoch)

    @property
    def n_clips(self) -> int:
        place = self._ranks.expected(self)
        return len(Consumer(*place.share).stretch(sum(self._row_counts), self.even))

    @property
    def _row_counts(self) -> list[int]:
        return [f.rows for f in self._files] if self._rows is None else [len(rows) for rows in self._rows]

    def __len__(self) -> int:
        return self.n_clips

    def __getstate__(self) -> dict[str, Any]:
        # The process that starts a loading process knows its place in the job, and hands it over.
        return {**self.__dict__, "_ranks": self._ranks.handed_over(self), "_pass": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ranks = Ranks.__new__(Ranks)
        ranks.__dict__.update(state["_ranks"])
        self.__dict__.update(state, _ranks=ranks)

    def state_dict(self) -> dict[str, Any]:
        """Return how far this process is in its latest iteration, and what the order depends on, as numbers and text.

        A StatefulDataLoader uses the iterator instead, which has the same two methods.
        """
        if self._pass is not None:
            return self._pass.state_dict()
        epoch, given = self._resumed or (self.epoch, 0)
        return {"given": given, "epoch": epoch, **self._order_depends_on(self._ranks.expected(self))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next iteration, and only that one, continue where the state was taken, in the same epoch.

        Raises
        ------
        ClipmillError : the argument is not a state, or the order has changed: another snapshot, seed, number of ranks or of loading processes
        """
        self._resumed, self._pass = self.place_of(state), None

    def place_of(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """Return the epoch of a state and the number of clips that were yielded in it. Raises what `load_state_dict` does."""
        now = self._order_depends_on(self._ranks.expected(self))
        if not isinstance(state, Mapping) or {"epoch", "given", *now} != state.keys():
            raise ClipmillError(f"this is not the state of a ClipDataset, which has epoch, given, {', '.join(now)}")
        for name, value in now.items():
            if state[name] != value:
                raise ClipmillError(
                    f"cannot continue this epoch: {name} was {state[name]} when the state was taken and is {value} now; start a new epoch, or"
                    " use the former value"
                )
        _check_whole("the state's epoch", state["epoch"], 0)
        _check_whole("what the state says was given", state["given"], 0)
        return state["epoch"], state["given"]

    def _order_depends_on(self, place: Place) -> dict[str, Any]:
        who = _consumer(place)
        return {
            "snapshot": self.published.identity, "split": self.split,
            "shuffle": self.shuffle, "buffer_size": self.buffer_size, "seed": self.seed, "even": self.even,
            "rank": who.rank, "n_ranks": who.n_ranks, "worker": who.worker, "n_workers": who.n_workers,
            **({"batch_size": self.batch_size} if self.batch_size is not None else {}),
            **({"where": self._where.model_dump_json()} if self._where is not None else {}),
            **({"duplicates": self._duplicates} if self._duplicates is not None else {}),
        }  # fmt: skip

    def __iter__(self) -> Iterator[Sample]:
        if torch.utils.data.get_worker_info() is not None:
            # A loading process must not collect inherited objects: that could close the parent's connections to Ray, for example.
            # It also keeps memory shared.
            gc.freeze()
        epoch, given = self._resumed or (self.epoch, 0)
        self._resumed, self._pass = None, _Pass(self, epoch, given)
        return self._pass

    def samples(self, epoch: int, given: int) -> Iterator[Sample]:
        """Yield this process's clips of an epoch, without the first `given` ones."""
        place, rows = self._ranks.place(self), self._row_counts
        who = _consumer(place)
        order = shard_order(len(rows), self.seed, epoch, self.shuffle)
        line = Line(rows, order, first_place(sum(rows), self.seed, epoch, self.shuffle))
        stretch = who.stretch(line.n_clips, self.even, place.batch_size or self.batch_size or 1)
        size = self.buffer_size if self.shuffle else 1
        buffer = Buffer(stretch, size, [self.seed, epoch, who.rank, who.worker])
        buffer.skip(min(given, len(stretch)))
        paths, columns = [f.path for f in self._files], [c for c in self.columns if c not in self._made]
        if self._made and (label := LABELS_COLUMN if self._has_lists else "label") not in columns:
            columns.append(label)
        with contextlib.closing(ShardRows(self.published, self._files, columns)) as shards:
            held: dict[int, tuple[str, Sample]] = {}

            def take(places: Iterable[int]) -> None:
                for place in places:
                    shard, row = line.find(place)
                    row = row if self._rows is None else int(self._rows[shard][row])
                    held[place] = paths[shard], shards.take(shard, row)

            take(sorted(buffer.waiting))
            while True:
                take(buffer.fill())
                drawn = buffer.draw()
                if drawn is None:
                    break
                path, row = held.pop(drawn)
                with legible(self.published.root, path):
                    sample = self._finished(row)
                yield sample

    def _finished(self, row: Sample) -> Sample:
        """Return a row for training: tensors, with decoded audio."""
        sample: Sample = {}
        for name in self.columns:
            if name in self._made:
                labels = row[LABELS_COLUMN] if self._has_lists else [row["label"]]
                ids = [self._ids[label] for label in labels or () if label in self._ids]
                sample[name] = self._multi_hot(ids) if name == LABELS_COLUMN else ids[0] if ids else -1
            elif name == "audio":
                sample[name] = _waveform(row[name]["bytes"])
            elif name == "image" and isinstance(row[name], dict):
                sample[name] = row[name]["bytes"]
            elif isinstance(row[name], np.ndarray):
                sample[name] = torch.from_numpy(row[name])
                if name in self._scales:
                    mean, factor = self._scales[name]
                    sample[name].sub_(mean).mul_(factor)
            else:
                sample[name] = row[name]
        return sample

    def _multi_hot(self, ids: list[int]) -> torch.Tensor:
        hot = torch.zeros(len(self.classes), dtype=torch.float32)
        hot[ids] = 1.0
        return hot

    def _checked(self, columns: Sequence[str]) -> tuple[str, ...]:
        stored: list[str] = []
        if self._files:
            shapes = {f"{name}_shape" for name in self.published.feature_names}
            stored = [name for name in self.published.schema.names if name not in shapes]
            self.published.check_columns(columns, list(dict.fromkeys([*stored, _ID, LABELS_COLUMN])))
        if self._has_lists and _ID in columns:
            raise ClipmillError(
                f"{self.published.root.url}: clips of this dataset can have several labels, so label_id does not tell them; ask for"
                " labels, which are float32 [classes]"
            )
        # A field of the corpus can have the name `labels`, unless clips can have several.
        self._made = {
            name
            for name in columns
            if name == _ID or (name == LABELS_COLUMN and (self._has_lists or name not in stored))
        }
        return tuple(columns)


class _Pass(Iterator[Sample]):
    """One iteration over a dataset, with a state from which it can continue."""

    def __init__(self, clips: ClipDataset, epoch: int, given: int) -> None:
        self._clips = clips
        self._start(epoch, given)

    def _start(self, epoch: int, given: int) -> None:
        self._epoch, self._given = epoch, given
        self._samples = self._clips.samples(epoch, given)

    def __next__(self) -> Sample:
        sample = next(self._samples)
        self._given += 1
        return sample

    def state_dict(self) -> dict[str, Any]:
        place = self._clips._ranks.expected(self._clips)
        return {"given": self._given, "epoch": self._epoch, **self._clips._order_depends_on(place)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._start(*self._clips.place_of(state))


def padded(samples: Iterable[Sample]) -> dict[str, Any]:
    """Collate samples of different lengths into a batch: a `collate_fn` for a DataLoader.

    Tensors are padded with zeros at the end to the longest in the batch and stacked, and `<name>_length` (int64 [batch]) has their sizes in the
    last dimension. Numbers become an int64 or float64 tensor; anything else stays a list. Zero is the mean of normalised features,
    but in decibels it is a loud sound, so mask by the length.

    Raises
    ------
    ClipmillError : there are no samples, or a column has the name of another one's length
    """
    rows = list(samples)
    if not rows:
        raise ClipmillError("there are no samples to put into a batch")
    batch: dict[str, Any] = {}
    for name in rows[0]:
        if f"{name}_length" in rows[0] and isinstance(rows[0][name], torch.Tensor):
            raise ClipmillError(
                f"the column '{name}_length' has the name that {name!r} needs for its length; leave one of them out"
            )
        values = [row[name] for row in rows]
        if isinstance(values[0], torch.Tensor):
            batch[name] = _stacked(values)
            if values[0].ndim:
                batch[f"{name}_length"] = torch.tensor([v.shape[-1] for v in values])
        elif all(isinstance(v, int | float) for v in values):
            whole = all(isinstance(v, int) for v in values)
            batch[name] = torch.tensor(values, dtype=torch.int64 if whole else torch.float64)
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
    """Return the mean and the factor for normalising each feature, float32 [bins, 1] or [1, 1]. A constant bin becomes 0."""
    if split not in published.splits:
        raise ClipmillError(
            f"{published.root.url}: normalise_by is {split!r}, which is not a split; the splits are {', '.join(published.splits)}"
        )
    scaled = set(columns) & set(published.feature_names)
    if not scaled:
        raise ClipmillError(f"normalise needs a feature, and the columns {', '.join(columns)} have none")
    statistics = published.snapshot.statistics.get(split)
    n_clips = published.snapshot.by_split.get(split, {}).get("clips", 0)
    if statistics is None or statistics.lengths.clips != n_clips or not n_clips:
        raise ClipmillError(
            f"{published.root.url}: the statistics of split {split!r} are incomplete: give another normalise_by; shards"
            " that an older clipmill has built get statistics when they are built again"
        )
    found = {}
    for name in sorted(scaled & statistics.features.keys()):
        sums = statistics.features[name]
        if not math.isfinite(sums.std):
            raise ClipmillError(
                f"{published.root.url}: clips of split {split!r} have infinite values in {name}, from before clipmill rejected such clips: build"
                " again"
            )
        mean, std = (sums.mean_by_bin, sums.std_by_bin) if by == "bin" else ([sums.mean], [sums.std])
        factor = [1 / s if s > 0 else 0.0 for s in std]
        found[name] = (torch.tensor(mean)[:, None], torch.tensor(factor)[:, None])
    return found


def _consumer(place: Place) -> Consumer:
    info = torch.utils.data.get_worker_info()
    worker, n_workers = (info.id, info.num_workers) if info is not None else (0, 1)
    return Consumer(*place.share, worker, n_workers)


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if not any(value is c or (isinstance(c, str) and value == c) for c in choices):
        raise ClipmillError(f"{name} is {value!r}; it can be {' or '.join(map(repr, choices))}")


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ClipmillError(f"{name} is {value!r}; expected a whole number of at least {least}")


def _waveform(content: bytes) -> torch.Tensor:
    """Return a stored clip as float32 [channels, samples] in [-1, 1)."""
    return torch.from_numpy(np.ascontiguousarray(decode_waveform(content).T))
