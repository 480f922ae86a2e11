"""Pictures: the pixels are those that matplotlib would give, the files are read by what people train with."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import build_here, clips_of, resolved, shard_hashes, tone, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import Normalize
from PIL import Image

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.config_file import load, loads
from clipmill.pipelines.dataset.identity import claim_root
from clipmill.pipelines.dataset.inspection import show
from clipmill.pipelines.dataset.records_io import read_commit
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.plan.fingerprints import clips_fingerprint, files_fingerprint
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.graph import run_graph, stages_of
from clipmill.pipelines.run.progress import Watch
from clipmill.schemas.config.image_config import Images as Spec
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.records import Snapshot
from clipmill.schemas.tables import CLIPS
from clipmill.stages import images
from clipmill.stages.arrow_rows import float_lists
from clipmill.stages.images import Images, png
from clipmill.stages.storage.root import Root

OWN_SIZE = {"height": None, "width": None}


def log_mel(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * rng.uniform(0.1, 30) - 40).astype(np.float32)


def drawn(values: np.ndarray, **spec: Any) -> np.ndarray:
    with Image.open(io.BytesIO(Images(Spec(**spec)).draw(values))) as image:
        return np.asarray(image)


def levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The documented formula in double precision, lowest band last."""
    return np.clip(np.floor(256 * (values.astype(np.float64) - low) / (high - low)), 0, 255)[::-1]


@pytest.mark.parametrize("name", ["magma", "viridis", "gray", "jet", "gray_r", "twilight", "tab10"])
@pytest.mark.parametrize("mode", ["rgb", "indexed"])
def test_pixels_are_matplotlibs(name: str, mode: str) -> None:
    for seed in range(40):
        values = log_mel(seed, 40, 31)
        norm = Normalize()(values)
        if matplotlib.colormaps[name].N != 256:
            norm = (np.minimum(np.floor(norm * 256), 255) + 0.5) / 256
        theirs = matplotlib.colormaps[name](norm, bytes=True)[::-1, :, :3]
        image = Image.open(io.BytesIO(Images(Spec(**OWN_SIZE, colormap=name, mode=mode)).draw(values)))
        assert image.mode == {"rgb": "RGB", "indexed": "P"}[mode]
        assert np.array_equal(np.asarray(image.convert("RGB")), theirs)


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        ({}, -70.0, 10.0),
        ({"range_db": [-60, -20]}, -50.0, -10.0),
        ({"range_db": [-80, 20], "reference": "max"}, -70.0, 30.0),
        ({"range_db": [-64, -32], "reference": "absolute"}, -64.0, -32.0),
    ],
)
def test_the_range(spec: dict[str, Any], low: float, high: float) -> None:
    values = np.linspace(-70, 10, 64 * 50, dtype=np.float32).reshape(64, 50)
    found = drawn(values, **OWN_SIZE, mode="gray", **spec)
    assert np.abs(found - levels(values, low, high)).max() <= 1
    assert np.mean(found != levels(values, low, high)) < 0.01, "float32 and double may differ where a level begins"


def test_low_frequencies_are_at_the_bottom_and_time_runs_to_the_right() -> None:
    values = np.full((80, 51), -80, np.float32)
    values[0] = 0.0
    values[40:, 0] = -40.0
    found = drawn(values, mode="gray", height=160, width=102)
    assert (found[-1] == 255).all()
    assert (found[:70, 0] == 128).all() and not found[:70, 3:].any()


@pytest.mark.parametrize("frames", [1, 7, 51, 900])
@pytest.mark.parametrize("mode", ["rgb", "indexed", "gray"])
def test_every_picture_has_the_size_that_was_asked_for(frames: int, mode: str) -> None:
    assert drawn(log_mel(0, 80, frames), mode=mode).shape[:2] == (224, 224)
    assert drawn(log_mel(0, 80, frames), mode=mode, height=64, width=100).shape[:2] == (64, 100)
    assert drawn(log_mel(0, 80, frames), mode=mode, height=64, width=None).shape[:2] == (64, frames)
    assert drawn(log_mel(0, 80, frames), mode=mode, height=None, width=30).shape[:2] == (80, 30)


