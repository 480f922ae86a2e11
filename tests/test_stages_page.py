"""docs/stages.md: its stages are taken from the page and used, as a stranger would."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from conftest import write_audio

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.read.training import ClipDataset
from clipmill.stages import lookup

PAGE = Path(__file__).parents[1] / "docs/stages.md"
RATE = 8000
NAMES = ("crossings", "gains", "levels")


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's three modules, where Python finds them."""
    folder = tmp_path / "own"
    folder.mkdir()
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    for name, block in zip(NAMES, blocks, strict=True):
        (folder / f"{name}.py").write_text(block)
    monkeypatch.syspath_prepend(folder)
    for cached in (lookup.find_stage, lookup.origin_of):
        cached.cache_clear()
    yield folder
    for cached in (lookup.find_stage, lookup.origin_of):
        cached.cache_clear()
    import sys

    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, Any]:
    """Tones of 100, 200, ... Hz, which cross zero 200, 400, ... times a second."""
    for k in range(1, 7):
        y = 0.5 * np.sin(2 * np.pi * 100 * k * np.arange(RATE) / RATE + 0.1)
        write_audio(tmp_path / f"in/t{k}.wav", y[:, None].astype(np.float32), RATE)
    return {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.5}}


def build(config: Path) -> Any:
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 0, done.output
    return done


def rewritten(config: Path, change: Callable[[Any], None]) -> Path:
    plain = yaml.safe_load(config.read_text())
    change(plain)
    config.write_text(yaml.safe_dump(plain, sort_keys=False))
    return config


