"""Ranks of real distributed jobs, however they are started: every clip counted, over two ranks with two loading processes each."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from conftest import tone, write_audio
from torch.utils.data import DataLoader

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.ranks import Ranks
from clipmill.pipelines.read.shared_epoch import SharedEpoch
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError

ROOT = Path(__file__).parents[1]
N_CLIPS = 61  # prime, so that nothing divides it
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed: pip install accelerate"
)
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed: pip install transformers"
)

COMMON = """
import json, os, sys, warnings
import torch, torch.distributed as dist
from torch.utils.data import DataLoader
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.dataset.published import open_dataset

ROOT, OUT = sys.argv[1], sys.argv[2]

def places(samples):
    # clips by number: what a job exchanges are tensors
    return {"place": torch.tensor([int(s["place"]) for s in samples])}

def loader(clips, n_workers=2, batch_size=4, context=None, **more):
    return DataLoader(clips, batch_size=batch_size, num_workers=n_workers, collate_fn=places, multiprocessing_context=context, **more)

def told(rank, batches, **more):
    mine = [int(p) for batch in batches for p in batch["place"]]
    with open(f"{OUT}/{rank}.json", "w") as file:
        json.dump({"mine": mine, **more}, file)
    if dist.is_initialized():  # a process that ends without is sometimes aborted by gloo's threads
        dist.barrier()
        dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    rows = ["file,start,end,place"]
    for i in range(N_CLIPS):
        if i % 10 == 0:
            write_audio(place / f"in/r{i // 10}.wav", tone(2, 16000, seed=i), 16000)
        rows.append(f"r{i // 10}.wav,{i % 10 / 10},{i % 10 / 10 + 0.1},{i}")
    (place / "in/table.csv").write_text("\n".join(rows) + "\n")
    (place / "c.yaml").write_text(
        f"""
name: ranks
sources:
  - name: s
    root: {place}/in
    annotations: {{table: table.csv, recording: file, columns: {{start: start, end: end, place: place}}}}
    segment: {{mode: annotation}}
output: {{root: {place}/out, shard_seconds: 2}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    assert open_dataset(place / "out").snapshot.counts.clips_kept == N_CLIPS
    return place / "out"


def run(program: str, dataset: Path, out: Path, *launcher: str, **environment: str) -> list[dict[str, Any]]:
    """Run a program as a job of two ranks; return what each has told."""
    script = out / "job.py"
    script.write_text(COMMON + program)
    inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    where = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(dataset), str(out)],
        capture_output=True, text=True, timeout=300, check=False, cwd=out, env={**inherited, **where, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def assert_each_once(found: list[dict[str, Any]]) -> None:
    assert Counter(p for rank in found for p in rank["mine"]) == Counter(range(N_CLIPS))


@pytest.mark.parametrize(
    ("group", "context"),
    [
        pytest.param("no group", "fork", marks=pytest.mark.slow),
        pytest.param("group before", "fork", marks=pytest.mark.slow),
        ("group after", "fork"),
        pytest.param("group after", "spawn", marks=pytest.mark.slow),
        pytest.param("no group", "spawn", marks=pytest.mark.slow),
        pytest.param("group before", "spawn", marks=pytest.mark.slow),
    ],
)
def test_torchrun(dataset: Path, tmp_path: Path, group: str, context: str) -> None:
    before = 'dist.init_process_group("gloo")' if group == "group before" else ""
    after = 'dist.init_process_group("gloo")' if group == "group after" else ""
    program = f"""
if __name__ == "__main__":
    {before}
    clips = ClipDataset(ROOT, "train", ("place",), shuffle=True)
    {after}
    told(os.environ["RANK"], loader(clips, context="{context}"), length=len(clips))
"""
    found = run(program, dataset, tmp_path, *TORCHRUN)
    assert_each_once(found)
    assert [rank["length"] for rank in found] == [len(rank["mine"]) for rank in found]


@pytest.mark.parametrize(
    ("n_workers", "context"),
    [
        pytest.param(0, None, marks=pytest.mark.slow),
        (2, "fork"),
        (1, "spawn"),  # each process imports torch, and they start again for the second epoch
        pytest.param(2, "spawn", marks=pytest.mark.slow),
        pytest.param(2, "forkserver", marks=pytest.mark.slow),
    ],
)
def test_a_dataset_that_is_handed_to_spawned_ranks(
    dataset: Path, tmp_path: Path, n_workers: int, context: str | None
) -> None:
    """The launcher has neither RANK nor a process group, and neither have loading processes."""
    program = f"""
import torch.multiprocessing as mp

def rank(i, clips):
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:{free_port()}", rank=i, world_size=2)
    batches = loader(clips, {n_workers}, context={context!r})
    first = list(batches)
    clips.set_epoch(1)
    told(i, first, second=[int(p) for batch in batches for p in batch["place"]])

if __name__ == "__main__":
    clips = ClipDataset(ROOT, "train", ("place",), shuffle=True)
    assert len(clips) == {N_CLIPS}
    mp.spawn(rank, (clips,), nprocs=2)
"""
    found = run(program, dataset, tmp_path)
    assert_each_once(found)
    assert_each_once([{"mine": rank["second"]} for rank in found])
    assert [rank["mine"] for rank in found] != [rank["second"] for rank in found]


@pytest.mark.slow
def test_a_process_group_that_says_otherwise_is_told(dataset: Path, tmp_path: Path) -> None:
    program = f"""
import torch.multiprocessing as mp

def said(do):
    try:
        do()
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
    return "nothing"

def rank(i):
    read = ClipDataset(ROOT, "train", ("place",))
    n_before = len(list(read))
    given = ClipDataset(ROOT, "train", ("place",), rank=0, n_ranks=1)
    alone = ClipDataset(ROOT, "train", ("place",), group="none")
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:{free_port()}", rank=i, world_size=2)
    mine = [dist.new_group([0]), dist.new_group([1])]
    own = ClipDataset(ROOT, "train", ("place",), group=mine[i])
    agrees = ClipDataset(ROOT, "train", ("place",), rank=i, n_ranks=2)
    told(i, loader(agrees), n_before=n_before, read=said(lambda: list(read)), given=said(lambda: list(given)),
         workers=said(lambda: list(loader(given, 1, context="spawn"))), alone=len(list(alone)), own=len(list(own)),
         own_workers=sum(len(b["place"]) for b in loader(own, 1, context="spawn")),
         others=said(lambda: list(ClipDataset(ROOT, "train", ("place",), group=mine[1 - i]))))

if __name__ == "__main__":
    mp.spawn(rank, nprocs=2)
"""
    found = run(program, dataset, tmp_path)
    assert_each_once(found)
    for i, rank in enumerate(found):
        assert rank["n_before"] == rank["alone"] == rank["own"] == rank["own_workers"] == N_CLIPS
        assert "ClipmillError: the clips were shared out as for rank 0 of 1" in rank["read"]
        assert f"now the job says rank {i} of 2 (by torch.distributed)" in rank["read"]
        for told in (rank["given"], rank["workers"]):
            assert "the arguments say rank 0 of 1, torch.distributed says rank" in told and 'group="none"' in told
        assert "not in the process group" in rank["others"]


ACCELERATE = """
from accelerate import Accelerator, DataLoaderConfiguration

if __name__ == "__main__":
    clips = ClipDataset(ROOT, "train", ("place",), shuffle=True)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches={dispatch}, split_batches={split}))
    batches = accelerator.prepare(loader(clips, {n_workers}, {batch_size}, {context}))
    n_batches, first = len(batches), list(batches)
    gathered = [int(p) for b in batches for p in accelerator.gather_for_metrics(b["place"])]
    told(accelerator.process_index, first, n_batches=n_batches, n_found=len(first), length=len(clips), gathered=gathered)