def test_nearest_repeats_cells_and_bilinear_lies_between_them() -> None:
    values = log_mel(3, 40, 25)
    cells = drawn(values, **OWN_SIZE, mode="gray")
    assert np.array_equal(
        drawn(values, height=120, width=75, resize="nearest", mode="gray"), cells.repeat(3, 0).repeat(3, 1)
    )
    for height, width in ((224, 224), (13, 7)):
        exact = Image.fromarray(cells.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        found = drawn(values, height=height, width=width, mode="gray")
        assert np.abs(found - np.asarray(exact)).max() <= 1
    between = drawn(values, height=224, width=224, mode="rgb")
    palette = matplotlib.colormaps["magma"](np.arange(256), bytes=True)[:, :3]
    assert set(map(tuple, between.reshape(-1, 3))) <= set(map(tuple, palette)), "no colour that is not in the map"


def test_channels_stand_one_above_the_other_on_one_scale() -> None:
    values = np.stack([log_mel(1, 20, 15), log_mel(2, 20, 15) - 30])
    low, high = float(values.min()), float(values.max())
    found = drawn(values, **OWN_SIZE, mode="gray")
    assert found.shape == (40, 15)
    assert np.abs(found[:20] - levels(values[0], low, high)).max() <= 1
    assert np.abs(found[20:] - levels(values[1], low, high)).max() <= 1
    assert drawn(values, mode="rgb").shape == (224, 224, 3)


def test_silence_and_what_is_no_number_are_drawn_without_a_word() -> None:
    wild = np.array([[np.nan, -80, 0], [np.inf, -np.inf, -40]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not drawn(np.full((80, 51), -100, np.float32), mode="gray").any()
        for spec in ({}, {"range_db": [-80, 0]}, {"range_db": [-80, 0], "reference": "absolute"}):
            drawn(wild, **spec)
        assert drawn(wild, **OWN_SIZE, mode="gray", range_db=[-80, 0], reference="absolute")[::-1].tolist() == [
            [255, 0, 255], [255, 0, 128]
        ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["L", "P", "RGB"]), st.integers(0, 999))
def test_a_png_is_read_as_it_was_written(height: int, width: int, mode: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3) if mode == "RGB" else (height, width), np.uint8)
    palette = rng.bytes(768) if mode == "P" else None
    content = png(pixels, palette)
    Image.open(io.BytesIO(content)).verify()  # the chunks' checksums
    image = Image.open(io.BytesIO(content))
    assert (image.mode, image.size, image.info) == (mode, (width, height), {})
    assert np.array_equal(np.asarray(image), pixels)
    assert palette is None or bytes(image.getpalette() or []) == palette
    kinds, at = [], 8
    while at < len(content):
        kinds.append(content[at + 4 : at + 8].decode())
        at += 12 + struct.unpack(">I", content[at : at + 4])[0]
    assert kinds == ["IHDR", *(["PLTE"] if palette else []), "IDAT", "IEND"], "nothing that could hold a time"


def clip_table(n: int) -> pa.Table:
    rows = [{"status": "clip", "clip_id": f"c{i}"} for i in range(n)]
    table = pa.Table.from_pylist([*rows, {"status": "account"}], schema=CLIPS)
    values = [log_mel(i, 20, 15).reshape(-1) for i in range(n)] + [np.empty(0, np.float32)]
    shapes = pa.array([[20, 15]] * n + [None], pa.list_(pa.int32()))
    return table.append_column("log_mel", float_lists(values)).append_column("log_mel_shape", shapes)


def test_the_stage_adds_a_column_and_cuts_what_gets_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    table = clip_table(10)
    (whole,) = Images(Spec())(table)
    assert whole.drop_columns(["image"]).equals(table)
    assert whole["image"].to_pylist()[-1] is None
    assert whole["image"][3].as_py() == {"bytes": Images(Spec()).draw(log_mel(3, 20, 15)), "path": "c3.png"}
    monkeypatch.setattr(images, "_TABLE_BYTES", 3 * len(whole["image"][0].as_py()["bytes"]) - 5000)
    for n in (0, 1, 3, 6, 9, 10):
        parts = list(Images(Spec())(clip_table(n).slice(0, n)))
        assert pa.concat_tables(parts).equals(whole.slice(0, n).combine_chunks())
        assert len(parts) == (1 if n < 6 else 2 if n < 9 else 3 if n < 10 else 4)
    (same,) = Images(None)(table)
    assert same is table


def test_half_a_table_is_drawn_like_a_whole_one() -> None:
    table = clip_table(6)
    (whole,), (half,) = Images(Spec())(table), Images(Spec())(table.slice(3))
    assert half["image"].to_pylist() == whole["image"].to_pylist()[3:]


# A dataset with pictures, read back


def config_text(place: Path, root: str = "out", mode: str = "rgb", channels: str = "mono") -> str:
    return f"""
name: pictures
sources: [{{name: s, root: {place}/in, label: {{from: folder}}, segment: {{mode: window, length_s: 0.5, tail: keep}}}}]
audio: {{channels: {channels}}}
features: {{log_mel: {{n_fft: 512, hop_length: 160, n_mels: 40}}, mfcc: {{n_mfcc: 13}}}}
output:
  {{root: {place}/{root}, formats: [parquet, webdataset], shard_seconds: 3, images: {{height: 96, width: 128, mode: {mode}}}}}
"""


def make_corpus(place: Path) -> None:
    for i in range(6):
        path = place / "in" / "ab"[i % 2] / f"{i}.wav"
        write_audio(path, tone(1.3, 16000, 1 + i % 2, hz=300 * (i + 1), seed=i), 16000)


def configure(place: Path, **more: str) -> Path:
    path = place / f"{more.get('root', 'out')}.yaml"
    path.write_text(config_text(place, **more))
    return path


@pytest.fixture(scope="module", params=["rgb", "indexed"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[dict]]:
    place = tmp_path_factory.mktemp("images")
    make_corpus(place)
    commits = build_here(configure(place, mode=request.param))
    assert len(commits) > 2
    assert {"pillow", "matplotlib", "zlib"} <= commits[0].versions.keys()
    return place / "out", request.param, clips_of(place / "out", commits)


def test_a_stored_picture_is_that_of_the_stored_log_mel(dataset: tuple[Path, str, list[dict]]) -> None:
    _, mode, rows = dataset
    assert len(rows) == 6 * 3
    for row in rows:
        values = np.array(row["log_mel"], np.float32).reshape(row["log_mel_shape"])
        assert row["image"]["bytes"] == Images(Spec(height=96, width=128, mode=mode)).draw(values)
        assert row["image"]["path"] == f"{row['clip_id']}.png"


def test_hugging_face_datasets(dataset: tuple[Path, str, list[dict]], tmp_path: Path) -> None:
    import datasets

    root, mode, rows = dataset
    loaded = datasets.load_dataset("parquet", data_files=str(root / "shards/*/*.parquet"), cache_dir=str(tmp_path))
    split = loaded["train"].cast_column("audio", datasets.Audio(decode=False))
    assert isinstance(split.features["image"], datasets.Image)
    theirs = {row["clip_id"]: row["image"] for row in split}
    assert len(theirs) == len(rows)
    for row in rows:
        image = theirs[row["clip_id"]]
        assert (image.mode, image.size) == ("RGB", (128, 96)), mode
        assert np.array_equal(
            np.asarray(image), np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
        )


def test_webdataset(dataset: tuple[Path, str, list[dict]]) -> None:
    import webdataset

    root, _, rows = dataset
    tars = sorted(str(p) for p in (root / "shards").rglob("*.tar"))
    raw = {s["__key__"]: s for s in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)}
    seen = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("rgb8", only=["png"])
    pixels = {s["__key__"]: s["png"] for s in seen}
    assert len(raw) == len(pixels) == len(rows)
    for row in rows:
        assert raw[row["clip_id"]]["png"] == row["image"]["bytes"]
        image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        assert np.array_equal(pixels[row["clip_id"]], np.asarray(image))
        assert "image" not in json.loads(raw[row["clip_id"]]["json"])


def test_a_tar_unpacks_to_files_that_an_image_viewer_opens(
    dataset: tuple[Path, str, list[dict]], tmp_path: Path
) -> None:
    root, _, rows = dataset
    for path in (root / "shards").rglob("*.tar"):
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path, [m for m in tar if m.name.endswith(".png")], filter="data")
    found = sorted(tmp_path.glob("*.png"))
    assert len(found) == len(rows)
    assert {Image.open(p).size for p in found} == {(128, 96)}


