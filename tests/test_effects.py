"""Effects on copies of clips, against other libraries; the same bytes in any process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pydub
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.schemas.config.augment_config import Augment
from clipmill.stages.effects import codec, fade, filtering, gain, noise_mix, pitch_shift, reverb, shift, speed
from clipmill.stages.effects.effect import effects_of, uniform
from clipmill.stages.effects.seeds import rng_of

RATE = 16000
F = np.float32


class Library:
    """Noises that stand for files: two seconds of noise, and a room."""

    def __init__(self, rate: int = RATE) -> None:
        random = np.random.default_rng(7)
        self.noise = random.standard_normal((1, 2 * rate)).astype(F) * F(0.1)
        decay = np.exp(-np.arange(rate // 2) / (rate * 0.05))
        self.room = (random.standard_normal(rate // 2) * decay * 0.3).astype(F)[None]
        self.room[0, 40] = 1.0

    def n_files(self, collection: str) -> int:
        return 1

    def name(self, collection: str, i: int) -> str:
        return f"{collection}.wav"

    def samples(self, collection: str, i: int) -> np.ndarray:
        return self.noise if collection == "noise" else self.room


LIBRARY = Library()


def tone(hz: float, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(F)[None]


def dominant_hz(y: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y)), 1 << 18))
    return float(np.argmax(spectrum) * rate / (1 << 18))


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.1, 1.37])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    y = speed.apply(tone(440), RATE, {"factor": factor}, LIBRARY)
    assert y.shape == (1, round(2 * RATE / factor)) and y.dtype == F
    assert dominant_hz(y[0]) == pytest.approx(440 * factor, rel=0.002)
    if factor == 1.0:
        assert np.array_equal(y, tone(440))


@pytest.mark.parametrize("semitones", [-5.0, -1.0, 0.5, 2.0, 7.0])
def test_pitch_changes_pitch_alone(semitones: float) -> None:
    y = pitch_shift.apply(tone(440), RATE, {"semitones": semitones}, LIBRARY)
    assert y.shape == (1, 2 * RATE) and y.dtype == F
    assert dominant_hz(y[0]) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.005)
    ours, theirs = y[0], librosa.effects.pitch_shift(tone(440)[0], sr=RATE, n_steps=semitones)
    middle = slice(RATE // 2, -RATE // 2)
    assert 20 * np.log10(np.std(ours[middle]) / np.std(theirs[middle])) == pytest.approx(0, abs=0.5)


def test_pitch_keeps_when_things_happen(corpora: Path) -> None:
    """Envelopes of shifted speech follow those of the speech, as with librosa."""
    import soundfile as sf

    y, rate = sf.read(next(corpora.glob("coqui-tts/tests/data/ljspeech/wavs/*.wav")), dtype="float32")
    ours = pitch_shift.apply(y[None], rate, {"semitones": 2.0}, LIBRARY)[0]
    theirs = librosa.effects.pitch_shift(y, sr=rate, n_steps=2.0)
    envelopes = [librosa.feature.rms(y=x, frame_length=2048, hop_length=512)[0] for x in (y, ours, theirs)]
    with_ours, with_theirs = (np.corrcoef(envelopes[0], e)[0, 1] for e in envelopes[1:])
    assert with_ours > 0.95 and with_ours > with_theirs - 0.01


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_the_phase_vocoder_is_librosas(rate: float) -> None:
    y = np.random.default_rng(4).standard_normal(RATE).astype(F) * F(0.1)
    theirs = librosa.effects.time_stretch(y.astype(np.float64), rate=rate, n_fft=1024)
    assert np.abs(pitch_shift.stretch(y, rate, 1024) - theirs).max() < 1e-4


def test_gain_shift_and_fade() -> None:
    y = tone(300, 1.0)
    louder = gain.apply(y, RATE, {"gain_db": 6.0}, LIBRARY)
    assert np.allclose(louder, y * 10 ** (6 / 20), atol=1e-6)
    for by in (0.1, -0.1, 0.0, 5.0, -5.0):
        moved = shift.apply(y, RATE, {"shift_s": by}, LIBRARY)
        n = min(RATE, round(abs(by) * RATE))
        zeros = np.zeros((1, n), F)
        expected = np.concatenate([zeros, y[:, : RATE - n]] if by >= 0 else [y[:, n:], zeros], axis=1)
        assert np.array_equal(moved, expected)
    faded = fade.apply(np.ones((2, RATE), F), RATE, {"in_s": 0.1, "out_s": 0.2}, LIBRARY)
    assert np.allclose(faded[:, : RATE // 10], np.arange(RATE // 10) / (RATE // 10), atol=1e-6)
    assert faded[0, 0] == faded[0, -1] == 0 and (faded[:, RATE // 10 : -RATE // 5] == 1).all()
    pcm = pydub.AudioSegment(
        (np.ones(RATE) * 16000).astype("<i2").tobytes(), frame_rate=RATE, sample_width=2, channels=1
    )
    theirs = np.array(pcm.fade_in(100).get_array_of_samples())[: RATE // 10] / 16000
    assert theirs[0] < 0.05 and theirs[-1] > 0.9, "pydub fades in decibels, here it is linear; both from silence to all"


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_noise_is_mixed_at_its_ratio(snr_db: float, channels: int) -> None:
    import torchaudio

    y = np.concatenate([tone(500, 1.5)] * channels)
    drawn = {"snr_db": snr_db, "from": "noise", "number": 0, "start": 0.95}
    out = noise_mix.apply(y, RATE, drawn, LIBRARY)
    added = out.astype(np.float64) - y
    assert 10 * np.log10(np.mean(y.astype(np.float64) ** 2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.01)
    first = int(0.95 * 2 * RATE)
    noise = np.take(LIBRARY.noise, np.arange(first, first + y.shape[1]), axis=1, mode="wrap")
    theirs = torchaudio.functional.add_noise(
        torch.from_numpy(y), torch.from_numpy(np.repeat(noise, channels, 0)), torch.full((channels,), snr_db)
    )
    assert np.allclose(out, theirs.numpy(), atol=2e-5)
    silent = np.zeros_like(y)
    assert np.array_equal(noise_mix.apply(silent, RATE, drawn, LIBRARY), silent)


def test_a_filter_takes_what_is_beyond_its_cutoff() -> None:
    import torchaudio

    y = tone(200) + tone(3000)
    low = filtering.apply(y, RATE, {"order": 4, "lowpass_hz": 1000.0}, LIBRARY)
    high = filtering.apply(y, RATE, {"order": 4, "highpass_hz": 1000.0}, LIBRARY)
    for out, kept, gone in ((low, 200, 3000), (high, 3000, 200)):
        spectrum = np.abs(np.fft.rfft(out[0, RATE:]))
        assert 20 * np.log10(spectrum[gone] / spectrum[kept]) < -36
    assert np.array_equal(
        filtering.apply(y, RATE, {"order": 4, "lowpass_hz": 8000.0, "highpass_hz": 9000.0}, LIBRARY), y
    )
    second = filtering.apply(y, RATE, {"order": 2, "lowpass_hz": 1000.0}, LIBRARY)
    theirs = torchaudio.functional.lowpass_biquad(torch.from_numpy(y), RATE, 1000.0)
    assert np.allclose(second, theirs.numpy(), atol=1e-4), "two poles are torchaudio's biquad"


def test_reverb_is_a_convolution_from_the_direct_sound_on() -> None:
    click = np.zeros((1, RATE), F)
    click[0, 100] = 0.5
    out = reverb.apply(click, RATE, {"from": "room", "number": 0, "wet": 1.0}, LIBRARY)
    room = LIBRARY.room[0, 40:]
    expected = np.zeros(RATE)
    expected[100 : 100 + len(room)] = room / np.sqrt(np.sum(room.astype(np.float64) ** 2)) * 0.5
    assert np.argmax(np.abs(out)) == 100 and np.allclose(out[0], expected, atol=1e-5)
    y = tone(440)
    assert np.std(reverb.apply(y, RATE, {"from": "room", "number": 0, "wet": 0.4}, LIBRARY)) == pytest.approx(
        np.std(y), rel=1e-4
    )
    assert np.allclose(reverb.apply(y, RATE, {"from": "room", "number": 0, "wet": 0.0}, LIBRARY), y, atol=1e-6)


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "mulaw", "alaw", "amr"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_codec_changes_the_sound_and_not_its_place(name: str, rate: int, channels: int) -> None:
    random = np.random.default_rng(2)
    y = np.zeros((channels, 2 * rate), F)
    t = np.arange(rate // 2) / rate
    y[:, rate // 2 : rate] = (
        0.3 * np.sin(2 * np.pi * (300 + 700 * t) * t) + 0.02 * random.standard_normal(rate // 2)
    ).astype(F)
    out = codec.apply(y, rate, {"name": name, "bit_rate_kbps": 64}, LIBRARY)
    assert out.shape == y.shape and out.dtype == F and np.isfinite(out).all() and not np.array_equal(out, y)
    lag = np.argmax(np.correlate(out[0, rate // 4 :], y[0, rate // 2 : rate], "valid")) - rate // 4
    assert abs(lag) <= rate // 400, "within 2.5 ms"
    assert np.corrcoef(out[0], y[0])[0, 1] > (0.8 if name == "amr" else 0.93)
    assert np.array_equal(out, codec.apply(y, rate, {"name": name, "bit_rate_kbps": 64}, LIBRARY))


EVERY = Augment.model_validate(
    {
        "speed": [0.9, 1.1], "pitch": [-2, 2], "gain_db": [-6, 6], "shift_s": [-0.1, 0.1], "fade_s": [0, 0.1],
        "filter": {"lowpass_hz": [2000, 4000], "highpass_hz": 80}, "reverb": {"from": "room", "wet": [0.2, 0.6]},
        "noise": {"from": "noise", "snr_db": [5, 20]}, "codec": {"name": ["mp3", "opus", "mulaw"], "bit_rate_kbps": [16, 64]},
    }
)  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 37, 800])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_short_clips_pass_every_effect(n: int, rate: int, channels: int) -> None:
    y = np.random.default_rng(n).standard_normal((channels, n)).astype(F) * F(0.1)
    for effect, spec in effects_of(EVERY):
        out = effect.apply(y, rate, effect.draw(rng_of("a", 1, effect.name), spec, LIBRARY), LIBRARY)
        assert out.dtype == F and out.shape[0] == channels and out.shape[1] >= 1 and np.isfinite(out).all(), effect.name
        assert out.shape[1] == n or effect.name == "speed", effect.name


SCRIPT = """
import hashlib, json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_effects import EVERY, LIBRARY, RATE, effects_of, rng_of, tone
if len(sys.argv) > 2:  # other work before it, and other random numbers
    np.random.seed(3); np.fft.rfft(np.random.rand(1 << 20))