"""


PREPARED = [
    (dispatch, split, n_workers, context)
    for dispatch in (None, True, False)
    for split in (False, True)
    for n_workers, context in ((0, None), (2, "fork"), (2, "spawn"), (3, "fork"))
    if not (split and context == "spawn")  # one way of starting them is enough for split batches
]
USUAL = [(None, False, 2, "fork"), (True, False, 0, None)]  # fmt: skip
"""A job of two processes takes seven seconds to start, so the others are `slow`."""


@needs_accelerate
@pytest.mark.parametrize(
    ("dispatch", "split", "n_workers", "context"),
    [case if case in USUAL else pytest.param(*case, marks=pytest.mark.slow) for case in PREPARED],
)
def test_accelerate_shares_what_it_prepares(
    dataset: Path, tmp_path: Path, dispatch: bool | None, split: bool, n_workers: int, context: str | None
) -> None:
    batch_size = 8 if n_workers == 3 else 4  # 20 or 21 clips of each process would be a batch more than 61 are
    program = ACCELERATE.format(
        dispatch=dispatch, split=split, n_workers=n_workers, batch_size=batch_size, context=repr(context)
    )
    found = run(program, dataset, tmp_path, *TORCHRUN)
    seen = Counter(p for rank in found for p in rank["mine"])
    assert seen.keys() == set(range(N_CLIPS))
    assert seen.total() - N_CLIPS < 2 * batch_size, "more than the last batch was filled up"
    for rank in found:
        assert rank["length"] == N_CLIPS
        assert rank["n_found"] == rank["n_batches"]
        gathered = Counter(rank["gathered"])
        assert gathered.keys() == set(range(N_CLIPS))
        if (
            dispatch is not False
        ):  # where each rank reads by itself, accelerate does not know how much of the last batch is repeated
            assert gathered.total() == N_CLIPS


@needs_accelerate
def test_a_loader_that_accelerate_has_not_prepared_is_told(dataset: Path, tmp_path: Path) -> None:
    program = """
from accelerate import Accelerator

def said(do):
    try:
        do()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"

