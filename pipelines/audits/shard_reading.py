"""Read chosen clips out of shards with pyarrow, tarfile and soundfile: their audio, their features and their columns of numbers."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tarfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.published import Published
from clipmill.schemas.index import Shard
from clipmill.schemas.layout import BESIDE
from clipmill.schemas.records import OutputFile
from clipmill.stages.storage.checked import open_checked


@dataclass(frozen=True)
class StoredClip:
    """A clip as it is stored.

    row : its columns of numbers and text
    samples : int16 or float32 [frames, channels], as stored
    sample_rate_hz : of the audio file
    features : by name, as stored, in their shapes
    """

    row: Mapping[str, Any]
    samples: npt.NDArray[Any]
    sample_rate_hz: int
    features: Mapping[str, npt.NDArray[Any]]


def stored_clips(published: Published, shard: Shard, clip_ids: Sequence[str]) -> Iterator[StoredClip]:
    """Yield clips of a shard, in its order.

    Raises
    ------
    ClipmillError : a file of the shard is missing or damaged, or does not hold a clip
    """
    output = shard.output("parquet")
    if output is not None:
        yield from _of_parquet(published, output, shard.output(BESIDE), clip_ids)
        return
    output = shard.output("webdataset")
    if output is not None:
        yield from _of_tar(published, output, clip_ids)


def _of_parquet(
    published: Published, output: OutputFile, beside: OutputFile | None, clip_ids: Sequence[str]
) -> Iterator[StoredClip]:
    features = published.feature_names
    names = {column["name"] for column in published.columns}
    own = _wanted(published, published.names_beside if beside is not None else frozenset())
    others = [name for name in _wanted(published, names - published.names_beside) if name != "clip_id"]
    places: dict[int, str] = {}
    for place, row in _rows(published, output, ["clip_id"], clip_ids, places):
        places[place] = row["clip_id"]
    with contextlib.ExitStack() as files:
        more = (
            _rows(published, beside, ["clip_id", *others], clip_ids, places) if beside is not None and others else None
        )
        if more is not None:
            files.callback(more.close)
        for place, row in _rows(published, output, own, clip_ids, places):
            found = dict(row)
            if more is not None and beside is not None:
                other = next(more)[1]
                with legible(published.root, beside.path):
                    if other["clip_id"] != row["clip_id"]:
                        raise ValueError(f"row {place} is not the clip {row['clip_id']} of the audio file")
                found |= other
            with legible(published.root, output.path):
                samples, rate_hz = _decoded(found.pop("audio")["bytes"])
                values = {name: np.asarray(found.pop(name)).reshape(found.pop(f"{name}_shape")) for name in features}
            yield StoredClip(found, samples, rate_hz, values)


def _rows(
    published: Published, output: OutputFile, columns: Sequence[str], clip_ids: Sequence[str], places: Mapping[int, str]
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """Yield chosen rows of a file with their places, a row group in memory at a time. places : of the rows; none: those of `clip_ids`"""
    with (
        legible(published.root, output.path),
        contextlib.closing(open_checked(published.root, output, whole=False)) as stream,
        pq.ParquetFile(stream, pre_buffer=False) as file,
    ):
        chosen = sorted(places)
        if not chosen:
            wanted = set(clip_ids)
            ids = file.read(columns=["clip_id"], use_threads=False)["clip_id"].to_pylist()
            chosen = [i for i, clip_id in enumerate(ids) if clip_id in wanted]
            if len(chosen) != len(wanted):
                raise ValueError(f"it lacks {min(wanted - set(ids), default='no clip, but has one twice')}")
        start, group = 0, 0
        table: pa.Table | None = None
        for place in chosen:
            while place >= start + file.metadata.row_group(group).num_rows:
                start, group, table = start + file.metadata.row_group(group).num_rows, group + 1, None
            if table is None:
                table = file.read_row_group(group, columns=list(columns), use_threads=False)
            yield place, {name: _value(table[name], place - start) for name in table.column_names}


def _value(column: pa.ChunkedArray, i: int) -> Any:
    kind = column.type
    if pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type):
        return column[i].values.to_numpy(zero_copy_only=False)
    return column[i].as_py()


def _wanted(published: Published, elsewhere: frozenset[str] | set[str]) -> list[str]:
    """Return the columns to read of a file. elsewhere : those that lie in the other file"""
    features = {*published.feature_names}
    shapes = {f"{name}_shape" for name in features}
    found = []
    for column in published.columns:
        name, kind = column["name"], str(column["type"])
        is_plain = not kind.startswith(("list", "struct")) and column.get("kind") != "field"
        if name not in elsewhere and (is_plain or name in features or name in shapes or name == "audio"):
            found.append(name)
    return found


def _of_tar(published: Published, output: OutputFile, clip_ids: Sequence[str]) -> Iterator[StoredClip]:
    left = set(clip_ids)
    with (
        legible(published.root, output.path),
        contextlib.closing(open_checked(published.root, output)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        current, members = "", dict[str, bytes]()
        for member in tar:
            clip_id, _, ending = member.name.partition(".")
            if clip_id != current:
                if members:
                    yield _of_members(published, members)
                current, members = clip_id, {}
                if not left:
                    break
            content = tar.extractfile(member) if clip_id in left or members else None
            if content is not None:
                members[ending] = content.read()
                left.discard(clip_id)
        if members:
            yield _of_members(published, members)
        if left:
            raise ValueError(f"it lacks {min(left)}")


def _of_members(published: Published, members: Mapping[str, bytes]) -> StoredClip:
    """Return the clip of a sample of WebDataset. members : by the ending of their names"""
    row = json.loads(members["json"])
    row = {name: -math.inf if name.endswith("_dbfs") and value is None else value for name, value in row.items()}
    samples, rate_hz = _decoded(members.get("flac") or members["wav"])
    features = {
        name: np.load(io.BytesIO(members[f"{name}.npy"]), allow_pickle=False) for name in published.feature_names
    }
    return StoredClip(row, samples, rate_hz, features)


def _decoded(content: bytes) -> tuple[npt.NDArray[Any], int]:
    with sf.SoundFile(io.BytesIO(content)) as file:
        return file.read(dtype="float32" if file.subtype == "FLOAT" else "int16", always_2d=True), file.samplerate
