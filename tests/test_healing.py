"""Damaged shards are rebuilt under their own names if the bytes come out as recorded, and as new shards otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import shard_hashes, tone, write_audio
from old_format import rewrite

import clipmill
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset.marks import mark, read_marks
from clipmill.pipelines.dataset.rotation import verify_next
from clipmill.pipelines.dataset.tries import raise_generations, read_generations
from clipmill.pipelines.dataset.verify import sample_of, verify
from clipmill.pipelines.run.build import build
from clipmill.stages.storage.root import Root

RATE = 8000


def configured(place: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "heal",
        "sources": [{"name": "s", "root": str(place / "in"), "label": "a"}],
        "audio": {"sample_rate_hz": RATE},
        "output": {"root": str(place / "out"), "shard_seconds": 3},
        **more,
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for i in range(8):
        write_audio(tmp_path / f"in/r{i}.wav", tone(1.0, RATE, seed=i), RATE)
    build(configured(tmp_path), quiet=True).raise_for_status()
    return tmp_path


def flip(path: Path) -> bytes:
    """Change a bit, and return the content from before."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    return content


def other_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the writer make other bytes of the same clips, as another version of a library may."""
    monkeypatch.setattr("clipmill.stages.write.shard_files.ROW_GROUP_ROWS", 1)


def sound(place: Path, number: int | None = None) -> bool:
    *_, verdict = verify(Root(str(place / "out")), number)
    return not verdict.problems


def test_the_same_bytes_take_the_old_place(place: Path) -> None:
    hashes = shard_hashes(place / "out")
    flip(sorted((place / "out/shards").rglob("*.parquet"))[0])
    assert not sound(place)
    report = build(configured(place), quiet=True)
    assert (report.status, report.shards_healed, report.shards_renewed) == ("unchanged", 1, 0)
    assert shard_hashes(place / "out") == hashes and sound(place)
    assert build(configured(place), quiet=True).shards_built == 0


def test_other_bytes_become_another_shard(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(str(place / "out"))
    before = clipmill.open_dataset(place / "out")
    broken = sorted((place / "out/shards").rglob("*.parquet"))[0]
    flip(broken)
    damaged = broken.read_bytes()
    assert not sound(place)
    with monkeypatch.context() as patch:
        other_bytes(patch)
        report = build(configured(place), quiet=True)
        assert (report.status, report.shards_renewed, report.snapshot and report.snapshot.number) == ("published", 1, 2)
        assert broken.read_bytes() == damaged, "what snapshot 1 names is not replaced"
        assert build(configured(place), quiet=True).status == "unchanged"
    after = clipmill.open_dataset(place / "out")
    assert len(set(after.snapshot.commits) - set(before.snapshot.commits)) == 1
    assert before.manifest(["clip_id"]) == after.manifest(["clip_id"])
    assert sound(place) and not sound(place, 1)
    assert len(read_generations(root)) == 1
    assert build(configured(place), quiet=True).status == "unchanged", "the key is that of its generation"
    more = configured(place, features={"mfcc": {"n_mfcc": 8, "n_mels": 16}})
    report = build(more, quiet=True)
    assert report.shards_from_clips == report.shards_built == len(after.snapshot.commits), "it is a donor as others"
    text = CliRunner().invoke(main, ["plan", "--json", str(_written(place, more))]).output
    assert '"shards_missing": 0' in text


def _written(place: Path, config: dict[str, Any]) -> Path:
    import yaml

    path = place / "c.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_damaged_clips_are_no_donors_and_that_is_told(place: Path) -> None:
    flip(sorted((place / "out/shards").rglob("*.parquet"))[0])
    config = _written(place, configured(place, features={"mfcc": {"n_mfcc": 8, "n_mels": 16}}))
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 0 and "decoded      1 shard could not be made from committed clips" in done.output
    assert sound(place)


def test_a_shard_of_an_older_snapshot_is_not_replaced_either(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording comes, its shard changes, the recording goes: the old key is planned again, and only snapshot 1 names it."""
    old = set(shard_hashes(place / "out"))
    write_audio(place / "in/new.wav", tone(1.0, RATE, seed=99), RATE)
    build(configured(place), quiet=True).raise_for_status()
    newest = clipmill.open_dataset(place / "out").all_shards()
    gone = sorted(old - {o.path for shard in newest for o in shard.outputs})[0]
    flip(place / "out" / gone)
    content = (place / "out" / gone).read_bytes()
    mark(Root(str(place / "out")), gone, "as a reader of snapshot 1 would")
    (place / "in/new.wav").unlink()
    with monkeypatch.context() as patch:
        other_bytes(patch)
        assert build(configured(place), quiet=True, accept=True).status == "published"
    assert (place / "out" / gone).read_bytes() == content
    assert sound(place)


def test_a_wrong_mark_costs_a_look(place: Path) -> None:
    root, shard = Root(str(place / "out")), sorted((place / "out/shards").rglob("*.parquet"))[0]
    inode = shard.stat().st_ino
    assert mark(root, str(shard.relative_to(place / "out")), "a reader's memory was bad")
    report = build(configured(place), quiet=True)
    assert report.status == "unchanged" and shard.stat().st_ino == inode
    assert read_marks(root) == {}


