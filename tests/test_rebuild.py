"""Nightly rebuilds: what did not change is not done again, and what comes out is what a build from scratch gives."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import tone, write_audio
from crash_matrix import files_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_commit, read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.report import Report
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")

COLUMNS = {"start": 0, "end": 1, "label": 2}
RATE = 8000


def config_of(place: Path, root: Path, **more: Any) -> Path:
    source = {
        "name": "s", "root": str(place / "in"), "annotations": {"sidecar": "{stem}.csv", "header": False, "columns": COLUMNS},
        "segment": {"mode": "window", "length_s": 0.2, "tail": "keep"},
    }  # fmt: skip
    plain = {
        "name": "nightly", "sources": [source], "audio": {"sample_rate_hz": RATE}, "split": {"train": 0.6, "test": 0.4},
        "output": {"root": str(root), "formats": ["parquet", "webdataset"], "shard_seconds": 3}, "limits": {"max_rejected_share": 1},
        **more,
    }  # fmt: skip
    path = place / f"{root.name}.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


class Corpus:
    """Recordings of noise with sidecars, under numbered names."""

    def __init__(self, place: Path, n: int) -> None:
        self.folder = place / "in"
        self.folder.mkdir(parents=True)
        for i in range(n):
            self.put(i, i)

    def put(self, name: int, seed: int) -> None:
        seconds = 0.5 + seed % 5 / 4
        y = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * RATE), 1))
        write_audio(self.folder / f"r{name}.wav", y, RATE)
        rows = [f"0.0,{0.2 + 0.1 * (seed % 3):.1f},a", f"0.2,{seconds:.2f},b", "9,8,c"]
        (self.folder / f"r{name}.csv").write_text("\n".join(rows) + "\n")

    def names(self) -> list[str]:
        return sorted(p.stem for p in self.folder.glob("*.wav"))

    def edit(self, kind: str, which: int, seed: int) -> set[str]:
        """Change one thing; return the ids of the recordings that it is about."""
        names = self.names()
        name = names[which % len(names)]
        wav, csv = self.folder / f"{name}.wav", self.folder / f"{name}.csv"
        touched = {f"s/{name}.wav"}
        if kind == "add":
            self.put(1000 + seed, seed)
            return {f"s/r{1000 + seed}.wav"}
        if kind == "change":
            self.put(int(name[1:]), seed + 50)
        elif kind == "remove":
            if len(names) > 2:
                wav.unlink()
                csv.unlink()
        elif kind == "rename":
            wav.rename(self.folder / f"r{2000 + seed}.wav")
            csv.rename(self.folder / f"r{2000 + seed}.csv")
            touched.add(f"s/r{2000 + seed}.wav")
        else:
            lines = csv.read_text().splitlines()
            if kind == "edit row":
                lines[0] = f"0.0,{0.3 + seed % 4 / 100:.2f},{'xyz'[seed % 3]}"
            elif kind == "add row":
                lines.append(f"0.1,0.{2 + seed % 3},d")
            elif len(lines) > 1:
                lines.pop()
            csv.write_text("\n".join(lines) + "\n")
        return touched


EDITS = st.tuples(
    st.sampled_from(["add", "change", "remove", "rename", "edit row", "add row", "remove row", "nothing"]),
    st.integers(0, 1000),
    st.integers(0, 60),
)


def places(plan: Plan) -> dict[str, tuple[str, str, set[str]]]:
    """Return, by key, a shard's split and partition and the recordings in it."""
    found = {}
    for i, key in enumerate(plan.keys):
        shard = plan.shard(i)
        found[key] = (shard["split"][0].as_py(), shard["bucket"][0].as_py(), set(shard["recording_id"].to_pylist()))
    return found


def related(a: tuple[str, str, set[str]], b: tuple[str, str, set[str]]) -> bool:
    """Whether two shards cover common ground, so that one came of the other by splitting or merging."""
    return a[0] == b[0] and (a[1].startswith(b[1]) or b[1].startswith(a[1]))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EDITS, min_size=1, max_size=5))
