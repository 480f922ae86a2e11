"""What is done to one shard: from its row in the plan to its commit.

`WriteShard` does it, and `ClipsOfShard` gives it the clips. Both lie in one task where nothing needs a GPU. Where something does, the
shard is cut: `MakeBlock` collects its clips in a block, `OnGpu` computes in an actor, and `WriteBlock` writes what came of it.
Stages pass tables of a few megabytes to each other, so without a cut a worker's memory depends neither on the shard nor on a recording.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.records_io import sound_commit
from clipmill.pipelines.plan.planning import without
from clipmill.pipelines.run.environment import Environment
from clipmill.pipelines.run.rejecting import exchanged, rejecting
from clipmill.schemas.errors import DonorError, InputChangedError, ItemRejectedError, StorageError
from clipmill.schemas.layout import commit_path
from clipmill.schemas.records import Commit
from clipmill.schemas.tables import CLIPS
from clipmill.stages.arrow_rows import replace_column, stream_bytes, stream_table
from clipmill.stages.clip_chain import apply_stage
from clipmill.stages.lookup import stage_files
from clipmill.stages.reread import Reread
from clipmill.stages.stage import Stage
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.patience import patiently
from clipmill.stages.storage.root import Root
from clipmill.stages.write import Write

Work = Callable[[pa.Table], pa.Table | Iterator[pa.Table]]
ClipsOf = Callable[[pa.Table, Commit | None], Iterable[pa.Table]]
"""Gives the clips of a shard by its plan, from recordings or from the committed shard that is its donor."""
_SHARD_ATTEMPTS = 5
_NOTHING = "nothing"
T = TypeVar("T")
_PLAN_COLUMN, _ERROR_COLUMN = "shard_plan", "shard_error"
_LASTING_COLUMN = "__clipmill_lasting"
_FEATURES_S_COLUMN = "shard_features_s"


@dataclass(frozen=True)
class Stages:
    """The stages that a shard goes through.

    clips : from the plan to the PCM of clips
    reread : or to the clips of a committed shard, when they are the same
    derived : compute columns of each clip
    write : to the shard's files and its commit
    environment : in which they find their storage
    cut : first and last + 1 of the derived stages that run in an actor with a GPU; None: all run in the shard's one task
    """

    clips: Work
    reread: Reread
    derived: tuple[Stage, ...]
    write: Write
    environment: Environment
    cut: tuple[int, int] | None = None

    @property
    def carried_modules(self) -> list[str]:
        """Top-level modules of derived stages that no installed package brings."""
        return sorted({type(stage).__module__.partition(".")[0] for stage in self.derived if stage_files(type(stage))})

    @property
    def for_gpu(self) -> tuple[int, int]:
        """Where to cut: before the first derived stage that wants a GPU, and behind the last one."""
        places = [i for i, stage in enumerate(self.derived) if stage.on_gpu]
        return (places[0], places[-1] + 1) if places else (len(self.derived), len(self.derived))

    @property
    def before_cut(self) -> tuple[Work, ...]:
        return _checked(self.derived[: self.cut[0] if self.cut else None])

    @property
    def within_cut(self) -> tuple[Work, ...]:
        return _checked(self.derived[slice(*self.cut)] if self.cut else ())

    @property
    def behind_cut(self) -> tuple[Work, ...]:
        return _checked(self.derived[self.cut[1] :] if self.cut else ())


def _checked(stages: tuple[Stage, ...]) -> tuple[Work, ...]:
    """Return stages that are held to what they declare, and whose exceptions name them."""
    return tuple(partial(apply_stage, stage) for stage in stages)


def through(stages: Iterable[Work], tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Pass tables through stages one after the other, a table at a time."""
    for stage in stages:
        tables = _apply(stage, tables)
    return iter(tables)