def test_a_damaged_mark_is_written_again(place: Path) -> None:
    hashes = shard_hashes(place / "out")
    flip(sorted((place / "out/shards").rglob("*.parquet"))[0])
    assert not sound(place)
    (found,) = (place / "out/damaged").glob("*.json")
    found.write_text("{}")
    assert not sound(place)
    assert build(configured(place), quiet=True).shards_healed == 1 and shard_hashes(place / "out") == hashes


def test_rejections_of_an_unpublished_build_are_checked(place: Path) -> None:
    for i in range(3):
        (place / f"in/bad{i}.wav").write_bytes(b"none")
    assert build(configured(place), quiet=True).status == "not_published"
    out, path = str(place / "out"), place / "out/builds/rejections.parquet"
    assert "not_audio" in CliRunner().invoke(main, ["failures", out]).output
    content = path.read_bytes()
    for at in range(10, len(content), len(content) // 40):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        done = CliRunner().invoke(main, ["failures", out])
        assert done.exit_code == 1 and "rejections.parquet cannot be read as it was written" in done.output
    path.write_bytes(content)
    done = CliRunner().invoke(main, ["failures", out, "--output", str(place / "x.csv"), "--reason", "not_audio"])
    assert done.exit_code == 2 and "leave --reason out" in done.output
    own = place / "out/snapshots/000001/manifest.parquet"
    done = CliRunner().invoke(main, ["show", out, "--manifest", str(own)])
    assert done.exit_code == 2 and "is a file of the dataset itself" in done.output


def test_a_dataset_that_lost_its_json_is_not_started_over(place: Path) -> None:
    (place / "out/dataset.json").unlink()
    with pytest.raises(clipmill.ClipmillError, match=r"it is missing.*write this into it, by snapshot 1"):
        build(configured(place), quiet=True)


def test_a_snapshot_under_another_number_is_refused(place: Path) -> None:
    (place / "out/snapshots/000002.json").write_bytes((place / "out/snapshots/000001.json").read_bytes())
    with pytest.raises(clipmill.ClipmillError, match="not a snapshot of this number"):
        build(configured(place), quiet=True)


def test_a_mark_names_files_of_the_dataset_alone(place: Path) -> None:
    root = Root(str(place / "out"))
    assert not mark(root, "../in/r0.wav", "x") and not mark(root, "builds/x.json", "x")
    path = "commits/" + "0" * 64 + ".json"
    assert mark(root, path, "x")
    (place / "out/damaged/odd.json").write_text("{}")
    assert list(read_marks(root)) == [path]
    assert CliRunner().invoke(main, ["gc", str(place / "out"), "--delete"]).exit_code == 0
    assert read_marks(root) == {}, "no kept snapshot needs the file"


def test_generations_are_counted_once_by_two_builders(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    assert raise_generations(root, {}, ["k"]) == {"k": 1}
    assert raise_generations(root, {}, ["k", "l"]) == {"k": 1, "l": 1}, "both have planned with generation 0"
    assert raise_generations(root, {"k": 1}, ["k"]) == read_generations(root) == {"k": 2, "l": 1}


def test_all_parts_are_checked_in_turn(place: Path) -> None:
    root = Root(str(place / "out"))
    flip(sorted((place / "out/shards").rglob("*.parquet"))[0])
    found = [bool(verify_next(root, 1, 3)[0].problems) for _ in range(3)]
    assert sum(found) == 1
    first = [verify_next(root, 1, 3)[0].shards for _ in range(3)]
    assert sum(first) == len(clipmill.open_dataset(place / "out").snapshot.commits)
    (place / "out/builds/verified").write_text("{}")
    assert verify_next(root, 1, 3)[0].shards == first[0]


def test_a_night_that_verifies_mends_what_it_finds(place: Path) -> None:
    hashes = shard_hashes(place / "out")
    flip(sorted((place / "out/shards").rglob("*.parquet"))[0])
    path = _written(place, configured(place))
    done = CliRunner().invoke(main, ["build", str(path), "--verify", "1"])
    assert done.exit_code == 0, done.output
    assert "repaired     1 damaged shard, byte for byte" in done.output and "verified     " in done.output
    assert "1 problem, 0 left" in done.output
    assert shard_hashes(place / "out") == hashes


def test_a_night_that_cannot_repair_what_it_finds_fails(place: Path) -> None:
    """The count of clips of the snapshot is sealed and wrong: no build can tell which record is right."""
    config = _written(place, configured(place))
    record = place / "out/snapshots/000001.json"
    rewrite(record, recordings_listed=99)
    done = CliRunner().invoke(main, ["build", str(config), "--verify", "1"])
    assert done.exit_code == 1 and "1 left" in done.output and "error: 99 recordings listed, but" in done.output


@pytest.mark.parametrize(("text", "n"), [("3", 3), ("100", 10), ("50%", 5), ("0.1%", 1), ("100%", 10)])
def test_samples(text: str, n: int) -> None:
    keys = [f"{i:064x}" for i in range(10)]
    chosen = sample_of(keys, text)
    assert sum(map(chosen, keys)) == n


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "101%", "x", "", "nan", "inf", "0%"])
def test_what_is_no_sample(place: Path, text: str) -> None:
    done = CliRunner().invoke(main, ["verify", str(place / "out"), "--sample", text])
    assert done.exit_code == 2 and "as in 5%" in done.output
