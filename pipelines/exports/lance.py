"""Lance: one dataset of all splits, of which each exported snapshot is a version; only shards that are new are written."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.pipelines.exports.feature_shapes import Shape, common_shapes
from clipmill.pipelines.read.clip_source import clip_rows, clips_of_shard
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.index import Shard
from clipmill.schemas.layout import BESIDE, snapshot_name
from clipmill.schemas.plural import counted
from clipmill.schemas.tables import IMAGE_COLUMN, manifest_schema
from clipmill.stages.storage.root import Root

FORMAT = Format(
    "one Lance dataset with a column for the split; each exported snapshot is a version and has a tag",
    place="versions",
    copies_audio=True,
    needs={"lance": "lance"},
)

FOLDER = "clips.lance"
_ROWS_A_BATCH = 64
_OPTIONS = {"key": "aws_access_key_id", "secret": "aws_secret_access_key", "token": "aws_session_token"}
_CLIENT = {"region_name": "aws_region", "endpoint_url": "aws_endpoint"}


def check(asked: Export) -> None:
    """Raise a ClipmillError where the target is neither a folder nor in S3, or columns would have one name."""
    if not asked.target.is_local and not asked.target.is_s3:
        raise ClipmillError(f"{asked.target.url}: the export to lance writes to folders and s3://; give one by --to")
    names = _schema(asked, {}).names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ClipmillError(
            f"{asked.published.root.url}: two columns would be called {twice!r}; give the field another name"
        )


def export(asked: Export) -> list[str]:
    """Write clips.lance: the manifest's columns, `audio` (the bytes of a FLAC or WAV file), `image` (those of a PNG) and the features.

    A feature whose arrays are all of one shape is a fixed-size list, its shape in the field's metadata as `shape`; else a list, with
    `<name>_shape` beside it. A version has the tag `snapshot-NNNNNN`. A shard's clips are fragments of their own: the version of a later
    snapshot keeps those of unchanged shards, and none is made where the clips are the same.

    Raises
    ------
    ClipmillError : Lance cannot write
    """
    import lance

    published, address = asked.published, _address(asked.target)
    options = storage_options(asked.target) if asked.target.is_s3 else None
    shapes = common_shapes(asked)
    schema = _schema(asked, shapes)
    try:
        before = _open(address, options)
        every = (shard for split in asked.splits for shard in published.all_shards(split) if shard.clips_kept)
        wanted = _wanted(asked) if asked.where is not None else None
        shards = {_name(shard): shard for shard in every if wanted is None or wanted.get(_path(shard))}
        same = before is not None and before.schema.equals(schema, check_metadata=True)
        held = _held(before) if before is not None and same else {}
        kept = {path: ids for path, ids in held.items() if path in shards}
        removed = sorted(itertools.chain.from_iterable(ids for path, ids in held.items() if path not in kept))
        new = [shard for path, shard in shards.items() if path not in kept]
        if before is not None and same and not new and not removed:
            asked.notes.append(f"{address} has these clips already as version {before.version}, so there is no new one")
            done = before
        else:
            mode = "append" if same else "create" if before is None else "overwrite"
            into = before if same else address
            fragments = [f for shard in new for f in _write(asked, shard, schema, shapes, wanted, into, mode, options)]
            operation: Any = lance.LanceOperation.Overwrite(schema, fragments)
            if same:
                operation = lance.LanceOperation.Update(removed_fragment_ids=removed, new_fragments=fragments)
            done = lance.LanceDataset.commit(
                before if before is not None else address,
                operation,
                read_version=before.version if before is not None else None,
                storage_options=options,
                commit_message=f"snapshot {published.identity}",
            )
            if before is not None:
                how = f"{counted(len(new), 'shard')} written, {counted(len(kept), 'shard')} kept"
                asked.notes.append(
                    f"version {done.version} of {address}: {how}" + ("" if same else "; its columns changed")
                )
        tag = f"snapshot-{snapshot_name(published.snapshot.number)}"
        if tag in done.tags.list():
            done.tags.update(tag, done.version)
        else:
            done.tags.create(tag, done.version)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ClipmillError):
            raise
        why = " ".join(str(error).split())[:300]
        raise ClipmillError(f"{address}: lance cannot write the dataset: {why}; see to it, then export again") from None
    return [address]


def storage_options(root: Root) -> dict[str, str]:
    """Return what Lance has to know of an S3 root. What is not given, it takes from the environment as other tools do."""
    given: Mapping[str, Any] = root.storage_options
    client = {**(given.get("client_kwargs") or {}), **{k: given[k] for k in _CLIENT if k in given}}
    found = {name: str(given[key]) for key, name in _OPTIONS.items() if given.get(key)}
    found |= {name: str(client[key]) for key, name in _CLIENT.items() if client.get(key)}
    endpoint = found.get("aws_endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        found["aws_endpoint"] = endpoint
        if urlsplit(endpoint).scheme == "http":
            found["allow_http"] = "true"
        found.setdefault(
            "aws_region", os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        )
    return found


def _address(target: Root) -> str:
    return target.uri(FOLDER).replace("s3a://", "s3://", 1)


def _open(address: str, options: dict[str, str] | None) -> Any:
    """Return the dataset as it is, None where there is none."""
    import lance

    try:
        return lance.dataset(address, storage_options=options)
    except (ValueError, FileNotFoundError) as error:
        if "not found" in str(error).lower() or isinstance(error, FileNotFoundError):
            return None
        raise


def _held(dataset: Any) -> dict[str, list[int]]:
    """Return the ids of fragments by the shard whose clips they hold."""
    found: dict[str, list[int]] = {}
    for fragment in dataset.get_fragments():
        (shard,) = fragment.to_table(columns=["shard"], limit=1)["shard"].to_pylist()
        found.setdefault(shard, []).append(fragment.fragment_id)
    return found


def _path(shard: Shard) -> str:
    """Return the path of the file that holds a shard's clips."""
    output = shard.output("parquet", "webdataset")
    return output.path if output is not None else ""


