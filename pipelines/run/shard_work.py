"""The work on one shard, from its plan to its commit.

`WriteShard` writes the shard, and `ClipsOfShard` provides its clips, both in one task if nothing needs a GPU. Otherwise the work is cut
into three tasks: `MakeBlock` collects the clips in a block, `OnGpu` computes in an actor, and `WriteBlock` writes the result. Stages
pass tables of a few megabytes to each other, so without a cut the memory of a worker does not depend on the size of a shard or recording.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from clipmill.pipelines.dataset.records_io import sound_commit
from clipmill.pipelines.plan.excluded import excluded_in
from clipmill.pipelines.plan.planning import without
from clipmill.pipelines.run.environment import Environment
from clipmill.pipelines.run.item_rejection import reject_item, replace_rows
from clipmill.schemas.errors import DonorError, InputChangedError, ItemRejectedError, OtherBytesError, StorageError
from clipmill.schemas.layout import commit_path
from clipmill.schemas.records import Commit
from clipmill.schemas.tables import CLIPS
from clipmill.stages.arrow_rows import replace_column, stream_bytes, stream_table
from clipmill.stages.clip_chain import apply_stage
from clipmill.stages.lookup import stage_files
from clipmill.stages.meter import Spent, add_seconds, spent, timed
from clipmill.stages.reread import Reread
from clipmill.stages.stage import ShardStage, Stage
from clipmill.stages.storage.checked import is_as_written
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.patience import patiently
from clipmill.stages.storage.root import Root
from clipmill.stages.stored_clips import StoredClips
from clipmill.stages.write import Write

Work = Callable[[pa.Table], pa.Table | Iterator[pa.Table]]
ClipsOf = Callable[[pa.Table, Commit | None], Iterable[pa.Table]]
"""Returns the clips of a shard, given its plan, from recordings or from its donor, a committed shard."""
DonorOf = Callable[[pa.Table, "Stages"], Commit | None]
"""Returns the commit from whose clips a shard is made, given its plan."""
_SHARD_ATTEMPTS = 5
_NOTHING = "nothing"
T = TypeVar("T")
_PLAN_COLUMN, _ERROR_COLUMN = "shard_plan", "shard_error"
_LASTING_COLUMN = "__clipmill_lasting"
_FEATURES_S_COLUMN = "shard_features_s"
_SPENT_COLUMN = "shard_spent"


@dataclass(frozen=True)
class Stages:
    """The stages that make a shard.

    clips : from the plan to the PCM of clips
    reread : reads the same clips from a committed shard instead
    on_stored : measure and drop clips by their PCM
    derived : compute columns of clips
    write : writes the shard's files and its commit
    environment : variables that the stages need to reach storage
    cut : the half-open range of derived stages that run in an actor with a GPU; None: all run in one task
    """

    clips: Work
    reread: Reread
    on_stored: StoredClips
    derived: tuple[Stage, ...]
    write: Write
    environment: Environment
    cut: tuple[int, int] | None = None

    def excluding(self, ids: frozenset[str]) -> Stages:
        """Return the stages of a shard of which some clips are excluded. ids : of the clips"""
        if not ids:
            return self
        stored = replace(self.on_stored, excluded=ids)
        return replace(self, on_stored=stored, reread=replace(self.reread, stored=stored))

    @property
    def uninstalled_modules(self) -> list[str]:
        """Names of top-level modules of stages on stored clips that are not part of an installed package, sorted."""
        stages = [*self.derived, *(stage for own in self.on_stored.stages.values() for stage in own)]
        return sorted({type(stage).__module__.partition(".")[0] for stage in stages if stage_files(type(stage))})

    @property
    def gpu_range(self) -> tuple[int, int]:
        """The cut: from the first derived stage that uses a GPU to the last one; an empty range at the end if none does."""
        places = [i for i, stage in enumerate(self.derived) if stage.wants_gpu]
        return (places[0], places[-1] + 1) if places else (len(self.derived), len(self.derived))

    @property
    def before_cut(self) -> tuple[Work, ...]:
        """The stages behind the PCM of clips and before the cut; all of them without one."""
        return (self.on_stored, *_check_results(self.derived[: self.cut[0] if self.cut else None]))

    @property
    def within_cut(self) -> tuple[Work, ...]:
        """The derived stages that run in an actor with a GPU."""
        return _check_results(self.derived[slice(*self.cut)] if self.cut else ())

    @property
    def after_cut(self) -> tuple[Work, ...]:
        """The derived stages after the cut."""
        return _check_results(self.derived[self.cut[1] :] if self.cut else ())


def _check_results(stages: tuple[Stage, ...]) -> tuple[Work, ...]:
    """Return the stages with a check that each returns what it declares; their exceptions then name the stage."""
    return tuple(partial(apply_stage, stage) for stage in stages)


def apply_stages(stages: Iterable[Work], tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield what comes of tables that pass through stages in their order, one table at a time."""
    for stage in stages:
        tables = _apply(stage, tables)
    return iter(tables)


