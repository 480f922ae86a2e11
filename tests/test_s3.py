"""s3:// in and out, against the server that S3_ENDPOINT_URL names, or moto's."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import build_here, tone, write_audio

from clipmill.pipelines.dataset.records_io import committed_keys
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.plan.inventory import take_inventory
from clipmill.schemas.config import Segment, Source
from clipmill.schemas.tables import PLAN
from clipmill.stages.decode import Decode, DecodeSource
from clipmill.stages.decode.containers.mpeg_headers import mpeg_frame_bytes
from clipmill.stages.storage import objects
from clipmill.stages.storage.root import Root


def hashes(root: Root, folder: str = "shards") -> dict[str, str]:
    if root.is_local:
        found = [str(p.relative_to(root.full())) for p in Path(root.full()).glob(f"{folder}/*/*")]
    else:
        found = [str(n)[len(root.full()) + 1 :] for n in root.fs.find(root.full(folder))]
    return {name: hashlib.sha256(root.read_bytes(name)).hexdigest() for name in found}


def test_a_build_from_and_to_s3_gives_the_bytes_of_a_local_one(
    endpoint: str, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i, extension in enumerate(["wav", "flac", "ogg", "wav"]):
        write_audio(tmp_path / "in" / f"take [{i}] #é.{extension}", tone(1.0, 22050, seed=i), 22050)
    options: dict[str, Any] = {"endpoint_url": endpoint}
    bucket = f"clipmill-test-{uuid.uuid4().hex[:8]}"
    remote = Root(f"s3://{bucket}/corpus", options)
    remote.fs.mkdir(bucket)
    for path in (tmp_path / "in").iterdir():
        remote.write_bytes(path.name, path.read_bytes())
    (tmp_path / "in/empty.wav").write_bytes(b"")
    remote.write_bytes("empty.wav", b"")
    segment = {"mode": "window", "length_s": 0.25}
    base = {"segment": segment, "bytes_per_second": 44100, "version": "sha256", "name": "s"}
    output = {"formats": ["parquet", "webdataset"], "shard_seconds": 2}
    local = make_config(
        {"root": tmp_path / "in", **base}, name="local", output={"root": str(tmp_path / "out"), **output}
    )
    far = make_config(
        {"root": f"s3://{bucket}/corpus", "storage_options": options, **base},
        name="far",
        output={"root": f"s3://{bucket}/out", "storage_options": options, **output},
    )
    here, there = build_here(local), build_here(far)
    out = Root(f"s3://{bucket}/out", options)
    assert [(c.split, c.bucket) for c in here] == [(c.split, c.bucket) for c in there]
    assert committed_keys(out) == {c.key for c in there}
    assert all(r["reason"] == "empty" for c in there for r in c.rejections), [c.rejections for c in there]
    assert {r["reason"] for c in there for r in c.rejections} == {"empty"}

    # The one thing that differs is where a clip says it came from.
    def without_uri(root: Root) -> list[Any]:
        import pyarrow.parquet as pq

        tables = [
            pq.read_table(root.open_read(n)).drop_columns(["source_uri"])
            for n in sorted(hashes(root))
            if n.endswith(".parquet")
        ]
        return [t.to_pylist() for t in tables]

    assert without_uri(out) == without_uri(Root(str(tmp_path / "out")))
    # The same source to a local root and to S3: the same files to the byte.
    mixed = make_config(
        {"root": f"s3://{bucket}/corpus", "storage_options": options, **base},
        name="mixed",
        output={"root": str(tmp_path / "mixed"), **output},
    )
    build_here(mixed)
    assert hashes(Root(str(tmp_path / "mixed"))) == hashes(out)


def test_an_s3_dataset_is_published_and_verified(
    endpoint: str, tmp_path: Path, make_config: Callable[..., Path], ray_session: None
) -> None:
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.run.build import build

    options: dict[str, Any] = {
        "endpoint_url": endpoint,
        "key": os.environ["AWS_ACCESS_KEY_ID"],
        "secret": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    bucket = f"clipmill-test-{uuid.uuid4().hex[:8]}"
    write_audio(tmp_path / "in/a.wav", tone(1.0, 16000), 16000)
    out = Root(f"s3://{bucket}/out", options)
    out.fs.mkdir(bucket)
    config = make_config({"root": tmp_path / "in"}, output={"root": f"s3://{bucket}/out", "storage_options": options})
    report = build(load(config), quiet=True)
    assert report.status == "published"
    assert build(load(config), quiet=True).status == "unchanged"
    *_, verdict = verify(out)
    assert not verdict.problems
    for name in out.fs.find(out.full()):
        assert options["secret"].encode() not in out.fs.cat_file(name)


@pytest.mark.parametrize("version", ["auto", "sha256"])
def test_the_same_bytes_uploaded_again_rebuild_nothing_and_others_do(
    version: str, endpoint: str, tmp_path: Path, make_config: Callable[..., Path], in_process: None
) -> None:
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.run.build import build

    options: dict[str, Any] = {"endpoint_url": endpoint}
    bucket = f"clipmill-test-{uuid.uuid4().hex[:8]}"
    remote = Root(f"s3://{bucket}/corpus", options)
    remote.fs.mkdir(bucket)
    for i in range(4):
        path = write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, 8000, seed=i), 8000)
        remote.write_bytes(path.name, path.read_bytes())
    source = {
        "root": f"s3://{bucket}/corpus",
        "storage_options": options,
        "version": version,
        "bytes_per_second": 16000,
    }
    config = load(make_config(source, output={"root": str(tmp_path / "out"), "shard_seconds": 2}))
    n = build(config, quiet=True).shards_built
    assert n > 1
    remote.write_bytes("r1.wav", (tmp_path / "in/r1.wav").read_bytes())
    assert build(config, quiet=True).status == "unchanged"
    remote.write_bytes("r1.wav", (tmp_path / "in/r2.wav").read_bytes())
    again = build(config, quiet=True)
    assert (again.status, again.shards_built) == ("published", 1)


def test_two_builds_cannot_publish_the_same_number_in_s3(
    endpoint: str, tmp_path: Path, make_config: Callable[..., Path], in_process: None
) -> None:
    from clipmill.pipelines.config_file import load
    from clipmill.pipelines.dataset.notes import BuildNote
    from clipmill.pipelines.dataset.publish import publish
    from clipmill.pipelines.run.build import Builder
    from clipmill.pipelines.run.drafting import draft_snapshot

    bucket = f"clipmill-test-{uuid.uuid4().hex[:8]}"
    output = {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}}
    Root(f"s3://{bucket}/out", {"endpoint_url": endpoint}).fs.mkdir(bucket)
    drafts = []
    for i in range(2):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, 8000, seed=i), 8000)
        config = load(make_config({"root": tmp_path / "in"}, output=output))
        builder = Builder(config, None, None, True).begin()
        with BuildNote(builder.root, builder.plan.keys, 0) as note:
            builder.build_missing(note)
            drafts.append(draft_snapshot(config, builder.root, builder.plan, builder.shards))
    first = publish(builder.root, drafts[0], None)
    assert first is not None
    assert first.number == 1
    assert publish(builder.root, drafts[1], None) is None
    *_, verdict = verify(builder.root)
    assert not verdict.problems
    # One that died between its manifest and its snapshot: the number is not written over by another content.
    builder.root.remove("snapshots/000001.json")
    second = publish(builder.root, drafts[1], None)
    assert second is not None
    assert second.number == 2
    *_, verdict = verify(builder.root)
    assert not verdict.problems


def test_a_recording_that_is_walked_comes_from_the_store_once(
    bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames of an MP3 are looked at before it is decoded; more bytes than one request brings are not asked for twice."""
    frame = b"\xff\xfb\x90\xc0" + bytes(413)
    assert mpeg_frame_bytes(frame, 0) == len(frame)
    root = Root(f"s3://{bucket}/in", {"endpoint_url": endpoint})
    root.write_bytes("long.mp3", frame * 24_000)
    brought: list[int] = []
    plain = objects._get

    async def counted(*args: Any) -> Any:
        answer = await plain(*args)
        brought.append(len(answer.content))
        return answer

    monkeypatch.setattr(objects, "_get", counted)
    source = Source.model_validate({"name": "s", "root": root.url, "storage_options": {"endpoint_url": endpoint}})
    (listed,) = take_inventory(source, root).recordings
    empty = dict.fromkeys(PLAN.names)
    item = {**empty, "item_id": "s/long.mp3", "source": "s", "path": "long.mp3", "primary": True, "span_start_s": 0.0}
    item |= {"version": listed.version, "size_bytes": listed.size_bytes}
    decode = Decode({"s": DecodeSource(root, Segment(mode="window", length_s=1.0))}, 44100)
    rows = [
        r for t in decode(pa.Table.from_pylist([item], schema=PLAN)) for r in t.drop_columns(["samples"]).to_pylist()
    ]
    assert rows[-1]["reason"] is None
    assert rows[-1]["decoded_frames"] == 24_000 * 1152
    assert sum(brought) == 24_000 * len(frame)
