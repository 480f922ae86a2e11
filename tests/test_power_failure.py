"""Whatever a power failure takes of what was not synced: what is visible is whole, and the next build ends as if nothing had been."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import build_here, run, tone, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from power_failure import Content, State, Trace, recorded

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run.build import build
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.records import Commit, Snapshot
from clipmill.stages.storage import folder_sync, local_files
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


def configure(place: Path, out: Path) -> Path:
    path = place / f"{out.name}.yaml"
    plain = {
        "name": "t",
        "sources": [{"name": "s", "root": str(place / "in"), "bytes_per_second": 16000}],
        "audio": {"sample_rate_hz": 8000},
        "output": {"root": str(out), "shard_seconds": 2, "formats": ["parquet", "webdataset"]},
    }
    path.write_text(json.dumps(plain))
    return path


def live(place: Path) -> Trace:
    """Build and publish, build something else and publish, remove the first with `gc`; return what was done to files."""
    for i in range(5):
        write_audio(place / f"in/{i}.wav", tone(1.0, 8000, seed=i), 8000)
    config = configure(place, place / "out")
    with recorded(place / "out") as trace:
        assert build(load(config), quiet=True).status == "published"
        (place / "in/0.wav").unlink()
        write_audio(place / "in/9.wav", tone(1.0, 8000, seed=9), 8000)
        assert build(load(config), quiet=True).status == "published"
        run("gc", place / "out", "--keep", 1, "--delete")
    return trace


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Trace]]:
    place = tmp_path_factory.mktemp("lived")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipmill.pipelines.run.build._ray_is_at_hand", lambda: False)
        yield place, live(place)


@cache
def sha256(content: Content) -> str:
    return hashlib.sha256(content.content).hexdigest()


@cache
def commit_of(content: Content, path: str) -> Commit:
    return Commit.from_json(content.content, path)


@cache
def snapshot_of(content: Content, path: str) -> Snapshot:
    return Snapshot.from_json(content.content, path)


def check(state: State) -> None:
    """See that whatever is visible is whole."""
    for path, content in state.items():
        folder, _, name = path.rpartition("/")
        if path == "dataset.json" or path.startswith("builds/"):
            assert isinstance(json.loads(content.content), dict), path
        if folder == "commits" and name.endswith(".json"):
            for output in commit_of(content, path).outputs:
                assert output.path in state, f"{path} is there, and {output.path} is not"
                assert sha256(state[output.path]) == output.sha256, output.path
        if folder == "snapshots":
            snapshot = snapshot_of(content, path)
            assert "dataset.json" in state
            for key in snapshot.commits:
                assert f"commits/{key}.json" in state, f"{path} is there, and commit {key[:12]} is not"
            for table, digest in snapshot.files.items():
                table_path = f"{path.removesuffix('.json')}/{table}.parquet"
                assert table_path in state, f"{path} is there, and {table_path} is not"
                assert sha256(state[table_path]) == digest, table_path


def check_all(trace: Trace) -> int:
    rng, n = random.Random(0), 0
    for at in range(len(trace.events) + 1):
        for state in trace.states(at, rng):
            check(state)
            n += 1
    return n


def test_what_is_recorded_is_what_happened(lived: tuple[Path, Trace]) -> None:
    place, trace = lived
    end = trace.after(len(trace.events), lambda _, low, high: high)
    files = {str(p.relative_to(place / "out")): p.read_bytes() for p in (place / "out").rglob("[!.]*") if p.is_file()}
    assert {path: content.content for path, content in end.items()} == files
    names = [f"{folder}/{name}" for folder, name, _ in trace.events]
    assert names.count("snapshots/000001.json") == 2, "it was published and removed"
    assert "snapshots/000001.json" not in end
    assert "snapshots/000002.json" in end


def test_what_is_visible_is_whole_at_every_point(lived: tuple[Path, Trace]) -> None:
    assert check_all(lived[1]) > 500


@settings(max_examples=100)
@given(st.data())
def test_whatever_subset_is_kept(lived: tuple[Path, Trace], data: st.DataObject) -> None:
    trace = lived[1]
    at = data.draw(st.integers(0, len(trace.events)))
    kept = {p: data.draw(st.integers(low, high)) for p, (low, high) in trace.open_choices(at).items()}
    size = data.draw(st.integers(0, 50))
    check(trace.after(at, lambda path, low, high: kept[path], lambda content: content[:size]))


def test_what_was_published_stays(lived: tuple[Path, Trace]) -> None:
    """Once the build has said so, its snapshot is there whatever happens, until gc removes it."""
    trace = lived[1]
    names = [f"{folder}/{name}" for folder, name, _ in trace.events]
    for number in (1, 2):
        published = names.index(f"snapshots/{number:06d}.json")
        synced = next(i for i in range(published, len(names)) if names[i] == "snapshots/")
        assert f"snapshots/{number:06d}.json" in trace.after(synced + 1, lambda _, low, high: low)
        assert synced - published < 3


@pytest.mark.parametrize("seed", range(6))
def test_the_next_build_ends_as_one_that_was_never_interrupted(
    seed: int, lived: tuple[Path, Trace], tmp_path: Path
) -> None:
    place, trace = lived
    rng = random.Random(seed)
    at = rng.randint(seed * len(trace.events) // 6, (seed + 1) * len(trace.events) // 6)
    state = rng.choice(list(trace.states(at, rng)))
    long_ago = time.time() - 1000
    for path, content in state.items():
        target = tmp_path / "out" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.content.replace(b" boot ", b" earlier boot "))
        os.utime(target, (long_ago, long_ago))
    shutil.copytree(place / "in", tmp_path / "in")
    config = configure(place, tmp_path / "out")
    assert build(load(config), quiet=True).status in ("published", "unchanged")
    assert published(tmp_path / "out") == published(place / "out")
    *_, verdict = verify(Root(str(tmp_path / "out")))
    assert not verdict.problems


def published(out: Path) -> dict[str, str]:
    """Return the hashes of the files of the newest snapshot's shards."""
    root = Root(str(out))
    outputs = [output for key in read_snapshot(root).commits for output in read_commit(root, key).outputs]
    return {o.path: hashlib.sha256(root.read_bytes(o.path)).hexdigest() for o in outputs}


