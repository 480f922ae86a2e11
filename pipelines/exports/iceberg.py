"""Iceberg: the Parquet shards, where they are, as the files of a table in a catalogue; a snapshot of clipmill is one of the table's."""

from __future__ import annotations

import importlib
import re
from typing import Any

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.export_format import Format
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.plural import counted
from clipmill.schemas.secret_values import hide_secrets, remember_secrets, secrets_of_config

FORMAT = Format(
    "a table of the Parquet shards, which stay where they are, in the catalogue that --to names",
    place="service",
    address="CATALOG.NAMESPACE.TABLE",
    whole_shards=True,
    needs={"pyiceberg": "iceberg"},
)

DATASET = "clipmill.dataset"
"""Property of a table that clipmill made: the dataset's name."""
SNAPSHOT = "clipmill.snapshot"
"""Property of a table's snapshot: which of the dataset's it is."""
_OURS = re.compile(r".*/shards/\w[\w-]*/\w[\w-]*-b[01]*-[0-9a-f]{12}\.parquet")


def check(asked: Export) -> None:
    """Raise a ClipmillError where the name is none of a table, or the shards cannot be a table's files."""
    if not re.fullmatch(r"[^.\s]+(\.[^.\s]+){2,}", asked.address):
        raise ConfigError(
            f"--to {asked.address}: expected {FORMAT.address}; the catalogue is one that pyiceberg knows, by ~/.pyiceberg.yaml or"
            " PYICEBERG_CATALOG__<NAME>__URI",
            code="usage",
        )
    published = asked.published
    url = published.root.url
    for split in asked.splits:
        published.shards(split)
    if halves := [c["name"] for c in published.columns if "halffloat" in c["type"]]:
        raise ClipmillError(
            f"{url}: {halves[0]} is stored as float16, which Iceberg does not have; build it as float32"
        )
    if published.root.is_local and (sign := next((s for s in "?#%" if s in published.root.full()), None)):
        raise ClipmillError(
            f"{url}: readers of Iceberg take {sign!r} in an address for a part of a URL; move the dataset to a folder without it"
        )


def export(asked: Export) -> list[str]:
    """Register the shards in a table, which is made where there is none; files of other snapshots go from it, in the same commit.

    Readers see the old files or the new ones. Nothing is copied, and nothing is committed where the table has these files already.

    Raises
    ------
    ClipmillError : the catalogue does not answer, or the table is not one that clipmill made of this dataset
    """
    try:
        return _register(asked)
    except ClipmillError:
        raise
    except _errors() as error:
        why = hide_secrets(" ".join(str(error).split()))[:300] or type(error).__name__
        raise ClipmillError(
            f"{asked.address}: pyiceberg cannot write the table: {why}; the catalogue is configured in ~/.pyiceberg.yaml or by"
            " PYICEBERG_CATALOG__<NAME>__URI and the like"
        ) from None


def _register(asked: Export) -> list[str]:
    from pyiceberg.catalog import load_catalog
    from pyiceberg.io.pyarrow import parquet_file_to_data_file
    from pyiceberg.table import TableProperties

    published = asked.published
    name, *identifier = asked.address.split(".")
    catalog = load_catalog(name)
    remember_secrets(secrets_of_config(dict(catalog.properties)))
    files = [_address(asked, file.path) for split in asked.splits for file in published.shards(split)]
    table = _table(asked, catalog, tuple(identifier))
    held = {task.file.file_path: task.file for task in table.scan().plan_files()}
    wanted = {*files}
    gone = [file for path, file in held.items() if path not in wanted and _OURS.fullmatch(path)]
    new = [path for path in files if path not in held]
    if foreign := sum(path not in wanted and not _OURS.fullmatch(path) for path in held):
        asked.notes.append(
            f"{counted(foreign, 'file')} of the table {'is' if foreign == 1 else 'are'} no shards, and stay in it"
        )
    if not new and not gone:
        asked.notes.append(f"{asked.address} has these shards already, so there is no new snapshot of it")
        return [asked.address]
    with table.transaction() as transaction:
        with transaction.update_schema() as update:
            update.union_by_name(published.schema)
        if table.metadata.name_mapping() is None:  # shards have no field ids
            mapping = transaction.table_metadata.schema().name_mapping.model_dump_json()
            transaction.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})
        properties = {SNAPSHOT: published.identity}
        with transaction.update_snapshot(snapshot_properties=properties).overwrite() as overwrite:
            for file in gone:
                overwrite.delete_data_file(file)
            for path in new:
                overwrite.append_data_file(parquet_file_to_data_file(table.io, transaction.table_metadata, path))
    if held:
        asked.notes.append(
            f"{asked.address}: {counted(len(new), 'shard')} added, {counted(len(gone), 'shard')} removed; older snapshots of the table can be"
            " read until `clipmill gc` or `forget` removes their shards"
        )
    return [asked.address]


def _errors() -> tuple[type[Exception], ...]:
    """Return what a catalogue raises: pyiceberg's errors have no common base, and those of databases and clouds come through as they are."""
    found: list[type[Exception]] = [OSError, ValueError]
    names = {
        "pyiceberg.exceptions": None,
        "pyarrow.lib": ["ArrowException"],
        "sqlalchemy.exc": ["SQLAlchemyError"],
        "botocore.exceptions": ["BotoCoreError", "ClientError"],
        "thrift.Thrift": ["TException"],
    }
    for module, wanted in names.items():
        try:
            content = vars(importlib.import_module(module))
        except ImportError:  # a catalogue of another kind is in use
            continue
        found += [
            item
            for name, item in content.items()
            if isinstance(item, type) and issubclass(item, Exception) and (wanted is None or name in wanted)
        ]
    return tuple(found)


def _table(asked: Export, catalog: Any, identifier: tuple[str, ...]) -> Any:
    """Return the table, which is made where there is none."""
    published = asked.published
    if not catalog.table_exists(identifier):
        catalog.create_namespace_if_not_exists(identifier[:-1])
        properties = {DATASET: published.snapshot.name, "format-version": "2"}
        return catalog.create_table(identifier, schema=published.schema, properties=properties)
    table = catalog.load_table(identifier)
    of = table.properties.get(DATASET)
    if of != published.snapshot.name:
        what = f"of the dataset {of}" if of else "that clipmill did not make"
        raise ClipmillError(f"{asked.address} is a table {what}, and stays as it is; give another name by --to")
    return table


def _address(asked: Export, path: str) -> str:
    root = asked.published.root
    return f"file://{root.full(path)}" if root.is_local else root.uri(path).replace("s3a://", "s3://", 1)
