"""What a build measures of itself: in its note, in `status --json`, and by operation of a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import run, tone, upload_source, write_audio

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.leases import read_notes
from clipmill.pipelines.dataset.notes import BuildNote
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.retry import retry
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.seal import unsealed
from clipmill.stages import meter
from clipmill.stages.storage.root import Root

WINDOW = {"mode": "window", "length_s": 0.25}
PHASES = {"wall", "inventory", "annotations", "plan", "starting", "work", "publish"}
STATUS_KEYS = {"root", "snapshots", "published", "forget", "builds"}
PUBLISHED_KEYS = {"snapshot", "created", "clips", "seconds", "shards", "accepted", "damage"}
BUILD_KEYS = {
    "state", "message", "started", "last_sign", "host", "pid", "shards_planned", "shards_committed", "recordings_listed",
    "progress", "numbers",
}  # fmt: skip
NUMBERS_KEYS = {
    "seconds", "stage_seconds", "rates", "counts", "rejected", "decoded_s", "bytes_stored", "requests", "snapshot",
}  # fmt: skip
COUNTS_KEYS = {
    "shards_planned", "shards_built", "shards_reused", "shards_failed", "recordings_listed", "recordings_used",
    "recordings_rejected", "recordings_without_annotations", "recordings_forgotten", "clips_kept", "clips_dropped", "clips_rejected",
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    for i in range(3):
        write_audio(tmp_path / f"in/r{i}.wav", tone(2.0, 16000, seed=i), 16000)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    return {"root": tmp_path / "in", "name": "s", "segment": WINDOW, "bytes_per_second": 32000}


@pytest.fixture
def config(source: dict[str, Any], make_config: Callable[..., Path], tmp_path: Path) -> Path:
    output = {"root": str(tmp_path / "out"), "shard_seconds": 2}
    return make_config(source, output=output, features={"log_mel": {}}, limits={"max_rejected_share": 1.0})


def check(numbers: dict[str, Any]) -> None:
    assert set(numbers) == NUMBERS_KEYS
    assert set(numbers["seconds"]) == PHASES
    assert all(s >= 0 for s in (*numbers["seconds"].values(), *numbers["stage_seconds"].values()))
    parts = sum(s for name, s in numbers["seconds"].items() if name != "wall")
    assert parts <= numbers["seconds"]["wall"] + 0.01


def test_the_note_of_an_ended_build_has_its_numbers(config: Path, tmp_path: Path) -> None:
    measured: dict[str, Any] = {}
    report = build(config, quiet=True, numbers=measured)
    root = Root(str(tmp_path / "out"))
    numbers = read_notes(root)[-1].numbers
    check(numbers)
    check(measured)
    assert {k: v for k, v in measured.items() if k != "seconds"} == {k: v for k, v in numbers.items() if k != "seconds"}
    assert set(numbers["counts"]) == COUNTS_KEYS
    counts = numbers["counts"]
    assert (counts["recordings_listed"], counts["recordings_used"], counts["recordings_rejected"]) == (4, 3, 1)
    assert (counts["clips_kept"], counts["shards_built"]) == (24, report.shards_planned)
    assert numbers["rejected"] == {"not_audio": 1}
    assert (numbers["decoded_s"], numbers["snapshot"], numbers["requests"]) == (6.0, 1, {})
    assert numbers["bytes_stored"] > 10_000
    # The stages in the decoding process, in this one, and the writer.
    assert {"decode", "resample", "segment", "features", "write"} <= set(numbers["stage_seconds"])
    assert numbers["stage_seconds"]["decode"] > 0
    assert sum(numbers["stage_seconds"].values()) <= numbers["seconds"]["work"]
    assert numbers["rates"]["decoded_x_realtime"] == pytest.approx(6 / numbers["seconds"]["work"], rel=0.05)
    assert report.phase_s["work"] == report.work_s
    assert build(config, quiet=True).status == "unchanged"
    second = read_notes(root)[-1].numbers
    assert (second["counts"]["shards_reused"], second["stage_seconds"], second["snapshot"]) == (
        report.shards_planned,
        {},
        1,
    )


def test_status_has_them_and_its_keys_are_fixed(config: Path, tmp_path: Path) -> None:
    build(config, quiet=True)
    status = json.loads(run("status", tmp_path / "out", "--json"))
    assert set(status) == STATUS_KEYS | {"schema"}
    assert set(status["published"]) == PUBLISHED_KEYS
    assert set(status["builds"][-1]) == BUILD_KEYS
    check(status["builds"][-1]["numbers"])
    page = (Path(__file__).parents[1] / "docs/commands.md").read_text()
    for key in STATUS_KEYS | PUBLISHED_KEYS | BUILD_KEYS | NUMBERS_KEYS | COUNTS_KEYS | PHASES:
        assert f"`{key}`" in page, f"docs/commands.md does not describe {key}"


def test_a_build_that_fails_or_was_held_back_has_numbers_too(
    config: Path, source: dict[str, Any], make_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    held = make_config(source, name="held", output={"root": str(tmp_path / "held")}, limits={"min_clips": 1000})
    assert build(held, quiet=True).status == "not_published"
    note = read_notes(Root(str(tmp_path / "held")))[-1]
    assert (note.outcome, note.numbers["counts"]["clips_kept"], note.numbers["snapshot"]) == ("not_published", 24, None)

    def fail(*_: Any) -> None:
        raise ClipmillError("no")

    monkeypatch.setattr("clipmill.pipelines.run.publishing.publish_draft", fail)
    measured: dict[str, Any] = {}
    with pytest.raises(ClipmillError, match="no"):
        build(config, quiet=True, numbers=measured)
    note = read_notes(Root(str(tmp_path / "out")))[-1]
    assert (note.outcome, note.numbers["counts"]["shards_built"] > 0) == ("failed", True)
    check(note.numbers)
    check(measured)
    assert note.numbers["seconds"]["publish"] > 0


def test_a_retry_has_numbers(config: Path, tmp_path: Path) -> None:
    build(config, quiet=True)
    measured: dict[str, Any] = {}
    retry(load(config), [], quiet=True, numbers=measured)
    check(measured)
    assert measured["stage_seconds"]["decode"] >= 0
    check(read_notes(Root(str(tmp_path / "out")))[-1].numbers)


def test_notes_of_an_older_clipmill_are_read(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    with BuildNote(root, ["k"], 1) as note:
        path = tmp_path / f"builds/{note.id}.json"
        note.measure = lambda: {"requests": {"GET": 1}}
        note.finish("published")
    plain = unsealed(path.read_bytes())
    plain.pop("format_version")
    assert plain.pop("numbers") == {"requests": {"GET": 1}}
    path.write_text(json.dumps(plain))  # as an older clipmill wrote it
    assert [n.numbers for n in read_notes(root)] == [{}]
    (tmp_path / "dataset.json").write_text('{"format": 1, "name": "test"}')


def test_requests_are_counted_by_operation(
    source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path]
) -> None:
    there = upload_source(source, bucket, endpoint)
    output = {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}}
    before = meter.spent().requests
    Root(f"s3://{bucket}", {"endpoint_url": endpoint}).write_bytes("x", b"y")
    assert (meter.spent().requests - before) == {"PUT": 1}
    numbers: dict[str, Any] = {}
    build(make_config(there, output=output), quiet=True, numbers=numbers)
    requests = numbers["requests"]
    assert set(requests) >= {"GET", "LIST", "PUT"}
    assert requests["GET"] >= 3, "the decoding process counts its own"
    assert requests["PUT"] >= 8
    assert set(requests) <= {"GET", "PUT", "HEAD", "LIST", "DELETE", "COPY", "OTHER"}


@pytest.mark.slow
def test_workers_on_ray_tell_what_they_spent(
    source: dict[str, Any], bucket: str, endpoint: str, make_config: Callable[..., Path]
) -> None:
    there = upload_source(source, bucket, endpoint)
    output = {"root": f"s3://{bucket}/out", "storage_options": {"endpoint_url": endpoint}, "shard_seconds": 2}
    numbers: dict[str, Any] = {}
    build(make_config(there, output=output, features={"log_mel": {}}), quiet=True, workers=2, numbers=numbers)
    assert {"decode", "features", "write"} <= set(numbers["stage_seconds"])
    assert numbers["requests"]["GET"] >= 3
    assert numbers["requests"]["PUT"] >= 8
    assert numbers["seconds"]["starting"] > 1


def test_the_meter_counts_only_the_making_of_values() -> None:
    before = meter.spent()
    assert list(meter.timed("test-values", iter([1, 2]))) == [1, 2]
    with pytest.raises(KeyError), meter.timing("test-block"):
        raise KeyError
    on_it = meter.spent() - before
    assert set(on_it.seconds) == {"test-values", "test-block"}
    assert meter.Spent.from_json(on_it.to_json()).requests == on_it.requests
    assert meter.Spent.from_json("") == meter.Spent()
    meter.count_request("CreateMultipartUpload")
    assert (meter.spent() - before).requests == {"OTHER": 1}