def _apply(stage: Work, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    name = _name_of(stage)
    if isinstance(whole := stage.args[0] if isinstance(stage, partial) else stage, ShardStage):
        yield from _over_shard(whole, tables)
        return
    for table in tables:
        start_s = time.perf_counter()
        result = stage(table)
        if name:
            add_seconds(name, time.perf_counter() - start_s)
        if isinstance(result, pa.Table):
            yield result
        elif name:
            yield from timed(name, result)
        else:
            yield from result


def _over_shard(stage: ShardStage, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield what a stage makes of all tables of a shard; its seconds are counted without those of the stages before it."""
    before = _Upstream(iter(tables))
    results, start_s, waited_s = stage.over(before), time.perf_counter(), 0.0
    for table in results:
        add_seconds(stage.section, time.perf_counter() - start_s - (before.waited_s - waited_s))
        yield table
        start_s, waited_s = time.perf_counter(), before.waited_s
    add_seconds(stage.section, time.perf_counter() - start_s - (before.waited_s - waited_s))


def _name_of(stage: Work) -> str:
    """Return the name by which a stage's seconds are counted; empty for what waits for another process, which counts them itself."""
    stage = stage.args[0] if isinstance(stage, partial) else stage
    return "measure" if isinstance(stage, StoredClips) else str(getattr(stage, "section", ""))


@dataclass(frozen=True)
class ClipsOfShard:
    """Yields the clips of a shard, one table at a time, with the columns that are computed before the cut.

    watch : a pass-through stage that counts progress
    """

    stages: Stages
    watch: Work

    def __call__(self, shard: pa.Table, donor: Commit | None) -> Iterator[pa.Table]:
        stages = self.stages.excluding(excluded_in(shard))
        clips = (
            timed("reread", stages.reread(donor))
            if donor is not None
            else apply_stages((stages.clips, self.watch), [shard])
        )
        return apply_stages(stages.before_cut, clips)


def find_donor(shard: pa.Table, stages: Stages) -> Commit | None:
    """Return the commit from whose clips a shard is to be made, None if it is to be made from recordings.

    A damaged shard is made from its own clips if features lie beside them and the file of the clips is sound.
    """
    before = _expected(shard)
    if before is not None and before.audio_key:
        audio = before.output("parquet")
        if audio is not None and is_as_written(stages.write.root, audio):
            return before
    key = shard["donor"][0].as_py()
    return sound_commit(stages.write.root, key) if key is not None else None


@dataclass(frozen=True)
class WriteShard:
    """Writes and commits a shard. Takes its plan, returns one row of `RESULT` with its commit, or why there is none."""

    stages: Stages
    clips_of: ClipsOf
    donor_of: DonorOf = find_donor

    def __call__(self, shard: pa.Table) -> pa.Table:
        self.stages.environment.enter()
        return _commit_shard(self.stages.write.root, shard, self._write)

    def _write(self, shard: pa.Table) -> tuple[Commit, bool]:
        write, donor = self.stages.write, self.donor_of(shard, self.stages)
        before = _expected(shard)
        for _ in range(shard.num_rows + 3):  # each repetition is without the donor, or without one more item
            tables = _Upstream(apply_stages(self.stages.after_cut, self.clips_of(shard, donor)))
            start_s = time.perf_counter()
            try:
                # A recording that has changed meanwhile makes it another shard, of which nothing is expected.
                same = before is not None and before.key == shard["key"][0].as_py()
                return write(shard, iter(tables), donor, before if same else None), donor is not None
            except DonorError:
                donor = None
            except OtherBytesError:
                if donor is None or before is None or donor.key != before.key:
                    raise
                donor = None  # the shard's recordings may know better than its own clips
            except InputChangedError as change:
                shard = without(shard, change.items, write.digests.of(shard["split"][0].as_py())[0])
            except ItemRejectedError as bad:
                shard = reject_item(shard, bad)
            finally:
                add_seconds("write", time.perf_counter() - start_s - tables.waited_s)
        raise AssertionError("rejected items appeared again")


class _Upstream:
    """Tables on their way to the writer, and the seconds that it waited for them."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables, self.waited_s = tables, 0.0

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        start_s = time.perf_counter()
        try:
            return next(self._tables)
        finally:
            self.waited_s += time.perf_counter() - start_s


@dataclass(frozen=True)
class MakeBlock:
    """Collects the clips of a shard before the cut. Takes its plan, returns one block of its clips, with the plan as a column."""

    stages: Stages
    clips_of: ClipsOf

    def __call__(self, shard: pa.Table) -> pa.Table:
        self.stages.environment.enter()
        root, before = self.stages.write.root, spent()
        try:
            if _expected(shard) is None and sound_commit(root, shard["key"][0].as_py()) is not None:
                clips = CLIPS.empty_table()  # committed by another build, or by a task whose answer was lost
            else:
                clips, shard = _retry_storage(root, partial(self._clips, shard))
        except StorageError as error:
            failure = {_ERROR_COLUMN: [str(error)], _LASTING_COLUMN: [not error.transient]}
            return pa.table({_PLAN_COLUMN: [stream_bytes(shard)], **failure})
        if clips.num_rows == 0:  # a block without rows would lose the plan
            clips = pa.Table.from_pylist([{"status": _NOTHING}], schema=clips.schema)
        plan_column = pa.array([stream_bytes(shard)] + [None] * (clips.num_rows - 1), pa.large_binary())
        spent_column = pa.array([(spent() - before).to_json()] + [None] * (clips.num_rows - 1), pa.large_string())
        clips = clips.combine_chunks().append_column(_PLAN_COLUMN, plan_column)
        return clips.append_column(_SPENT_COLUMN, spent_column)

    def _clips(self, shard: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the clips, and the plan with the donor that they are of, or none: the donor may have proved unusable."""
        if (donor := find_donor(shard, self.stages)) is not None:
            with contextlib.suppress(DonorError):
                clips = pa.concat_tables(self.clips_of(shard, donor))
                return clips, replace_column(shard, "donor", pa.array([donor.key] * shard.num_rows, pa.string()))
        shard = replace_column(shard, "donor", pa.nulls(shard.num_rows, pa.string()))
        return pa.concat_tables(self.clips_of(shard, None)), shard


class OnGpu:
    """Runs the stages within the cut on a shard's block, in an actor that keeps their constants on the device."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages.within_cut

    def __call__(self, block: pa.Table) -> pa.Table:
        if _ERROR_COLUMN in block.column_names:
            return block
        start_s = time.monotonic()
        computed = pa.concat_tables(apply_stages(self._stages, [block]))
        features_s = pa.array([time.monotonic() - start_s] * block.num_rows, pa.float64())
        return computed.append_column(_FEATURES_S_COLUMN, features_s)


@dataclass(frozen=True)
class WriteBlock:
    """Writes and commits a shard after the cut. Takes its block, returns one row of `RESULT`."""

    stages: Stages

    def __call__(self, block: pa.Table) -> pa.Table:
        shard = stream_table(block[_PLAN_COLUMN][0].as_buffer())
        if _ERROR_COLUMN in block.column_names:
            failure = StorageError(block[_ERROR_COLUMN][0].as_py(), transient=not block[_LASTING_COLUMN][0].as_py())
            return _result(shard, error=failure)
        features_s = block[_FEATURES_S_COLUMN][0].as_py()
        earlier = Spent.from_json(block[_SPENT_COLUMN][0].as_py()) + Spent(Counter({"gpu": features_s}))
        clips = block.drop_columns([_PLAN_COLUMN, _FEATURES_S_COLUMN, _SPENT_COLUMN])
        clips = clips.filter(pc.not_equal(clips["status"], _NOTHING))
        result = WriteShard(self.stages, _Block(self.stages, shard, clips), _chosen_donor)(shard)
        in_all = (earlier + Spent.from_json(result["spent"][0].as_py())).to_json()
        result = replace_column(result, "spent", pa.array([in_all], pa.string()))
        return replace_column(result, "features_s", pa.array([features_s], pa.float64()))


@dataclass(frozen=True)
class _Block:
    """Returns the clips of a block, with rejections in place of items that have been rejected since.

    plan : that the clips were made from
    """

    stages: Stages
    plan: pa.Table
    clips: pa.Table

    def __call__(self, shard: pa.Table, donor: Commit | None) -> list[pa.Table]:
        key = self.plan["donor"][0].as_py()
        if key is not None and key != self.plan["key"][0].as_py() and donor is None:
            raise StorageError(f"the clips of shard {key[:12]} were removed while they were in use; build again")
        clips = self.clips
        is_bad = pc.and_(pc.is_valid(shard["reason"]), pc.is_null(self.plan["reason"]))
        for i in pc.indices_nonzero(is_bad).to_pylist():
            # An item with a reason is not decoded, so nothing needs the GPU.
            stages = (self.stages.clips, *self.stages.before_cut, *self.stages.within_cut)
            clips = replace_rows(clips, shard["item_id"][i].as_py(), apply_stages(stages, [shard.slice(i, 1)]))
        return [clips]


def _chosen_donor(shard: pa.Table, stages: Stages) -> Commit | None:
    """Return the commit that a block's clips are of, by its plan; None if they are of recordings, or if it was removed since."""
    key, before = shard["donor"][0].as_py(), _expected(shard)
    if before is not None and key == before.key:
        return before
    return sound_commit(stages.write.root, key) if key is not None else None


def _retry_storage(root: Root, work: Callable[[], T]) -> T:
    """Return the result of work on a shard. After a transient failure of storage the work is repeated from its start.

    Raises
    ------
    StorageError : storage kept failing, or the failure is not transient
    """
    try:
        return patiently(work, (StorageError, *root.errors), root.is_local, _SHARD_ATTEMPTS)
    except OSError as error:
        raise describe_os_error(error, root, "build a shard under") from None


def _commit_shard(root: Root, shard: pa.Table, build: Callable[[pa.Table], tuple[Commit, bool]]) -> pa.Table:
    """Build and commit a shard, unless another build, or a task whose answer was lost, has committed it by now.

    build : returns the commit, and whether the shard was made from committed clips

    A failure of storage becomes a row of the result: this shard stays uncommitted, and the others continue.
    """

    expected = _expected(shard)

    def work() -> tuple[Commit, bool, bool]:
        if expected is None:
            committed = sound_commit(root, shard["key"][0].as_py())
            if committed is not None:
                return committed, False, False
        is_whole = expected is not None and _is_as_written(root, expected)
        commit, from_clips = (expected, False) if expected is not None and is_whole else build(shard)
        root.write_bytes(commit_path(commit.key), commit.to_json())
        return commit, True, from_clips

    before = spent()
    try:
        commit, built, from_clips = _retry_storage(root, work)
    except StorageError as error:
        return _result(shard, error=error, spent_on_it=spent() - before)
    except OtherBytesError:
        return _result(shard, other_bytes=True, spent_on_it=spent() - before)
    return _result(shard, commit=commit, built=built, from_clips=from_clips, spent_on_it=spent() - before)


def _expected(shard: pa.Table) -> Commit | None:
    """Return the record of a shard that is damaged, None if it is to be built for the first time."""
    content = shard["expected"][0].as_py()
    return Commit.from_content(content.encode()) if content is not None else None


def _is_as_written(root: Root, commit: Commit) -> bool:
    """Return whether all files of a shard are those that its record names, so that only the record has to be written again."""
    return all(is_as_written(root, output) for output in commit.outputs)


RESULT = pa.schema(
    [
        ("key", pa.string()),  # not the planned one if inputs of the shard changed
        ("built", pa.bool_()),  # false if it was committed already
        ("from_clips", pa.bool_()),  # whether it was made from committed clips: a donor's, or its own
        ("n_items", pa.int64()),
        ("commit", pa.string()),  # the record as JSON
        ("error", pa.string()),  # why there is no commit; null if there is one
        (
            "other_bytes",
            pa.bool_(),
        ),  # a damaged shard was not replaced, since it came out with other bytes; then there is no commit
        ("lasting", pa.bool_()),  # whether the error is not transient
        ("features_s", pa.float64()),  # working time of the feature actor; null without such actors
        ("spent", pa.string()),  # seconds by stage and requests, as JSON, see `clipmill.stages.meter`
    ]
)
"""The row that a shard's task returns to the driver."""


def _result(
    shard: pa.Table,
    commit: Commit | None = None,
    built: bool = False,
    from_clips: bool = False,
    error: StorageError | None = None,
    other_bytes: bool = False,
    spent_on_it: Spent | None = None,
) -> pa.Table:
    row = {
        "key": commit.key if commit else shard["key"][0].as_py(),
        "built": built,
        "from_clips": from_clips,
        "n_items": shard.num_rows,
        "commit": commit.to_json().decode() if commit else None,
        "other_bytes": other_bytes,
        "error": None if error is None else str(error),
        "lasting": error is not None and not error.transient,
        "spent": (spent_on_it or Spent()).to_json(),
    }
    return pa.Table.from_pylist([row], schema=RESULT)
