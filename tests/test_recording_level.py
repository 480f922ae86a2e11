"""One gain for all clips of a recording: measured in a first pass over all of it, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_audio
from hypothesis import given, settings
from hypothesis import strategies as st

import clipmill
from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.plan.planning import make_plan
from clipmill.stages.measures.lufs import integrated_lufs
from clipmill.stages.recording_level import RecordingLevel

RATE = 16000


def configured(root: Path, out: Path, level: dict[str, Any], **more: Any) -> dict[str, Any]:
    segment = {"mode": "window", "length_s": 1.0, "tail": "keep"}
    source = {"name": "s", "root": str(root), "segment": segment, **more.pop("source", {})}
    return {
        "name": "l", "sources": [source], "clips": [{"level": {"of": "recording", **level}}],
        "audio": {"sample_rate_hz": RATE, **more.pop("audio", {})}, "output": {"root": str(out)}, **more,
    }  # fmt: skip


def clips(out: Path) -> list[dict[str, Any]]:
    names = ["clip_id", "recording_id", "start_s", "audio", "gain_db", "level_note"]
    names += ["channel"] if "channel" in clipmill.open_dataset(out).schema.names else []
    return list(clipmill.ClipDataset(out, "train", names))


def swelling(seconds: float, loudest: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise that becomes louder, so that clips of one recording differ by 30 dB."""
    random = np.random.default_rng(seed)
    n = round(seconds * RATE)
    return random.standard_normal((n, channels)) * 0.2 * loudest * 10 ** (np.linspace(-30, 0, n) / 20)[:, None]


@pytest.mark.parametrize(("to", "target"), [("peak", -3.0), ("rms", -25.0), ("lufs", -23.0)])
def test_all_clips_of_a_recording_have_the_gain_of_the_recording(to: str, target: float, tmp_path: Path) -> None:
    for i, loudest in enumerate((0.05, 0.5)):
        write_audio(tmp_path / f"in/r{i}.wav", swelling(6.5, loudest, seed=i), RATE, "PCM_16")
    clipmill.build(
        configured(tmp_path / "in", tmp_path / "out", {"to": to, "target": target}), quiet=True
    ).raise_for_status()
    rows = clips(tmp_path / "out")
    for name in ("s/r0.wav", "s/r1.wav"):
        own = sorted((r for r in rows if r["recording_id"] == name), key=lambda r: r["start_s"])
        assert len(own) == 7 and len({r["gain_db"] for r in own}) == 1
        whole = np.concatenate([r["audio"].numpy() for r in own], axis=1)
        if to == "peak":
            assert 20 * np.log10(np.abs(whole).max()) == pytest.approx(target, abs=0.01)
        elif to == "rms":
            assert 10 * np.log10(np.mean(whole.astype(np.float64) ** 2)) == pytest.approx(target, abs=0.01)
        else:
            assert integrated_lufs(whole, RATE) == pytest.approx(target, abs=0.05)
    assert len({r["gain_db"] for r in rows}) == 2


@pytest.mark.parametrize("to", ["peak", "lufs"])
def test_the_level_is_that_of_what_clips_are_made_of(to: str, tmp_path: Path) -> None:
    """What a lower rate leaves out, and a mix, count as they do in the clips."""
    random = np.random.default_rng(5)
    write_audio(tmp_path / "in/a.wav", random.standard_normal((3 * 48000, 2)) * 0.1, 48000, "PCM_16")
    clipmill.build(
        configured(tmp_path / "in", tmp_path / "out", {"to": to, "target": -23}), quiet=True
    ).raise_for_status()
    whole = np.concatenate(
        [r["audio"].numpy() for r in sorted(clips(tmp_path / "out"), key=lambda r: r["start_s"])], axis=1
    )
    level = 20 * np.log10(np.abs(whole).max()) if to == "peak" else integrated_lufs(whole, RATE)
    assert level == pytest.approx(-23, abs=0.02)


def test_each_channel_has_a_gain_of_its_own_where_each_has_clips(tmp_path: Path) -> None:
    y = swelling(3.0, 0.3, channels=2) * np.array([[1.0, 0.1]])
    write_audio(tmp_path / "in/a.wav", y, RATE, "PCM_16")
    config = configured(tmp_path / "in", tmp_path / "out", {"to": "rms", "target": -20}, audio={"channels": "each"})
    clipmill.build(config, quiet=True).raise_for_status()
    gains = {c: {r["gain_db"] for r in clips(tmp_path / "out") if r["channel"] == c} for c in (0, 1)}
    assert len(gains[0]) == len(gains[1]) == 1
    assert gains[1].pop() - gains[0].pop() == pytest.approx(20, abs=0.3)


def test_silence_passes_unchanged_and_a_gain_has_a_limit(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/silent.wav", np.zeros((2 * RATE, 1)), RATE, "PCM_16")
    write_audio(tmp_path / "in/faint.wav", swelling(2.0, 0.001), RATE, "PCM_16")
    config = configured(tmp_path / "in", tmp_path / "out", {"to": "rms", "target": -10, "max_gain_db": 20})
    clipmill.build(config, quiet=True).raise_for_status()
    notes = {(r["recording_id"], r["gain_db"], r["level_note"]) for r in clips(tmp_path / "out")}
    assert notes == {("s/silent.wav", None, "silent"), ("s/faint.wav", 20.0, "limited_gain")}


def test_a_long_recording_is_one_item(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", swelling(40.0, 0.3), RATE, "PCM_16")
    for level, n in (({"to": "rms", "target": -20}, 1), ({"to": "rms", "target": -20, "of": "clip"}, 5)):
        more = {
            "output": {"root": str(tmp_path / "out"), "shard_seconds": 10},
            "source": {"bytes_per_second": 2 * RATE},
        }
        plan = make_plan(clipmill.load_config(configured(tmp_path / "in", tmp_path / "out", level, **more)).config)
        assert plan.table.num_rows == n


def test_two_gains_of_recordings_contradict_each_other(tmp_path: Path) -> None:
    config = configured(tmp_path, tmp_path / "out", {"to": "rms", "target": -20})
    config["clips"] *= 2
    with pytest.raises(
        clipmill.ClipmillError,
        match=r"clips\[1\].level: adds the column 'gain_db', which clips\[0\].level adds before it",
    ):
        chain_of(clipmill.load_config(config).config)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["peak", "rms", "lufs"]), st.lists(st.integers(1, 20_000), min_size=1, max_size=6))
def test_a_level_does_not_depend_on_how_the_recording_is_divided(to: str, sizes: list[int]) -> None:
    y = np.random.default_rng(1).standard_normal((2, sum(sizes))).astype(np.float32) * np.float32(0.1)
    whole, parts = RecordingLevel(to, 8000, 2), RecordingLevel(to, 8000, 2)
    whole.add(y)
    for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
        parts.add(y[:, stop - size : stop])
    assert parts.level() == pytest.approx(whole.level(), abs=1e-9)