@pytest.mark.parametrize("without", ["folders", "changed folders", "contents", "order of removal"])
def test_without_it_something_is_lost(without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model finds what is missing when a part of the syncing is left out."""
    if without == "folders":
        monkeypatch.setattr(folder_sync.FolderSync, "_sync", lambda *_, **__: None)
    elif without == "contents":
        monkeypatch.setattr(local_files.LocalFiles, "_sync", lambda *_: None)
    elif without == "order of removal":
        monkeypatch.setattr(Root, "sync", lambda *_: None)
    else:
        monkeypatch.setattr(folder_sync.FolderSync, "settle", lambda *_: None)
    trace = live(tmp_path)
    with pytest.raises((AssertionError, ValueError, ClipmillError)):
        check_all(trace)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_does_not_sync_folders_is_told_of(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        honest(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    root = Root(str(tmp_path / "a"))
    root.write_bytes("b/x", b"1")
    (said,) = root.local_files.weaknesses
    assert "that a file's name has reached the disk: after a power failure, run `clipmill verify`" in said


def test_a_disk_that_fails_to_sync_a_folder_fails_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(str(tmp_path))
    root.write_bytes("a/x", b"1")
    honest = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space") as raised:
            root.write_bytes("a/y", b"2")
        assert raised.value.filename == str(tmp_path / "a/y")
    with recorded(tmp_path) as trace:
        root.write_bytes("b", b"3")
    assert ("a", "", None) in trace.events, "it is synced with the next record"


def test_the_files_of_a_shard_share_the_syncs_of_their_folders(lived: tuple[Path, Trace]) -> None:
    trace = lived[1]
    records = [
        i for i, (f, name, _) in enumerate(trace.events) if f == "commits" and re.fullmatch(r"\w{64}\.json", name)
    ]
    first, second = records[:2]
    between = [folder for folder, name, _ in trace.events[first + 1 : second] if not name]
    assert len(between) <= 4, between
    assert between[0] == "commits", "the record itself"


@pytest.mark.slow
def test_what_it_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(300):
        write_audio(tmp_path / f"in/{i}.wav", tone(1.0, 8000, seed=i), 8000)
    honest = folder_sync.FolderSync._sync
    took: dict[bool, list[float]] = {True: [], False: []}
    for i in range(3):
        for with_it in (True, False):
            monkeypatch.setattr(folder_sync.FolderSync, "_sync", honest if with_it else lambda *_, **__: None)
            config = configure(tmp_path, tmp_path / f"out-{i}-{with_it}")
            config.write_text(config.read_text().replace('"shard_seconds": 2', '"shard_seconds": 1'))
            begun = time.monotonic()
            report = build(load(config), quiet=True)
            took[with_it].append(time.monotonic() - begun)
    with capsys.disabled():
        print(
            f"\n{report.shards_built} shards: {min(took[True]):.2f} s, without syncs of folders {min(took[False]):.2f} s ({took})"
        )
    assert min(took[True]) < 2 * min(took[False])


def test_a_new_folder_is_synced_in_the_one_above(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    with recorded(tmp_path) as trace:
        Root(str(tmp_path / "new/out")).write_bytes("deep/x", b"1")
    kept = trace.after(len(trace.events), lambda _, low, high: low)
    assert list(kept) == ["new/out/deep/x"]


def test_what_another_process_has_committed_is_synced_before_it_is_published(tmp_path: Path) -> None:
    for i in range(3):
        write_audio(tmp_path / f"in/{i}.wav", tone(1.0, 8000, seed=i), 8000)
    config = configure(tmp_path, tmp_path / "out")
    commits = build_here(config)
    with recorded(tmp_path / "out") as trace:
        report = build(load(config), quiet=True)
    assert (report.shards_built, report.status) == (0, "published")
    published_at = trace.events.index(next(e for e in trace.events if e[:2] == ("snapshots", "000001.json")))
    synced = {folder for folder, name, _ in trace.events[:published_at] if not name}
    assert {"commits", *(f"shards/{commit.split}" for commit in commits)} <= synced
