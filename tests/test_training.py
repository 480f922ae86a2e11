"""The loader: real datasets, real loading processes, a real distributed job; every clip counted."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import tone, write_audio
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.write.encode import decode_clip

N_FILES, N_CLIPS = 30, 30 * 9


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("training")
    for i in range(N_FILES):
        channels = 1 + i % 2
        write_audio(
            place / "in" / f"class{i % 3}" / f"r{i}.wav", tone(2.1, 16000, channels, hz=100 * (i + 1), seed=i), 16000
        )
    config = place / "c.yaml"
    config.write_text(
        f"""
name: training
sources:
  - {{name: s, root: {place}/in, label: {{from: folder}}, segment: {{mode: window, length_s: 0.25, tail: keep}}}}
audio: {{channels: keep}}
features: {{dtype: float16, log_mel: {{n_fft: 512, hop_length: 160, n_mels: 20}}}}
output: {{root: {place}/out, shard_seconds: 6}}
"""
    )
    assert build(load(config), quiet=True).status == "published"
    return place / "out"


@pytest.fixture(scope="module")
def stored(dataset: Path) -> dict[str, dict[str, Any]]:
    found = {
        row["clip_id"]: row for f in (dataset / "shards").rglob("*.parquet") for row in pq.read_table(f).to_pylist()
    }
    assert len(found) == N_CLIPS
    return found


def ids(loader: Any) -> list[str]:
    return [name for batch in loader for name in batch["clip_id"]]


def test_a_sample_is_what_is_stored(dataset: Path, stored: dict[str, dict[str, Any]]) -> None:
    columns = ("clip_id", "audio", "log_mel", "label", "label_id", "start_s", "n_samples", "level_dbfs")
    clips = ClipDataset(str(dataset), "train", columns)
    assert clips.classes == ["class0", "class1", "class2"]
    seen = 0
    for sample in clips:
        row = stored[sample["clip_id"]]
        pcm, _ = decode_clip(row["audio"]["bytes"])
        assert sample["audio"].dtype == torch.float32
        assert np.array_equal(sample["audio"].numpy() * 32768, pcm.T)
        mel = np.array(row["log_mel"], np.float32).reshape(row["log_mel_shape"])
        assert sample["log_mel"].dtype == torch.float32
        assert np.array_equal(sample["log_mel"].numpy(), mel)
        assert clips.classes[sample["label_id"]] == sample["label"] == row["label"]
        assert all(sample[name] == row[name] for name in ("start_s", "n_samples", "level_dbfs"))
        assert tuple(sample) == columns
        seen += 1
    assert seen == clips.n_clips == N_CLIPS


@pytest.mark.parametrize("n_workers", [0, 1, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_and_loading_processes_get_every_clip_once(
    dataset: Path, stored: dict[str, Any], n_workers: int, shuffle: bool
) -> None:
    seen: Counter[str] = Counter()
    for rank in range(4):
        clips = ClipDataset(str(dataset), "train", ("clip_id",), shuffle=shuffle, buffer_size=50, rank=rank, n_ranks=4)
        mine = ids(DataLoader(clips, batch_size=7, num_workers=n_workers, collate_fn=padded))
        assert len(mine) == clips.n_clips
        seen.update(mine)
    assert seen == Counter(stored.keys())


def test_epochs_differ_and_a_seed_gives_the_same_order_again(dataset: Path, stored: dict[str, Any]) -> None:
    clips = ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, buffer_size=100, seed=3)
    loader = DataLoader(clips, batch_size=10, num_workers=2, collate_fn=padded, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 0):
        clips.set_epoch(epoch)
        orders.append(ids(loader))
    assert orders[0] == orders[2] != orders[1]
    assert set(orders[0]) == set(orders[1]) == set(stored)
    labels = [stored[name]["recording_id"] for name in orders[0]]
    neighbours = sum(a == b for a, b in itertools.pairwise(labels))
    assert neighbours < len(labels) / 3  # in their order it is eight of nine


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 5, 12])
def test_an_interrupted_epoch_goes_on_with_exactly_what_is_left(
    dataset: Path, stored: dict[str, Any], n_workers: int, stop: int
) -> None:
    def loader() -> StatefulDataLoader:
        clips = ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, buffer_size=60, seed=1)
        clips.set_epoch(5)
        return StatefulDataLoader(clips, batch_size=16, num_workers=n_workers, collate_fn=padded)

    whole = ids(loader())
    assert sorted(whole) == sorted(stored)
    first, before = loader(), []
    for i, batch in enumerate(first):
        if i == stop:
            break
        before += batch["clip_id"]
        state = first.state_dict()
    if not stop:
        state, before = first.state_dict(), list(batch["clip_id"])
    again = loader()
    again.load_state_dict(state)
    assert before + ids(again) == whole


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_state_taken_at_the_end_of_an_epoch_leaves_the_next_one_as_it_is(dataset: Path, n_workers: int) -> None:
    def loader() -> tuple[ClipDataset, StatefulDataLoader]:
        clips = ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, buffer_size=60)
        return clips, StatefulDataLoader(clips, batch_size=16, num_workers=n_workers, collate_fn=padded)

    clips, first = loader()
    orders = []
    for epoch in range(3):
        clips.set_epoch(epoch)
        orders.append(ids(first))
        if epoch == 0:
            state = first.state_dict()
    assert orders[0] != orders[1] != orders[2]
    clips, again = loader()
    again.load_state_dict(state)
    for epoch in (1, 2):
        clips.set_epoch(epoch)
        assert ids(again) == orders[epoch]


def test_a_dataset_by_itself_goes_on_in_the_epoch_of_the_state_and_then_in_its_own(dataset: Path) -> None:
    def clips() -> ClipDataset:
        return ClipDataset(dataset, "train", ("clip_id",), shuffle=True, buffer_size=60)

    whole = {}
    for epoch in (0, 5):
        (one := clips()).set_epoch(epoch)
        whole[epoch] = [s["clip_id"] for s in one]
    one.set_epoch(5)
    under_way = iter(one)
    before = [next(under_way)["clip_id"] for _ in range(100)]
    again = clips()
    again.load_state_dict(one.state_dict())
    assert again.state_dict() == one.state_dict()
    assert before + [s["clip_id"] for s in again] == whole[5]
    assert [s["clip_id"] for s in again] == whole[0]


def test_a_state_is_that_of_its_own_iteration(dataset: Path) -> None:
    """Not of another one over the same dataset, nor of the epoch that was chosen for the next."""
    clips = ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, buffer_size=60)
    whole = [s["clip_id"] for s in clips]
    loader = StatefulDataLoader(clips, batch_size=10, collate_fn=padded)
    under_way = iter(loader)
    before = next(under_way)["clip_id"] + next(under_way)["clip_id"]
    clips.set_epoch(7)
    assert len(list(clips)) == N_CLIPS
    state = loader.state_dict()
    again = StatefulDataLoader(
        ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, buffer_size=60), batch_size=10, collate_fn=padded
    )
    again.load_state_dict(state)
    assert before + ids(again) == whole


def test_ranks_get_other_clips_in_another_epoch_however_few_the_shards(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/r.wav", tone(10, 16000), 16000)
    (tmp_path / "c.yaml").write_text(
        f"name: one\nsources: [{{name: s, root: {tmp_path}/in, segment: {{mode: window, length_s: 0.25}}}}]\noutput: {{root: {tmp_path}/out}}\n"
    )
    build(load(tmp_path / "c.yaml"), quiet=True)
    first = ClipDataset(tmp_path / "out", "train", ("clip_id",), shuffle=True, even="drop", rank=0, n_ranks=3)
    seen = []
    for epoch in range(6):
        first.set_epoch(epoch)
        seen.append({s["clip_id"] for s in first})
    assert all(len(clips) == 13 for clips in seen)
    assert len(set().union(*seen)) > 25


def test_an_epoch_goes_on_only_with_what_it_began_with(dataset: Path) -> None:
    state = ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, seed=1).state_dict()
    with pytest.raises(ClipmillError, match="seed was 1 when the state was taken and is 2 now"):
        ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, seed=2).load_state_dict(state)
    with pytest.raises(ClipmillError, match="n_ranks"):
        ClipDataset(str(dataset), "train", ("clip_id",), shuffle=True, seed=1, rank=0, n_ranks=2).load_state_dict(state)


@pytest.mark.parametrize("even", ["drop", "repeat"])
def test_all_ranks_get_equally_many_batches_on_request(dataset: Path, stored: dict[str, Any], even: Any) -> None:
    n_ranks = 7  # 270 clips: 38.6 each
    counts, seen = set(), Counter[str]()
    for rank in range(n_ranks):
        clips = ClipDataset(str(dataset), "train", ("clip_id",), even=even, rank=rank, n_ranks=n_ranks)
        batches = list(DataLoader(clips, batch_size=5, num_workers=2, collate_fn=padded))
        counts.add(len(batches))
        seen.update(name for batch in batches for name in batch["clip_id"])
    assert len(counts) == 1
    assert len(seen) == (N_CLIPS - N_CLIPS % n_ranks if even == "drop" else N_CLIPS)
    assert max(seen.values()) == (1 if even == "drop" else 2)


def test_unequal_lengths_are_padded() -> None:
    a, b = torch.ones(2, 5), torch.ones(1, 7)
    batch = padded([{"audio": a, "label_id": 1, "clip_id": "a"}, {"audio": b, "label_id": -1, "clip_id": "b"}])
    assert batch["audio"].shape == (2, 2, 7)
    assert batch["audio_length"].tolist() == [5, 7]
    assert batch["audio"].sum() == a.sum() + b.sum()
    assert batch["audio"][0, :, 5:].abs().sum() == 0 == batch["audio"][1, 1].abs().sum()
    assert batch["label_id"].tolist() == [1, -1]
    assert batch["clip_id"] == ["a", "b"]
    assert padded([{"x": 1}, {"x": 0.1}])["x"].tolist() == [1.0, 0.1]
    assert padded([{"x": 1.5}, {"x": None}])["x"] == [1.5, None]
    with pytest.raises(ClipmillError, match="no sample"):
        padded([])


def test_what_is_not_there_is_told(dataset: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    with pytest.raises(ClipmillError, match="split 'dev' does not exist; the splits are train"):
        ClipDataset(str(dataset), "dev")
    with pytest.raises(
        ClipmillError, match=r"column 'mfcc' does not exist; the columns are clip_id, .*log_mel.*label_id"
    ):
        ClipDataset(str(dataset), "train", ("mfcc",))
    with pytest.raises(ClipmillError, match="is not a clipmill dataset"):
        ClipDataset(str(tmp_path), "train")
    write_audio(tmp_path / "in/r.wav", tone(1, 16000), 16000)
    tars = {"root": str(tmp_path / "tars"), "formats": ["webdataset"]}
    build(
        load(make_config({"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}}, output=tars)),
        quiet=True,
    )
    with pytest.raises(ClipmillError, match="stored as webdataset, not as parquet"):
        ClipDataset(str(tmp_path / "tars"), "train")


def test_a_distributed_job_shares_the_split(dataset: Path, stored: dict[str, Any]) -> None:
    """Two processes of torchrun's kind, over gloo, as ranks of one job."""
    program = f"""
import torch.distributed as dist
from torch.utils.data import DataLoader
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.training import ClipDataset
dist.init_process_group("gloo")
clips = ClipDataset({str(dataset)!r}, "train", ("clip_id",), shuffle=True)
mine = [n for batch in DataLoader(clips, batch_size=8, num_workers=1, collate_fn=padded) for n in batch["clip_id"]]
both = [None, None]
dist.all_gather_object(both, mine)
if dist.get_rank() == 0:
    print(*both[0], *both[1])
dist.destroy_process_group()
"""
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = [sys.executable, *run, sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == 0, done.stderr
    assert Counter(done.stdout.split()) == Counter(stored.keys())


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_the_same_from_a_store(context: str, dataset: Path, stored: dict[str, Any], bucket: str, endpoint: str) -> None:
    from clipmill.stages.storage.root import Root

    there = Root(f"s3://{bucket}/d", {"endpoint_url": endpoint})
    for path in sorted(dataset.rglob("*")):
        if path.is_file():
            there.write_bytes(str(path.relative_to(dataset)), path.read_bytes())
    clips = ClipDataset(there.url, "train", ("clip_id", "audio"), shuffle=True, storage_options=there.storage_options)
    loader = DataLoader(clips, batch_size=20, num_workers=2, collate_fn=padded, multiprocessing_context=context)
    assert sorted(ids(loader)) == sorted(stored)


def test_a_process_that_built_on_ray_can_fork_and_go_on_with_ray(dataset: Path) -> None:
    """Handles that a build left in cycles were collected by forked processes, and this one heard nothing more from Ray."""
    program = f"""
import gc, multiprocessing, ray
from clipmill.pipelines.run.build import build
from clipmill.pipelines.config_file import load
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
gc.disable()
config = {str(dataset.parent / "c.yaml")!r}
file = load(config)
object.__setattr__(file.config.output, "root", {str(dataset.parent / "again")!r})
print(build(file, quiet=True).status)
for _ in range(3):
    child = multiprocessing.get_context("fork").Process(target=gc.collect)
    child.start()
    child.join()
@ray.remote
class Answers:
    def say(self):
        return "heard"
print(ray.get(Answers.remote().say.remote()))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[1], check=False
    )
    assert done.stdout.split() == ["published", "heard"], done.stderr


def test_ray_splits_a_stream_of_it(dataset: Path, stored: dict[str, Any], ray_session: None) -> None:
    parts = open_dataset(str(dataset)).to_ray_dataset("train", ("clip_id", "label")).streaming_split(2, equal=True)

    found: list[list[str]] = [[], []]

    def consume(rank: int) -> None:
        for batch in parts[rank].iter_batches():
            found[rank] += [str(n) for n in batch["clip_id"]]

    # Each waits for the other to begin, as the ranks of a job do. Daemons, so that a wait without end fails this test alone.
    ranks = [threading.Thread(target=consume, args=(rank,), daemon=True) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        assert not rank.is_alive(), "a rank still waits for its share"
    for wrong in (["clip_id", "lable"], "clip_id"):
        with pytest.raises(ClipmillError, match="the columns are clip_id, "):
            open_dataset(dataset).to_ray_dataset("train", wrong)
    assert [len(names) for names in found] == [N_CLIPS // 2, N_CLIPS // 2]
    assert sorted(n for names in found for n in names) == sorted(stored)
