"""The export to Lance, read by lance: values, shapes, versions of which only new shards are written, and what is removed with a snapshot."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run
from export_corpora import export, labelled, rows_of, several_labels, windows

# Not imported when tests are collected: it warns of every process that is forked afterwards.
pytestmark = pytest.mark.skipif(
    find_spec("lance") is None, reason="pylance is not installed: pip install 'clipmill[lance]'"
)

RECORDINGS = {f"c{i % 3}/r{i}.wav": 1.0 for i in range(8)}
FEATURES = {"log_mel": {"n_mels": 16}, "mfcc": {"n_mfcc": 5}}


@pytest.fixture(scope="module")
def nightly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of two snapshots: the second lacks a recording and has another one."""
    place = tmp_path_factory.mktemp("lance")
    more = {
        "features": FEATURES,
        "split": {"train": 0.5, "test": 0.5, "method": "rendezvous"},
        "output": {"images": {}},
    }
    root = windows(place, RECORDINGS, **more)
    (place / "in/c0/r0.wav").unlink()
    windows(place, {"c1/new.wav": 1.0}, **more)
    return root


def opened(address: Path | str, **of: Any) -> Any:
    import lance

    return lance.dataset(str(address), **of)


def read(address: Path | str, **of: Any) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in opened(address, **of).to_table().to_pylist()}


def check(found: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]]) -> None:
    for name, row in found.items():
        expected = rows[name]
        assert row["audio"] == expected["audio"]["bytes"]
        for column in expected.keys() - {"audio", "image", "log_mel", "mfcc", "log_mel_shape", "mfcc_shape", "events"}:
            assert row[column] == expected[column], column
        for column in {"log_mel", "mfcc"} & expected.keys():
            np.testing.assert_array_equal(row[column], expected[column])
        if "image" in expected:
            assert row["image"] == expected["image"]["bytes"]


def test_versions_of_snapshots(nightly: Path, tmp_path: Path) -> None:
    there = tmp_path / "l"
    rows = rows_of(nightly)  # of both snapshots
    export(nightly, "lance", "--to", there, "--snapshot", "1")
    clips = there / "clips.lance"
    first, files = read(clips), {p.name for p in (clips / "data").iterdir()}
    check(first, rows)
    assert len(first) == 16 and {row["split"] for row in first.values()} == {"train", "test"}
    field = opened(clips).schema.field("log_mel")
    assert field.type.list_size == np.prod(json.loads(field.metadata[b"shape"]))
    told = export(nightly, "lance", "--to", there).output
    assert "note: version 2 of" in told and "written" in told
    second = read(clips)
    check(second, rows)
    assert (
        len(second) == 16
        and {n for n in second if n.startswith("new")}
        and not {n for n in second if n.startswith("r0")}
    )
    unchanged = {n for n, row in first.items() if n in second and row["shard"] == second[n]["shard"]}
    now = {p.name for p in (clips / "data").iterdir()}
    n_shards = len({row["shard"] for name, row in second.items() if name not in unchanged})
    assert unchanged and files < now and len(now - files) == n_shards  # no file of an unchanged shard was written again
    assert read(clips, version="snapshot-000001").keys() == first.keys()
    assert "so there is no new one" in export(nightly, "lance", "--to", there).output
    dataset = opened(clips)
    assert [v["version"] for v in dataset.versions()] == [1, 2]
    assert {name: tag["version"] for name, tag in dataset.tags.list().items()} == {"snapshot-000001": 1, "snapshot-000002": 2}  # fmt: skip
    mark = json.loads((there / "clipmill-export.json").read_text())
    assert [s.split(" ")[0] for s in mark["snapshots"]] == ["1", "2"] and mark["finished"]
    told = export(nightly, "lance", "--to", there, "--where", "{start_s: {min: 0.25}}", code=2).output
    assert "holds this export as it was asked for differently (without options)" in told
    export(nightly, "lance", "--to", there, "--where", "{start_s: {min: 0.25}}", "--replace")
    chosen = read(clips)
    check(chosen, rows)
    assert chosen.keys() == {n for n, row in second.items() if row["start_s"] >= 0.25}


def test_another_dataset_is_refused(nightly: Path, tmp_path: Path) -> None:
    other = windows(tmp_path, {"a/x.wav": 0.5}, name="other")
    export(other, "lance", "--to", tmp_path / "l")
    told = export(nightly, "lance", "--to", tmp_path / "l", code=2).output
    assert "holds the export of another dataset, other, of which files would stay" in told


def test_columns_that_change(tmp_path: Path) -> None:
    root = windows(tmp_path, {"a/x.wav": 0.5, "b/y.wav": 0.5})
    export(root, "lance")
    windows(tmp_path, {}, features=FEATURES)
    told = export(root, "lance").output
    assert "note: version 2 of" in told and "; its columns changed" in told
    check(read(root / "exports/lance/clips.lance"), {n: r for n, r in rows_of(root).items() if r.get("log_mel")})


def test_labels_events_and_shapes_that_differ(tmp_path: Path) -> None:
    root = several_labels(tmp_path)
    export(root, "lance")
    found, rows = read(root / "exports/lance/clips.lance"), rows_of(root)
    assert sorted(row["labels"] for row in rows.values()) == [[], ["cat", "dog"], ["dog"]]
    check(found, rows)
    assert {n: row["events"] for n, row in found.items()} == {n: row["events"] for n, row in rows.items()}
    more = {"features": FEATURES, "output": {"formats": ["webdataset"]}}
    root = labelled(tmp_path / "long", ["a"], n_each=2, seconds=(0.25, 0.5), **more)
    export(root, "lance")
    table = opened(root / "exports/lance/clips.lance").to_table().to_pylist()
    assert all(len(row["log_mel"]) == np.prod(row["log_mel_shape"]) for row in table)
    assert len({tuple(row["log_mel_shape"]) for row in table}) == 2


def test_forgotten_clips_are_in_no_version_under_the_root(tmp_path: Path) -> None:
    root = windows(tmp_path, {"a/x.wav": 0.5, "b/y.wav": 0.5})
    export(root, "lance")
    (tmp_path / "in/a/x.wav").unlink()
    windows(tmp_path, {})
    export(root, "lance")
    run("forget", root, "s/a/x.wav", "--yes")
    assert not (root / "exports/lance").exists()  # a version of it held the clip
    export(root, "lance")
    assert len(read(root / "exports/lance/clips.lance")) == 1


def test_into_a_store(nightly: Path, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for number in ("1", "2"):
        export(nightly, "lance", "--to", f"s3://{bucket}/l", "--snapshot", number)
    options = {"aws_endpoint": endpoint, "allow_http": "true", "aws_region": "us-east-1"}
    found = read(f"s3://{bucket}/l/clips.lance", storage_options=options)
    check(found, rows_of(nightly))
    assert len(found) == 16
    from clipmill.stages.storage.root import Root

    there = Root(f"s3://{bucket}/l/clips.lance", {"endpoint_url": endpoint})
    (version, *_) = (path for path in there.sizes("") if path.startswith("_versions/"))
    there.write_bytes(version, b"damage")
    told = export(nightly, "lance", "--to", f"s3://{bucket}/l", code=1).output
    assert "lance cannot write the dataset" in told and "Traceback" not in told


def test_it_says_what_to_install(nightly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lance", None)
    told = export(nightly, "lance", code=1).output
    assert "the export to lance needs lance, which is not installed: pip install 'clipmill[lance]'" in told
