"""Features that librosa computes: equal to librosa's on real clips, whatever else is in a table, and refused where they cannot be."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from clipmill.pipelines.chain import Chain, chain_of
from clipmill.pipelines.plan.estimates import _bytes_per_second
from clipmill.pipelines.read.frame_grid import FrameGrid, grids_of
from clipmill.schemas.columns import describe_columns
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ConfigError, StageError
from clipmill.schemas.tables import CLIPS
from clipmill.stages.clip_chain import apply_stage
from clipmill.stages.features.kernels.constant_q import ConstantQ
from clipmill.stages.features.spectral_contrast import ContrastSettings, SpectralContrast

RATE = 22050
Clips = list[np.ndarray]
STFT = {"n_fft": 1024, "hop_length": 160, "win_length": 800, "window": "hamming", "pad_mode": "reflect"}
EVERY: dict[str, Any] = {
    "mfcc": {"n_mfcc": 13, "n_fft": 1024},
    "chroma": True,
    "zero_crossing_rate": True,
    "spectral_centroid": True,
    "spectral_rolloff": True,
    "spectral_contrast": True,
    "tonnetz": {"n_octaves": 5, "bins_per_octave": 12},
    "deltas": {"width": 5},
    "cqt": {"n_bins": 48},
}


def config(rate_hz: int = RATE, sample_format: str = "int16", **features: Any) -> Config:
    audio = {"sample_rate_hz": rate_hz, "channels": "keep", "sample_format": sample_format}
    sources = [{"name": "s", "root": "/in"}]
    plain = {
        "name": "d",
        "sources": sources,
        "audio": audio,
        "features": features,
        "output": {"root": "/out", "audio_codec": "wav"},
    }
    return Config.model_validate(plain)


def table_of(clips: Clips, rate_hz: int = RATE) -> pa.Table:
    """Return clips, int16 or float32 [samples, channels], as a table that derived stages take."""
    rows = [
        {
            "item_id": "s/a", "source": "s", "recording_id": "s/a", "fields": [], "status": "clip", "clip_id": f"a-{i}", "start_s": 0.0,
            "duration_s": len(y) / rate_hz, "sample_rate_hz": rate_hz, "n_channels": y.shape[1], "n_samples": len(y), "n_clipped": 0,
            "pcm": np.ascontiguousarray(y).tobytes(),
        }
        for i, y in enumerate(clips)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=CLIPS)


def computed(chain: Chain, table: pa.Table) -> pa.Table:
    for stage in chain.derived:
        table = pa.concat_tables(apply_stage(stage, table))
    return table


def values(table: pa.Table, name: str) -> list[np.ndarray | None]:
    rows = zip(table[name].to_pylist(), table[f"{name}_shape"].to_pylist(), strict=True)
    return [None if shape is None else np.array(row, np.float32).reshape(shape) for row, shape in rows]


@pytest.fixture(scope="module")
def clips(corpora: Path) -> Clips:
    """Return real clips at 22,050 Hz: speech, sounds and digital silence, of one and of two channels, int16 [samples, channels]."""
    files = [
        corpora / "fsdd/recordings/0_jackson_0.wav",
        sorted((corpora / "esc10").glob("*/*.ogg"))[5],
        corpora / "wavefile/test/files/16bit-8kHz-stereo.wav",
    ]
    found = []
    for path in files:
        y, rate_hz = sf.read(path, dtype="float32", always_2d=True)
        y = soxr.resample(y[: round(1.5 * rate_hz)], rate_hz, RATE)
        found.append(np.rint(np.clip(y, -1, 32767 / 32768) * 32768).astype(np.int16))
    found[1][8000:20000] = 0
    assert [y.shape[1] for y in found] == [1, 1, 2]
    return found


CASES: list[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = [
    ("chroma", {}, lambda y: librosa.feature.chroma_stft(y=y, sr=RATE)),
    (
        "chroma",
        {**STFT, "n_chroma": 24, "norm": 2, "tuning": 0.25, "octwidth": None, "base_c": False},
        lambda y: librosa.feature.chroma_stft(y=y, sr=RATE, **STFT, n_chroma=24, norm=2, tuning=0.25, octwidth=None, base_c=False),
    ),
    ("zero_crossing_rate", {}, lambda y: librosa.feature.zero_crossing_rate(y)),
    (
        "zero_crossing_rate",
        {"frame_length": 400, "hop_length": 160, "center": False, "threshold": 0.001, "zero_pos": False},
        lambda y: librosa.feature.zero_crossing_rate(y, frame_length=400, hop_length=160, center=False, threshold=0.001, zero_pos=False),
    ),
    ("spectral_centroid", {}, lambda y: librosa.feature.spectral_centroid(y=y, sr=RATE)),
    ("spectral_centroid", {**STFT, "center": False}, lambda y: librosa.feature.spectral_centroid(y=y, sr=RATE, **STFT, center=False)),
    ("spectral_rolloff", {}, lambda y: librosa.feature.spectral_rolloff(y=y, sr=RATE)),
    ("spectral_rolloff", {**STFT, "roll_percent": 0.3}, lambda y: librosa.feature.spectral_rolloff(y=y, sr=RATE, **STFT, roll_percent=0.3)),
    ("spectral_contrast", {}, lambda y: librosa.feature.spectral_contrast(y=y, sr=RATE)),
    (
        "spectral_contrast",
        {**STFT, "fmin": 100, "n_bands": 4, "quantile": 0.1, "linear": True},
        lambda y: librosa.feature.spectral_contrast(y=y, sr=RATE, **STFT, fmin=100, n_bands=4, quantile=0.1, linear=True),
    ),
    ("tonnetz", {}, lambda y: librosa.feature.tonnetz(y=y, sr=RATE)),
    (
        "tonnetz",
        {"hop_length": 320, "fmin": 55.0, "tuning": -0.5, "n_octaves": 4, "bins_per_octave": 24},
        lambda y: librosa.feature.tonnetz(y=y, sr=RATE, hop_length=320, fmin=55.0, tuning=-0.5, n_octaves=4, bins_per_octave=24),
    ),
    ("cqt", {}, lambda y: librosa.amplitude_to_db(np.abs(librosa.cqt(y, sr=RATE)), top_db=80)),
    (
        "cqt",
        {
            "hop_length": 256, "fmin": 110.0, "n_bins": 50, "bins_per_octave": 24, "tuning": None, "filter_scale": 0.5, "norm": "inf",
            "sparsity": 0.1, "scale": False, "pad_mode": "reflect", "output": "magnitude",
        },
        lambda y: np.abs(
            librosa.cqt(
                y, sr=RATE, hop_length=256, fmin=110.0, n_bins=50, bins_per_octave=24, tuning=None, filter_scale=0.5, norm=np.inf,
                sparsity=0.1, scale=False, pad_mode="reflect",
            )
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("section", "given", "reference"), CASES, ids=[f"{c[0]}-{'own' if c[1] else 'defaults'}" for c in CASES]
)
def test_values_are_librosas(clips: Clips, section: str, given: dict[str, Any], reference: Any) -> None:
    """To the last bit, of each channel by itself; of 16-bit and of float32 samples."""
    floats = [(y.astype(np.float32) / 32768) for y in clips]
    of_format = {"int16": clips, "float32": [y * np.float32(0.7) for y in floats]}
    if section in ("cqt", "tonnetz"):
        del of_format["int16" if given else "float32"]  # filters are made for each clip, which takes long
    for sample_format, own in of_format.items():
        done = computed(chain_of(config(sample_format=sample_format, **{section: given or True})), table_of(own))
        assert done["status"].to_pylist() == ["clip"] * len(own)
        for y, ours in zip(own, values(done, section), strict=True):
            full = y.astype(np.float32) / 32768 if sample_format == "int16" else y
            with threadpool_limits(1, "blas"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = [reference(np.ascontiguousarray(channel)).astype(np.float32) for channel in full.T]
            assert ours is not None and ours.shape[:-2] == (() if len(theirs) == 1 else (len(theirs),))
            assert np.array_equal(ours.reshape(len(theirs), *ours.shape[-2:]), np.stack(theirs)[..., : ours.shape[-1]])
            assert theirs[0].shape[-1] - ours.shape[-1] in ((0, 1) if section in ("cqt", "tonnetz") else (0,))


@pytest.mark.parametrize("mode", ["interp", "nearest", "mirror"])
def test_deltas_are_librosas_of_the_stored_features(clips: Clips, mode: str) -> None:
    about = {"of": ["mfcc", "log_mel"], "orders": [1, 2], "width": 7, "mode": mode}
    features = {"log_mel": {"n_mels": 20}, "mfcc": {"n_mfcc": 8}, "deltas": about, "dtype": "float16"}
    done = computed(chain_of(config(**features)), table_of(clips))
    for base in ("log_mel", "mfcc"):
        for order, name in ((1, f"{base}_delta"), (2, f"{base}_delta2")):
            assert done[name].type.value_type == pa.float16()
            for stored, ours in zip(values(done, base), values(done, name), strict=True):
                assert stored is not None and ours is not None and ours.shape == stored.shape
                theirs = librosa.feature.delta(stored, width=7, order=order, mode=mode)
                assert np.allclose(ours, theirs, atol=0.02, rtol=1e-3)  # float16
    one = chain_of(config(mfcc=True, deltas={"orders": 2, "of": "mfcc"}))
    assert [f.name for f in one.derived_fields][-2:] == ["mfcc_delta2", "mfcc_delta2_shape"]


def test_a_clip_depends_on_no_other_and_on_no_thread(clips: Clips) -> None:
    table, chain = table_of(clips), chain_of(config(**EVERY))
    with threadpool_limits(2, "blas"):
        whole = computed(chain, table)
    with threadpool_limits(1, "blas"):
        for i in (2, 0, 1):
            assert computed(chain, table.slice(i, 1)).to_pylist() == whole.slice(i, 1).to_pylist()
    assert computed(chain, table.slice(0, 0)).num_rows == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_silence_and_short_clips_are_finite(dtype: str) -> None:
    y = (1000 * np.random.default_rng(0).standard_normal((9000, 2))).astype(np.int16)
    own = [
        np.zeros((6000, 1), np.int16),
        np.full((6000, 1), 32767, np.int16),
        *(y[:n, :1] for n in (32, 100, 700)),
        y[:6000],
    ]
    features = {
        **EVERY,
        "deltas": {"width": 5, "mode": "nearest"},
        "cqt": {"n_bins": 24, "pad_mode": "reflect"},
        "dtype": dtype,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain = chain_of(config(**features))
        done = computed(chain, table_of(own))
    assert done["status"].to_pylist() == ["clip"] * len(own)
    for name in chain.feature_names:
        stored = values(done, name)
        assert all(v is not None and np.isfinite(v).all() for v in stored), name
        if name in (
            "spectral_centroid",
            "spectral_rolloff",
            "spectral_contrast",
            "zero_crossing_rate",
            "chroma",
            "tonnetz",
        ):
            assert stored[0] is not None and not stored[0].any(), f"{name} of silence"


def test_clips_that_do_not_suit_are_rejected_with_a_reason() -> None:
    y = np.random.default_rng(0).standard_normal((9000, 1)).astype(np.float32) * 0.1
    far = y * 1e30
    features = {"spectral_rolloff": {"center": False}, "mfcc": True, "deltas": {"width": 11}, "cqt": {"n_bins": 24}}
    done = computed(chain_of(config(sample_format="float32", **features)), table_of([y, y[:2047], y[:3000], far]))
    told = list(zip(done["reason"].to_pylist(), done["detail"].to_pylist(), strict=True))
    assert told[0] == (None, None)
    assert told[1] == ("clip_too_short_for_features", "spectral_rolloff: 2047 samples, at least 2048 are needed")
    assert told[2] == ("clip_too_short_for_deltas", "mfcc: 6 frames, at least 11 are needed")
    assert told[3][0] == "features_not_finite" and done["mfcc_delta_shape"].to_pylist()[1:] == [None] * 3
    beyond = computed(
        chain_of(config(192000, dtype="float16", spectral_rolloff=True)), table_of([_chirp(90000)], 192000)
    )
    assert beyond["detail"].to_pylist() == ["in spectral_rolloff, stored as float16"]
    only = computed(chain_of(config(sample_format="float32", chroma=True)), table_of([far]))
    assert only["detail"].to_pylist()[0].startswith("in chroma, of samples up to 4e+29 times full scale")


def _chirp(hz: float) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(8192) / 192000))[:, None].astype(np.int16)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5000),
    st.sampled_from([16, 37, 400, 1024]),
    st.sampled_from([1, 63, 160, 512, 700]),
    st.booleans(),
    st.booleans(),
)
def test_loaders_know_the_frames(n: int, n_fft: int, hop: int, center: bool, reflect: bool) -> None:
    frames = {"n_fft": n_fft, "hop_length": hop, "center": center, "pad_mode": "reflect" if reflect else "edge"}
    crossings = {"frame_length": n_fft, "hop_length": hop, "center": center}
    chain = chain_of(config(spectral_centroid=frames, zero_crossing_rate=crossings))
    done = computed(chain, table_of([np.arange(n, dtype=np.int16)[:, None]]))
    for name in chain.feature_names:
        (grid,) = grids_of(describe_columns(chain.derived_fields), [name]).values()
        assert isinstance(grid, FrameGrid)
        (shape,) = done[f"{name}_shape"].to_pylist()
        assert (shape[-1] if shape else 0) == grid.n_frames(n)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 4000),
    st.sampled_from([48, 63, 512]),
    st.sampled_from([8000, 44100, 96000]),
    st.sampled_from([None, 0.0]),
)
@example(511, 512, 44100, 0.0)
def test_loaders_know_the_frames_of_a_constant_q_transform(
    n: int, hop: int, rate_hz: int, tuning: float | None
) -> None:
    """Also where librosa brings the clip to a fraction of its rate first, and where that gives it a frame more."""
    chain = chain_of(
        config(rate_hz, cqt={"hop_length": hop, "n_bins": 13, "fmin": 200.0, "tuning": tuning, "output": "magnitude"})
    )
    done = computed(
        chain, table_of([(1000 * np.random.default_rng(n).standard_normal((n, 1))).astype(np.int16)], rate_hz)
    )
    (grid,) = grids_of(describe_columns(chain.derived_fields), ["cqt"]).values()
    least = chain.derived[0].min_samples  # type: ignore[attr-defined]
    assert isinstance(grid, FrameGrid)
    assert done["cqt_shape"].to_pylist() == [[13, grid.n_frames(n)] if n >= least else None]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([8000, 16000, 22050, 48000]), st.floats(20, 4000), st.integers(2, 200), st.integers(1, 48), st.floats(0.2, 2),
    st.floats(-1, 1),
)  # fmt: skip
def test_constant_q_fits_where_librosa_says_so(
    rate_hz: int, fmin: float, n: int, per: int, scale: float, tuning: float
) -> None:
    hz = librosa.interval_frequencies(n, fmin=fmin * 2.0 ** (tuning / per), intervals="equal", bins_per_octave=per)
    lengths, cutoff_hz = librosa.filters.wavelet_lengths(freqs=hz, sr=rate_hz, filter_scale=scale)
    ours = ConstantQ(rate_hz, 512, fmin, n, per, tuning, scale)
    if not np.isclose(cutoff_hz, rate_hz / 2, rtol=1e-6):
        assert ((ours.problem or ("",))[0] == "bins") == (cutoff_hz > rate_hz / 2)
        fewer = ConstantQ(rate_hz, 512, fmin, ours.most_bins, per, tuning, scale)
        assert ours.most_bins == 0 or (fewer.problem or ("",))[0] != "bins"
    assert ours.frames["n_fft"] >= lengths.max() / 2.0 ** (1 / per + 1e-6) / 2


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([8000, 16000, 22050]),
    st.sampled_from([16, 64, 255, 512, 2048]),
    st.floats(10, 4000),
    st.integers(1, 8),
)
def test_contrast_is_refused_where_librosa_has_no_value(rate_hz: int, n_fft: int, fmin: float, n_bands: int) -> None:
    stage = SpectralContrast(ContrastSettings(n_fft=n_fft, fmin=fmin, n_bands=n_bands), rate_hz)
    y = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            fine = bool(np.isfinite(stage.compute(librosa, y)).all())
        except (librosa.ParameterError, IndexError):
            fine = False
    assert (stage.problem is None) == fine


@pytest.mark.parametrize(
    ("rate_hz", "features", "key", "message"),
    [
        (8000, {"spectral_contrast": True}, "spectral_contrast.n_bands", "clips of 8000 Hz end at 4000 Hz; set n_bands: 5"),
        (RATE, {"spectral_contrast": {"n_fft": 64}}, "spectral_contrast.n_fft", "set n_fft to at least 111, or raise fmin"),
        (8000, {"cqt": True}, "cqt.n_bins", "clips of 8000 Hz end at 4000 Hz; set n_bins: 83 or fewer"),
        (8000, {"cqt": {"fmin": 5000}}, "cqt.n_bins", "lower fmin"),
        (8000, {"tonnetz": True}, "tonnetz.n_octaves", "set n_octaves: 6 or fewer"),
        (RATE, {"cqt": {"fmin": 1, "hop_length": 511, "filter_scale": 16}}, "cqt.fmin", "the longest filter would have"),
        (RATE, {"deltas": True}, "deltas.of", "needs features.mfcc, which is not computed; add it, as in mfcc: true"),
        (RATE, {"mfcc": True, "deltas": {"of": ["mfcc", "log_mel"]}}, "deltas.of", "needs features.log_mel"),
        (RATE, {"mfcc": True, "deltas": {"width": 8}}, "deltas", "width 8 is even"),
        (RATE, {"mfcc": True, "deltas": {"orders": [1, 1]}}, "deltas.orders", "an entry occurs twice"),
        (RATE, {"tonnetz": {"bins_per_octave": 20}}, "tonnetz", "bins_per_octave 20 is not a multiple of 12"),
        (RATE, {"chroma": {"win_length": 4096}}, "chroma", "win_length 4096 exceeds n_fft 2048"),
        (RATE, {"chroma": {"n_chrome": 12}}, "chroma.n_chrome", "did you mean 'n_chroma'?"),
        (RATE, {"spectral_centriod": True}, "spectral_centriod", "did you mean 'spectral_centroid'?"),
        (RATE, {"zcr": True}, "zcr", "known are chroma, cqt, deltas, model, spectral_centroid,"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_key(rate_hz: int, features: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        chain_of(config(rate_hz, **features))
    (problem,) = raised.value.problems
    assert problem.key == f"features.{key}" and message in problem.message


def test_the_highest_settings_that_are_advised_are_possible() -> None:
    least = {"spectral_contrast": {"n_bands": 5}, "cqt": {"n_bins": 83}, "tonnetz": {"n_octaves": 6}}
    noise = (1000 * np.random.default_rng(0).standard_normal((2000, 1))).astype(np.int16)
    assert computed(chain_of(config(8000, **least)), table_of([noise], 8000))["status"].to_pylist() == ["clip"]


@pytest.fixture
def without_librosa(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "librosa" else real(name, *more)
    )
    yield


def test_what_is_missing_is_told_before_work_begins(without_librosa: None) -> None:
    chain = chain_of(config(chroma=True))  # a plan needs no librosa
    with pytest.raises(
        StageError, match=r"^features\.chroma needs librosa, which is not installed; install clipmill\[librosa\]$"
    ):
        _ = chain.versions


def test_plans_count_their_bytes() -> None:
    def per_second(**features: Any) -> float:
        return _bytes_per_second(config(**features))[1]

    frames_per_s = RATE / 512
    assert per_second(cqt=True) == pytest.approx(0.75 * 4 * 84 * frames_per_s)
    assert per_second(mfcc=True, deltas=True) == pytest.approx(0.75 * 4 * 3 * 20 * frames_per_s)