def manifest(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(sorted(root.glob("snapshots/*/manifest.parquet"))[-1]).to_pylist()


def rejections(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "builds/rejections.parquet").to_pylist()


def test_a_filter_with_a_column(
    stages: Path, corpus: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    config = make_config(
        corpus, audio={"sample_rate_hz": RATE}, clips=[{"crossings:ZeroCrossings": {"max_per_s": 900}}]
    )
    done = build(config)
    assert "4 dropped (too_many_crossings)" in done.output
    rows = manifest(tmp_path / "out")
    assert len(rows) == 8
    assert all(round(r["zero_crossings_per_s"], -2) == 200 * int(r["recording_id"][-5]) for r in rows)
    snapshot = open_dataset(str(tmp_path / "out"))
    (told,) = [c for c in snapshot.columns if c["name"] == "zero_crossings_per_s"]
    assert (told["unit"], told["type"]) == ("1/s", "double")
    loaded = list(ClipDataset(tmp_path / "out", "train", columns=["zero_crossings_per_s"]))
    assert sorted(c["zero_crossings_per_s"] for c in loaded) == sorted(r["zero_crossings_per_s"] for r in rows)
    failures = CliRunner().invoke(main, ["failures", str(tmp_path / "out")]).output
    assert "more zero crossings a second than zero_crossings.max_per_s" in failures
    exported = CliRunner().invoke(main, ["export", str(tmp_path / "out"), "csv"])
    assert exported.exit_code == 0
    assert "zero_crossings_per_s" in next((tmp_path / "out/exports").rglob("train.csv")).read_text().splitlines()[0]
    croissant = CliRunner().invoke(main, ["export", str(tmp_path / "out"), "croissant"])
    assert croissant.exit_code == 0 and "zero_crossings_per_s" in (tmp_path / "out/croissant.json").read_text()
    assert "unchanged" in build(config).output
    # A changed feature keeps the clips, and the column with them; a changed setting does not.
    rewritten(config, lambda c: c.update(features={"log_mel": {"n_fft": 256, "hop_length": 128, "n_mels": 16}}))
    assert "from committed clips" in build(config).output
    assert manifest(tmp_path / "out")[0]["zero_crossings_per_s"] == rows[0]["zero_crossings_per_s"]
    rewritten(config, lambda c: c["clips"][0].update({"crossings:ZeroCrossings": {"max_per_s": 500}}))
    again = build(config).output
    assert "from committed clips" not in again and "8 dropped (too_many_crossings)" in again


def test_a_stage_that_changes_samples(
    stages: Path, corpus: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """-20 dB and +20 dB again is what was there, to the last bit: nothing was rounded in between."""
    audio = {"sample_rate_hz": RATE}
    build(make_config(corpus, audio=audio, output={"root": str(tmp_path / "plain")}))
    both = [{"gains:Gain": {"db": -20}}, {"gains:Gain": {"db": 20}}]
    build(make_config(corpus, audio=audio, clips=both, output={"root": str(tmp_path / "both")}))
    build(make_config(corpus, audio=audio, clips=both[:1], output={"root": str(tmp_path / "down")}))
    clips = {
        name: {
            c["clip_id"]: c for c in ClipDataset(tmp_path / name, "train", columns=["audio", "level_dbfs", "clip_id"])
        }
        for name in ("plain", "both", "down")
    }
    assert clips["plain"].keys() == clips["both"].keys() == clips["down"].keys() and len(clips["plain"]) == 12
    for name, clip in clips["plain"].items():
        assert np.array_equal(clip["audio"], clips["both"][name]["audio"])
        quiet = clips["down"][name]
        level = 10 * np.log10(np.mean(np.square(np.asarray(quiet["audio"], np.float64))))
        assert quiet["level_dbfs"] == pytest.approx(level, abs=1e-6), "it is of the stored clip"
        assert quiet["level_dbfs"] == pytest.approx(clip["level_dbfs"] - 20, abs=0.01)


def test_samples_come_from_before_rounding_and_clipping_is_counted(
    stages: Path, tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """A tone of 3 steps of 16 bits in a float file: 40 dB louder it has hundreds of steps, which rounding first would have taken."""
    tone_y = (1e-4 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE)).astype(np.float32)
    write_audio(tmp_path / "in/quiet.wav", tone_y[:, None], RATE, "FLOAT")
    for db, n_clipped in ((40, 0), (90, None)):
        out = tmp_path / f"out{db}"
        source = {"root": tmp_path / "in"}
        build(
            make_config(
                source, audio={"sample_rate_hz": RATE}, clips=[{"gains:Gain": {"db": db}}], output={"root": str(out)}
            )
        )
        (clip,) = ClipDataset(out, "train", columns=["audio", "n_clipped"])
        louder = np.rint(tone_y * np.float32(10 ** (db / 20)) * 32768)
        assert np.array_equal(np.asarray(clip["audio"])[0] * 32768, np.clip(louder, -32768, 32767))
        beyond = int(np.count_nonzero((louder > 32767) | (louder < -32768)))
        assert clip["n_clipped"] == beyond and (beyond > 0 if n_clipped is None else beyond == 0)


def test_silence_judges_at_its_place(
    stages: Path, corpus: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    """The tones have -9 dBFS; behind a gain of -20 dB they are under -15."""
    steps = [{"silence": {"min_dbfs": -15}}, {"gains:Gain": {"db": -20}}]
    for name, clips, n in (("before", steps, 12), ("behind", steps[::-1], 0)):
        config = make_config(
            corpus,
            audio={"sample_rate_hz": RATE},
            clips=clips,
            output={"root": str(tmp_path / name)},
            limits={"min_clips": 0},
        )
        done = CliRunner().invoke(main, ["build", str(config), "--json", "--accept"])
        assert json.loads(done.output)["snapshot"]["counts"]["clips_kept"] == n


def test_a_feature(stages: Path, corpus: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]) -> None:
    config = make_config(corpus, audio={"sample_rate_hz": RATE}, features={"levels:Rms": {"hop_length": 400}})
    build(config)
    clips = list(ClipDataset(tmp_path / "out", "train", columns=["rms", "audio"]))
    for clip in clips:
        frames = np.asarray(clip["audio"])[0].reshape(10, 400)
        assert clip["rms"].shape == (1, 10)
        assert np.allclose(clip["rms"][0], np.sqrt(np.mean(frames**2, axis=1)), atol=1e-6)
    snapshot = open_dataset(str(tmp_path / "out"))
    assert snapshot.feature_names == ["rms"]
    assert snapshot.snapshot.statistics["train"].features["rms"].n == 12 * 10
    rewritten(config, lambda c: c.update(features={"levels:Rms": {"hop_length": 5000}}))
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 3 and "clip_too_short_for_rms" in done.output
    (row,) = {(r["reason"], r["stage"], r["kind"]) for r in rejections(tmp_path / "out")}
    assert row == ("clip_too_short_for_rms", "rms", "clip")
    rewritten(config, lambda c: c.update(limits={"max_rejected_share": 1, "min_clips": 0, "allow_empty_splits": True}))
    assert CliRunner().invoke(main, ["build", str(config), "--accept"]).exit_code == 0
    assert manifest(tmp_path / "out") == []
    rewritten(config, lambda c: c.update(features={"levels:Rms": {"hop_length": 250}}))
    done = build(config)
    assert "1 built" in done.output and "from committed clips" not in done.output, "the shard lacks what was rejected"
    assert len(manifest(tmp_path / "out")) == 12
