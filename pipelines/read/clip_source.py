"""The clips of a snapshot one by one: what is known of them, and their audio as it is stored."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.outcomes import clips_of
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.dataset.shard_table import shard_tables
from clipmill.pipelines.read.selection import selected
from clipmill.schemas.index import Shard
from clipmill.schemas.records import OutputFile
from clipmill.schemas.tables import IMAGE_COLUMN, PCM_SHA256
from clipmill.schemas.thresholds import Thresholds
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.storage.checked import open_checked

Row = dict[str, Any]


def clip_rows(published: Published, split: str, where: Thresholds | None = None) -> Iterator[Row]:
    """Yield the manifest's rows of a split, in the order of the shards; `shard` is the path of the file that holds the clip.

    where : only clips within these thresholds
    """
    published.all_shards()  # which tells of missing ones
    for part in published.parts:
        if part.split == split:
            yield from selected(part.table("manifest"), where).drop_columns([PCM_SHA256.name]).to_pylist()


def clips(
    published: Published,
    split: str,
    features: bool = False,
    where: Thresholds | None = None,
    images: bool = False,
) -> Iterator[Row]:
    """Yield rows as `clip_rows` does, with `audio`: the bytes of a FLAC or WAV file, and `audio_name`: the clip's id and extension.

    features : have them as well, as float arrays of their shapes
    images : have the picture as well, as `image`: the bytes of a PNG; the dataset must have pictures
    """
    if where is None:
        yield from _all_clips(published, split, features, images)
        return
    ids = {row["clip_id"] for row in clip_rows(published, split, where)}
    yield from (row for row in _all_clips(published, split, features, images) if row["clip_id"] in ids)


def _all_clips(published: Published, split: str, features: bool, images: bool) -> Iterator[Row]:
    for shard in published.all_shards(split):
        yield from clips_of_shard(published, shard, features, images)


def clips_of_shard(published: Published, shard: Shard, features: bool = False, images: bool = False) -> Iterator[Row]:
    """Yield all rows of a shard as `clips` does."""
    if (output := shard.output("parquet")) is not None:
        yield from _of_parquet(published, output, features, images)
    elif (output := shard.output("webdataset")) is not None:
        table = clips_of(published.root, shard)
        own = [name for name in table.column_names if name != PCM_SHA256.name]
        rows = {row["clip_id"]: row for row in table.select(own).to_pylist()}
        n_clips = 0
        for row in _of_tar(published, output, rows, features, images):
            n_clips += 1
            yield row
        with legible(published.root, output.path):
            if n_clips != output.rows:  # tarfile takes a damaged header for the end
                raise ValueError(f"{n_clips} clips are in it, {output.rows} were written")


def _of_parquet(published: Published, output: OutputFile, features: bool, images: bool) -> Iterator[Row]:
    root, beside = published.root, published.beside(output)
    stored = published.feature_names
    left_out = {*stored, *(f"{name}_shape" for name in stored)}
    left_out |= {IMAGE_COLUMN} if published.has_images and not images else set()
    plain = [column["name"] for column in published.columns if column["name"] not in left_out]
    names = stored if features else []
    columns = [*plain, *names, *(f"{name}_shape" for name in names)]
    with legible(root, output.path):
        for table in shard_tables(root, output, beside, columns, published.names_beside):
            values = {name: list_values(table[name]) for name in names}
            sizes = {name: table[f"{name}_shape"].to_pylist() for name in names}
            for i, row in enumerate(table.select(plain).to_pylist()):
                found = {name: values[name][i].reshape(sizes[name][i]) for name in names}
                audio = row.pop("audio")
                if images:
                    found[IMAGE_COLUMN] = row[IMAGE_COLUMN]["bytes"]
                yield {**row, **found, "shard": output.path, "audio": audio["bytes"], "audio_name": audio["path"]}


def _of_tar(
    published: Published, output: OutputFile, rows: dict[str, Row], features: bool, images: bool
) -> Iterator[Row]:
    path = output.path
    wanted = {"audio", *(published.feature_names if features else ()), *([IMAGE_COLUMN] if images else [])}
    with (
        legible(published.root, path),
        contextlib.closing(open_checked(published.root, output)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        found: Row = {}
        for member in tar:
            clip_id, _, extension = member.name.partition(".")
            if found and found["clip_id"] != clip_id:
                yield _whole(found, wanted)
                found = {}
            content = tar.extractfile(member)
            if content is None:
                continue
            if clip_id not in rows:
                raise ValueError(f"{member.name!r} belongs to no clip")
            found = found or {**rows[clip_id], "shard": path}
            if extension in ("flac", "wav"):
                found |= {"audio": content.read(), "audio_name": member.name}
            elif images and extension == "png":
                found[IMAGE_COLUMN] = content.read()
            elif features and extension.endswith(".npy"):
                found[extension.removesuffix(".npy")] = _array(content.read())
        if found:
            yield _whole(found, wanted)


def _whole(row: Row, wanted: set[str]) -> Row:
    if missing := sorted(wanted - row.keys()):
        raise ValueError(f"clip {row['clip_id']} lacks its {missing[0]}")
    return row


def _array(content: bytes) -> Any:
    return np.load(io.BytesIO(content), allow_pickle=False)