def _apply(stage: Work, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        given = stage(table)
        if isinstance(given, pa.Table):
            yield given
        else:
            yield from given


@dataclass(frozen=True)
class ClipsOfShard:
    """Give the clips of a shard, a table at a time, with the columns that are computed in front of the cut.

    watch : a pass-through stage that counts progress
    """

    stages: Stages
    watch: Work

    def __call__(self, shard: pa.Table, donor: Commit | None) -> Iterator[pa.Table]:
        made = self.stages.reread(donor) if donor is not None else through((self.stages.clips, self.watch), [shard])
        return through(self.stages.before_cut, made)


@dataclass(frozen=True)
class WriteShard:
    """Write and commit a shard. Takes its plan, gives one row of `RESULT`: its commit, or why there is none."""

    stages: Stages
    config_digest: str
    clips_of: ClipsOf

    def __call__(self, shard: pa.Table) -> pa.Table:
        self.stages.environment.enter()
        return _committed(self.stages.write.root, shard, self._write)

    def _write(self, shard: pa.Table) -> Commit:
        write, donor = self.stages.write, donor_of(shard, self.stages)
        for _ in range(shard.num_rows + 2):  # each time without its donor, or without one item more
            tables = through(self.stages.behind_cut, self.clips_of(shard, donor))
            try:
                if donor is not None:
                    return write.rewrite(shard, donor, self.stages.reread.recordings(donor), tables)
                return write(shard, tables)
            except DonorError:
                donor = None
            except InputChangedError as moved:
                shard = without(shard, moved.items, self.config_digest)
            except ItemRejectedError as bad:
                shard = rejecting(shard, bad)
        raise AssertionError("items that were rejected came again")


@dataclass(frozen=True)
class MakeBlock:
    """Collect the clips of a shard in front of the cut. Takes its plan, gives one block, with the plan beside the clips."""

    stages: Stages
    clips_of: ClipsOf

    def __call__(self, shard: pa.Table) -> pa.Table:
        self.stages.environment.enter()
        root = self.stages.write.root
        try:
            if sound_commit(root, shard["key"][0].as_py()) is not None:
                clips = CLIPS.empty_table()  # another builder's, or that of a task whose answer got lost
            else:
                clips, shard = _patiently(root, partial(self._clips, shard))
        except StorageError as error:
            failure = {_ERROR_COLUMN: [str(error)], _LASTING_COLUMN: [not error.transient]}
            return pa.table({_PLAN_COLUMN: [stream_bytes(shard)], **failure})
        if clips.num_rows == 0:  # a block without rows would take the plan with it
            clips = pa.Table.from_pylist([{"status": _NOTHING}], schema=clips.schema)
        beside = pa.array([stream_bytes(shard)] + [None] * (clips.num_rows - 1), pa.large_binary())
        return clips.combine_chunks().append_column(_PLAN_COLUMN, beside)

    def _clips(self, shard: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the clips, and the plan: without a donor that turned out to be of no use."""
        if (donor := donor_of(shard, self.stages)) is not None:
            with contextlib.suppress(DonorError):
                tables = list(self.clips_of(shard, donor))
                if sum(table.num_rows for table in tables) == donor.counts.clips_kept:
                    empty = pa.concat_tables(through(self.stages.before_cut, [self.stages.reread.schema.empty_table()]))
                    return pa.concat_tables([empty, *tables]), shard
            shard = replace_column(shard, "donor", pa.nulls(shard.num_rows, pa.string()))
        return pa.concat_tables(self.clips_of(shard, None)), shard


class OnGpu:
    """The stages within the cut, of one shard's block, in an actor that keeps their constants on the device."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages.within_cut

    def __call__(self, block: pa.Table) -> pa.Table:
        if _ERROR_COLUMN in block.column_names:
            return block
        begun = time.monotonic()
        computed = pa.concat_tables(through(self._stages, [block]))
        took = pa.array([time.monotonic() - begun] * block.num_rows, pa.float64())
        return computed.append_column(_FEATURES_S_COLUMN, took)


@dataclass(frozen=True)
class WriteBlock:
    """Write and commit a shard behind the cut. Takes its block, gives one row of `RESULT`."""

    stages: Stages
    config_digest: str

    def __call__(self, block: pa.Table) -> pa.Table:
        shard = stream_table(block[_PLAN_COLUMN][0].as_buffer())
        if _ERROR_COLUMN in block.column_names:
            failure = StorageError(block[_ERROR_COLUMN][0].as_py(), transient=not block[_LASTING_COLUMN][0].as_py())
            return _result(shard, error=failure)
        took = block[_FEATURES_S_COLUMN][0].as_py()
        clips = block.drop_columns([_PLAN_COLUMN, _FEATURES_S_COLUMN])
        clips = clips.filter(pc.not_equal(clips["status"], _NOTHING))
        result = WriteShard(self.stages, self.config_digest, _Block(self.stages, shard, clips))(shard)
        return replace_column(result, "features_s", pa.array([took], pa.float64()))


@dataclass(frozen=True)
class _Block:
    """Give the clips of a block, with rejections in the place of items that turned out to be bad since.

    made_by : the plan that the clips were made by
    """

    stages: Stages
    made_by: pa.Table
    clips: pa.Table

    def __call__(self, shard: pa.Table, donor: Commit | None) -> list[pa.Table]:
        key = self.made_by["donor"][0].as_py()
        if key is not None and donor is None:
            raise StorageError(f"the clips of shard {key[:12]} were removed while they were used; build again")
        clips = self.clips
        is_bad = pc.and_(pc.is_valid(shard["reason"]), pc.is_null(self.made_by["reason"]))
        for i in pc.indices_nonzero(is_bad).to_pylist():
            # Nothing is decoded of an item that has a reason, and so nothing needs the GPU.
            stages = (self.stages.clips, *self.stages.before_cut, *self.stages.within_cut)
            clips = exchanged(clips, shard["item_id"][i].as_py(), through(stages, [shard.slice(i, 1)]))
        return [clips]


def donor_of(shard: pa.Table, stages: Stages) -> Commit | None:
    """Return the commit whose clips a shard is to be made from, None when it is to be made from recordings."""
    key = shard["donor"][0].as_py()
    return sound_commit(stages.write.root, key) if key is not None else None


def _patiently(root: Root, work: Callable[[], T]) -> T:
    """Work on a shard, from its start again while a failure of storage may pass.

    Raises
    ------
    StorageError : it did not pass, or it is not of the kind that does
    """
    try:
        return patiently(work, (StorageError, *root.errors), root.is_local, _SHARD_ATTEMPTS)
    except OSError as error:
        raise describe_os_error(error, root, "build a shard under") from None


def _committed(root: Root, shard: pa.Table, build: Callable[[pa.Table], Commit]) -> pa.Table:
    """Build and commit a shard, unless it is there by now: another builder's, or that of a task whose answer got lost.

    A failure of storage becomes a row: the shard stays uncommitted, the others go on.
    """

    def work() -> tuple[Commit, bool]:
        committed = sound_commit(root, shard["key"][0].as_py())
        if committed is not None:
            return committed, False
        commit = build(shard)
        root.write_bytes(commit_path(commit.key), commit.to_json())
        return commit, True

    try:
        commit, built = _patiently(root, work)
    except StorageError as error:
        return _result(shard, error=error)
    return _result(shard, commit=commit, built=built)


RESULT = pa.schema(
    [
        ("key", pa.string()),  # as it turned out: a shard whose inputs moved has another than planned
        ("built", pa.bool_()),  # false when it was there
        ("n_items", pa.int64()),
        ("commit", pa.string()),  # the record as JSON
        ("error", pa.string()),  # set: there is no commit, and why
        ("lasting", pa.bool_()),  # whether waiting does not mend that
        ("features_s", pa.float64()),  # that a feature actor worked on it; null without such actors
    ]
)
"""What a shard's task tells the driver."""


def _result(
    shard: pa.Table, commit: Commit | None = None, built: bool = False, error: StorageError | None = None
) -> pa.Table:
    row = {
        "key": commit.key if commit else shard["key"][0].as_py(),
        "built": built,
        "n_items": shard.num_rows,
        "commit": commit.to_json().decode() if commit else None,
        "error": None if error is None else str(error),
        "lasting": error is not None and not error.transient,
    }
    return pa.Table.from_pylist([row], schema=RESULT)