def test_verify_and_show_know_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmill.pipelines.run.build import build

    monkeypatch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
    make_corpus(tmp_path)
    report = build(load(configure(tmp_path)), quiet=True)
    root = Root(str(tmp_path / "out"))
    claim_root(root, "pictures")
    *_, verdict = verify(root)
    assert not verdict.problems and verdict.clips == 18
    told = {column["name"]: column for column in show(root)["columns"]}
    assert told["image"]["type"] == "struct<bytes: binary, path: string>" and told["image"]["kind"] == "image"
    assert isinstance(report.snapshot, Snapshot)
    assert "image" not in pq.read_schema(tmp_path / "out/snapshots/000001/manifest.parquet").names
    commit = read_commit(root, report.snapshot.commits[0])
    path = commit.output("parquet").path  # type: ignore[union-attr]
    assert pq.read_schema(tmp_path / "out" / path).field("image").type == images.IMAGE


def test_pictures_fill_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_corpus(tmp_path)
    monkeypatch.setattr("clipmill.stages.write.shard_files.ROW_GROUP_BYTES", 45_000)
    n_groups = []
    for root, width in (("small", 16), ("large", 1000)):
        config = configure(tmp_path, root=root)
        config.write_text(config.read_text().replace("width: 128", f"width: {width}"))
        build_here(config)
        files = (tmp_path / root).rglob("shards/*/*.parquet")
        n_groups.append(sum(pq.ParquetFile(p).metadata.num_row_groups for p in files))
    assert n_groups[1] > n_groups[0]