def test_after_any_edits_the_snapshot_is_that_of_a_build_from_scratch(edits: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus = Corpus(place, 14)
        config = load(config_of(place, place / "out"))
        build(config, quiet=True)
        before = places(make_plan(config.config))
        committed = set(before)
        for step, (kind, which, seed) in enumerate(edits):
            touched = set() if kind == "nothing" else corpus.edit(kind, which, seed)
            report = build(config, quiet=True)
            after = places(make_plan(config.config))
            # Only what holds the edited recordings is built, or what a partition that does was split or merged into.
            fresh = {key: after[key] for key in after.keys() - before.keys()}
            both = (*before.values(), *after.values())
            hit = [s for s in both if s[2] & touched]
            hit += [s for s in both if any(related(s, one) for one in hit)]
            assert all(any(related(shard, one) for one in hit) for shard in fresh.values())
            if {s[:2] for s in before.values()} == {s[:2] for s in after.values()}:  # no partition split or merged
                assert len(fresh) <= len(touched)
            assert report.shards_built == len(after.keys() - committed)
            assert report.shards_reused == len(after) - report.shards_built
            assert (report.status == "unchanged") == (not fresh and before.keys() == after.keys()), (kind, report)
            committed |= after.keys()
            before = after
            build(load(config_of(place, place / f"scratch{step}")), quiet=True)
            newest = snapshot_numbers(Root(str(place / "out")))[-1]
            scratch = files_of(place / f"scratch{step}", 1)
            numbered = {
                path.replace("snapshots/000001/", f"snapshots/{newest:06d}/"): sha for path, sha in scratch.items()
            }
            assert files_of(place / "out", newest) == numbered
        *_, verdict = verify(Root(str(place / "out")))
        assert not verdict.problems


@pytest.fixture
def nightly(tmp_path: Path) -> tuple[Corpus, Path]:
    return Corpus(tmp_path, 12), config_of(tmp_path, tmp_path / "out")


def again(config: Path, **more: Any) -> Report:
    return build(load(config), quiet=True, **more)


@pytest.mark.parametrize("unsettled_ns", [0, 10**18])
def test_nothing_changed_is_no_work_and_no_snapshot(
    nightly: tuple[Corpus, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsettled_ns: int
) -> None:
    """What annotations gave is kept by the first night whose files are old enough; here that is the first, or none."""
    monkeypatch.setattr("clipmill.pipelines.plan.inventory.UNSETTLED_NS", unsettled_ns)
    _, config = nightly
    again(config)
    tree = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file() and "builds" not in str(p)}
    report = again(config)
    assert (report.status, report.exit_code, report.shards_built, report.decoded_s) == ("unchanged", 0, 0, 0.0)
    now = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file() and "builds" not in str(p)}
    assert now == tree


