"""The export to TFRecord, read by protobuf's own parser and a reader that follows the format's description; the examples for Keras and JAX."""

from __future__ import annotations

import json
import runpy
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_corpora import ODD_LABELS, built, export, labelled, rows_of, several_labels, windows
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.exports.tf_examples import encode_example
from clipmill.stages.write.encode import decode_clip

pytest.importorskip("google_crc32c", reason="google-crc32c is not installed: pip install 'clipmill[tfrecord]'")

TOP = Path(__file__).parents[1]
FEATURES = {"log_mel": {"n_mels": 16}, "mfcc": {"n_mfcc": 5}}


def crc32c(content: bytes) -> int:
    """CRC-32C bit by bit, from its polynomial."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(content: bytes) -> int:
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path, check: bool = False) -> Iterator[bytes]:
    """Yield the records of a file. check : compare checksums, which is slow here"""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        record = content[12 : 12 + length]
        if check:
            assert struct.unpack("<I", content[8:12]) == (masked(content[:8]),)
            assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked(record),)
        yield record
        content = content[16 + length :]


def example_class() -> Any:
    """Return protobuf's own class of tf.train.Example, from what tensorflow/core/example/*.proto say."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=kinds.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for i, name in enumerate(("bytes_list", "float_list", "int64_list")):
        of = f".tf.{''.join(part.capitalize() for part in name.split('_'))}"
        feature.field.add(name=name, number=i + 1, type=kinds.TYPE_MESSAGE, type_name=of, label=1, oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, type_name=".tf.Feature", label=1)
    of = ".tf.Features.FeatureEntry"
    features.field.add(name="feature", number=1, type=kinds.TYPE_MESSAGE, type_name=of, label=kinds.LABEL_REPEATED)
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, type=kinds.TYPE_MESSAGE, type_name=".tf.Features", label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


EXAMPLE = example_class()


def parsed(record: bytes) -> dict[str, Any]:
    found = {}
    for name, feature in EXAMPLE.FromString(record).features.feature.items():
        found[name] = list(getattr(feature, feature.WhichOneof("kind")).value)
    return found


