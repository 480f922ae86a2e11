"""What the loader says of shards that are damaged, of wrong arguments and of states that are none; fields of any name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import tone, write_audio

from clipmill.pipelines.config_file import load
from clipmill.pipelines.read.batches import padded
from clipmill.pipelines.read.training import ClipDataset
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError

N_CLIPS = 24


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("loading errors")
    for i in range(6):
        write_audio(place / f"in/r{i}.wav", tone(1, 16000, seed=i), 16000)
    (place / "c.yaml").write_text(
        f"""
name: errors
sources: [{{name: s, root: {place}/in, segment: {{mode: window, length_s: 0.25}}}}]
features: {{log_mel: {{n_mels: 20}}}}
output: {{root: {place}/out, shard_seconds: 2}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    return place / "out"


@pytest.mark.parametrize("harm", ["gone", "cut", "zeros", "flipped"])
def test_a_shard_that_is_damaged_under_way_is_named(dataset: Path, tmp_path: Path, harm: str) -> None:
    there = tmp_path / "d"
    shutil.copytree(dataset, there)
    clips = ClipDataset(there, "train", ("clip_id", "audio", "log_mel"))
    last = max((there / "shards").rglob("*.parquet"))
    content = last.read_bytes()
    if harm == "gone":
        last.unlink()
    elif harm == "flipped":
        start, length = _place_of(last, "audio")
        last.write_bytes(
            content[:start] + bytes(255 - b for b in content[start : start + length]) + content[start + length :]
        )
    else:
        last.write_bytes(bytes(len(content)) if harm == "zeros" else content[: len(content) // 2])
    with pytest.raises(ClipmillError, match=f"{last.name} cannot be read as it was written .*clipmill verify"):
        list(clips)


def _place_of(path: Path, column: str) -> tuple[int, int]:
    group = pq.ParquetFile(path).metadata.row_group(0)
    found = next(c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema.startswith(column))
    return found.data_page_offset, found.total_compressed_size


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"columns": "audio"}, "give a list of names"),
        ({"split": ["train"]}, "does not exist; the splits are train"),
        ({"split": "trian"}, "split 'trian' does not exist; the splits are train; did you mean 'train'?"),
        ({"seed": -1}, "seed is -1; expected a whole number of at least 0"),
        ({"seed": None}, "seed is None"),
        ({"buffer_size": 2.5}, "buffer_size is 2.5"),
        ({"buffer_size": 0}, "buffer_size is 0; expected a whole number of at least 1"),
        ({"shuffle": "no"}, "shuffle is 'no'; it can be False or True"),
        ({"even": "Drop"}, "even is 'Drop'; it can be None or 'drop' or 'repeat'"),
        ({"normalise": "bins", "columns": ["log_mel"]}, "normalise is 'bins'"),
        ({"normalise": "bin"}, "the columns audio, label_id have none"),
        ({"normalise": "bin", "columns": ["log_mel"], "normalise_by": "trian"}, "is not a split; the splits are train"),
        ({"rank": 1}, "rank is 1, n_ranks is not given"),
        ({"rank": 2, "n_ranks": 2}, "rank is 2, n_ranks is 2"),
        ({"rank": 0.0, "n_ranks": 2}, "rank is 0.0"),
        ({"snapshot": 1.0}, "snapshot must be a number, not 1.0"),
        ({"snapshot": 7}, "snapshot 7 does not exist; the only one is 1"),
        ({"storage_options": "x"}, "must be a mapping"),
        ({"root": ""}, "is empty"),
        ({"root": "s3://"}, "names no bucket"),
        ({"root": __file__}, "test_loading_errors.py"),
    ],
)
def test_wrong_arguments_are_told_when_they_are_given(dataset: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ClipmillError, match=re.escape(said)):
        ClipDataset(**{"root": dataset, "split": "train", **wrong})


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RANK": "1"}, "WORLD_SIZE is not given"),
        ({"WORLD_SIZE": "2"}, "RANK is not given"),
        ({"RANK": "a", "WORLD_SIZE": "2"}, "RANK is 'a'"),
    ],
)
def test_half_a_job_is_none(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClipmillError, match=told):
        ClipDataset(dataset, "train")


def test_a_process_of_lightning_learns_its_rank_later(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is a process group, such processes know how many there are, and which they are on their machine."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    clips = ClipDataset(dataset, "train", ("clip_id",))
    with pytest.raises(ClipmillError, match="RANK is not given"):
        next(iter(clips))


def test_what_is_no_state_is_refused(dataset: Path) -> None:
    clips = ClipDataset(dataset, "train", ("clip_id",))
    state = clips.state_dict()
    for wrong in ({}, None, {**state, "given": -5}, {**state, "given": "3"}, {**state, "epoch": None}):
        with pytest.raises(ClipmillError):
            clips.load_state_dict(wrong)  # type: ignore[arg-type]
    other_way_to_it = ClipDataset(f"{dataset}/../{dataset.name}/", "train", ("clip_id",))
    other_way_to_it.load_state_dict(state)
    assert len(list(other_way_to_it)) == N_CLIPS


def test_fields_of_any_name(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/dog_round_7.wav", tone(1, 16000), 16000)
    (tmp_path / "c.yaml").write_text(
        f"""
name: fields
sources: [{{name: s, root: {tmp_path}/in, segment: {{mode: whole}}, fields: '(?P<animal>[a-z]+)_(?P<animal_shape>[a-z]+)_(?P<audio_length>.)'}}]
output: {{root: {tmp_path}/out}}
"""
    )
    build(load(tmp_path / "c.yaml"), quiet=True)
    columns = ("animal", "animal_shape", "audio_length")
    assert list(ClipDataset(tmp_path / "out", "train", columns)) == [
        dict(zip(columns, ("dog", "round", "7"), strict=True))
    ]
    with pytest.raises(ClipmillError, match="'audio_length' has the name that"):
        padded(ClipDataset(tmp_path / "out", "train", ("audio", "audio_length")))
