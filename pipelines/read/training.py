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
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch.utils.data

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.published import Published, open_dataset
from clipmill.pipelines.read.epoch_rows import EpochRows
from clipmill.pipelines.read.label_balance import LabelBalance, temperature_of
from clipmill.pipelines.read.normalising import scales_of
from clipmill.pipelines.read.ranks import Group, Place, Ranks
from clipmill.pipelines.read.row_tensors import LABEL_ID, RowTensors
from clipmill.pipelines.read.sampling import Buffer, Consumer, Even
from clipmill.pipelines.read.selection import selected_rows, thresholds_for
from clipmill.pipelines.read.shard_rows import ShardRows
from clipmill.pipelines.read.shared_epoch import SharedEpoch
from clipmill.pipelines.read.transforms.crop import At, Crop, CropToShortest, Pad
from clipmill.pipelines.read.transforms.transform import BatchTransform, Loaded, Step, Transforms
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.label_columns import LABELS_COLUMN

Sample = dict[str, Any]


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
    splits : names of several splits, instead of one
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
    balance : give clips of rare labels more often: "label" gives each label the same share of an epoch, {"label": T} a share proportional to
        n ** (1 / T) for its n clips. The epoch keeps its length. Within a label no clip is given twice more often than another, over all
        ranks and epochs. Of several labels, a clip counts for its rarest one; clips without a label count as one more label
    crop_s : cut clips to so many seconds, or the clips of each batch to the "shortest" (with `padded`); see `Crop`
    crop_at : cut at "random", or the "start" or "center" of a clip; by default "random" with shuffle, otherwise "center"
    pad : fill up clips that are shorter than `crop_s`, with "zero" or by "repeat"; see `Crop`
    transform : one or several to apply to each clip, in this order, after normalisation and cropping: `SpecAugment` and others, or functions that
        take and return a sample. Those of batches, such as `Mixup`, come last, and need `padded`
    decode_images : pictures as uint8 tensors [height, width, channels] instead of the bytes of a PNG
    storage_options : for fsspec, as in a configuration

    classes : labels of all splits, in the order of their ids
    n_clips : number of clips that this rank gets per epoch in the present job; also `len()`

    Raises
    ------
    ClipmillError : the dataset, snapshot, split or column does not exist, the shards are stored as WebDataset only, or an argument has another
        form or does not fit the dataset. While reading: the
        process group contradicts rank and n_ranks, or has changed; or accelerate runs the job and has not prepared the loader
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Published,
        split: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        splits: Sequence[str] | None = None,
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
        balance: Literal["label"] | Mapping[str, float] | None = None,
        crop_s: float | Literal["shortest"] | None = None,
        crop_at: At | None = None,
        pad: Pad | None = None,
        transform: Step | Sequence[Step] | None = None,
        decode_images: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.published = root if isinstance(root, Published) else open_dataset(root, snapshot, storage_options)
        _check_choice("even", even, (None, "drop", "repeat"))
        _check_choice("normalise", normalise, (None, "bin", "all"))
        _check_choice("shuffle", shuffle, (False, True))
        _check_choice("decode_images", decode_images, (False, True))
        _check_whole("buffer_size", buffer_size, 1)
        _check_whole("seed", seed, 0)
        if batch_size is not None:
            _check_whole("batch_size", batch_size, 1)
        self.split, self.splits = split, _splits(split, splits)
        self.shuffle, self.buffer_size, self.seed, self.even = shuffle, buffer_size, seed, even
        self.batch_size = batch_size
        self.classes = self.published.classes
        self._files = [file for name in self.splits for file in self.published.shards(name)]
        self._n_rows = [file.rows for file in self._files]
        self._where = thresholds_for(self.published, where)
        _check_choice("duplicates", duplicates, (None, "first"))
        self._duplicates = duplicates
        self._temperature = temperature_of(balance)
        # Rows of the shards' files; None: all.
        self._rows: list[Any] | None = None
        self._balance: LabelBalance | None = None
        if self._where is not None or duplicates is not None or self._temperature is not None:
            paths, by_label = [f.path for f in self._files], self._temperature is not None
            chosen = selected_rows(self.published, paths, self.splits, self._where, duplicates is not None, by_label)
            self._rows = chosen.rows
            if self._temperature is not None and chosen.groups is not None:
                self._balance = LabelBalance.of(chosen.groups, self._temperature, seed)
        self._ranks = Ranks(rank, n_ranks, group)
        self._epoch = SharedEpoch()  # seen by loading processes that live on
        self._pass: _Pass | None = None
        self._resumed: tuple[int, int] | None = None
        has_lists = LABELS_COLUMN in self.published.snapshot.label_lists
        steps = _steps(transform, crop_s, crop_at, pad, shuffle)
        wanted = columns if columns is not None else ("audio", LABELS_COLUMN if has_lists else LABEL_ID)
        self._unasked = list(dict.fromkeys(name for name in Transforms.needed(steps) if name not in wanted))
        asked = [*wanted, *self._unasked] if self._unasked and not isinstance(wanted, str) else wanted
        self._tensors = RowTensors(self.published, asked, bool(self._files), decode_images)
        self.columns = tuple(wanted)
        if normalise is not None:
            self._tensors.scales = scales_of(self.published, normalise_by, normalise, self.columns)
        self._transforms: Transforms | None = None
        if steps:
            features = tuple(name for name in self.published.feature_names if name in self.columns)
            loaded = Loaded(self.published.root.url, self.columns, features, self.published.columns)
            self._transforms = Transforms.of(steps, seed, loaded)

    def __repr__(self) -> str:
        order = f", shuffle=True, seed={self.seed}" if self.shuffle else ""
        splits = repr(self.split) if self.split is not None else f"splits={list(self.splits)}"
        return f"ClipDataset({self.published.root.url!r}, {splits}, columns={list(self.columns)}{order})"

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
        n_clips = sum(self._n_rows) if self._rows is None else sum(map(len, self._rows))
        return len(Consumer(*place.share).stretch(n_clips, self.even))

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
            "snapshot": self.published.identity, "split": self.split if self.split is not None else list(self.splits),
            "shuffle": self.shuffle, "buffer_size": self.buffer_size, "seed": self.seed, "even": self.even,
            "rank": who.rank, "n_ranks": who.n_ranks, "worker": who.worker, "n_workers": who.n_workers,
            **({"batch_size": self.batch_size} if self.batch_size is not None else {}),
            **({"where": self._where.model_dump_json()} if self._where is not None else {}),
            **({"duplicates": self._duplicates} if self._duplicates is not None else {}),
            **({"balance": str(self._temperature)} if self._temperature is not None else {}),
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
        place = self._ranks.place(self)
        who = _consumer(place)
        rows = EpochRows(self._n_rows, self._rows, self._balance, self.seed, epoch, self.shuffle)
        stretch = who.stretch(rows.line.n_clips, self.even, place.batch_size or self.batch_size or 1)
        size = self.buffer_size if self.shuffle else 1
        buffer = Buffer(stretch, size, [self.seed, epoch, who.rank, who.worker])
        buffer.skip(min(given, len(stretch)))
        paths, columns = [f.path for f in self._files], self._tensors.names
        if self._transforms is not None and "clip_id" not in columns:
            columns = [*columns, "clip_id"]
        with contextlib.closing(ShardRows(self.published, self._files, columns)) as shards:
            held: dict[int, tuple[str, int, Sample]] = {}

            def take(places: Iterable[int]) -> None:
                for place in places:
                    shard, row, copy = rows.at(place)
                    held[place] = paths[shard], copy, shards.take(shard, row)

            take(sorted(buffer.waiting))
            while True:
                take(buffer.fill())
                drawn = buffer.draw()
                if drawn is None:
                    break
                path, copy, row = held.pop(drawn)
                with legible(self.published.root, path):
                    sample = self._tensors.sample(row)
                if self._transforms is not None:
                    sample = self._transforms.apply(sample, row["clip_id"], epoch, copy)
                    for name in self._unasked:
                        sample.pop(name, None)
                yield sample


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