def read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return features.json, and the features of each clip by its id."""
    about = json.loads((folder / "features.json").read_text())
    found = {}
    for split, of in about["splits"].items():
        for file in of["files"]:
            assert (folder / file["path"]).stat().st_size == file["bytes"]
            clips = [parsed(record) for record in records(folder / file["path"])]
            assert len(clips) == file["clips"]
            assert {clip["split"][0] for clip in clips} == {split.encode()}
            found |= {clip["clip_id"][0].decode(): clip for clip in clips}
    return about, found


def check(about: dict[str, Any], found: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]]) -> None:
    assert found.keys() == rows.keys()
    for name, clip in found.items():
        row = rows[name]
        assert clip.keys() == about["features"].keys()
        for key, values in clip.items():
            shape = about["features"][key]["shape"]
            assert shape is None or len(values) == np.prod(shape, dtype=int), key
        for key, kind in (
            (k, of["kind"]) for k, of in about["features"].items() if k in row and not isinstance(row[k], list | dict)
        ):
            expected = row[key]
            if kind == "bytes":
                assert clip[key] == [(expected or "").encode()]
            elif kind == "float":
                np.testing.assert_array_equal(
                    np.float32(clip[key][0]), np.float32(np.nan if expected is None else expected)
                )
            else:
                assert clip[key] == [-1 if expected is None else expected]
        assert clip["label_id"] == [about["classes"].index(row["label"]) if row["label"] else -1]
        for feature in {"log_mel", "mfcc"} & row.keys():
            np.testing.assert_array_equal(np.array(clip[feature], np.float32), row[feature])
            assert clip[f"{feature}_shape"] == row[f"{feature}_shape"]


def samples(about: dict[str, Any], clip: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(clip["audio"][0], about["features"]["audio"]["dtype"]).reshape(clip["audio_shape"])


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda s: not any(0xD800 <= ord(c) < 0xE000 for c in s)),
        st.lists(st.binary(max_size=300), max_size=3)
        | st.lists(st.floats(width=32), max_size=40).map(lambda v: np.array(v, np.float32))
        | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40).map(lambda v: np.array(v, np.int64)),
        max_size=5,
    )
)
def test_protobuf_reads_what_is_written(features: dict[str, Any]) -> None:
    content = encode_example(features)
    assert encode_example(dict(reversed(features.items()))) == content
    found = parsed(content)
    assert found.keys() == features.keys()
    for name, values in features.items():
        if isinstance(values, list):
            assert found[name] == values
        else:
            np.testing.assert_array_equal(np.array(found[name], values.dtype), values)


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_records_of_odd_labels(tmp_path: Path) -> None:
    root = labelled(tmp_path, ODD_LABELS, features=FEATURES, output={"images": {}})
    export(root, "tfrecord", "--to", tmp_path / "t")
    about, found = read(tmp_path / "t")
    rows = rows_of(root)
    check(about, found, rows)
    assert about["classes"] == list(open_dataset(root).classes)
    assert about["features"]["log_mel"]["shape"] == [16, 4] and about["features"]["log_mel"]["unit"] == "dB"
    for name, clip in found.items():
        np.testing.assert_array_equal(samples(about, clip), decode_clip(rows[name]["audio"]["bytes"])[0])
        assert clip["image"] == [rows[name]["image"]["bytes"]]
    (file,) = (tmp_path / "t").glob("*.tfrecord")
    assert sum(1 for _, record in zip(range(2), records(file, check=True), strict=False) if record) == 2
    before = file.read_bytes()
    export(root, "tfrecord", "--to", tmp_path / "t")
    assert file.read_bytes() == before
    told = export(root, "tfrecord", "--to", tmp_path / "t", "--option", "audio=none", code=2).output
    assert "holds this export as it was asked for differently" in told
    export(root, "tfrecord", "--to", tmp_path / "u", "--option", "audio=none")
    check(*read(tmp_path / "u"), rows)


def test_several_files_shapes_and_channels(tmp_path: Path) -> None:
    more = {
        "features": {"log_mel": {"n_mels": 80, "hop_length": 8}},
        "audio": {"sample_rate_hz": 8000, "sample_format": "float32"},
    }
    root = labelled(tmp_path, ["a", "b"], n_each=4, seconds=(0.25, 1.5), output={"audio_codec": "wav"}, **more)
    export(root, "tfrecord", "--to", tmp_path / "t", "--where", "{duration_s: {min: 1}}")
    assert read(tmp_path / "t")[1].keys() == {name for name, row in rows_of(root).items() if row["duration_s"] >= 1}
    told = export(root, "tfrecord", "--to", tmp_path / "u", "--option", "file_mb=1").output
    assert "1 feature of clips has several shapes (log_mel)" in told
    about, found = read(tmp_path / "u")
    check(about, found, rows_of(root))
    assert len(about["splits"]["train"]["files"]) > 1 and about["features"]["log_mel"]["shape"] is None
    assert about["features"]["audio"]["dtype"] == "float32"
    for name, clip in found.items():
        np.testing.assert_array_equal(samples(about, clip), decode_clip(rows_of(root)[name]["audio"]["bytes"])[0])


def test_several_labels_and_none(tmp_path: Path) -> None:
    root = several_labels(tmp_path)
    told = export(root, "tfrecord", "--to", tmp_path / "t", "--option", "audio=file").output
    assert "audio is FLAC files, which TensorFlow itself cannot decode" in told
    about, found = read(tmp_path / "t")
    rows = rows_of(root)
    check(about, found, rows)
    for name, clip in found.items():
        row = rows[name]
        assert [label.decode() for label in clip["labels"]] == row["labels"]
        assert [about["classes"][i] for i in clip["label_ids"]] == row["labels"]
        assert [label.decode() for label in clip["events/label"]] == [event["label"] for event in row["events"]]
        assert clip["events/onset_s"] == [np.float32(event["onset_s"]) for event in row["events"]]
        assert clip["audio"] == [row["audio"]["bytes"]]


def test_tars_splits_and_a_store(tmp_path: Path, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipmill.stages.storage.root import Root

    more = {"features": FEATURES, "split": {"train": 0.5, "test": 0.5, "method": "rendezvous"}}
    recordings = {f"c{i % 3}/r{i}.wav": 0.5 for i in range(6)}
    root = windows(tmp_path, recordings, output={"formats": ["webdataset"]}, **more)
    windows(tmp_path, {}, output={"root": str(tmp_path / "both")}, **more)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    export(root, "tfrecord", "--to", f"s3://{bucket}/t")
    there = Root(f"s3://{bucket}/t", {"endpoint_url": endpoint})
    for path in there.sizes(""):
        (tmp_path / "t").mkdir(exist_ok=True)
        (tmp_path / "t" / path).write_bytes(there.read_bytes(path))
    check(*read(tmp_path / "t"), rows_of(tmp_path / "both"))


def test_tensorflow_reads_it(tmp_path: Path) -> None:
    tf = pytest.importorskip(
        "tensorflow", reason="TensorFlow is not installed, so that it reads the files is not tested here"
    )
    root = labelled(tmp_path, ["a", "b"], features=FEATURES)
    export(root, "tfrecord", "--to", tmp_path / "t")
    about = json.loads((tmp_path / "t/features.json").read_text())
    kinds = {"bytes": tf.string, "float": tf.float32, "int64": tf.int64}
    spec = {name: tf.io.FixedLenFeature(of["shape"], kinds[of["kind"]]) for name, of in about["features"].items()}
    files = [str(tmp_path / "t" / file["path"]) for file in about["splits"]["train"]["files"]]
    rows = rows_of(root)
    clips = [tf.io.parse_single_example(record, spec) for record in tf.data.TFRecordDataset(files)]
    assert {clip["clip_id"].numpy().decode() for clip in clips} == rows.keys()


def test_the_keras_example_as_far_as_it_runs_without_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was run with TensorFlow 2.21 when it was written; here its reading of the description, and its messages."""
    root = labelled(tmp_path, ["a", "b"], features=FEATURES)
    export(root, "tfrecord", "--to", tmp_path / "t")
    example = runpy.run_path(str(TOP / "examples/keras_cnn.py"), run_name="example")
    about = example["description"](tmp_path / "t")
    assert example["files_of"](tmp_path / "t", about, "train") == [str(tmp_path / "t/train-00000.tfrecord")]
    for name in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, name, None)
    for words, said in [
        ([str(tmp_path / "t")], "is not installed: pip install tensorflow"),
        ([str(tmp_path)], "is no TFRecord export: it has no features.json"),
        ([str(tmp_path / "t"), "--feature", "no"], "has no feature 'no'"),
    ]:
        monkeypatch.setattr(sys, "argv", ["keras_cnn.py", *words])
        with pytest.raises(SystemExit, match=said):
            example["main"]()


