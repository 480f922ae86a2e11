"""Storage that fails for a while is asked again; storage that goes on failing leaves its shard for the next build."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flaky
import numpy as np
import pytest
from conftest import build_here, tone, write_audio
from crash_matrix import files_of
from poison import lay_out

from clipmill.pipelines.cli.build_summary import describe_build
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import committed_keys, snapshot_numbers
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run import sandbox
from clipmill.pipelines.run.build import Builder, build
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.decode.readers import SoundFileReader
from clipmill.stages.storage import patience as retry
from clipmill.stages.storage.patience import is_transient, waits
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


class Store:
    """A flaky store for one test."""

    def __init__(self, place: Path) -> None:
        self.place, self._plan = place, place / "plan.json"
        self.fail(0.0)

    def fail(self, rate: float, only: str = "", beyond: int = 0) -> None:
        self._plan.write_text(json.dumps({"rate": rate, "only": only, "beyond": beyond}))

    def url(self, folder: str) -> str:
        return f"flaky://{self.place / folder}"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    site = lay_out(tmp_path / "site")
    (site / "sitecustomize.py").write_text(flaky.SITECUSTOMIZE)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sandbox, "_children", [])
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    monkeypatch.setenv("FLAKY_PLAN", str(tmp_path / "plan.json"))
    flaky.register()
    for i, extension in enumerate(["wav", "flac", "ogg", "mp3", "wav", "flac", "wav", "ogg"]):
        write_audio(tmp_path / "in" / f"r{i}.{extension}", tone(3.0, 22050, seed=i), 22050)
    return Store(tmp_path)


def source(store: Store, remote: bool = True) -> dict[str, Any]:
    root = store.url("in") if remote else str(store.place / "in")
    return {"root": root, "segment": {"mode": "window", "length_s": 0.5}, "bytes_per_second": 20_000}


def test_reads_that_fail_now_and_then_change_nothing(store: Store, make_config: Callable[..., Path]) -> None:
    def config(name: str) -> Path:
        return make_config(source(store), name=name, output={"root": str(store.place / name), "shard_seconds": 6})

    build(load(config("calm")), quiet=True)
    store.fail(0.15)
    report = build(load(config("rough")), quiet=True)
    store.fail(0)
    assert report.status == "published", report.failures
    assert report.snapshot is not None
    assert report.snapshot.counts.rejected == {}
    assert files_of(store.place / "rough", 1) == files_of(store.place / "calm", 1)


def test_writes_that_fail_now_and_then_change_nothing(store: Store, make_config: Callable[..., Path]) -> None:
    def config(name: str, root: str) -> Path:
        return make_config(source(store, remote=False), name=name, output={"root": root, "shard_seconds": 6})

    build(load(config("calm", store.url("calm"))), quiet=True)
    store.fail(0.05)
    report = build(load(config("rough", store.url("rough"))), quiet=True)
    assert report.status == "published", report.failures
    store.fail(0)
    assert files_of(store.place / "rough", 1) == files_of(store.place / "calm", 1)
    *_, verdict = verify(Root(store.url("rough")))
    assert not verdict.problems


@pytest.mark.parametrize("beyond", [0, pytest.param(9000, marks=pytest.mark.slow)])
def test_a_recording_that_cannot_be_fetched_is_no_bad_recording(
    beyond: int, store: Store, make_config: Callable[..., Path]
) -> None:
    """Whatever decoder reads it: neither may take a read that failed for the end of the file."""
    for name in ("r0.wav", "r1.flac", "r2.ogg", "r3.mp3") if beyond else ("r0.wav",):
        out = store.place / f"out-{name}"
        config = load(make_config(source(store), output={"root": str(out), "shard_seconds": 3}))
        store.fail(0)
        plan_only = store.place / "in" / name
        store.fail(1.0, only=name, beyond=beyond)
        with pytest.MonkeyPatch.context() as patch:
            # The listing knows the file; only its content cannot be had.
            patch.setattr(flaky.FlakyFileSystem, "info", flaky.LocalFileSystem.info)
            patch.setattr("clipmill.pipelines.run.shard_work._SHARD_ATTEMPTS", 2)  # each starts a decoding process
            report = build(config, quiet=True)
        assert (report.status, report.exit_code) == ("failed", 1)
        assert any(f"{name}: no answer from the store" in f and "build again" in f for f in report.failures)
        assert snapshot_numbers(Root(str(out))) == []
        assert committed_keys(Root(str(out))), "the others were built"
        store.fail(0)
        again = build(config, quiet=True)
        assert again.status == "published"
        assert again.snapshot is not None
        assert again.snapshot.counts.rejected == {}
        assert plan_only.exists()


def test_corrupt_content_is_not_tried_again(
    tmp_path: Path, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "in/good.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/bad.wav").write_bytes(b"nothing that anyone could hear" * 99)
    config = load(make_config({"root": tmp_path / "in"}, limits={"max_rejected_share": 1}))
    assert build(config, quiet=True).status == "published"
    monkeypatch.setattr(sandbox.Sandbox, "__call__", lambda *_: pytest.fail("something was decoded"))
    report = build(config, quiet=True)
    assert (report.status, report.shards_built) == ("unchanged", 0)


def test_a_store_that_is_down_says_so_and_nothing_is_lost(store: Store, make_config: Callable[..., Path]) -> None:
    config = load(make_config(source(store), output={"root": store.url("out")}))
    store.fail(1.0)
    with pytest.raises(ClipmillError, match="no answer from the store"):
        build(config, quiet=True)
    store.fail(0)
    assert build(config, quiet=True).status == "published"


def test_which_errors_pass() -> None:
    assert is_transient(TimeoutError(), local=False)
    assert is_transient(OSError("SlowDown"), local=False)
    assert is_transient(OSError(errno.EIO, "x"), local=True)
    assert is_transient(OSError(errno.ESTALE, "x"), local=True)
    for number in (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS):
        assert not is_transient(OSError(number, "x"), local=False)
        assert not is_transient(OSError(number, "x"), local=True)
    assert not is_transient(OSError(errno.EINVAL, "x"), local=True)
    assert not is_transient(FileNotFoundError("s3fs gives no number"), local=False)


def test_waits_double_up_to_a_bound_and_are_drawn_at_random() -> None:
    many = [list(waits(12)) for _ in range(300)]
    assert all(len(one) == 12 and one[-1] is None for one in many)
    assert len({one[0] for one in many}) > 250
    for k in range(11):
        bound = min(retry.FIRST_WAIT_S * 2**k, retry.LONGEST_WAIT_S)
        drawn = [one[k] or 0.0 for one in many]
        assert max(drawn) <= bound
        assert 0.4 * bound < float(np.mean(drawn)) < 0.6 * bound


def test_a_disk_that_cannot_be_read_is_no_corrupt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile as sf

    path = write_audio(tmp_path / "a.wav", tone(1.0, 8000), 8000)
    reader = SoundFileReader(str(path))

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return {"sf_readf_float": lambda *_: 0, "sf_error": lambda _: 2}.get(name) or getattr(real, name)

    real = sf._snd
    monkeypatch.setattr(sf, "_snd", Failing())
    with pytest.raises(OSError, match="reading failed") as caught:
        reader.read_into(np.zeros((10, 1), np.float32))
    assert is_transient(caught.value, local=True)


def test_the_shards_that_fail_leave_the_others_alone(
    tmp_path: Path, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmill.stages.write import Write

    for i in range(6):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    config = make_config({"root": tmp_path / "in"}, output={"root": str(tmp_path / "out"), "shard_seconds": 1})
    write = Write.__call__
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    tries: list[str] = []

    def failing(self: Write, plan: Any, tables: Any, donor: Any = None, expected: Any = None) -> Any:
        if "s0/r3.wav" in plan["recording_id"].to_pylist():
            tries.append("r3")
            raise OSError(errno.EIO, "Input/output error")
        return write(self, plan, tables, donor, expected)

    monkeypatch.setattr(Write, "__call__", failing)
    report = build(load(config), quiet=True)
    assert len(tries) == 5
    assert (report.exit_code, len(report.failures)) == (1, 1)
    assert report.shards_built == report.shards_planned - 1
    monkeypatch.setattr(Write, "__call__", write)
    assert build(load(config), quiet=True).shards_built == 1
    build_here(make_config({"root": tmp_path / "in"}, output={"root": str(tmp_path / "calm"), "shard_seconds": 1}))


@pytest.mark.parametrize("workers", [None, 2])
def test_a_build_stops_after_a_few_failures_that_last_and_the_next_one_ends_it(
    workers: int | None, tmp_path: Path, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(30):
        write_audio(tmp_path / "in" / f"r{i:02}.wav", tone(1.0, 22050, seed=i), 22050)
    source = {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}, "bytes_per_second": 44_100}
    config = make_config(source, output={"root": str(tmp_path / "out"), "shard_seconds": 1})
    if workers:
        monkeypatch.undo()  # in_process keeps Ray away
    begin = Builder(load(config), workers, None, quiet=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/shards").write_text("in the way")
    report = begin.run(accept=False)
    assert report.status == "failed"
    assert 3 <= len(report.failures) < 3 + 2 * (workers or 1)
    assert report.shards_untried == report.shards_planned - len(report.failures) > 20
    assert f"{report.shards_untried} not tried because too many failed" in "\n".join(describe_build(report))
    (tmp_path / "out/shards").unlink()
    assert build(load(config), quiet=True).status == "published"