if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    clips = ClipDataset(ROOT, "train", ("place",))
    i, n = accelerator.process_index, accelerator.num_processes
    own = ClipDataset(ROOT, "train", ("place",), rank=i, n_ranks=n)
    twice = accelerator.prepare(loader(ClipDataset(ROOT, "train", ("place",), rank=i, n_ranks=n), 0))
    told(i, loader(own), bare=said(lambda: list(clips)), workers=said(lambda: list(loader(clips))),
         spawned=said(lambda: list(loader(clips, 1, context="spawn"))), twice=said(lambda: list(twice)) if i == 0 else "",
         all=len(list(ClipDataset(ROOT, "train", ("place",), group="none"))))
"""
    found = run(program, dataset, tmp_path, *TORCHRUN)
    assert_each_once(found)
    for rank in found:
        for told in (rank["bare"], rank["workers"], rank["spawned"]):
            assert "accelerator.prepare()" in told and "rank=accelerator.process_index" in told
        assert rank["all"] == N_CLIPS
    assert "accelerate shares the clips once more" in found[0]["twice"]


@needs_transformers
@needs_accelerate
@pytest.mark.parametrize(
    ("dispatch", "n_workers"),
    [pytest.param(*each, marks=pytest.mark.slow) for each in [(None, 2), (None, 0), (False, 0), (False, 2)]],
)  # the example of test_trainer_examples.py trains with it in each run
def test_the_trainer_of_transformers(dataset: Path, tmp_path: Path, n_workers: int, dispatch: bool | None) -> None:
    program = f"""
from transformers import Trainer, TrainingArguments

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, place):
        self.seen += place.tolist()
        return {{"loss": self.weight * place.float().mean()}}

if __name__ == "__main__":
    arguments = TrainingArguments(
        output_dir=OUT, num_train_epochs=2, per_device_train_batch_size=4, dataloader_num_workers={n_workers}, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
        accelerator_config={{"dispatch_batches": {dispatch}}},
    )
    clips = ClipDataset(ROOT, "train", ("place",), shuffle=True)
    model = Model()
    Trainer(model=model, args=arguments, train_dataset=clips, data_collator=places).train()
    told(arguments.process_index, [{{"place": model.seen}}])
"""
    found = run(program, dataset, tmp_path, *TORCHRUN)
    seen = Counter(p for rank in found for p in rank["mine"])
    assert set(seen) == set(range(N_CLIPS))
    assert min(seen.values()) == 2, "an epoch has lost some"
    assert seen.total() - 2 * N_CLIPS < 16


@pytest.mark.parametrize("n_workers", [0, 1, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_lengths_hold(dataset: Path, n_workers: int, drop_last: bool) -> None:
    """Each loading process would end with a smaller batch of its own, were it not told of what size they are."""
    for rank in range(2):
        clips = ClipDataset(dataset, "train", ("place",), rank=rank, n_ranks=2, batch_size=7)
        loader = DataLoader(clips, batch_size=7, num_workers=n_workers, collate_fn=padded, drop_last=drop_last)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            n_batches, batches = len(loader), list(loader)
        assert len(batches) == n_batches
        if not drop_last:
            assert sum(len(b["place"]) for b in batches) == len(clips) == clips.n_clips


def test_memory_is_shared_without_dev_shm(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError("No space left on device: '/dev/shm'")

    monkeypatch.setattr(torch.Tensor, "share_memory_", no_room)
    monkeypatch.setattr("multiprocessing.heap.Arena.__init__", no_room)
    monkeypatch.setattr("multiprocessing.shared_memory.SharedMemory.__init__", no_room)
    clips = ClipDataset(dataset, "train", ("place",), shuffle=True)
    clips.set_epoch(3)
    assert len(list(clips)) == N_CLIPS and clips.state_dict()["epoch"] == 3


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_an_epoch_reaches_processes_that_live_on(dataset: Path, context: str) -> None:
    clips = ClipDataset(dataset, "train", ("place",), shuffle=True)
    loader = DataLoader(
        clips, num_workers=1, batch_size=8, collate_fn=padded, persistent_workers=True, multiprocessing_context=context
    )
    orders = []
    for epoch in (0, 1, 0):
        clips.set_epoch(epoch)
        orders.append([p for batch in loader for p in batch["place"]])
    assert orders[0] == orders[2] != orders[1]


def test_a_copy_is_its_own(dataset: Path) -> None:
    import copy
    import pickle

    clips = ClipDataset(dataset, "train", ("place",), rank=1, n_ranks=2)
    clips.set_epoch(4)
    for other in (copy.deepcopy(clips), pickle.loads(pickle.dumps(clips))):
        assert other.epoch == 4 and [s["place"] for s in other] == [s["place"] for s in clips]
        other.set_epoch(5)
        assert clips.epoch == 4
    epoch = SharedEpoch(7)
    assert pickle.loads(pickle.dumps(epoch)).get() == 7


def test_no_group_of_that_name() -> None:
    with pytest.raises(ClipmillError, match="group is 'all'"):
        Ranks(None, None, "all")


def test_the_rows_are_those_of_the_shards(dataset: Path) -> None:
    stored = [p for f in open_dataset(dataset).uris("train") for p in pq.read_table(f)["place"].to_pylist()]
    assert sorted(map(int, stored)) == list(range(N_CLIPS))
