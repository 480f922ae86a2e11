"""The export to Iceberg, into a catalogue in a file and read by pyiceberg: the shards as they are, snapshots of which removed shards are gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from export_corpora import export, labelled, rows_of, several_labels, windows

pytest.importorskip("pyiceberg", reason="pyiceberg is not installed: pip install 'clipmill[iceberg]'")

FEATURES = {"log_mel": {"n_mels": 16}}


def configure(monkeypatch: pytest.MonkeyPatch, name: str, **properties: str) -> None:
    """Configure a catalogue by the environment, as users do; pyiceberg reads it once, when it is imported."""
    import pyiceberg.catalog
    from pyiceberg.utils.config import Config

    for key, value in properties.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__{name}__{key}", value)
    monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())


@pytest.fixture(autouse=True)
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure a catalogue in SQLite; return its folder."""
    place = tmp_path / "warehouse"
    place.mkdir()
    configure(monkeypatch, "TESTS", URI=f"sqlite:///{place}/catalogue.db", WAREHOUSE=f"file://{place}")
    return place


def table_of(name: str) -> Any:
    from pyiceberg.catalog import load_catalog

    return load_catalog("tests").load_table(name)


def check(found: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]]) -> None:
    assert found.keys() == rows.keys()
    for name, row in found.items():
        assert {c: row[c] for c in rows[name]} == rows[name]


def read(table: Any, **of: Any) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in table.scan(**of).to_arrow().to_pylist()}


def test_snapshots_of_a_dataset(tmp_path: Path, catalogue: Path) -> None:
    more = {"features": FEATURES, "output": {"images": {}}}
    root = windows(tmp_path, {f"c{i % 3}/r{i}.wav": 1.0 for i in range(6)}, **more)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")}
    export(root, "iceberg", "--to", "tests.audio.clips")
    table = table_of("audio.clips")
    first = rows_of(root)
    check(read(table), first)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")} == before
    assert not [*catalogue.rglob("*.parquet")]
    assert read(table, row_filter="label = 'c1'").keys() == {n for n, row in first.items() if row["label"] == "c1"}
    assert "so there is no new snapshot" in export(root, "iceberg", "--to", "tests.audio.clips").output
    assert len(table_of("audio.clips").snapshots()) == 1

    (tmp_path / "in/c0/r0.wav").unlink()
    windows(tmp_path, {"c1/new.wav": 1.0}, **more)
    told = export(root, "iceberg", "--to", "tests.audio.clips").output
    assert "1 shard added, 1 shard removed" in told and "; older snapshots of the table can be read" in told
    table = table_of("audio.clips")
    second = {n: row for n, row in rows_of(root).items() if not n.startswith("r0")}
    check(read(table), second)
    old, new = table.snapshots()  # one commit, so no reader finds neither or both
    assert [s.summary["clipmill.snapshot"][:2] for s in (old, new)] == ["1 ", "2 "]
    check(read(table, snapshot_id=old.snapshot_id), first)
    listed = {file["file_path"] for file in table.inspect.files().to_pylist()}
    assert listed == {f"file://{root}/{f.path}" for split in ("train",) for f in _published(root).shards(split)}


def test_columns_that_come_later(tmp_path: Path) -> None:
    root = windows(tmp_path, {"a/x.wav": 0.5})
    export(root, "iceberg", "--to", "tests.audio.clips")
    windows(tmp_path, {}, features=FEATURES)
    export(root, "iceberg", "--to", "tests.audio.clips")
    check(read(table_of("audio.clips")), rows_of(root))
    assert read(table_of("audio.clips"))[next(iter(rows_of(root)))]["log_mel_shape"][0] == 16


def test_several_labels_and_odd_names(tmp_path: Path) -> None:
    root = several_labels(tmp_path / "a b é")
    export(root, "iceberg", "--to", "tests.more.deep.several")
    check(read(table_of("more.deep.several")), rows_of(root))
    tars = labelled(tmp_path / "tars", ["a"], output={"formats": ["webdataset"]})
    assert (
        "not as parquet; add parquet to output.formats" in export(tars, "iceberg", "--to", "tests.x.y", code=1).output
    )
    odd = labelled(tmp_path / "a#b", ["a"])
    assert "readers of Iceberg take '#' in an address" in export(odd, "iceberg", "--to", "tests.x.y", code=1).output


def test_tables_of_others_and_wrong_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    from pyiceberg.catalog import load_catalog

    root = labelled(tmp_path, ["a", "b"])
    catalog = load_catalog("tests")
    catalog.create_namespace("audio")
    theirs = catalog.create_table("audio.theirs", schema=pa.schema([("clip_id", pa.string())]))
    theirs.append(pa.table({"clip_id": ["x"]}))
    told = export(root, "iceberg", "--to", "tests.audio.theirs", code=1).output
    assert "tests.audio.theirs is a table that clipmill did not make, and stays as it is" in told
    assert table_of("audio.theirs").scan().to_arrow().num_rows == 1
    assert "iceberg needs --to CATALOG.NAMESPACE.TABLE" in export(root, "iceberg", code=2).output
    assert "expected CATALOG.NAMESPACE.TABLE" in export(root, "iceberg", "--to", "clips", code=2).output
    told = export(root, "iceberg", "--to", "nowhere.audio.clips", code=1).output
    assert "pyiceberg cannot write the table" in told and "PYICEBERG_CATALOG__<NAME>__URI" in told
    told = export(root, "iceberg", "--to", "tests.a.b", "--where", "{start_s: {min: 1}}", code=2).output
    assert "iceberg names whole shards, so --where cannot apply to it" in told
    configure(monkeypatch, "BAD", URI="postgresql+psycopg2://me:hunter22@127.0.0.1:1/x")
    assert "hunter22" not in export(root, "iceberg", "--to", "bad.audio.clips", code=1).output
    monkeypatch.setitem(__import__("sys").modules, "pyiceberg", None)
    told = export(root, "iceberg", "--to", "tests.audio.clips", code=1).output
    assert "needs pyiceberg, which is not installed: pip install 'clipmill[iceberg]'" in told


def test_shards_in_a_store(tmp_path: Path, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmill.stages.storage.root import Root

    root = labelled(tmp_path, ["a", "b"])
    there = Root(f"s3://{bucket}/d", {"endpoint_url": endpoint})
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        there.write_bytes(str(path.relative_to(root)), path.read_bytes())
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    parts = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    keys = {f"S3__{part}": os.environ[f"AWS_{part}"] for part in parts if f"AWS_{part}" in os.environ}
    configure(monkeypatch, "TESTS", S3__ENDPOINT=endpoint, S3__REGION="us-east-1", **keys)
    export(there.url, "iceberg", "--to", "tests.audio.clips")
    check(read(table_of("audio.clips")), rows_of(root))


def _published(root: Path) -> Any:
    from clipmill.pipelines.dataset.published import open_dataset

    return open_dataset(root)
