"""The clip stage `level`: targets that FFmpeg and pydub confirm, the limiter, and a note wherever a clip has another level."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
from conftest import build_here, clips_of, tone, write_audio
from ffmpeg_loudness import at_rate, ebur128, filtered, recordings
from hypothesis import given, settings
from hypothesis import strategies as st
from pydub import AudioSegment, effects

from clipmill.pipelines.chain import chain_of
from clipmill.pipelines.config_file import loads
from clipmill.schemas.config.level_config import Level
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.tables import CLIPS
from clipmill.schemas.units import level_dbfs, to_pcm16
from clipmill.stages.clip_chain import apply_stage
from clipmill.stages.clip_samples import waveforms, with_waveforms
from clipmill.stages.clips.level import LevelGain
from clipmill.stages.measures.lufs import integrated_lufs
from clipmill.stages.true_peak import true_peak_dbtp

RATE = 16000


def table_of(ys: list[np.ndarray], rate: int = RATE) -> pa.Table:
    """A table of clips, float [channels, samples] each, with a row before them that is no clip."""
    rows: list[dict[str, Any]] = [{"status": "account", "n_candidates": 0, "n_annotations": 0}]
    rows += [
        {"status": "clip", "clip_id": f"a-{i}", "sample_rate_hz": rate, "n_channels": len(y), "n_clipped": 0}
        for i, y in enumerate(ys)
    ]
    return with_waveforms(pa.Table.from_pylist(rows, schema=CLIPS), {i + 1: y for i, y in enumerate(ys)})


def levelled(
    ys: list[np.ndarray], rate: int = RATE, **spec: Any
) -> tuple[list[np.ndarray], list[float | None], list[str | None]]:
    """Apply the stage alone; return the samples, the gains and the notes."""
    (table,) = apply_stage(LevelGain(Level(**spec)), table_of(ys, rate))
    assert table["status"].to_pylist() == ["account"] + ["clip"] * len(ys)
    gains, notes = table["gain_db"].to_pylist(), table["level_note"].to_pylist()
    assert gains[0] is None and notes[0] is None
    return [y for _, y in waveforms(table)], gains[1:], notes[1:]


def noise(seconds: float, scale: float = 0.1, channels: int = 1, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((channels, round(seconds * RATE)))).astype(np.float32)


def segment(y: np.ndarray, rate: int) -> AudioSegment:
    pcm = to_pcm16(np.ascontiguousarray(y.T))[0]
    return AudioSegment(pcm.tobytes(), frame_rate=rate, sample_width=2, channels=len(y))


def real(corpora: Path, rate: int) -> list[np.ndarray]:
    return [at_rate(y[:1], own_rate, rate) for _, y, own_rate in recordings(corpora)]


@pytest.mark.parametrize(("rate", "target"), [(16000, -23.0), (44100, -30.0), (16000, -40.0)])
def test_loudness_is_what_ffmpeg_measures(corpora: Path, rate: int, target: float) -> None:
    ys = real(corpora, rate)
    ys.append(np.concatenate((ys[0], 0.3 * np.roll(ys[0], 999))))
    done, gains, notes = levelled(ys, rate, to="lufs", target=target)
    for y, out, gain_db, note in zip(ys, done, gains, notes, strict=True):
        stored = to_pcm16(out)[0] / 32768
        assert note in (None, "clips")
        assert gain_db is not None and np.array_equal(out, y * np.float32(10 ** (gain_db / 20)))
        assert (note == "clips") == (to_pcm16(out)[1] > 0)
        if note is None:
            assert ebur128(stored, rate)[0] == pytest.approx(target, abs=0.1)


@pytest.mark.parametrize("to", ["lufs", "rms"])
def test_with_a_limiter_the_target_and_the_ceiling_hold(corpora: Path, to: str) -> None:
    ys = real(corpora, RATE)
    done, gains, notes = levelled(ys, to=to, target=-18, true_peak_dbtp=-3)
    plain_gains = levelled(ys, to=to, target=-18)[1]
    assert "clips" not in notes and notes.count(None) >= 12
    n_limited = 0
    for y, out, gain_db, plain_db, note in zip(ys, done, gains, plain_gains, notes, strict=True):
        assert gain_db is not None and plain_db is not None
        reached = ebur128(out, RATE)[0] if to == "lufs" else level_dbfs(out)
        assert ebur128(np.pad(out, ((0, 0), (RATE // 10, RATE // 10))), RATE)[1] <= -2.9
        assert abs(reached - -18) <= (0.1 if note is None else math.inf)
        assert (abs(reached - -18) > 0.5) == (note == "missed_target")
        assert plain_db - 0.06 <= gain_db <= plain_db + 12.01, "what the limiter takes is made up for"
        n_limited += not np.allclose(out, y * np.float32(10 ** (gain_db / 20)), atol=1e-6)
    assert n_limited >= 8


def test_a_peak_is_that_of_pydubs_normalize(corpora: Path) -> None:
    for headroom_db in (0.0, 0.1, 3.0, 12.0):
        ys = [(to_pcm16(y * np.float32(0.7))[0] / 32768).astype(np.float32) for y in real(corpora, RATE)[::4]]
        ys.append(np.concatenate((ys[0], np.roll(ys[0], 999))))
        done, _, notes = levelled(ys, to="peak", target=-headroom_db)
        assert notes == [None] * len(ys), "not even 0 dBFS clips"
        for y, out in zip(ys, done, strict=True):
            theirs = effects.normalize(segment(y, RATE), headroom=headroom_db)
            pcm, n_clipped = to_pcm16(np.ascontiguousarray(out.T))
            assert n_clipped == 0
            assert np.abs(pcm.reshape(-1) - np.array(theirs.get_array_of_samples(), np.int32)).max() <= 2
            assert 20 * math.log10(np.abs(out).max()) == pytest.approx(-headroom_db, abs=1e-3)


def test_an_rms_is_that_of_pydub(corpora: Path) -> None:
    ys = real(corpora, RATE)[::4]
    done, gains, _ = levelled(ys, to="rms", target=-30)
    for y, out, gain_db in zip(ys, done, gains, strict=True):
        before, after = segment(y, RATE), segment(out, RATE)
        assert after.dBFS == pytest.approx(-30, abs=0.03)
        assert gain_db == pytest.approx(-30 - before.dBFS, abs=0.03)
        theirs = np.array(before.apply_gain(-30 - before.dBFS).get_array_of_samples(), np.float64)
        assert np.abs(to_pcm16(out)[0].reshape(-1) - theirs).max() <= 2 + 0.004 * np.abs(theirs).max()


def test_it_is_ffmpegs_loudnorm_in_linear_mode(corpora: Path) -> None:
    rate = 48000
    for y in real(corpora, rate)[::3]:
        measured, peak = ebur128(y, rate)
        options = f"I=-30:TP=0:LRA=50:linear=true:measured_I={measured}:measured_TP={peak:.3f}:measured_LRA=5:measured_thresh={measured - 10}"
        frames = filtered(y, rate, "loudnorm", options)
        theirs = np.concatenate([f.to_ndarray() for f in frames], axis=-1)[:1]
        (ours,), _, _ = levelled([y], rate, to="lufs", target=-30)
        assert theirs.shape == ours.shape
        assert ebur128(theirs, rate)[0] == pytest.approx(ebur128(ours, rate)[0], abs=0.1)
        assert np.abs(theirs - ours).max() <= 0.01 * np.abs(ours).max()


def test_clips_without_a_level_pass_and_say_why() -> None:
    silence, quiet, short = np.zeros((1, RATE), np.float32), noise(1, 1e-5), noise(0.39)
    one_sample = np.full((1, 1), 0.25, np.float32)
    ys = [silence, quiet, short, one_sample, noise(0.4)]
    done, gains, notes = levelled(ys, to="lufs", target=-23)
    assert notes == ["silent", "silent", "too_short", "too_short", None]
    assert gains[:4] == [None] * 4 and gains[4] is not None
    assert all(np.array_equal(y, out) for y, out in zip(ys[:4], done, strict=False))
    for to in ("rms", "peak"):
        done, gains, notes = levelled(ys, to=to, target=-23, max_gain_db=100)
        assert notes == ["silent", None, None, None, None]
        assert gains[0] is None and None not in gains[1:]
        assert np.array_equal(done[0], silence)
    assert level_dbfs(levelled([short], to="rms", target=-23)[0][0]) == pytest.approx(-23, abs=1e-4)


def test_the_gain_has_a_limit() -> None:
    faint = noise(1, 3e-4)
    for to in ("peak", "rms", "lufs"):
        (out,), (gain_db,), (note,) = levelled([faint], to=to, target=-10)
        assert (gain_db, note) == (40.0, "limited_gain")
        assert np.array_equal(out, faint * np.float32(100))
        assert levelled([faint], to=to, target=-20, max_gain_db=90, true_peak_dbtp=-3)[2] == [None]
    for ceiling in (None, -1.0):
        (out,), (gain_db,), (note,) = levelled([noise(1)], to="rms", target=-10, max_gain_db=0, true_peak_dbtp=ceiling)
        assert (gain_db, note) == (0, "limited_gain") and np.array_equal(out, noise(1))
    assert levelled([noise(1)], to="rms", target=-30, max_gain_db=0)[1][0] == pytest.approx(-10, abs=0.2)


def test_a_gain_that_is_limited_by_little_is_told_too() -> None:
    (wanted_db,) = levelled([noise(1)], to="rms", target=-15)[1]
    assert wanted_db is not None
    _, gains, notes = levelled([noise(1)], to="rms", target=-15, max_gain_db=wanted_db - 0.2)
    assert gains == [wanted_db - 0.2] and notes == ["limited_gain"]


@pytest.mark.parametrize("sign", [1, -1])
def test_clipping_is_told_at_both_ends_of_the_range(sign: int) -> None:
    y = 0.01 * np.ones((1, RATE), np.float32)
    y[:, 5000] = 0.5 * sign
    (out,), _, (note,) = levelled([y], to="rms", target=-20)
    assert note == "clips" and to_pcm16(out)[1] == 1
    (out,), _, (note,) = levelled([y], to="rms", target=-34)
    assert note is None and to_pcm16(out)[1] == 0


def test_a_ceiling_of_0_is_the_largest_sample_of_16_bits() -> None:
    at = np.arange(-8000, 8001)
    y = (0.99999 * np.hanning(16001) * np.cos(2 * np.pi * at / 16)).astype(np.float32)[None]
    for ceiling, n_clipped, expected in ((None, 1, "clips"), (0, 0, None)):
        (out,), _, (note,) = levelled([y], to="rms", target=level_dbfs(y), true_peak_dbtp=ceiling)
        assert note == expected and to_pcm16(out)[1] == n_clipped


def test_a_target_that_the_limiter_cannot_reach_is_told() -> None:
    clicks = np.zeros((1, 2 * RATE), np.float32)
    clicks[:, ::4000] = 0.5
    for to in ("rms", "lufs"):
        (out,), (gain_db,), (note,) = levelled([clicks], to=to, target=-10, true_peak_dbtp=-6, max_gain_db=90)
        assert note == "missed_target" and true_peak_dbtp(out) <= -6 + 1e-3
        level = level_dbfs(out) if to == "rms" else integrated_lufs(out, RATE)
        assert level is not None and level < -10.5 and gain_db is not None
    (out,), _, (note,) = levelled([clicks], to="rms", target=-10)
    assert note == "clips" and to_pcm16(out)[1] > 0


def test_a_peak_with_a_limiter_is_not_made_up_for() -> None:
    """A tone of fs/4 whose samples lie 3 dB under its peaks."""
    y = (0.1 * np.sin(np.pi * (np.arange(RATE) / 2 + 0.25))).astype(np.float32)[None]
    (out,), (gain_db,), (note,) = levelled([y], to="peak", target=-1, true_peak_dbtp=-1)
    assert note == "missed_target" and -1.2 < true_peak_dbtp(out) <= -1 + 1e-3
    assert gain_db == pytest.approx(-1 - 20 * math.log10(np.abs(y).max()), abs=1e-6)


def test_quiet_parts_that_come_above_the_gate_are_allowed_for() -> None:
    """Under -70 LUFS nothing counts, and 40 dB louder all does: the gain is that after which the loudness is right."""
    y = np.concatenate((noise(5, 10 ** (-65 / 20)), noise(5, 10 ** (-73.5 / 20))), axis=1)
    before = integrated_lufs(y, RATE)
    (out,), (gain_db,), (note,) = levelled([y], to="lufs", target=-25, max_gain_db=60)
    assert note is None and before is not None and gain_db is not None
    assert gain_db > -25 - before + 0.5
    assert ebur128(out, RATE)[0] == pytest.approx(-25, abs=0.1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9000), st.floats(0, 4), st.integers(1, 2)), min_size=1, max_size=4),
    st.sampled_from(["peak", "rms", "lufs"]),
    st.sampled_from([None, -1.0]),
    st.floats(-40, -1),
)
def test_a_clip_does_not_depend_on_its_neighbours(
    kinds: list[tuple[int, float, int]], to: str, ceiling: float | None, target: float
) -> None:
    ys = [noise(n / RATE, scale, channels, n) for n, scale, channels in kinds]
    spec = {"to": to, "target": target, "true_peak_dbtp": ceiling}
    done, gains, notes = levelled(ys, **spec)
    for y, out, gain_db, note in zip(ys, done, gains, notes, strict=True):
        (alone,), gain, also = levelled([y], **spec)
        assert np.array_equal(alone, out) and gain == [gain_db] and also == [note]
        assert out.shape == y.shape
        assert ceiling is None or gain_db is None or true_peak_dbtp(out) <= ceiling + 1e-3


@pytest.mark.parametrize(
    ("spec", "key", "message"),
    [
        ("{to: lufs, target: 3}", "target", "less than or equal to 0"),
        ("{to: lufs, target: -61}", "", "`target` must be at least -60 with `to: lufs`, not -61"),
        ("{to: lusf, target: -23}", "to", "did you mean 'lufs'"),
        ("{to: lufs}", "target", "is missing"),
        ("{target: -23}", "to", "is missing"),
        ("{to: rms, target: -23, true_peak_dbtp: 1}", "true_peak_dbtp", "less than or equal to 0"),
        ("{to: rms, target: -23, max_gain_db: -1}", "max_gain_db", "greater than or equal to 0"),
        (
            "{to: peak, target: -1, true_peak_dbtp: -3}",
            "",
            "`target` -1 is over `true_peak_dbtp` -3, so that no clip could reach it",
        ),
        ("{to: rms, target: -23, peak: -1}", "peak", "unknown key"),
    ],
)
def test_wrong_settings_are_told_with_their_key(spec: str, key: str, message: str) -> None:
    text = f"name: t\nsources: [{{name: s, root: /in}}]\noutput: {{root: /out}}\nclips:\n  - level: {spec}\n"
    with pytest.raises(ConfigError) as raised:
        loads(text, file="c.yaml")
    (problem,) = raised.value.problems
    assert problem.key == f"clips[0].level.{key}".rstrip(".") and problem.line == 5
    assert message in problem.message


def test_loudness_needs_a_rate_at_which_it_is_defined() -> None:
    text = "name: t\nsources: [{name: s, root: /in}]\noutput: {root: /out}\naudio: {sample_rate_hz: 2000}\nclips:\n  - level: "
    chain_of(loads(text + "{to: rms, target: -23}", file="c.yaml").config)
    with pytest.raises(ConfigError, match=r"needs at least 4,000 Hz; use `to: rms`"):
        chain_of(loads(text + "{to: lufs, target: -23}", file="c.yaml").config)


def test_a_build_stores_clips_at_their_loudness(
    tmp_path: Path, make_config: Callable[..., Path], in_process: None
) -> None:
    rng = np.random.default_rng(0)
    for k, peak in enumerate((0.02, 0.2, 0.9)):
        y = tone(6, 44100, 2, hz=300 * (k + 1), peak=peak, seed=k)
        y *= 1 + 0.3 * np.repeat(rng.standard_normal(60), 4410)[:, None]
        write_audio(tmp_path / f"in/t{k}.wav", np.clip(y, -1, 1), 44100)
    write_audio(tmp_path / "in/none.wav", np.zeros((2 * RATE, 1)), RATE)
    source = {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 2.0}}
    step = {"level": {"to": "lufs", "target": -23, "true_peak_dbtp": -1}}
    config = make_config(source, audio={"sample_rate_hz": RATE}, clips=[step])
    rows = clips_of(tmp_path / "out", build_here(config))
    assert len(rows) == 10
    for row in rows:
        y = sf.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32", always_2d=True)[0].T
        assert row["level_dbfs"] == pytest.approx(level_dbfs(y), abs=0.01)
        if "none" in row["recording_id"]:
            assert (row["gain_db"], row["level_note"]) == (None, "silent") and not y.any()
            continue
        assert row["level_note"] is None and row["n_clipped"] == 0
        assert ebur128(y, RATE)[0] == pytest.approx(-23, abs=0.1)
        assert true_peak_dbtp(y) <= -0.99
    assert len({round(row["gain_db"]) for row in rows if row["gain_db"] is not None}) >= 3
