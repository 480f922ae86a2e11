"""`retry`: rejected recordings are tried again on request, and what comes of it is a snapshot of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from poison import lay_out

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import ConfigFile, load
from clipmill.pipelines.dataset.records_io import committed_keys, read_snapshot, snapshot_numbers
from clipmill.pipelines.dataset.tries import read_retries
from clipmill.pipelines.dataset.verify import verify
from clipmill.pipelines.run import sandbox
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.retry import retry
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")


class Poison:
    """Whether decoders crash and hang by the names of recordings."""

    def __init__(self, site: str, patch: pytest.MonkeyPatch) -> None:
        self._site, self._patch = site, patch

    def on(self) -> None:
        self._patch.syspath_prepend(self._site)
        sandbox._children.clear()

    def off(self) -> None:
        import sys

        sys.path.remove(self._site)
        sandbox._children.clear()


@pytest.fixture
def poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Poison:
    monkeypatch.setattr(sandbox, "_children", [])
    return Poison(str(lay_out(tmp_path / "site")), monkeypatch)


@pytest.fixture
def built(tmp_path: Path, make_config: Callable[..., Path], poison: Poison) -> ConfigFile:
    """A dataset in which one recording crashed, one hung, and one is no audio."""
    for i in range(8):
        write_audio(tmp_path / "in" / f"r{i}.wav", tone(1.0, 8000, seed=i), 8000)
    write_audio(tmp_path / "in/abort.wav", tone(1.0, 8000, seed=8), 8000)
    write_audio(tmp_path / "in/sleep.wav", tone(1.0, 8000, seed=9), 8000)
    (tmp_path / "in/text.wav").write_bytes(b"not audio" * 30)
    source = {"root": tmp_path / "in", "bytes_per_second": 16000}
    limits = {"max_rejected_share": 1, "decoder_timeout_s": 1}
    config = load(make_config(source, limits=limits, output={"root": str(tmp_path / "out"), "shard_seconds": 2}))
    poison.on()
    report = build(config, quiet=True)
    assert report.snapshot is not None
    assert report.snapshot.counts.rejected == {"decoder_crashed": 1, "decoder_timeout": 1, "not_audio": 1}
    return config


def everything(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and "builds" not in p.parts}


def test_what_is_mended_comes_in_and_stays(built: ConfigFile, poison: Poison, tmp_path: Path) -> None:
    root = Root(str(tmp_path / "out"))
    old = read_snapshot(root, 1)
    poison.off()
    assert build(built, quiet=True).status == "unchanged", "a build does not try again by itself"
    result = retry(built, [], quiet=True)
    assert result.report.status == "published"
    assert len(result.tried) == 3
    assert result.report.shards_built + result.report.shards_reused == result.report.shards_planned
    assert result.rejected_again == {"s0/text.wav"}
    assert result.report.snapshot is not None
    assert result.report.snapshot.counts.rejected == {"not_audio": 1}
    assert result.report.snapshot.counts.clips_kept == 10
    assert read_snapshot(root, 1) == old
    *_, verdict = verify(root, 1)
    assert not verdict.problems
    *_, verdict = verify(root)
    assert not verdict.problems
    assert (
        "s0/text.wav" not in read_retries(root) or len(read_retries(root)) == 3
    )  # it may share a shard with one that was mended
    again = build(built, quiet=True)
    assert (again.status, again.shards_built) == ("unchanged", 0), "the next night knows of it"
    # What was made is, but for its name, what a build from scratch makes now.
    scratch = ConfigFile(built.path, built.config.model_copy(deep=True), built.public)
    scratch = load(_elsewhere(Path(built.path), tmp_path))
    fresh = build(scratch, quiet=True).snapshot
    assert fresh is not None
    assert fresh.counts == result.report.snapshot.counts
    assert _contents(tmp_path / "out", 2) == _contents(tmp_path / "elsewhere", 1)


def _elsewhere(config: Path, place: Path) -> Path:
    path = place / "elsewhere.yaml"
    path.write_text(config.read_text().replace(str(place / "out"), str(place / "elsewhere")))
    return path


def _contents(root: Path, number: int) -> list[str]:
    from crash_matrix import files_of

    return sorted(sha for path, sha in files_of(root, number).items() if path.startswith("shards/"))


def test_what_fails_again_leaves_no_trace(built: ConfigFile, tmp_path: Path) -> None:
    root = tmp_path / "out"
    before, keys = everything(root), committed_keys(Root(str(root)))
    result = retry(built, ["decoder_crashed", "not_audio"], quiet=True)
    assert (result.report.status, len(result.tried), len(result.rejected_again)) == ("unchanged", 2, 2)
    assert everything(root) == before
    assert committed_keys(Root(str(root))) == keys
    assert snapshot_numbers(Root(str(root))) == [1]


def test_a_changed_recording_forgets_its_retries(built: ConfigFile, poison: Poison, tmp_path: Path) -> None:
    poison.off()
    retry(built, ["decoder_crashed"], quiet=True)
    write_audio(tmp_path / "in/abort.wav", tone(1.5, 8000, seed=80), 8000)
    build(built, quiet=True)
    scratch = load(_elsewhere(Path(built.path), tmp_path))
    poison.on()
    (tmp_path / "in/abort.wav").rename(tmp_path / "in/fine.wav")
    (tmp_path / "in/sleep.wav").unlink()
    poison.off()
    build(built, quiet=True)
    build(scratch, quiet=True)
    newest = snapshot_numbers(Root(str(tmp_path / "out")))[-1]
    assert _contents(tmp_path / "out", newest) == _contents(tmp_path / "elsewhere", 1)


def test_on_the_command_line(built: ConfigFile, poison: Poison) -> None:
    wrong = CliRunner().invoke(main, ["retry", built.path, "--reason", "bad_luck"])
    assert wrong.exit_code == 2
    assert "unknown reason" in wrong.output
    poison.off()
    done = CliRunner().invoke(main, ["retry", built.path, "--reason", "decoder_timeout"])
    assert done.exit_code == 0
    assert "retried      1 rejected: 1 no longer rejected, 0 rejected again for the same reason" in done.output
