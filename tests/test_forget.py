"""`clipmill forget`: what goes, what stays, that nothing is left, and that it can be cut off anywhere."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import yaml
from click.testing import CliRunner
from conftest import shard_hashes, tone, write_audio
from old_format import as_version_1

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset.records_io import read_commit, read_forgotten, read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.tries import read_retries, update_retries
from clipmill.pipelines.dataset.verify import verify
from clipmill.schemas.forgotten import Forgotten
from clipmill.schemas.layout import commit_path
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")
MARK = "zebra7"
GONE = f"s0/dog/{MARK}.wav"
RATE = 8000


def run(*arguments: object, code: int = 0, answer: str | None = None) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=answer)
    assert result.exit_code == code, result.output
    return result.output


def said(*arguments: object, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json", code=code).splitlines()[-1])
    return found


def config_of(tmp_path: Path, make_config: Callable[..., Path], name: str = "test", **more: Any) -> Path:
    source = {
        "root": tmp_path / "in", "label": {"from": "folder"}, "bytes_per_second": 2 * RATE,
        "segment": {"mode": "window", "length_s": 0.4},
    }  # fmt: skip
    output = {"root": str(tmp_path / more.pop("out", "out")), "shard_seconds": 9, "formats": ["parquet", "webdataset"]}
    given = {
        "audio": {"sample_rate_hz": RATE},
        "split": {"train": 0.5, "test": 0.5},
        "silence": {"min_dbfs": -40},
        "features": {"log_mel": {"n_fft": 256, "hop_length": 128, "n_mels": 20}},
        "limits": {"max_rejected_share": 1},
    }
    path = make_config(source, name="test", output=output, **{**given, **more})
    return path.rename(tmp_path / f"{name}.yaml")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twenty recordings; one has a name and a sound that no other has, and a stretch that the gate drops."""
    for i in range(19):
        write_audio(
            tmp_path / "in" / ("dog" if i % 2 else "cat") / f"r{i}.wav", tone(1.3, RATE, seed=i, hz=300 + 20 * i), RATE
        )
    y = np.concatenate(
        [tone(1.3, RATE, seed=50, hz=1777.0), tone(1.0, RATE, peak=0.001), tone(0.7, RATE, seed=51, hz=1333.0)]
    )
    write_audio(tmp_path / f"in/dog/{MARK}.wav", y, RATE)
    (tmp_path / "in/cat/broken.wav").write_bytes(b"no audio" * 40)
    return tmp_path / "in"


def stored_audio(root: Path) -> Iterator[np.ndarray]:
    """Yield every clip under a root, wherever it is stored."""
    for path in root.rglob("*"):
        if path.suffix == ".parquet" and path.is_file() and "audio" in (schema := pq.read_schema(path)).names:
            assert "clip_id" in schema.names
            for row in pq.read_table(path, columns=["audio"])["audio"].to_pylist():
                yield sf.read(io.BytesIO(row["bytes"]), dtype="int16")[0]
        elif path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.name.endswith((".flac", ".wav", ".original")):
                        yield sf.read(io.BytesIO(tar.extractfile(member).read()), dtype="int16")[0]  # type: ignore[union-attr]
        elif path.suffix == ".wav":
            yield sf.read(path, dtype="int16")[0]


def dominant_hz(y: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(y.astype(float)))
    return float(np.argmax(spectrum) * RATE / len(y))


def assert_nothing_left(root: Path, mark: str = MARK) -> None:
    """Search by means of one's own: names, bytes, decoded columns, and the sound itself."""
    for path in root.rglob("*"):
        assert mark not in str(path.relative_to(root)), path
        if not path.is_file():
            continue
        content = path.read_bytes()
        assert mark.encode() not in content, path
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                if str(table[name].type) == "string":
                    assert not [v for v in table[name].to_pylist() if v and mark in v], (path, name)
    for y in stored_audio(root):
        assert abs(dominant_hz(y) - 1777) > 50 and abs(dominant_hz(y) - 1333) > 50


def all_clean(root: Path) -> None:
    place = Root(str(root))
    for number in snapshot_numbers(place):
        *_, verdict = verify(place, number)
        assert verdict.problems == []
        assert read_snapshot(place, number).problems() == []


