"""A changed byte in any file of a dataset is found when it is read, believed by nobody, and repaired by the next build."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import shard_hashes, tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill.pipelines.dataset.marks import read_marks
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import BadRecordError, ClipmillError
from clipmill.schemas.seal import sealed, unsealed
from clipmill.stages.storage.checked import ChangedBytesError, CheckedStream
from clipmill.stages.storage.root import Root

RATE = 8000
Config = dict[str, Any]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    place = tmp_path_factory.mktemp("changed")
    for i in range(8):
        write_audio(place / f"in/{'cat' if i % 2 else 'dog'}/r{i}.wav", tone(1.0, RATE, seed=i), RATE)
    (place / "in/dog/bad.wav").write_bytes(b"no audio")
    config = {
        "name": "changed",
        "sources": [{"name": "s", "root": str(place / "in"), "label": {"from": "path", "regex": "(?P<label>[^/]+)/"}}],
        "audio": {"sample_rate_hz": RATE},
        "features": {"log_mel": {"n_mels": 16}},
        "limits": {"max_rejected_share": 1.0},
        "output": {"root": str(place / "out"), "shard_seconds": 3, "formats": ["parquet", "webdataset"]},
    }
    build(config, quiet=True).raise_for_status()
    return config, place / "out"


def seen(root: Path) -> list[Any]:
    """What readers see of a dataset."""
    published = clipmill.open_dataset(root)
    found: list[Any] = [published.snapshot.counts, published.classes, published.statistics().to_pylist()]
    found += [published.manifest().to_pylist(), published.rejections().to_pylist()]
    columns = [c["name"] for c in published.columns if c.get("kind") != "shape"]
    for row in clipmill.ClipDataset(published, "train", columns=columns):
        found.append({k: v.numpy().tobytes() if hasattr(v, "numpy") else v for k, v in row.items()})
    return found


def problems(root: Path) -> list[str]:
    try:
        *_, verdict = verify(Root(str(root)))
    except ClipmillError as error:
        return [str(error)]
    return verdict.problems


KINDS = [
    "commits/*.json", "commits/*.manifest.parquet", "commits/*.recordings.parquet", "index/*.shards.parquet", "index/*.records.parquet",
    "index/*.pcm.parquet", "index/*.manifest.parquet", "index/*.rejections.parquet", "snapshots/*/manifest.parquet",
    "snapshots/*/rejections.parquet", "shards/*/*.parquet", "shards/*/*.tar",
]  # fmt: skip


def flips(path: Path, n: int, seed: str) -> Iterator[bytes]:
    """Yield contents with one bit changed."""
    content, draw = path.read_bytes(), random.Random(seed)
    for _ in range(n):
        at = draw.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_is_found_and_the_next_build_mends_it(intact: tuple[Config, Path], tmp_path: Path, kind: str) -> None:
    config, whole = intact
    root = tmp_path / "out"
    shutil.copytree(whole, root)
    config = {**config, "output": {**config["output"], "root": str(root)}}
    before, hashes = seen(whole), shard_hashes(whole)
    files = sorted(root.glob(kind))
    assert files
    for i, content in enumerate(flips(files[len(files) // 2], 3, kind)):
        path = files[len(files) // 2]
        original = path.read_bytes()
        path.write_bytes(content)
        try:
            assert seen(root) == before, "believed"
        except ClipmillError as error:
            assert path.name in str(error) and "build again" in str(error), error
        assert any(path.name in problem for problem in problems(root))
        assert read_marks(Root(str(root)))
        if i == 0:
            report = build(config, quiet=True)
            assert report.status == "unchanged", report
            assert not read_marks(Root(str(root)))
            assert path.read_bytes() == original and shard_hashes(root) == hashes
            assert problems(root) == [] and seen(root) == before
        path.write_bytes(original)


@pytest.mark.parametrize("name", ["dataset.json", "snapshots/000001.json"])
def test_each_character_of_a_record_counts(intact: tuple[Config, Path], tmp_path: Path, name: str) -> None:
    """These two are named by no other record, so they are refused, with what to do."""
    _, whole = intact
    root = tmp_path / "out"
    shutil.copytree(whole, root)
    path = root / name
    content = path.read_bytes()
    draw = random.Random(name)
    for at in draw.sample(range(len(content)), min(150, len(content))):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << draw.randrange(7))]) + content[at + 1 :])
        with pytest.raises(ClipmillError, match=r"restore|newer clipmill"):
            clipmill.open_dataset(root)
    path.write_bytes(content)
    clipmill.open_dataset(root)


def test_records_of_tries_and_of_what_was_forgotten_are_verified(intact: tuple[Config, Path], tmp_path: Path) -> None:
    _, whole = intact
    root = tmp_path / "out"
    shutil.copytree(whole, root)
    for name, plain in (("retries", {"retries": {}}), ("generations", {"generations": {}})):
        path = root / f"{name}.json"
        content = sealed({"format_version": 2, **plain})
        path.write_bytes(content)
        assert problems(root) == []
        for changed in flips(path, 20, name):
            path.write_bytes(changed)
            assert any(f"{name}.json" in problem for problem in problems(root))
        path.write_bytes(content)


def test_what_to_write_into_a_damaged_dataset_json_is_told(intact: tuple[Config, Path], tmp_path: Path) -> None:
    _, whole = intact
    root = tmp_path / "out"
    shutil.copytree(whole, root)
    (root / "dataset.json").write_bytes(b"{")
    with pytest.raises(ClipmillError) as told:
        clipmill.open_dataset(root)
    remedy = str(told.value)[str(told.value).index('{"format_version"') :]
    (root / "dataset.json").write_text(remedy)
    assert seen(root) == seen(whole)


RECORDS = st.dictionaries(
    st.text(min_size=1).filter(lambda key: key not in ("sha256", "format_version")),
    st.none() | st.integers() | st.text() | st.floats(allow_nan=False) | st.lists(st.text()),
    min_size=1,
)


@given(RECORDS, st.data())
def test_a_seal_holds_for_every_byte(record: dict[str, Any], data: st.DataObject) -> None:
    record = {"format_version": 2, **record}
    content = sealed(record)
    assert unsealed(content) == record == {k: v for k, v in json.loads(content).items() if k != "sha256"}
    at = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    with pytest.raises((BadRecordError, ValueError)):
        unsealed(content[:at] + bytes([other]) + content[at + 1 :])


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_range_is_read_only_as_it_was_written(content: bytes, data: st.DataObject) -> None:
    import io

    cuts = data.draw(st.lists(st.integers(1, len(content)), unique=True))
    ends = sorted({*cuts, len(content)})
    starts = [0, *ends[:-1]]
    digests = [hashlib.sha256(content[a:b]).hexdigest() for a, b in zip(starts, ends, strict=True)]
    stream = CheckedStream(io.BytesIO(content), ends, digests)
    start, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(-1, 400))
    stream.seek(start)
    assert stream.read(length) == (content[start:] if length < 0 else content[start : start + length])
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = CheckedStream(io.BytesIO(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]), ends, digests)
    touched = next(i for i, end in enumerate(ends) if at < end)
    damaged.seek(starts[touched])
    with pytest.raises(ChangedBytesError):
        damaged.read(1)
    untouched = [i for i in range(len(ends)) if i != touched]
    for i in untouched:
        damaged.seek(starts[i])
        assert damaged.read(ends[i] - starts[i]) == content[starts[i] : ends[i]]


def test_a_range_ends_with_each_row_group(intact: tuple[Config, Path]) -> None:
    import pyarrow.parquet as pq

    _, whole = intact
    for shard in clipmill.open_dataset(whole).all_shards():
        output = shard.output("parquet")
        assert output is not None and output.range_ends[-1] == output.size_bytes
        metadata = pq.ParquetFile(whole / output.path).metadata
        for i in range(metadata.num_row_groups):
            columns = [metadata.row_group(i).column(k) for k in range(metadata.num_columns)]
            end = max((c.dictionary_page_offset or c.data_page_offset) + c.total_compressed_size for c in columns)
            assert any(end <= cut for cut in output.range_ends[:-1]), "the footer has a range of its own"
            assert np.isin(end, output.range_ends)