def _name(shard: Shard) -> str:
    """Return the path that names a shard in the table: of the file with its features where these lie beside its clips.

    That one is another after any change, while that of the clips stays when only features change.
    """
    output = shard.output(BESIDE)
    return output.path if output is not None else _path(shard)


def _wanted(asked: Export) -> dict[str, set[str]]:
    """Return the ids of the clips within the thresholds, by their shard."""
    found: dict[str, set[str]] = {}
    for split in asked.splits:
        for row in clip_rows(asked.published, split, asked.where):
            found.setdefault(row["shard"], set()).add(row["clip_id"])
    return found


_VALUES = {"halffloat": pa.float16(), "int32": pa.int32()}
"""Types of features' values by what the type of a column is called; others are float32."""


def _schema(asked: Export, shapes: Mapping[str, Shape | None]) -> pa.Schema:
    published, snapshot = asked.published, asked.published.snapshot
    fields = list(
        manifest_schema(snapshot.fields, snapshot.has_channel, measured_fields(snapshot.columns), snapshot.label_lists)
    )
    fields.append(pa.field("audio", pa.large_binary()))
    if published.has_images:
        fields.append(pa.field(IMAGE_COLUMN, pa.large_binary()))
    types = {c["name"]: c["type"] for c in published.columns}
    for name in published.feature_names:
        value = next((kind for text, kind in _VALUES.items() if text in types[name]), pa.float32())
        shape = shapes.get(name)
        if shape is not None:
            text = "[" + ", ".join(map(str, shape)) + "]"
            fields.append(pa.field(name, pa.list_(value, int(np.prod(shape))), metadata={"shape": text}))
        else:
            fields += [pa.field(name, pa.list_(value)), pa.field(f"{name}_shape", pa.list_(pa.int32()))]
    return pa.schema(fields)


def _write(
    asked: Export,
    shard: Shard,
    schema: pa.Schema,
    shapes: Mapping[str, Shape | None],
    wanted: dict[str, set[str]] | None,
    into: Any,
    mode: str,
    options: dict[str, str] | None,
) -> list[Any]:
    """Write the clips of a shard as fragments, which no reader sees until they are committed."""
    from lance.fragment import write_fragments

    ids = wanted[_path(shard)] if wanted is not None else None
    reader = pa.RecordBatchReader.from_batches(schema, _batches(asked, shard, schema, shapes, ids))
    fragments: list[Any] = write_fragments(
        reader, into, schema=schema, mode=mode, storage_options=options, data_storage_version="stable"
    )
    return fragments


def _batches(
    asked: Export, shard: Shard, schema: pa.Schema, shapes: Mapping[str, Shape | None], ids: set[str] | None
) -> Iterator[pa.RecordBatch]:
    published = asked.published
    rows = clips_of_shard(published, shard, features=True, images=published.has_images)
    chosen = (row for row in rows if ids is None or row["clip_id"] in ids)
    while batch := list(itertools.islice(chosen, _ROWS_A_BATCH)):
        columns = []
        for field in schema:
            if field.name in shapes:
                columns.append(_feature(field, [row[field.name] for row in batch]))
            elif (of := field.name.removesuffix("_shape")) in shapes and of != field.name:
                columns.append(pa.array([list(row[of].shape) for row in batch], field.type))
            elif field.name == "shard":
                columns.append(pa.array([_name(shard)] * len(batch), field.type))
            else:
                columns.append(pa.array([row[field.name] for row in batch], field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
        asked.count.done += len(batch)


def _feature(field: pa.Field, arrays: list[Any]) -> pa.Array:
    values = pa.array(np.concatenate([np.ravel(array) for array in arrays]), field.type.value_type)
    if pa.types.is_fixed_size_list(field.type):
        return pa.FixedSizeListArray.from_arrays(values, type=field.type)
    ends = np.cumsum([0, *(array.size for array in arrays)]).astype(np.int32)
    return pa.ListArray.from_arrays(ends, values, type=field.type)