def test_nothing_is_left_and_it_does_not_come_back(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    write_audio(corpus / "cat/late.wav", tone(1.0, RATE, seed=60), RATE)
    run("build", config)
    for format in ("csv", "kaldi", "nemo", "lhotse", "huggingface", "croissant"):
        run("export", out, format)
    run("export", out, "csv", "--snapshot", 1, "--to", out / "mine" / "first")
    (out / "notes.txt").write_text("mine")
    root = Root(str(out))
    before = read_snapshot(root)
    hz = [dominant_hz(y) for y in stored_audio(out)]
    assert [h for h in hz if abs(h - 1777) < 20]  # the search can find it
    with pytest.raises(AssertionError):
        assert_nothing_left(out)
    dry = said("forget", out, GONE, code=2)
    assert (dry["recordings"], dry["snapshots"], dry["done"]) == ([GONE], [1, 2], False)
    assert "Continue?" in run("forget", out, GONE, answer="n\n", code=2)
    assert snapshot_numbers(root) == [1, 2]
    text = run("forget", out, GONE, answer="y\n")
    assert "none of their ids, addresses or clip names is left" in text
    assert "not reached" in text
    assert_nothing_left(out)
    all_clean(out)
    assert (out / "notes.txt").exists()
    assert not (out / "exports").exists() and not (out / "mine").exists()
    assert not (out / "README.md").exists() and not (out / "croissant.json").exists()
    after = read_snapshot(root)
    assert (after.number, after.recordings_forgotten) == (3, 1)
    assert after.recordings_listed == before.recordings_listed
    assert after.counts.recordings_used == before.counts.recordings_used - 1
    planned = run("plan", config)
    assert ", 1 forgotten" in planned and "0 to build" in planned
    assert said("build", config)["status"] == "unchanged"
    assert_nothing_left(out)
    (corpus / f"dog/{MARK}.wav").unlink()
    report = said("build", config)  # one less is listed: another snapshot, of the same shards
    assert (report["status"], report["shards_built"]) == ("published", 0)
    assert_nothing_left(out)
    assert "nothing to do" in run("forget", out)


def test_shards_are_those_of_a_build_without_the_recording(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    run("forget", out, GONE, "--yes")
    (corpus / f"dog/{MARK}.wav").rename(tmp_path / "away.wav")
    other = config_of(tmp_path, make_config, name="other", out="other")
    run("build", other)
    assert shard_hashes(out) == shard_hashes(tmp_path / "other")
    a, b = (read_snapshot(Root(str(tmp_path / name))) for name in ("out", "other"))
    assert a.commits == b.commits
    assert (a.counts, a.seconds, a.statistics, a.labels, a.by_split) == (
        b.counts,
        b.seconds,
        b.statistics,
        b.labels,
        b.by_split,
    )
    assert a.counts.dropped == b.counts.dropped
    n_made = 0
    for key in a.commits:
        mine, theirs = (json.loads((tmp_path / name / commit_path(key)).read_text()) for name in ("out", "other"))
        n_made += mine.pop("donor") is not None
        theirs.pop("donor")
        mine.pop("sha256"), theirs.pop("sha256")  # of the whole record, with its donor
        assert mine == theirs
    assert n_made == 1
    for name in ("manifest", "rejections"):
        files = [tmp_path / r / f"snapshots/00000{n}/{name}.parquet" for r, n in (("out", 2), ("other", 1))]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("formats", [["parquet"], ["webdataset"]])
def test_one_format_alone(corpus: Path, tmp_path: Path, make_config: Callable[..., Path], formats: list[str]) -> None:
    def configured(name: str) -> Path:
        path = config_of(tmp_path, make_config, name=name, out=name)
        plain = yaml.safe_load(path.read_text())
        plain["output"] |= {"formats": formats, "images": {}}
        plain["features"]["dtype"] = "float16"
        path.write_text(yaml.safe_dump(plain))
        return path

    run("build", configured("one"))
    run("forget", tmp_path / "one", GONE, "s0/cat/r0.wav", "--yes")
    (corpus / f"dog/{MARK}.wav").unlink()
    (corpus / "cat/r0.wav").unlink()
    run("build", configured("two"))
    assert shard_hashes(tmp_path / "one") == shard_hashes(tmp_path / "two")
    a, b = (read_snapshot(Root(str(tmp_path / name))) for name in ("one", "two"))
    assert (a.commits, a.statistics, a.counts) == (b.commits, b.statistics, b.counts)


class _Cut(BaseException):
    """The process is gone."""


def test_it_can_be_cut_off_before_every_write_and_removal(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, make_config)
    run("build", config)
    write_audio(corpus / "cat/late.wav", tone(1.0, RATE, seed=60), RATE)
    run("build", config)
    out, kept = tmp_path / "out", tmp_path / "kept"
    run("export", out, "csv")
    out.rename(kept)
    from clipmill.pipelines.dataset.forget import forget

    honest = {name: getattr(Root, name) for name in ("remove", "_staged", "create_bytes")}
    cut_at, n_cut = 0, 0
    snapshots = set()
    while True:
        shutil.copytree(kept, out)
        calls = iter(range(10**6))

        def counting(name: str, calls: Iterator[int] = calls, cut_at: int = cut_at) -> Callable[..., Any]:
            def call(self: Root, path: str, *more: Any, **named: Any) -> Any:
                if "gc.json" not in path and next(calls) == cut_at:
                    raise _Cut
                return honest[name](self, path, *more, **named)

            return call

        with monkeypatch.context() as patch:
            for name in honest:
                patch.setattr(Root, name, counting(name))
            try:
                forget(Root(str(out)), [GONE])
                ended = True
            except _Cut:
                ended = False
        if ended:
            break
        n_cut += 1
        numbers = snapshot_numbers(Root(str(out)))
        snapshots.add(tuple(numbers))
        *_, verdict = verify(Root(str(out)))  # the newest snapshot is whole at any time
        assert verdict.problems == [], cut_at
        if cut_at % 2:  # finished by the same command, or by a build between
            assert said("build", config)["status"] in ("published", "unchanged")
            assert GONE not in _recordings(out) or not Forgotten.holds(read_forgotten(Root(str(out))), GONE)
        run("forget", out, GONE, "--yes")
        assert_nothing_left(out)
        all_clean(out)
        assert said("build", config)["status"] == "unchanged"
        shutil.rmtree(out)
        cut_at += 2 if cut_at < 12 else 1 if cut_at < 24 else 3
    assert n_cut > 15 and {(1, 2), (1, 2, 3), (3,)} <= snapshots
    assert_nothing_left(out)


def _recordings(out: Path) -> set[str]:
    root = Root(str(out))
    number = snapshot_numbers(root)[-1]
    return set(pq.read_table(out / f"snapshots/{number:06d}/manifest.parquet")["recording_id"].to_pylist())


def test_rejected_recordings_table_rows_retries_and_a_configuration_that_names_it(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    (corpus / f"dog/{MARK}.wav").write_bytes(b"no audio" * 60)
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    root = Root(str(out))
    update_retries(root, lambda _: {GONE: ("1-2", 1), f"{GONE}#3": ("1-2", 2), "s0/cat/broken.wav": ("1-2", 1)})
    plain = yaml.safe_load(config.read_text())
    plain["sources"][0]["exclude"] = [f"dog/{MARK}.wav"]
    config.write_text(yaml.safe_dump(plain))
    run("build", config)
    assert MARK in (out / "snapshots/000002.json").read_text()
    found = said("forget", out, GONE, "--yes")
    assert (found["published"], found["removed_snapshots"], found["clean"]) == (3, [1, 2], True)
    assert_nothing_left(out)
    assert list(read_retries(root)) == ["s0/cat/broken.wav"]
    assert read_snapshot(root).config["sources"][0]["exclude"] == ["[forgotten]"]
    assert said("build", config)["status"] == "unchanged"
    assert_nothing_left(out)


def test_a_table_that_still_names_it_does_not_bring_its_name_back(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    names = ["a", "b", "c", MARK]
    for i, name in enumerate(names):
        write_audio(tmp_path / f"in/clips/{name}.wav", tone(1.0, RATE, seed=i), RATE)
    rows = "".join(f"in/clips/{name}.wav,0,0.5,x\n" + f"{name},0.5,0.9,y\n" for name in names)
    (tmp_path / "in/table.csv").write_text(f"file,start,end,label\n{rows}gone.wav,0,1,x\n")
    source = {
        "root": tmp_path / "in", "segment": {"mode": "annotation"},
        "annotations": {"table": "table.csv", "recording": "file", "columns": {"start": "start", "end": "end", "label": "label"}},
    }  # fmt: skip
    config = make_config(source, limits={"max_rejected_share": 1})
    out, root = tmp_path / "out", Root(str(tmp_path / "out"))
    run("build", config)
    gone = f"s0/clips/{MARK}.wav"
    assert read_snapshot(root).annotations_read == 9
    run("forget", out, gone, "--yes")
    assert (read_snapshot(root).annotations_read, read_snapshot(root).recordings_forgotten) == (7, 1)
    assert said("build", config)["status"] == "unchanged"
    (tmp_path / f"in/clips/{MARK}.wav").unlink()
    assert said("build", config)["status"] == "published"
    assert (
        read_snapshot(root).annotations_read == 7
    )  # the row of gone.wav is still told, that of the forgotten one is not
    assert_nothing_left(out)
    assert "gone.wav" in json.dumps(said("failures", out))


def test_spans_in_several_shards_and_splits_by_row(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for i, name in enumerate(["a", MARK]):
        write_audio(tmp_path / f"in/{name}.wav", tone(12.0, RATE, seed=i), RATE)
    source = {"root": tmp_path / "in", "bytes_per_second": 2 * RATE, "segment": {"mode": "window", "length_s": 0.5}}
    config = make_config(source, output={"root": str(tmp_path / "out"), "shard_seconds": 4})
    run("build", config)
    out = tmp_path / "out"
    dry = said("forget", out, f"s0/{MARK}.wav", code=2)
    assert dry["shards"] > 1
    run("forget", out, f"s0/{MARK}.wav", "--yes")
    assert_nothing_left(out)
    all_clean(out)
    assert read_snapshot(Root(str(out))).recordings_forgotten == 1
    run("build", config)  # partitions that grew small may be one now
    all_clean(out)
    assert_nothing_left(out)


def test_a_split_or_all_of_it_may_go(corpus: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    rows = pq.read_table(out / "snapshots/000001/manifest.parquet").to_pylist()
    test = sorted({"s0/cat/broken.wav"} | {r["recording_id"] for r in rows if r["split"] == "test"})
    (tmp_path / "list.txt").write_text("\r\n".join(test) + "\n\n")
    found = said("forget", out, "--from", tmp_path / "list.txt", "--yes")
    assert found["nothing_left"] == ["test"] and found["recordings"] == test
    assert said("build", config, "--accept")["status"] == "unchanged"
    everything = sorted({r["recording_id"] for r in rows if r["split"] == "train"})
    text = run("forget", out, *everything, "--yes")
    assert "no clips are left in train" in text
    assert read_snapshot(Root(str(out))).commits == []
    all_clean(out)
    assert said("build", config, "--accept")["status"] == "unchanged"


def test_unknown_ids_and_near_ones(corpus: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    text = run("forget", out, f"dog/{MARK}.wav", "--yes", code=2)
    assert f"did you mean '{GONE}'" in text
    assert "did you mean" in run("forget", out, f"s0/dog/{MARK}.wave", "--yes", code=2)
    assert not (out / "forgotten.json").exists()
    found = said("forget", out, "s0/dog/to-come.wav", "--also-unknown", "--yes")
    assert (found["absent"], found["published"]) == (["s0/dog/to-come.wav"], None)
    write_audio(corpus / "dog/to-come.wav", tone(1.0, RATE, seed=70), RATE)
    assert said("build", config)["snapshot"]["recordings_forgotten"] == 1
    assert "to-come" not in json.dumps(pq.read_table(out / "snapshots/000002/manifest.parquet").to_pylist())


def test_the_same_content_under_another_name_is_told(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    (corpus / "cat/copy.wav").write_bytes((corpus / f"dog/{MARK}.wav").read_bytes())
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    plain = yaml.safe_load(config.read_text())
    plain["sources"][0]["version"] = "sha256"
    plain["split"]["disjoint"] = []
    config.write_text(yaml.safe_dump(plain))
    run("build", config)
    text = run("forget", out, GONE, "--yes")
    assert f"{GONE} is also s0/cat/copy.wav" in text
    assert "s0/cat/copy.wav" in _recordings(out)


def test_what_is_not_clipmills_is_told_and_stays(
    corpus: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    (out / "my").mkdir()
    (out / "my/list.txt").write_text(f"x\n{GONE}\n")
    text = run("forget", out, GONE, "--yes", code=1)
    assert f"still named in my/list.txt: {GONE}" in text
    (out / "my/list.txt").unlink()
    assert "is left under" in run("forget", out, GONE, "--yes")


def test_shards_of_an_older_clipmill(corpus: Path, tmp_path: Path, make_config: Callable[..., Path]) -> None:
    config, out = config_of(tmp_path, make_config), tmp_path / "out"
    run("build", config)
    as_version_1(out)
    root = Root(str(out))
    for key in read_snapshot(root).commits:  # as they were before they said what each recording adds
        commit = read_commit(root, key)
        output = commit.output("recordings")
        assert output is not None
        table = pq.read_table(out / output.path).select(["item_id", "recording_id", "version", "clips", "reason"])
        pq.write_table(table, out / output.path)
        plain = json.loads((out / commit_path(key)).read_text())
        for name in ("config_digest", "clips_digest"):
            plain.pop(name)
        for row in plain["outputs"]:
            if row["format"] == "recordings":
                content = (out / output.path).read_bytes()
                row |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        (out / commit_path(key)).write_text(json.dumps(plain))
    all_clean(out)
    text = run("forget", out, GONE, "--yes")
    assert "from an older clipmill" in text
    assert_nothing_left(out)
    all_clean(out)
    report = said("build", config)
    assert (report["status"], report["shards_built"]) == ("published", 1)
    assert_nothing_left(out)
    all_clean(out)