y = tone(330, 1.5)
found = {}
for effect, spec in effects_of(EVERY):
    drawn = effect.draw(rng_of("clip", 2, effect.name), spec, LIBRARY)
    out = effect.apply(y, RATE, drawn, LIBRARY)
    found[effect.name] = [drawn, hashlib.sha256(out.tobytes()).hexdigest()]
print(json.dumps(found))
"""


def test_the_same_bytes_in_another_process() -> None:
    here = str(Path(__file__).parent)
    runs = [[sys.executable, "-c", SCRIPT, here], [sys.executable, "-c", SCRIPT, here, "busy"]]
    found = [json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for run in runs]
    assert found[0] == found[1] and set(found[0]) == {effect.name for effect, _ in effects_of(EVERY)}


@given(st.text(max_size=20), st.integers(1, 20))
def test_draws_depend_on_the_clip_the_copy_and_the_effect_alone(clip: str, copy: int) -> None:
    def first(*about: Any) -> float:
        return float(rng_of(*about).uniform())

    assert first(clip, copy, "speed") == first(clip, copy, "speed")
    assert (
        len(
            {
                first(clip, copy, "speed"),
                first(clip, copy + 1, "speed"),
                first(clip, copy, "pitch"),
                first(clip + "x", copy, "speed"),
            }
        )
        == 4
    )


@settings(max_examples=50)
@given(st.floats(-60, 60), st.floats(0, 20), st.integers(0, 1000))
def test_what_is_drawn_is_within_its_range_and_is_its_text(low: float, width: float, seed: int) -> None:
    span = Augment.model_validate({"gain_db": [low, min(60.0, low + width)]}).gain_db
    value = uniform(np.random.default_rng(seed), span)  # type: ignore[arg-type]
    assert low - 1e-4 <= value <= low + width + 1e-4 and json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({}, "needs at least one effect"),
        ({"speed": [1.1, 0.9]}, "is reversed"),
        ({"speed": [0.1, 1]}, "speed must be within 0.5 and 2"),
        ({"speed": [1, 2, 3]}, "expected a range"),
        ({"speed": True}, "should be a number"),
        ({"noise": {"snr_db": 3}}, "from"),
        ({"codec": {"name": "mp4"}}, "mp3"),
        ({"filter": {}}, "needs lowpass_hz, highpass_hz or both"),
        ({"gain_db": 3, "copies": 0}, "copies"),
        ({"gain_db": {"range": [0, 1], "probabilty": 0.5}}, "did you mean 'probability'"),
    ],
)
def test_mistakes_are_named(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment.model_validate(plain)
