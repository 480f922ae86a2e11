"""`diff`, `gc` and `status`, on datasets that have a history."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import tone, write_audio
from crash_matrix import files_of
from poison import lay_out

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.diff import diff
from clipmill.pipelines.dataset.gc import find_garbage
from clipmill.pipelines.dataset.leases import read_notes
from clipmill.pipelines.dataset.notes import BuildNote, collecting
from clipmill.pipelines.dataset.records_io import committed_keys, snapshot_numbers
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def change(config: Path, **more: Any) -> None:
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **more}))


@pytest.fixture
def history(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    """Three snapshots: as it began; with a recording more, one less, one changed and one renamed; with another label and gate."""
    for i in range(8):
        write_audio(tmp_path / "in" / ("dog" if i % 2 else "cat") / f"r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    write_audio(tmp_path / "in/cat/quiet.wav", tone(1.0, 8000, peak=0.003), 8000)
    source = {
        "root": tmp_path / "in", "label": {"from": "folder"}, "bytes_per_second": 16000, "segment": {"mode": "window", "length_s": 0.5},
    }  # fmt: skip
    more = {"split": {"train": 0.5, "test": 0.5}, "limits": {"max_rejected_share": 1}}
    config = make_config(source, output={"root": str(tmp_path / "out"), "shard_seconds": 2}, **more)
    build(load(config), quiet=True)
    place = tmp_path / "in"
    write_audio(place / "dog/new.wav", tone(1.5, 8000, seed=20), 8000)
    write_audio(place / "cat/r0.wav", tone(1.0, 8000, seed=21), 8000)
    (place / "cat/r2.wav").unlink()
    (place / "dog/r1.wav").rename(place / "dog/renamed.wav")
    (place / "cat/r4.wav").write_bytes(b"no audio" * 50)
    build(load(config), quiet=True)
    change(config, silence={"min_dbfs": -40})
    build(load(config), quiet=True)
    assert snapshot_numbers(Root(str(tmp_path / "out"))) == [1, 2, 3]
    return config


def test_diff_names_what_changed(history: Path, tmp_path: Path) -> None:
    root = Root(str(tmp_path / "out"))
    found = diff(root, 1, 2)
    assert found.recordings.added == ["s0/dog/new.wav", "s0/dog/renamed.wav"]
    assert found.recordings.removed == ["s0/cat/r2.wav", "s0/dog/r1.wav"]
    assert found.recordings.changed == ["s0/cat/r0.wav", "s0/cat/r4.wav"]
    assert (len(found.clips.added), len(found.clips.removed), len(found.clips.changed)) == (3 + 2, 2 + 2 + 2, 2)
    assert found.config == []
    assert found.totals["recordings_listed"] == [9, 9]
    assert found.totals["recordings_rejected"] == [0, 1]
    assert found.totals["clips"] == [18, 17]
    assert found.labels == {
        "cat": {"clips": [10, 6], "seconds": [5.0, 3.0]}, "dog": {"clips": [8, 11], "seconds": [4.0, 5.5]},
    }  # fmt: skip
    splits = {name: side["clips"] for name, side in found.splits.items()}
    assert sum(before for before, _ in splits.values()) == 18
    assert sum(after for _, after in splits.values()) == 17
    gate = diff(root, 2, 3)
    assert gate.config == [{"key": "silence.min_dbfs", "before": None, "after": -40}]
    assert not gate.recordings.any
    assert (len(gate.clips.removed), gate.clips.added, gate.clips.changed) == (2, [], [])
    back = diff(root, 2, 1)
    assert (back.recordings.added, back.recordings.removed) == (found.recordings.removed, found.recordings.added)
    assert diff(root, 2, 2).is_empty


def test_diff_sees_a_label_that_changed_and_nothing_else(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(2.0, 8000), 8000)
    sheet = tmp_path / "in/a.csv"
    sheet.write_text("0,1,dog\n1,2,dog\n")
    columns = {"start": 0, "end": 1, "label": 2}
    annotations = {"sidecar": "{stem}.csv", "header": False, "columns": columns}
    config = make_config({"root": tmp_path / "in", "annotations": annotations, "segment": {"mode": "annotation"}})
    build(load(config), quiet=True)
    sheet.write_text("0,1,dog\n1,2,wolf\n")
    build(load(config), quiet=True)
    found = diff(Root(str(tmp_path / "out")), 1, 2)
    assert not found.recordings.any
    assert (len(found.clips.changed), found.clips.added, found.clips.removed) == (1, [], [])
    assert found.labels == {
        "dog": {"clips": [2, 1], "seconds": [2.0, 1.0]},
        "wolf": {"clips": [0, 1], "seconds": [0.0, 1.0]},
    }


def test_diff_sees_a_label_that_was_not_there_before(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/a.wav", tone(1.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in"})
    build(load(config), quiet=True)
    build(load(make_config({"root": tmp_path / "in", "label": "dog"})), quiet=True)
    build(load(make_config({"root": tmp_path / "in", "label": "dog"}, silence={"min_dbfs": -90})), quiet=True)
    root = Root(str(tmp_path / "out"))
    assert len(diff(root, 1, 2).clips.changed) == 1
    assert diff(root, 2, 3).clips.changed == []


def test_diff_on_the_command_line(history: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = run("diff", out, 1, 2).output
    for expected in (
        "recordings   2 added, 2 removed, 2 changed", "+ s0/dog/new.wav", "- s0/cat/r2.wav", "~ s0/cat/r0.wav",
        "label cat", "10 ->          6 clips (-4), 5.0 -> 3.0 s (-2)",
    ):  # fmt: skip
        assert expected in text
    assert "config silence.min_dbfs: (not set) -> -40" in run("diff", out, 2, 3).output
    assert "the same content" in run("diff", out, 3, 3).output
    assert json.loads(run("diff", out, 1, 3, "--json").output)["same"] is False
    wrong = run("diff", out, 1, 9)
    assert wrong.exit_code == 1
    assert "snapshot 9 does not exist; the snapshots are 1, 2, 3" in wrong.output


def tree(root: Path) -> dict[str, int]:
    return {
        str(p.relative_to(root)): p.stat().st_size for p in root.rglob("*") if p.is_file() and "builds" not in p.parts
    }


def test_gc_removes_what_no_kept_snapshot_names(history: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before, wanted = tree(out), {n: files_of(out, n) for n in (1, 2, 3)}
    nothing = run("gc", out)
    assert "nothing to remove" in nothing.output
    # What crashes leave: a shard without a record, a snapshot without its own file, a temporary file.
    (out / "shards/train/train-b-000000000000.parquet").write_bytes(b"x" * 10)
    (out / "snapshots/000004").mkdir()
    (out / "snapshots/000004/manifest.parquet").write_bytes(b"y" * 20)
    foreign = [
        out / "shards/train/notes.txt",
        out / "shards/train/my.parquet",
        out / "commits/foo.json",
        out / "snapshots/x.json",
    ]
    for path in foreign:
        path.write_bytes(b"somebody else's")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with Root(str(out)).write("shards/z"):
        living = next((out / "shards").glob(".clipmill-tmp-*"))
        living.with_name(living.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")).write_bytes(b"z" * 30)
        dirty = tree(out)
        dry = json.loads(run("gc", out, "--json").output)
        assert (dry["files"], dry["size_bytes"], dry["removed"]) == (3, 60, False)
        assert tree(out) == dirty, "without --delete nothing is removed"
        assert "nothing has been removed" in run("gc", out).output
        assert run("gc", out, "--delete").exit_code == 0
        assert living.exists()
    for path in foreign:
        path.unlink()
    after = tree(out)
    after.pop("shards/z")
    (out / "shards/z").unlink()
    assert after == before
    kept = run("gc", out, "--keep", 2, "--delete")
    assert "snapshot 1" in kept.output
    assert snapshot_numbers(Root(str(out))) == [2, 3]
    for number in (2, 3):
        assert files_of(out, number) == wanted[number]
        *_, verdict = verify(Root(str(out)), number)
        assert not verdict.problems
    only_first = wanted[1].keys() - wanted[2].keys() - wanted[3].keys()
    assert only_first
    assert not only_first & tree(out).keys()
    assert find_garbage(Root(str(out))).size_bytes == 0
    # The next build and its number are as if nothing had been.
    change(history, silence={"min_dbfs": None})
    assert build(load(history), quiet=True).snapshot.number == 4  # type: ignore[union-attr]


def test_gc_keeps_its_hands_off_while_a_build_runs_and_a_build_waits_for_gc(history: Path, tmp_path: Path) -> None:
    root = Root(str(tmp_path / "out"))
    before = tree(tmp_path / "out")
    with BuildNote(root, [], 0):
        refused = run("gc", tmp_path / "out", "--keep", 1, "--delete")
        assert refused.exit_code == 1
        assert f"a build is running on {tmp_path / 'out'} (process {os.getpid()}" in refused.output
    assert tree(tmp_path / "out") == before
    with collecting(root):
        waiting = subprocess.Popen([sys.executable, "-m", "clipmill", "build", str(history)], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.communicate(timeout=5)
        with pytest.raises(ClipmillError, match="another `clipmill gc` or `forget` is running"), collecting(root):
            pass
    output, _ = waiting.communicate(timeout=240)
    assert b"unchanged" in output


def test_a_lost_or_damaged_manifest_comes_back_with_the_next_build(history: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "out"
    before = files_of(out, 3)
    for damage in (
        lambda: shutil.rmtree(out / "snapshots/000003"),
        lambda: (out / "snapshots/000003/manifest.parquet").write_bytes(b"PAR1"),
    ):
        damage()
        assert run("verify", out).exit_code == 1
        assert run("build", history).exit_code == 0
        assert run("verify", out).exit_code == 0
        assert files_of(out, 3) == before


def test_a_dataset_of_another_format_is_left_alone_by_every_command(history: Path, tmp_path: Path) -> None:
    (tmp_path / "out/dataset.json").write_text('{"format_version": 99, "name": "test"}')
    for command in (["status"], ["show"], ["verify"], ["failures"], ["gc"], ["diff"]):
        result = run(*command, tmp_path / "out", *([1, 2] if command == ["diff"] else []))
        assert result.exit_code == 1
        assert "format version 99" in result.output


def test_gc_refuses_when_it_cannot_know_what_a_snapshot_needs(history: Path, tmp_path: Path) -> None:
    part = next((tmp_path / "out/index").glob("*.shards.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    before = tree(tmp_path / "out")
    result = run("gc", tmp_path / "out", "--delete")
    assert result.exit_code == 1
    assert f"{part.name} cannot be read as it was written" in result.output
    after = {path: content for path, content in tree(tmp_path / "out").items() if "damaged" not in str(path)}
    assert after == before


def test_status_shows_a_running_and_an_interrupted_build_from_another_terminal(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    for i in range(6):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    write_audio(tmp_path / "in/sleep.wav", tone(1.0, 8000, seed=9), 8000)
    source = {"root": tmp_path / "in", "bytes_per_second": 16000}
    out = tmp_path / "out"
    config = make_config(source, limits={"max_rejected_share": 1}, output={"root": str(out), "shard_seconds": 2})
    env = {**os.environ, "PYTHONPATH": str(lay_out(tmp_path / "site"))}
    command = [
        sys.executable,
        "-m",
        "clipmill",
        "build",
        str(config),
        "--workers",
        "2",
    ]  # one hangs, one goes on
    process = subprocess.Popen(command, env=env)
    deadline = time.monotonic() + 300
    while len(committed_keys(Root(str(out)))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    found = json.loads(run("status", out, "--json").output)
    assert found["published"] is None
    assert [(b["state"], b["pid"]) for b in found["builds"]] == [("running", process.pid)]
    assert 2 <= found["builds"][0]["shards_committed"] < found["builds"][0]["shards_planned"]
    assert "running      started" in run("status", out).output
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = run("status", out).output
    assert "interrupted  started" in text
    assert "continues from there" in text
    # What an interrupted build has done is not garbage, and its rejections can be looked at.
    assert json.loads(run("gc", out, "--json").output)["held"] >= 2
    assert "not finished" in run("failures", out).output
    (tmp_path / "in/sleep.wav").unlink()
    assert run("build", config).exit_code == 0
    assert [n.outcome for n in read_notes(Root(str(out)))] == ["published"]
    assert "finished     started" in run("status", out).output


def test_failures_by_reason_with_examples(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    write_audio(tmp_path / "in/good.wav", tone(1.0, 8000), 8000)
    for i in range(5):
        (tmp_path / f"in/bad{i}.wav").write_bytes(b"no audio" * 40)
    (tmp_path / "in/empty.wav").write_bytes(b"")
    assert run("build", make_config({"root": tmp_path / "in"}, limits={"max_rejected_share": 1})).exit_code == 0
    text = run("failures", tmp_path / "out").output
    assert "5 x not_audio (recording)" in text
    assert "... and 2 more" in text
    assert text.count("what to do:") == 2
    one = run("failures", tmp_path / "out", "--reason", "empty", "--examples", 1).output
    assert "1 rejected" in one
    assert "not_audio" not in one
    unknown = run("failures", tmp_path / "out", "--reason", "bad_luck")
    assert unknown.exit_code == 2
    assert "unknown reason" in unknown.output
    assert json.loads(run("failures", tmp_path / "out", "--json", "--examples", 9).output)["reasons"][0]["examples"][4]