@pytest.mark.parametrize("actors", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_the_bytes_do_not_depend_on_who_draws(actors: int, tmp_path: Path, ray_session: None) -> None:
    make_corpus(tmp_path)
    build_here(configure(tmp_path, root="here", channels="keep"))
    here = shard_hashes(tmp_path / "here")
    assert len(here) > 4
    file = resolved(load(configure(tmp_path, root="ray", channels="keep")))
    plan = make_plan(file.config)
    shards = [plan.shard(i) for i in reversed(range(len(plan.keys)))]
    stages = stages_of(file.config, plan, "cpu")
    results = list(run_graph(shards, stages, Watch(), feature_actors=actors, gpus_per_actor=0))
    assert all(r["error"] is None for r in results)
    assert shard_hashes(tmp_path / "ray") == here


# The configuration


def written(images: str, features: str = "{log_mel: {n_mels: 40}}") -> str:
    return f"name: x\nsources: [{{name: a, root: /r}}]\nfeatures: {features}\noutput:\n  root: /o\n  images: {images}\n"


@pytest.mark.parametrize(
    ("images", "key", "words"),
    [
        ("{colormap: magam}", "output.images.colormap", "did you mean 'magma'"),
        ("{colormap: Viridis}", "output.images.colormap", "'viridis'"),
        ("{colormap: zzzzzz}", "output.images.colormap", "magma, viridis and gray"),
        ("{colourmap: magma}", "output.images.colourmap", "did you mean 'colormap'"),
        ("{mode: gray, colormap: magma}", "output.images.colormap", "rgb or indexed"),
        ("{mode: palette}", "output.images.mode", "'indexed'"),
        ("{height: 0}", "output.images.height", "1"),
        ("{width: 5000}", "output.images.width", "4096"),
        ("{range_db: [0, -80]}", "output.images.range_db", "[-80, 0]"),
        ("{range_db: [-80]}", "output.images.range_db", "two numbers"),
        ("{reference: absolute}", "output.images.reference", "range_db"),
    ],
)
def test_a_mistake_names_its_key_and_what_to_do(images: str, key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(written(images))
    assert (caught.value.key.removesuffix("[1]"), caught.value.line) == (key, 6)
    assert words in str(caught.value)


@pytest.mark.parametrize("features", ["{}", "{mfcc: {n_mfcc: 20}}"])
def test_pictures_need_the_log_mel(features: str) -> None:
    with pytest.raises(ConfigError, match=r"add `log_mel: \{\}` to features") as caught:
        loads(written("{}", features))
    assert (caught.value.key, caught.value.line) == ("output.images", 6)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("true", "indexed"),
        ("{}", "indexed"),
        ("{mode: rgb}", "rgb"),
        ("{mode: gray, colormap: gray}", "gray"),
        ("false", None),
        ("null", None),
    ],
)
def test_ways_to_ask_for_pictures(images: str, expected: str | None) -> None:
    found = loads(written(images)).config.output.images
    assert (found.mode if found else None) == expected


def test_pictures_are_part_of_a_shards_key_and_not_of_its_clips() -> None:
    configs = [
        loads(written(images)).config
        for images in ("null", "{}", "{mode: gray}", "{width: 300}", "{range_db: [-80, 0]}")
    ]
    assert "images" not in files_fingerprint(chain_of(configs[0])), "datasets without pictures keep their keys"
    prints = [json.dumps(files_fingerprint(chain_of(c)), sort_keys=True) for c in configs]
    assert len(set(prints)) == len(prints)
    assert len({json.dumps(clips_fingerprint(chain_of(c), [])) for c in configs}) == 1
    same = loads(written("{colormap: gray, mode: gray, height: 224}")).config
    assert files_fingerprint(chain_of(same)) == files_fingerprint(chain_of(configs[2]))


def test_a_field_of_the_same_name_is_refused_only_with_pictures(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "in/1.wav", tone(0.5, 16000), 16000)
    source = {"root": tmp_path / "in", "fields": "(?P<image>.)"}
    features = {"log_mel": {"n_fft": 256, "n_mels": 10}}
    output = {"root": str(tmp_path / "out"), "formats": ["parquet", "webdataset"]}
    with pytest.raises(ConfigError, match="has a field 'image'") as caught:
        make_plan(load(make_config(source, features=features, output={**output, "images": {}})).config)
    assert caught.value.key == "output.images"
    commits = build_here(make_config(source, features=features, output=output))
    assert [row["image"] for row in clips_of(tmp_path / "out", commits)] == ["1"]
    # Its clips are taken over with the field.
    commits = build_here(make_config(source, features={}, output=output))
    assert [row["image"] for row in clips_of(tmp_path / "out", commits)] == ["1"]
