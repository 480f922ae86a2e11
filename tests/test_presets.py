"""Presets: the values that models were trained on, by the code of others on made-up signals and recordings; and each clip by itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.front_ends import FRONT_ENDS, chirp, made_clips
from benchmarks.gpu import DEFAULTS, mel_of
from benchmarks.parity import computed, long_enough, rate_of, read, section_of
from clipmill.schemas.config import Config
from clipmill.schemas.config.feature_config import Features as Spec
from clipmill.schemas.config.feature_config import LogMel, Mfcc
from clipmill.schemas.config.model import fingerprint
from clipmill.schemas.feature_presets import LOG_MEL, MFCC
from clipmill.stages.features.kernels.spectral import Spectral

EVERY = [*LOG_MEL, *MFCC]
ROWS: dict[str, tuple[tuple[int, int], float, float, float]] = {
    # shape, mean, standard deviation, value at [10, min(100, last)], in the orientation of the reference
    "whisper-80": ((80, 300), 0.386076, 0.203932, 0.211112),
    "whisper-128": ((128, 300), 0.366441, 0.204922, -0.168428),
    "kaldi-fbank-80": ((298, 80), 18.539597, 3.479008, 22.636396),
    "icefall": ((300, 80), -2.341827, 3.464237, 1.431684),
    "kaldi-mfcc-13": ((298, 13), -5.165128, 26.769253, -30.394840),
    "nemo": ((80, 301), -6.600898, 2.783770, -10.786968),
    "hifigan-22k": ((80, 187), -3.653653, 0.826688, -3.374424),
    "bigvgan-24k": ((100, 187), -3.760783, 0.792345, -3.539109),
    "tacotron2": ((80, 188), -3.653456, 0.828855, -3.449796),
    "ast": ((298, 128), 0.136248, 0.405348, 0.463176),
    "beats": ((298, 128), 0.173505, 0.351827, 0.416686),
    "panns-32k": ((64, 151), -18.917350, 7.805718, -19.242495),
    "htk-mfcc-13": ((13, 301), -33.907982, 155.610353, 96.462555),
}
FRAMES_FIRST = {"kaldi-fbank-80", "icefall", "kaldi-mfcc-13", "ast", "beats"}


def spec_of(preset: str, **beside: Any) -> Spec:
    return Spec.model_validate({section_of(preset): {"preset": preset, **beside}})


def features_of(preset: str, clip: np.ndarray, **beside: Any) -> np.ndarray:
    return Spectral(spec_of(preset, **beside), rate_of(preset), "cpu")([clip])[section_of(preset)][0]


@pytest.mark.parametrize("preset", EVERY)
def test_a_chirp_gives_the_values_of_the_reference(preset: str) -> None:
    before_normalising = {"normalise": None, "frames_beyond": "keep"} if preset == "nemo" else {}
    found = features_of(preset, chirp(), **before_normalising)
    found = found.T if preset in FRAMES_FIRST else found
    shape, mean, std, value = ROWS[preset]
    assert found.shape == shape
    assert found.mean(dtype=np.float64) == pytest.approx(mean, abs=5e-6)
    assert found.std(dtype=np.float64) == pytest.approx(std, abs=2e-5)
    assert found[10, min(100, shape[1] - 1)] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(("n_mels", "last"), [(80, 0.354130), (128, 0.252574)])
def test_whispers_last_frames_hear_the_silence_of_a_window_of_30_s(n_mels: int, last: float) -> None:
    found = Spectral(spec_of(f"whisper-{n_mels}"), 16000, "cpu")([chirp()])
    assert found["log_mel"][0][10, -1] == pytest.approx(last, abs=2e-6)
    without = features_of(f"whisper-{n_mels}", chirp(), zeros_behind=0)
    assert 0.01 < np.abs(without - found["log_mel"][0])[:, -1].max() < 0.2


# Where more is allowed, bands lie so far below a loud tone that they are the rounding of each program's own transform; ast also
# subtracts the clip's mean, which transformers leaves out, and nemo divides small differences by small deviations.
MOST = {
    "openai-whisper": 1e-6, "torchaudio": 1e-5, "transformers": 1e-6, "definition": 2e-6, "kaldi-native-fbank": 0.02, "torchlibrosa": 0.05,
    "librosa": 0.01,
}  # fmt: skip
MOST_OF: dict[tuple[str, str], float] = {
    ("ast", "transformers"): 1e-3, ("ast", "torchaudio"): 1e-3, ("kaldi-mfcc-13", "torchaudio"): 1e-3, ("nemo", "transformers"): 1e-3,
    ("tacotron2", "definition"): 5e-3,
}  # fmt: skip


def recordings(corpora: Path, rate_hz: int) -> dict[str, np.ndarray]:
    """Speech, music and noise; the shortest has 0.3 s."""
    paths = [
        *sorted((corpora / "coqui-tts/tests/data/ljspeech/wavs").glob("*.wav"))[:1],
        *sorted((corpora / "fsdd/recordings").glob("*.wav"))[::700],
        *sorted((corpora / "esc10").glob("*/*.ogg"))[::150],
    ]
    return {path.name: read(path, rate_hz)[: 3 * rate_hz] for path in paths}


@pytest.mark.parametrize(("preset", "reference"), [(p, r) for p, by in FRONT_ENDS.items() for r in by])
def test_features_are_those_of_the_models_own_code(preset: str, reference: str, corpora: Path) -> None:
    rate_hz = rate_of(preset)
    clips = {**made_clips(rate_hz), **recordings(corpora, rate_hz)}
    if preset == "nemo":
        # What hardly changes, the reference divides by little more than the rounding of its own mean.
        del clips["silence"], clips["DC alone"], clips["noise of one step"]
    clips = {name: clip for name, clip in clips.items() if long_enough(preset, clip)}
    assert len(clips) > 10
    for (name, clip), ours in zip(clips.items(), computed(preset, list(clips.values())), strict=True):
        try:
            theirs = FRONT_ENDS[preset][reference](clip.astype(np.float32) / 32768)
        except ImportError as error:
            pytest.skip(f"{error.name} is not installed")
        assert ours.shape == theirs.shape, name
        assert np.abs(ours - theirs).max() < MOST_OF.get((preset, reference), MOST[reference]), name


def test_silence_is_finite_everywhere() -> None:
    for preset in EVERY:
        for name in ("silence", "DC alone"):
            assert np.isfinite(features_of(preset, made_clips(rate_of(preset))[name])).all()
    nemo = features_of("nemo", made_clips(16000)["silence"])
    assert not nemo.any()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(EVERY),
    st.lists(st.integers(1024, 60_000), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_a_clip_alone_has_the_bits_that_it_has_in_any_batch(preset: str, lengths: list[int], random: Any) -> None:
    rng = np.random.default_rng(sum(lengths))
    signals = [rng.integers(-20000, 20000, n).astype(np.int16) for n in lengths]
    spectral = Spectral(spec_of(preset), rate_of(preset), "cpu")
    order = list(range(len(signals)))
    random.shuffle(order)
    together, shuffled = spectral(signals), spectral([signals[i] for i in order])
    for name, values in together.items():
        for i, signal in enumerate(signals):
            alone = spectral([signal])[name][0]
            assert np.array_equal(values[i], alone)
            assert np.array_equal(shuffled[name][order.index(i)], alone)


@pytest.mark.parametrize("preset", ["kaldi-fbank-80", "kaldi-mfcc-13", "beats"])
def test_frames_without_padding_do_not_depend_on_where_a_clip_begins(preset: str) -> None:
    clip = chirp()
    whole, later = features_of(preset, clip), features_of(preset, clip[160 * 37 : 160 * 37 + 20000])
    assert np.array_equal(whole[:, 37 : 37 + later.shape[1]], later)


@pytest.mark.parametrize("preset", EVERY)
def test_the_layout_tells_how_many_frames_there_are(preset: str) -> None:
    (spec,) = spec_of(preset).at(rate_of(preset)).each
    layout = spec.framing.layout
    least = layout.min_samples
    lengths = [least, least + 1, 1600, 1601, 1759, 1760, 4799, 16000]
    lengths = [n for n in lengths if n >= least]
    spectral = Spectral(spec_of(preset), rate_of(preset), "cpu")
    found = spectral([chirp()[:n] for n in lengths])[section_of(preset)]
    assert [f.shape[1] for f in found] == [layout.n_frames(n) for n in lengths]
    assert found[0].shape[1] >= 1 and layout.n_own(least) >= 1
    assert least == 1 or layout.n_own(least - 1) == 0


@pytest.mark.parametrize("preset", EVERY)
def test_a_presets_keys_can_be_given_one_by_one(preset: str) -> None:
    kind, keys = (LogMel, LOG_MEL[preset]) if preset in LOG_MEL else (Mfcc, MFCC[preset])
    named, spelled = kind.model_validate({"preset": preset}), kind.model_validate(dict(keys))
    assert fingerprint(named) == {**fingerprint(spelled), "preset": preset}
    clip = chirp()[:8000]
    section = section_of(preset)
    one = Spectral(Spec.model_validate({section: {"preset": preset}}), rate_of(preset), "cpu")([clip])
    other = Spectral(Spec.model_validate({section: dict(keys)}), rate_of(preset), "cpu")([clip])
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name][0], other[name][0]) for name in one)


def test_what_the_benchmark_for_gpus_assumes_are_the_defaults() -> None:
    plain = LogMel().model_dump()
    assert all(plain[key] == value for key, value in DEFAULTS.items())
    for preset in EVERY:
        (spec,) = spec_of(preset).at(rate_of(preset)).each
        assert mel_of({**LOG_MEL, **MFCC}[preset], rate_of(preset)).framing == spec.framing


def test_a_key_beside_a_preset_replaces_the_presets() -> None:
    assert LogMel.model_validate({"preset": "whisper-80", "n_mels": 128}).n_mels == 128
    for beside, gone in (
        ({"win_length": 256}, "win_s"),
        ({"hop_length": 80}, "hop_s"),
        ({"n_fft": 1024}, "round_to_power_of_two"),
        ({"center": True}, "snip_edges"),
        ({"pad_length": 200}, "snip_edges"),
    ):
        found = LogMel.model_validate({"preset": "kaldi-fbank-80", **beside}).at(16000)
        assert {key: getattr(found, key) for key in beside} == beside
        assert getattr(found, gone) in (None, False)
    longer = features_of("hifigan-22k", chirp(), center=True)
    assert longer.shape == (80, 1 + 48000 // 256)


def test_25_ms_are_so_many_samples_at_each_rate() -> None:
    for rate_hz, n, n_fft in ((8000, 200, 256), (16000, 400, 512), (22050, 551, 1024), (44100, 1102, 2048)):
        found = LogMel.model_validate({"preset": "kaldi-fbank-80"}).at(rate_hz)
        assert (found.win_length, found.n_fft, found.hop_length) == (n, n_fft, math.floor(rate_hz / 100))
    assert LogMel(win_s=0.025).at(16000).win_length == 400
    with pytest.raises(ValueError, match=r"win_s 0.2 is 3200 samples, more than n_fft 2048; set n_fft, or"):
        LogMel(win_s=0.2).at(16000)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"win_s": 0.025, "win_length": 400}, "win_s and win_length exclude each other"),
        ({"snip_edges": True, "pad_length": 3}, "snip_edges and pad_length exclude each other"),
        ({"center": True, "pad_length": 3}, "center and pad_length exclude each other"),
        ({"center": True, "snip_edges": False}, "center and snip_edges exclude each other"),
        ({"snip_edges": False, "pad_length": 0}, "snip_edges and pad_length exclude each other"),
        ({"center": True, "pad_length": 0}, "center and pad_length exclude each other"),
        ({"preemphasis_by": "frame"}, "preemphasis_by needs preemphasis"),
        ({"fmax": 0}, "fmax is 0; leave it out"),
        ({"normalise": "bin", "pad_value": "floor"}, "pad_value: floor has no meaning with normalise"),
        ({"preset": "kaldi-mfcc-13"}, r"kaldi-mfcc-13 is a preset of mfcc; write mfcc: \{preset: kaldi-mfcc-13\}"),
        ({"preset": "whisper"}, "whisper-80"),
    ],
)
def test_what_cannot_be_is_told(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LogMel.model_validate(keys)


def config(features: dict[str, Any], **more: Any) -> Config:
    segment = more.pop("segment", {"mode": "whole"})
    plain = {"name": "d", "sources": [{"name": "s", "root": "/data", "segment": segment}], "output": {"root": "/out"}}
    plain["output"] |= more.pop("output", {})
    return Config.model_validate({**plain, "features": features, **more})


@pytest.mark.parametrize(
    ("features", "more", "message"),
    [
        ({"log_mel": {"preset": "panns-32k"}}, {}, "set audio.sample_rate_hz: 32000, or features.log_mel.model_rate_hz: null"),
        ({"mfcc": {"preset": "htk-mfcc-13"}}, {"audio": {"sample_rate_hz": 8000}}, "set audio.sample_rate_hz: 16000"),
        (
            {"log_mel": {"preset": "whisper-80"}},
            {"segment": {"mode": "window", "length_s": 40}},
            "40 s is more than the 30 s .* set length_s: 30 or less, or features.log_mel.max_s: null",
        ),
        ({"log_mel": {"preset": "whisper-80"}}, {"segment": {"mode": "whole", "max_clip_s": 60}}, "set max_clip_s: 30 or less"),
        ({"log_mel": {"preset": "whisper-80"}}, {"segment": {"mode": "speech", "max_s": 35}}, "set max_s: 30 or less"),
        ({"log_mel": {"preset": "icefall", "fmax": -9000}}, {}, "fmax -9000 is not above -8000"),
        (
            {"log_mel": {"preset": "nemo"}},
            {"output": {"images": {"range_db": [-80, 0]}}},
            "normalised clip by clip, so its values are not in dB; leave range_db out",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_does_not_fit_a_preset_is_refused(features: Any, more: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(features, **more)


def test_what_fits_is_taken() -> None:
    assert config({"log_mel": {"preset": "whisper-80"}}).features.names == ["log_mel"]
    config({"log_mel": {"preset": "whisper-80"}}, segment={"mode": "window", "length_s": 30})
    config({"log_mel": {"preset": "whisper-80", "max_s": None}}, segment={"mode": "window", "length_s": 40})
    config({"log_mel": {"preset": "panns-32k", "model_rate_hz": None, "fmax": None}})
    config({"log_mel": {"preset": "nemo"}}, output={"images": True})
    config({"log_mel": {"preset": "kaldi-fbank-80"}}, audio={"sample_rate_hz": 8000})


def test_mfcc_takes_nothing_from_a_log_mel_with_a_preset() -> None:
    alone = Spec.model_validate({"mfcc": {"n_mfcc": 13}})
    beside = Spec.model_validate({"mfcc": {"n_mfcc": 13}, "log_mel": {"preset": "kaldi-fbank-80", "n_fft": 512}})
    assert beside.at(16000).of_mfcc == alone.at(16000).of_mfcc
    of_keys = Spec.model_validate(
        {"mfcc": {"n_mfcc": 13}, "log_mel": {"preemphasis": 0.97, "log": "ln", "top_db": None}}
    )
    assert of_keys.at(16000).of_mfcc == of_keys.at(16000).log_mel
    own = Spec.model_validate({"mfcc": {"preset": "kaldi-mfcc-13"}, "log_mel": {"n_fft": 1024, "n_mels": 99}})
    assert own.at(16000).of_mfcc == Spec.model_validate({"mfcc": {"preset": "kaldi-mfcc-13"}}).at(16000).of_mfcc


def test_each_detail_alone_changes_the_log_mel() -> None:
    rng = np.random.default_rng(0)
    clip = (3000 * tone(0.5, 16000)[:, 0] + 500 + rng.normal(0, 50, 8000)).astype(np.int16)
    base = {"n_fft": 512, "hop_length": 160, "win_length": 400, "n_mels": 40}
    plain = Spectral(Spec.model_validate({"log_mel": base}), 16000, "cpu")([clip])["log_mel"][0]
    for detail in (
        {"window": "povey"}, {"symmetric": True}, {"window_dtype": "float32"}, {"scale": 32768.0}, {"remove_mean": True},
        {"remove_dc": True}, {"preemphasis": 0.97}, {"preemphasis": 0.97, "preemphasis_by": "frame"}, {"snip_edges": True},
        {"snip_edges": False}, {"pad_length": 100}, {"zeros_behind": 400}, {"frames_beyond": "drop"}, {"frames_beyond": "zero"},
        {"fmax": -400}, {"mel_scale": "kaldi"}, {"epsilon": 0.01}, {"log": "ln"}, {"log": "log10"}, {"floor": 0.001}, {"offset": 0.001},
        {"subtract": 3.0}, {"divide_by": 3.0}, {"normalise": "bin"}, {"power": 1},
    ):  # fmt: skip
        found = Spectral(Spec.model_validate({"log_mel": {**base, **detail}}), 16000, "cpu")([clip])["log_mel"][0]
        assert found.shape != plain.shape or not np.array_equal(found, plain), detail
