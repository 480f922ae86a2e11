"""Find out a process's rank in a training job when clips are first requested.

By then the job has set up torch.distributed, or accelerate, which divides the clips of loaders that it prepares itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from typing import Any

import torch.distributed
import torch.utils.data

from clipmill.schemas.errors import ClipmillError

Group = Any
"""A torch.distributed.ProcessGroup, "none", or None for the default group."""


@dataclass(frozen=True)
class Place:
    """The share of a split that a process of a job gets.

    rank, n_ranks : index and number of the processes that share the split
    said_by : the source of rank and n_ranks, for messages
    batch_size : the loader's batch size, if known; its loading processes then get whole batches
    """

    rank: int = 0
    n_ranks: int = 1
    said_by: str = "nothing: there is no process group, and neither RANK nor WORLD_SIZE"
    batch_size: int | None = None

    @property
    def share(self) -> tuple[int, int]:
        return self.rank, self.n_ranks

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.n_ranks} (by {self.said_by})"


class Ranks:
    """Find out a dataset's place in a job once: a different answer later would lose or repeat clips.

    rank, n_ranks : as given by the user; None: find out
    group : the process group whose ranks share the split; "none": ignore process groups
    """

    def __init__(self, rank: int | None, n_ranks: int | None, group: Group = None) -> None:
        self.given = _checked({"rank": rank, "n_ranks": n_ranks}, "the arguments rank and n_ranks")
        if isinstance(group, str) and group != "none":
            raise ClipmillError(f"group is {group!r}; it can be a torch.distributed.ProcessGroup, 'none' or None")
        self._group = group
        self._first: tuple[int, Place] | None = None
        self._inherited: tuple[int, Place | str] | None = None
        # Lightning starts processes that know WORLD_SIZE and LOCAL_RANK, and get the rest with the process group.
        is_early = "RANK" not in os.environ and "LOCAL_RANK" in os.environ
        if self.given is None and group is None and not is_early:
            _of_environment()  # raises at once if only one of the variables is set

    def place(self, dataset: object) -> Place:
        """Return the place of this process. In a loading process it is that of the process that started it.

        Raises
        ------
        ClipmillError : the job contradicts the arguments or an earlier result, or accelerate does not divide this dataset
        """
        place = self._here(dataset, begun=True)
        if self._first is not None and self._first[0] == os.getpid() and self._first[1].share != place.share:
            raise ClipmillError(
                f"the clips were shared out as for {self._first[1]}, and now the job says {place}: make the dataset, or begin to read"
                " it, when the job's process group is there"
            )
        self._first = os.getpid(), place
        return place

    def expected(self, dataset: object) -> Place:
        """Return the place as far as it is known before an iteration, for lengths and states."""
        return self._here(dataset, begun=False)

    def handed_over(self, dataset: object) -> dict[str, Any]:
        """Return the state for a process that is started by pickling: a loading process gets the place of this one."""
        result: Place | str
        try:
            result = self._find(dataset, begun=True)
        except ClipmillError as error:  # raised in a loading process; a rank finds out by itself
            result = str(error)
        given, group = self.given, self._group
        if group is not None and group != "none" and isinstance(result, Place):  # it cannot be pickled
            given, group = result, "none"
        return {"given": given, "_group": group, "_first": None, "_inherited": (os.getpid(), result)}

    def _here(self, dataset: object, begun: bool) -> Place:
        parent = multiprocessing.parent_process()
        is_loading = torch.utils.data.get_worker_info() is not None
        if is_loading and parent is not None and self._inherited is not None and self._inherited[0] == parent.pid:
            if isinstance(self._inherited[1], str):
                raise ClipmillError(self._inherited[1])
            return self._inherited[1]
        return self._find(dataset, begun)  # a forked process knows what its parent knew

    def _find(self, dataset: object, begun: bool) -> Place:
        if self._group != "none" and (shared := _by_accelerate(dataset, self.given, begun)) is not None:
            return shared
        if self._group == "none":
            return self.given or Place(said_by='group="none"')
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            place = Place(
                torch.distributed.get_rank(self._group),
                torch.distributed.get_world_size(self._group),
                "torch.distributed",
            )
            if place.rank < 0:
                raise ClipmillError("this process is not in the process group that was given by group")
            if self.given is not None and self.given.share != place.share:
                raise ClipmillError(
                    f"the arguments say rank {self.given.rank} of {self.given.n_ranks}, torch.distributed says rank {place.rank} of"
                    f" {place.n_ranks}: leave rank and n_ranks out; or say by group= which process group shares the split; or give"
                    ' group="none", by which rank and n_ranks hold whatever the process group says'
                )
            return place
        return self.given or _of_environment() or Place()


def _by_accelerate(dataset: object, given: Place | None, begun: bool) -> Place | None:
    """Return the place of a dataset whose clips accelerate divides: every process reads all of them. None if it does not divide them.

    begun : whether an iteration has begun, so that this is known
    """
    state = sys.modules.get("accelerate.state")
    if state is None or not state.is_initialized() or state.PartialState().num_processes == 1:
        return None
    everything = Place(said_by="accelerate, which shares the clips itself")
    loader = _prepared(state, dataset)
    if loader is not None:
        if given is not None and given.n_ranks > 1:
            raise ClipmillError(
                f"the arguments say rank {given.rank} of {given.n_ranks}, and accelerate shares the clips once more: leave rank and"
                " n_ranks out, or do not hand the loader to prepare()"
            )
        return Place(*everything.share, everything.said_by, _whole_batch(loader))
    if given is not None:
        return None
    if not begun:
        return everything
    raise ClipmillError(
        "accelerate runs this job, and has not prepared what reads this dataset: hand its DataLoader to accelerator.prepare(), or share"
        " the clips without it by rank=accelerator.process_index, n_ranks=accelerator.num_processes. Where it is prepared and another"
        ' dataset is around this one, or use_stateful_dataloader starts loading processes in prepare(), give group="none"'
    )


def _prepared(state: Any, dataset: object) -> Any:
    """Return accelerate's loader that is iterating over a dataset, None if there is none."""
    for loader in reversed(state.GradientState().dataloader_references):
        inner = getattr(loader, "dataset", None)
        if loader is not None and (inner is dataset or getattr(inner, "dataset", None) is dataset):
            return loader
    return None


def _whole_batch(loader: Any) -> int | None:
    """Return the number of clips in a whole batch of one loading process: that of all ranks if each takes its part of it."""
    shard = loader.dataset  # accelerate's IterableDatasetShard, or the dataset itself where one process reads for all
    n = getattr(shard, "num_processes", 1)
    size = shard.batch_size * (1 if shard.split_batches else n) if n > 1 else loader.batch_size
    return int(size) if size else None


def _of_environment() -> Place | None:
    variables: dict[str, object] = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")}
    if variables["RANK"] is None and variables["WORLD_SIZE"] in (None, "1"):
        return None
    return _checked(variables, "RANK and WORLD_SIZE")


def _checked(values: dict[str, object], said_by: str) -> Place | None:
    """Return the place that two values give, None if both are missing."""
    if all(value is None for value in values.values()):
        return None
    if all(str(value).isdecimal() for value in values.values()):
        rank, n_ranks = (int(str(value)) for value in values.values())
        if rank < n_ranks:
            return Place(rank, n_ranks, said_by)
    said = ", ".join(f"{name} is {'not given' if value is None else repr(value)}" for name, value in values.items())
    raise ClipmillError(f"{said}; expected whole numbers, the first from 0 to one less than the second")