def test_nothing_changed_needs_neither_ray_nor_torch(nightly: tuple[Corpus, Path]) -> None:
    import subprocess
    import sys

    _, config = nightly
    again(config)
    code = (
        "import sys; from clipmill.pipelines.config_file import load; from clipmill.pipelines.run.build import build;"
        f"assert build(load({str(config)!r}), quiet=True).status == 'unchanged';"
        "assert not {'ray', 'torch'} & sys.modules.keys(), 'loaded for nothing'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr


def test_a_change_and_its_undoing_reuse_the_old_shards(nightly: tuple[Corpus, Path], tmp_path: Path) -> None:
    corpus, config = nightly
    again(config)
    row = (corpus.folder / "r3.csv").read_text()
    (corpus.folder / "r3.csv").write_text("0.0,0.2,other\n")
    assert again(config).shards_built >= 1
    (corpus.folder / "r3.csv").write_text(row)
    back = again(config)
    assert (back.status, back.shards_built, back.snapshot.number) == ("published", 0, 3)  # type: ignore[union-attr]
    root = Root(str(tmp_path / "out"))
    assert read_snapshot(root, 1).has_same_content(read_snapshot(root, 3))


def test_with_sha256_a_touch_or_a_copy_rebuilds_nothing(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 6)
    plain = yaml.safe_load(config_of(tmp_path, tmp_path / "out").read_text())
    by_time = tmp_path / "time.yaml"
    by_time.write_text(yaml.safe_dump({**plain, "output": {"root": str(tmp_path / "time"), "shard_seconds": 3}}))
    plain["sources"][0]["version"] = "sha256"
    by_content = tmp_path / "content.yaml"
    by_content.write_text(yaml.safe_dump(plain))
    for config in (by_time, by_content):
        again(config)
    os.utime(corpus.folder / "r1.wav", ns=(1, 1))
    shutil.copyfile(corpus.folder / "r2.wav", corpus.folder / "copy")
    os.replace(corpus.folder / "copy", corpus.folder / "r2.wav")
    assert again(by_content).status == "unchanged"
    assert again(by_time).shards_built >= 1
    content = bytearray((corpus.folder / "r4.wav").read_bytes())
    content[-1] ^= 1
    os.utime(corpus.folder / "r4.wav", ns=(5, 5))
    (corpus.folder / "r4.wav").write_bytes(content)
    os.utime(corpus.folder / "r4.wav", ns=(5, 5))
    assert again(by_content).shards_built >= 1


def with_features(config: Path, features: dict[str, Any], **output: Any) -> Path:
    plain = yaml.safe_load(config.read_text())
    plain["features"] = features
    plain["output"] |= output
    config.write_text(yaml.safe_dump(plain))
    return config


@pytest.mark.parametrize("formats", [["parquet"], ["webdataset"], ["parquet", "webdataset"]])
def test_other_features_are_made_of_the_committed_clips(
    formats: list[str], nightly: tuple[Corpus, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, config = nightly
    again(with_features(config, {}, formats=formats))
    wanted = {"log_mel": {"n_fft": 256, "n_mels": 20}, "mfcc": {"n_mfcc": 5}}
    scratch = config_of(tmp_path, tmp_path / "scratch")
    again(with_features(scratch, wanted, formats=formats))
    # Nobody can read the recordings: what is there under their names is another thing, with the old size and time.
    for path in corpus.folder.glob("*.wav"):
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = again(with_features(config, wanted, formats=formats))
    assert report.status == "published"
    assert report.shards_from_clips == report.shards_built == report.shards_planned > 2
    assert report.decoded_s == 0
    ours, theirs = files_of(tmp_path / "out", 2), files_of(tmp_path / "scratch", 1)
    shards = {p for p in ours if p.startswith("shards/") or p.endswith("recordings.parquet")}
    assert shards
    assert {p: ours[p] for p in shards} == {
        p: theirs[p] for p in theirs if p.startswith("shards/") or "recordings" in p
    }
    assert ours["snapshots/000002/manifest.parquet"] == theirs["snapshots/000001/manifest.parquet"]
    assert ours["snapshots/000002/rejections.parquet"] == theirs["snapshots/000001/rejections.parquet"]
    root = Root(str(tmp_path / "out"))
    assert read_snapshot(root).counts == read_snapshot(Root(str(tmp_path / "scratch"))).counts
    *_, verdict = verify(root)
    assert not verdict.problems


@pytest.mark.parametrize("formats", [["parquet"], ["webdataset"], ["parquet", "webdataset"]])
def test_pictures_are_drawn_of_the_committed_clips(
    formats: list[str], nightly: tuple[Corpus, Path], tmp_path: Path
) -> None:
    """Added, changed and taken away again, while nobody can read the recordings."""
    corpus, config = nightly
    features = {"log_mel": {"n_fft": 256, "n_mels": 20}}
    wanted: list[dict[str, Any] | None] = [{"width": 64}, {"mode": "indexed", "range_db": [-80, 0]}, None]
    for i, images in enumerate(wanted):
        scratch = config_of(tmp_path, tmp_path / f"scratch{i}")
        again(with_features(scratch, features, formats=formats, images=images))
    first = again(with_features(config, features, formats=formats))
    for path in corpus.folder.glob("*.wav"):
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for i, images in enumerate(wanted):
        report = again(with_features(config, features, formats=formats, images=images))
        assert (report.status, report.decoded_s) == ("published", 0)
        assert report.shards_from_clips == report.shards_built == (report.shards_planned if images else 0)
        ours, theirs = files_of(tmp_path / "out", i + 2), files_of(tmp_path / f"scratch{i}", 1)
        assert {p: s for p, s in ours.items() if p.startswith("shards/")} == {
            p: s for p, s in theirs.items() if p.startswith("shards/")
        }
        *_, verdict = verify(Root(str(tmp_path / "out")))
        assert not verdict.problems
    assert report.snapshot.commits == first.snapshot.commits  # type: ignore[union-attr]


def test_other_file_formats_are_made_of_the_committed_clips_too(nightly: tuple[Corpus, Path], tmp_path: Path) -> None:
    _, config = nightly
    again(with_features(config, {}, formats=["parquet"], audio_codec="flac"))
    report = again(with_features(config, {}, formats=["webdataset"], audio_codec="wav"))
    assert report.shards_from_clips == report.shards_planned
    scratch = with_features(config_of(tmp_path, tmp_path / "scratch"), {}, formats=["webdataset"], audio_codec="wav")
    again(scratch)
    tars = {p: s for p, s in files_of(tmp_path / "scratch", 1).items() if p.endswith(".tar")}
    assert tars
    assert {p: s for p, s in files_of(tmp_path / "out", 2).items() if p.endswith(".tar")} == tars


def test_clips_that_cannot_be_taken_over_are_built_again(nightly: tuple[Corpus, Path], tmp_path: Path) -> None:
    """A damaged shard, and clips that are too short for one of the two configurations."""
    _, config = nightly
    features = {"log_mel": {"n_fft": 256, "n_mels": 20}}
    stored = {"formats": ["webdataset"], "audio_codec": "wav"}
    again(with_features(config, {}, **stored))
    shards = sorted((tmp_path / "out/shards").rglob("*.tar"))
    content = bytearray(shards[0].read_bytes())
    content[1000] ^= 1  # a sample, which no format would miss
    shards[0].write_bytes(content)
    report = again(with_features(config, features))
    assert report.shards_built == report.shards_from_clips + 1
    scratch = with_features(config_of(tmp_path, tmp_path / "scratch"), features, **stored)
    again(scratch)
    ours, theirs = files_of(tmp_path / "out", 2), files_of(tmp_path / "scratch", 1)
    assert {p: s for p, s in ours.items() if "shards/" in p} == {p: s for p, s in theirs.items() if "shards/" in p}
    strict = {"log_mel": {"n_fft": 1024, "n_mels": 20, "center": False}}
    third = again(with_features(config, strict))
    rejected = third.snapshot.counts.rejected  # type: ignore[union-attr]
    assert rejected["clip_too_short_for_features"] > 0
    fourth = again(with_features(config, {"log_mel": {"n_fft": 512, "n_mels": 20}}))
    assert fourth.snapshot.counts.clips_kept == report.snapshot.counts.clips_kept  # type: ignore[union-attr]
    commits = [read_commit(Root(str(tmp_path / "out")), key) for key in fourth.snapshot.commits]  # type: ignore[union-attr]
    assert any(c.donor is None for c in commits)


def test_a_clip_that_gets_lost_on_the_way_is_missed(
    nightly: tuple[Corpus, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmill.stages.reread import Reread

    _, config = nightly
    first = again(with_features(config, {}, formats=["parquet"]))
    read = Reread.__call__
    monkeypatch.setattr(Reread, "__call__", lambda self, commit: (t.slice(1) for t in read(self, commit)))
    report = again(with_features(config, {"log_mel": {"n_fft": 256, "n_mels": 20}}))
    assert (report.status, report.shards_from_clips) == ("published", 0)
    assert report.snapshot.counts == first.snapshot.counts  # type: ignore[union-attr]


def test_a_new_recording_with_a_known_field_changes_one_shard(tmp_path: Path) -> None:
    """A field that the configuration names is there even if no recording has it yet."""
    for i in range(8):
        write_audio(tmp_path / f"in/r{i}.wav", tone(0.5, RATE, seed=i), RATE)
    plain = {
        "name": "n", "sources": [{"name": "s", "root": str(tmp_path / "in"), "fields": r"r(?P<take>\d+)(_(?P<mark>\w+))?\.wav"}],
        "audio": {"sample_rate_hz": RATE}, "output": {"root": str(tmp_path / "out"), "shard_seconds": 1},
    }  # fmt: skip
    config = tmp_path / "n.yaml"
    config.write_text(yaml.safe_dump(plain))
    n = again(config).shards_planned
    assert n > 3
    write_audio(tmp_path / "in/r9_loud.wav", tone(0.5, RATE, seed=9), RATE)
    assert again(config).shards_built <= 2
    table = pq.read_table(tmp_path / "out/snapshots/000002/manifest.parquet")
    assert sorted(set(table["mark"].to_pylist()), key=str) == [None, "loud"]


def test_the_corpora_of_the_shared_folder_are_rebuilt_the_same(corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for path in sorted((corpora / "esc10").rglob("*.ogg"))[:12]:
        shutil.copy2(path, tmp_path / "in" / path.name)
    plain = {
        "name": "esc", "sources": [{"name": "s", "root": str(tmp_path / "in"), "segment": {"mode": "window", "length_s": 1.0}}],
        "output": {"root": str(tmp_path / "out"), "shard_seconds": 15},
    }  # fmt: skip
    config = tmp_path / "esc.yaml"
    config.write_text(yaml.safe_dump(plain))
    again(config)
    names = sorted((tmp_path / "in").iterdir())
    names[0].rename(names[0].with_name("renamed.ogg"))
    os.replace(names[2], names[1])
    report = again(config)
    assert 0 < report.shards_built < report.shards_planned
    config.write_text(yaml.safe_dump({**plain, "output": {"root": str(tmp_path / "scratch"), "shard_seconds": 15}}))
    again(config)
    scratch = files_of(tmp_path / "scratch", 1)
    assert files_of(tmp_path / "out", 2) == {p.replace("000001", "000002"): s for p, s in scratch.items()}