def _splits(split: object, splits: object) -> tuple[str, ...]:
    """Return the names of the splits to read."""
    if splits is None:
        if split is None:
            raise ClipmillError(
                'name the split to read, as in ClipDataset(root, "train"), or several with splits=[...]'
            )
        return (split,)  # type: ignore[return-value]  # which `shards` checks
    if split is not None:
        raise ClipmillError(f"split is {split!r} and splits {splits!r}; give one of them")
    if isinstance(splits, str) or not isinstance(splits, Sequence) or not splits or len(set(splits)) < len(splits):
        raise ClipmillError(f"splits is {splits!r}; expected a list of different names, as in ['train', 'val']")
    return tuple(splits)


def _steps(transform: object, crop_s: object, crop_at: At | None, pad: Pad | None, shuffle: bool) -> list[Step]:
    """Return the transforms that the arguments ask for, the crop first."""
    steps: list[Any] = list(transform) if isinstance(transform, list | tuple) else [transform]
    if transform is None:
        steps = []
    if crop_s is None:
        if crop_at is not None or pad is not None:
            name, value = ("crop_at", crop_at) if crop_at is not None else ("pad", pad)
            raise ClipmillError(f"{name} is {value!r}, but clips are not cropped; give crop_s as well")
        return steps
    at: At = crop_at if crop_at is not None else "random" if shuffle else "center"
    if crop_s != "shortest":
        return [Crop(crop_s, at, pad), *steps]  # type: ignore[arg-type]  # which the crop checks
    if pad is not None:
        raise ClipmillError(f'pad is {pad!r}, but with crop_s="shortest" no clip of a batch is too short')
    batched = next((i for i, step in enumerate(steps) if isinstance(step, BatchTransform)), len(steps))
    return [*steps[:batched], CropToShortest(at), *steps[batched:]]


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