def test_the_jax_example_reads_batches_of_one_shape(tmp_path: Path) -> None:
    """Its training was run with JAX 0.10 when it was written; it runs here too where JAX is installed."""
    root = labelled(tmp_path, ["a", "b"], n_each=5, seconds=(0.25, 0.5), features=FEATURES)
    example = runpy.run_path(str(TOP / "examples/jax_loader.py"), run_name="example")
    dataset = open_dataset(root)
    ranks = [example["Batches"](dataset, "train", "log_mel", 6, 2, rank=rank, n_ranks=2) for rank in range(2)]
    for epoch in range(2):
        batches = [list(batches.epoch(epoch)) for batches in ranks]
        assert [len(of) for of in batches] == [2, 2]  # the same on both
        for batch in (batch for of in batches for batch in of):
            assert batch["x"].shape == (2, 16, 6) and batch["x"].dtype == np.float32
            assert batch["y"].shape == (2,) and batch["y"].dtype == np.int32 and {*batch["y"]} <= {0, 1}
    pytest.importorskip("jax", reason="JAX is not installed, so its devices and its step are not tested here")
    losses = example["train"](dataset, "train", "log_mel", 6, 2, 5)
    assert losses[-1] < losses[0]


def test_the_jax_example_says_what_is_missing(tmp_path: Path) -> None:
    root = labelled(tmp_path, ["a", "b"])
    done = subprocess.run(
        [sys.executable, "examples/jax_loader.py", str(root)],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1 and "there is no feature 'log_mel'" in done.stderr and "Traceback" not in done.stderr


def test_names_that_would_be_two_features(tmp_path: Path) -> None:
    from conftest import tone, write_audio

    write_audio(tmp_path / "in/r0_x.wav", tone(0.5, 8000), 8000)
    source = {
        "name": "s",
        "root": str(tmp_path / "in"),
        "fields": r"_(?P<audio_shape>.+)\.wav",
        "segment": {"mode": "whole"},
    }
    root = built(tmp_path, [source])
    told = export(root, "tfrecord", code=1).output
    assert "two features of a record would be called 'audio_shape'; give the corpus's field another name" in told
