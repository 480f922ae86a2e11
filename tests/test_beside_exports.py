"""Exports of datasets with features beside: both files of a shard are read, or the format says that it cannot; and uploads to S3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from beside_corpus import config, contents, lay, made, problems, stamps
from conftest import upload_source
from export_corpora import export
from fake_hub import TOKEN, Hub, Running
from s3_proxy import before

from clipmill import ClipDataset, open_dataset
from clipmill.pipelines.read.clip_source import clips
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with recordings, and the roots `inside` and `beside` of the two layouts; not to be changed."""
    place = tmp_path_factory.mktemp("beside-exports")
    lay(place, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        for layout in ("inside", "beside"):
            made(config(place, place / layout, layout))
        yield place


@pytest.fixture
def own(corpus: Path, tmp_path: Path) -> Path:
    """Return a copy of the dataset with features beside."""
    return Path(shutil.copytree(corpus / "beside", tmp_path / "out"))


def rows(root: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in clips(open_dataset(root), "train", features=True)}


@pytest.mark.parametrize("name", ["csv", "tfrecord", "kaldi", "nemo", "lhotse", "folders"])
def test_formats_of_clips_are_the_same_of_both_layouts(corpus: Path, tmp_path: Path, name: str) -> None:
    if name == "lhotse":
        pytest.importorskip("lhotse")
    written = []
    for layout in ("inside", "beside"):
        root = Path(shutil.copytree(corpus / layout, tmp_path / layout / "d"))
        export(root, name, "--to", tmp_path / layout / "to")
        found = contents(tmp_path / layout, "to")
        written.append(
            {path: sha256 for path, sha256 in found.items() if not path.endswith((".json", ".csv", ".gz", ".scp"))}
        )
    assert written[0] == written[1]
    names = [{p.name for p in (tmp_path / layout / "to").rglob("*")} for layout in ("inside", "beside")]
    assert names[0] == names[1] and len(names[0]) > 1


def test_hugging_face_has_two_configurations(own: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(own, "huggingface")
    head = yaml.safe_load((own / "README.md").read_text().split("---")[1])
    assert [(c["config_name"], c.get("default", False)) for c in head["configs"]] == [
        ("audio", True),
        ("features", False),
    ]
    cache = str(tmp_path / "cache")
    assert datasets.get_dataset_config_names(str(own)) == ["audio", "features"]
    plain = datasets.load_dataset(str(own), cache_dir=cache)
    audio, features = (
        datasets.load_dataset(str(own), name, split="train", cache_dir=cache) for name in ("audio", "features")
    )
    audio = audio.cast_column("audio", datasets.Audio(decode=False))
    assert plain["train"].column_names == audio.column_names
    assert features.column_names == ["clip_id", "loudest", "frames", "frames_shape"]
    assert audio["clip_id"] == features["clip_id"]
    assert audio.features["label"].names == ["a", "b"]
    found = datasets.concatenate_datasets([audio, features.remove_columns("clip_id")], axis=1)
    for row in found:
        expected = rows(own)[row["clip_id"]]
        assert row["audio"]["bytes"] == expected["audio"] and row["loudest"] == expected["loudest"]
        np.testing.assert_array_equal(np.float32(row["frames"]).reshape(row["frames_shape"]), expected["frames"])
    assert "concatenate_datasets" in (own / "README.md").read_text()


def test_a_card_goes_with_the_features_that_it_names(corpus: Path, own: Path) -> None:
    export(own, "huggingface")
    export(own, "croissant")
    named = {f["contentUrl"] for f in json.loads((own / "croissant.json").read_text())["distribution"]}
    assert named >= {*stamps(own, "shards", "features")}
    made(config(corpus, own, scale=2))
    from clipmill.pipelines.dataset.gc import find_garbage

    garbage = find_garbage(Root(str(own)), 1)
    assert {"README.md", "croissant.json"} <= {*garbage.exports}
    assert not any(path.startswith("shards/") for path in garbage.paths)


def test_lance_has_the_features_of_each_snapshot(corpus: Path, own: Path, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    for scale in (1, 3):
        if scale > 1:
            made(config(corpus, own, scale=scale))
        export(own, "lance", "--to", tmp_path / "l")
        found = {row["clip_id"]: row for row in lance.dataset(str(tmp_path / "l/clips.lance")).to_table().to_pylist()}
        expected = rows(own)
        assert found.keys() == expected.keys()
        for name, row in found.items():
            assert row["audio"] == expected[name]["audio"] and row["loudest"] == expected[name]["loudest"]
            np.testing.assert_array_equal(np.float32(row["frames"]), expected[name]["frames"].reshape(-1))
            assert row["shard"].startswith("features/train/")
    assert "so there is no new one" in export(own, "lance", "--to", tmp_path / "l").output


def test_iceberg_is_refused(own: Path) -> None:
    pytest.importorskip("pyiceberg")
    said = export(own, "iceberg", "--to", "tests.a.b", code=1).output
    assert "its features lie beside the shards (output.features: beside)" in said and "export to lance" in said


def test_webdataset_and_tars_are_not_there(own: Path) -> None:
    assert "its shards are stored as parquet, not as webdataset" in export(own, "webdataset", code=1).output


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    with Running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        yield server


def test_the_hub_gets_features_alone_when_these_change(corpus: Path, own: Path, hub: Hub) -> None:
    export(own, "hub", "--to", "me/clips", "--push")
    repo = hub.repos["me/clips"]
    first = dict(repo.files)
    assert {p for p in first if p.startswith("features/")} == {*stamps(own, "features")}
    head = yaml.safe_load(first["README.md"].decode().split("---")[1])
    assert [c["data_files"][0]["path"] for c in head["configs"]] == [
        "shards/train/*.parquet",
        "features/train/*.parquet",
    ]
    assert "so there is no new commit" in export(own, "hub", "--to", "me/clips", "--push").output
    old = stamps(own, "features")
    made(config(corpus, own, scale=2))
    told = export(own, "hub", "--to", "me/clips").output
    assert not any(line.startswith(("add     shards", "remove  shards")) for line in told.splitlines())
    export(own, "hub", "--to", "me/clips", "--push")
    assert {p for p in repo.files if p.startswith("features/")} == {*stamps(own, "features")} - {*old}
    assert {p: c for p, c in repo.files.items() if p.startswith("shards/")} == {
        p: c for p, c in first.items() if p.startswith("shards/")
    }


def test_nothing_is_uploaded_under_shards_when_features_change(corpus: Path, bucket: str, endpoint: str) -> None:
    options = {"endpoint_url": endpoint}
    source = upload_source(
        {"root": str(corpus / "in/a"), "name": "s", "segment": {"mode": "window", "length_s": 0.4}}, bucket, endpoint
    )
    with before(endpoint) as (address, proxy):

        def build(scale: int, out: str = "out") -> list[tuple[str, str]]:
            """Build, and return what was sent: method and path below the root."""
            plain = config(corpus, f"s3://{bucket}/{out}", scale=scale)
            plain["sources"] = [{**source, "storage_options": {"endpoint_url": address}}]
            plain["output"]["storage_options"] = {"endpoint_url": address}
            n_seen = len(proxy.seen)
            made(plain)
            sent = [(method, path.partition("?")[0]) for method, path, _ in proxy.seen[n_seen:]]
            below = [(m, p.removeprefix(f"/{bucket}/")) for m, p in sent if m in ("PUT", "POST", "GET")]
            return [(m, p.removeprefix(f"{out}/")) for m, p in below]

        first, again = build(1), build(2)
    assert any(method != "GET" and path.startswith("shards/") for method, path in first)
    assert any(method == "GET" and path.startswith("in/") for method, path in first)
    assert any(method != "GET" and path.startswith("features/") for method, path in again)
    assert not [each for each in again if each[0] != "GET" and each[1].startswith("shards/")]
    assert not [each for each in again if each[1].startswith("in/") and each[1].endswith(".wav")]
    root = Root(f"s3://{bucket}/out", options)
    assert len(root.sizes("features")) == 2 * len(root.sizes("shards")) > 0
    from clipmill.pipelines.dataset.gc import collect
    from clipmill.pipelines.dataset.verify import verify

    n_shards = len(root.sizes("shards"))
    collect(root, 1)
    assert len(root.sizes("features")) == len(root.sizes("shards")) == n_shards
    *_, verdict = verify(root)
    assert not verdict.problems
    samples = ClipDataset(root.url, "train", ("audio", "frames", "clip_id"), storage_options=options)
    assert len(list(samples)) == samples.n_clips > 4
    assert not problems(corpus / "beside")
