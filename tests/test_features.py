"""Features against librosa and torchaudio on real clips, and their independence of company."""

from pathlib import Path

import librosa
import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
import soxr
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.schemas.config.feature_config import Features as Spec
from clipmill.schemas.config.feature_config import LogMel, Mfcc, Spectrogram
from clipmill.schemas.tables import CLIPS
from clipmill.stages.features import Features
from clipmill.stages.features.kernels.mel_filters import dct_matrix, mel_filters
from clipmill.stages.features.kernels.spectral import Spectral
from clipmill.stages.features.kernels.transfer import DeviceBatch, _scatter, clip_major

RATE = 16000


@pytest.fixture(scope="module")
def clips(corpora: Path) -> list[np.ndarray]:
    files = (
        sorted((corpora / "esc10").glob("*/*.ogg"))[::16] + sorted((corpora / "fsdd/recordings").glob("*.wav"))[::60]
    )
    files += sorted((corpora / "coqui-tts/tests/data/ljspeech/wavs").glob("*.wav"))[:6]
    found = []
    for path in files:
        y, rate = sf.read(path, dtype="float32", always_2d=True)
        found.append(np.rint(np.clip(soxr.resample(y.mean(1), rate, RATE), -1, 32767 / 32768) * 32768).astype(np.int16))
    return found


@pytest.mark.parametrize(
    "mel",
    [
        LogMel(),
        LogMel(n_fft=1024, hop_length=160, n_mels=80),
        LogMel(n_fft=512, hop_length=128, n_mels=40, fmin=50, fmax=7000, mel_scale="htk", norm=None),
        LogMel(n_fft=1000, hop_length=250, win_length=800, window="hamming", center=False, n_mels=64, top_db=60),
        LogMel(n_fft=1024, hop_length=200, pad_mode="reflect", power=1, n_mels=64),
    ],
    ids=["librosa-defaults", "speech", "htk", "no-center", "magnitude"],
)
def test_log_mel_and_mfcc_are_librosas(clips: list[np.ndarray], mel: LogMel) -> None:
    spec = Spec(log_mel=mel, mfcc=Mfcc(n_mfcc=20))
    long_enough = [c for c in clips if len(c) >= mel.n_fft]
    ours = Spectral(spec, RATE, "cpu")(long_enough)
    for i, pcm in enumerate(long_enough):
        y = pcm.astype(np.float32) / 32768
        energies = librosa.feature.melspectrogram(
            y=y, sr=RATE, n_fft=mel.n_fft, hop_length=mel.hop_length, win_length=mel.win_length, window=mel.window,
            center=mel.center, pad_mode=mel.pad_mode, power=mel.power, n_mels=mel.n_mels, fmin=mel.fmin, fmax=mel.fmax,
            htk=mel.mel_scale == "htk", norm=mel.norm,
        )  # fmt: skip
        to_db = librosa.power_to_db if mel.power == 2 else librosa.amplitude_to_db
        theirs = to_db(energies, top_db=mel.top_db)
        assert np.abs(ours["log_mel"][i] - theirs).max() < 0.01
        assert np.abs(ours["mfcc"][i] - librosa.feature.mfcc(S=theirs, n_mfcc=20)).max() < 0.01


@pytest.mark.parametrize("output", ["magnitude", "power", "magnitude_db"])
def test_spectrogram_is_librosas(clips: list[np.ndarray], output: str) -> None:
    ours = Spectral(Spec(spectrogram=Spectrogram(n_fft=1024, hop_length=160, output=output, phase=True)), RATE, "cpu")(
        clips
    )
    for i, pcm in enumerate(clips):
        bins = librosa.stft(pcm.astype(np.float32) / 32768, n_fft=1024, hop_length=160)
        size = np.abs(bins)
        theirs = {"magnitude": size, "power": size**2, "magnitude_db": librosa.amplitude_to_db(size)}[output]
        assert np.abs(ours["spectrogram"][i] - theirs).max() < (
            0.01 if output == "magnitude_db" else 1e-4 * theirs.max()
        )
        loud = size > 1e-3 * size.max()
        assert np.abs(np.angle(np.exp(1j * (ours["phase"][i] - np.angle(bins)))))[loud].max() < 0.01


def test_log_mel_and_mfcc_are_torchaudios(clips: list[np.ndarray]) -> None:
    ours = Spectral(Spec(log_mel=LogMel(n_fft=1024, hop_length=160, n_mels=80), mfcc=Mfcc(n_mfcc=20)), RATE, "cpu")(
        clips
    )
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=1024, hop_length=160, n_mels=80, norm="slaney", mel_scale="slaney", pad_mode="constant"
    )
    to_db = torchaudio.transforms.AmplitudeToDB(top_db=80)
    dct = torchaudio.functional.create_dct(20, 80, "ortho")
    for i, pcm in enumerate(clips):
        theirs = to_db(mel(torch.from_numpy(pcm.astype(np.float32) / 32768)))
        assert np.abs(ours["log_mel"][i] - theirs.numpy()).max() < 0.01
        assert np.abs(ours["mfcc"][i] - (theirs.T @ dct).T.numpy()).max() < 0.01


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_mel_filters_are_librosas(scale: str, norm: str | None) -> None:
    ours = mel_filters(22050, 2048, 128, 20.0, 8000.0, scale, norm)
    theirs = librosa.filters.mel(sr=22050, n_fft=2048, n_mels=128, fmin=20, fmax=8000, htk=scale == "htk", norm=norm)
    assert np.abs(ours - theirs).max() < 1e-6 * theirs.max()


def test_dct_is_orthonormal() -> None:
    matrix = dct_matrix(40, 40).astype(np.float64)
    assert np.allclose(matrix.T @ matrix, np.eye(40), atol=1e-6)


EVERYTHING = Spec(
    log_mel=LogMel(n_fft=256, hop_length=80, n_mels=20),
    mfcc=Mfcc(n_mfcc=10),
    spectrogram=Spectrogram(n_fft=512, hop_length=100),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_features_do_not_depend_on_company(lengths: list[int], random: object) -> None:
    rng = np.random.default_rng(sum(lengths))
    signals = [rng.integers(-20000, 20000, n).astype(np.int16) for n in lengths]
    spectral = Spectral(EVERYTHING, RATE, "cpu")
    together = spectral(signals)
    order = list(range(len(signals)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = spectral([signals[i] for i in order])
    for name, values in together.items():
        for i, signal in enumerate(signals):
            alone = spectral([signal])[name][0]
            assert np.array_equal(values[i], alone)
            assert np.array_equal(shuffled[name][order.index(i)], alone)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 7))
def test_the_device_lays_clips_of_all_lengths_out_as_the_host_does(counts: list[int], bins: int) -> None:
    values = torch.arange(sum(counts) * bins, dtype=torch.float32).view(-1, bins)
    of_frame = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    batch = DeviceBatch(
        torch.empty(0), *[np.array(counts, np.int64)] * 2, torch.zeros(sum(counts), dtype=torch.int64), of_frame
    )
    wanted = torch.cat([part.T.reshape(-1) for part in torch.split(values, counts)])
    assert torch.equal(_scatter(values, batch), wanted)
    assert torch.equal(clip_major(values, batch), wanted)


@pytest.mark.parametrize("batch_s", [0.01, 0.3, 1e9])
def test_features_do_not_depend_on_how_signals_are_batched(batch_s: float) -> None:
    rng = np.random.default_rng(0)
    signals = [rng.integers(-20000, 20000, n).astype(np.int16) for n in (300, 8000, 8000, 4000, 12000, 301)]
    whole = Spectral(EVERYTHING, RATE, "cpu")(signals)
    spectral = Spectral(EVERYTHING, RATE, "cpu")
    spectral._batch_samples = int(batch_s * RATE)
    for name, values in spectral(signals).items():
        assert all(np.array_equal(a, b) for a, b in zip(values, whole[name], strict=True))


def test_float16_is_float32_rounded() -> None:
    signals = [np.random.default_rng(0).integers(-20000, 20000, 8000).astype(np.int16)]
    spec = {"log_mel": LogMel(), "mfcc": Mfcc(), "spectrogram": Spectrogram(output="magnitude")}
    full, half = (Spectral(Spec(dtype=d, **spec), RATE, "cpu")(signals) for d in ("float32", "float16"))
    for name in full:
        assert half[name][0].dtype == np.float16
        assert np.array_equal(half[name][0], full[name][0].astype(np.float16))
    with pytest.raises(ValueError, match="float16"):
        Spec(dtype="float16", spectrogram=Spectrogram(output="power"))


@pytest.mark.parametrize("n_mels", [1, 5, 10, 13, 20, 40, 80, 128])
@pytest.mark.parametrize("n_fft", [256, 400, 1024])
def test_a_frames_mel_does_not_depend_on_its_place_in_the_block(n_mels: int, n_fft: int) -> None:
    spec = Spec(log_mel=LogMel(n_fft=n_fft, n_mels=n_mels))
    spectral = Spectral(spec, RATE, "cpu")
    frame = torch.rand((1, 1 + n_fft // 2))
    energies = spectral._mel_energies(frame.repeat(512, 1), spec.log_mel)
    assert torch.equal(energies, energies[:1].expand_as(energies))
    dense = (
        frame.double() @ torch.from_numpy(mel_filters(RATE, n_fft, n_mels, 0.0, None, "slaney", "slaney").T).double()
    )
    assert torch.allclose(energies[0].double(), dense[0], rtol=1e-5, atol=0)


def clip_table(signals: list[np.ndarray], channels: int = 1) -> pa.Table:
    rows = [
        {"status": "clip", "n_channels": channels, "n_samples": len(s) // channels, "pcm": s.tobytes()} for s in signals
    ]
    return pa.Table.from_pylist([*rows, {"status": "account"}], schema=CLIPS)


def test_stage_adds_columns_with_shapes_and_leaves_other_rows_empty() -> None:
    pcm = (1000 * np.random.default_rng(0).standard_normal(16000)).astype(np.int16)
    table = Features(EVERYTHING, RATE)(clip_table([pcm]))
    assert table["log_mel_shape"].to_pylist() == [[20, 1 + 16000 // 80], None]
    values = np.array(table["log_mel"][0].as_py(), np.float32).reshape(20, -1)
    assert np.array_equal(values, Spectral(EVERYTHING, RATE, "cpu")([pcm])["log_mel"][0])
    assert table["log_mel"][1].as_py() == []


def test_channels_are_computed_by_themselves() -> None:
    rng = np.random.default_rng(0)
    stereo = rng.integers(-9000, 9000, (8000, 2)).astype(np.int16)
    table = Features(EVERYTHING, RATE)(clip_table([stereo.reshape(-1)], channels=2))
    shape = table["mfcc_shape"][0].as_py()
    assert shape == [2, 10, 101]
    values = np.array(table["mfcc"][0].as_py(), np.float32).reshape(shape)
    alone = Spectral(EVERYTHING, RATE, "cpu")([np.ascontiguousarray(stereo[:, 1])])["mfcc"][0]
    assert np.array_equal(values[1], alone)


def test_a_clip_shorter_than_a_frame_is_rejected_without_center() -> None:
    spec = Spec(log_mel=LogMel(n_fft=256, hop_length=80, n_mels=20, center=False))
    table = Features(spec, RATE)(clip_table([np.ones(255, np.int16), np.ones(256, np.int16)])).to_pylist()
    assert [r["status"] for r in table] == ["rejected", "clip", "account"]
    assert table[0]["reason"] == "clip_too_short_for_features"
    assert table[1]["log_mel_shape"] == [20, 1]


def test_digital_silence_has_a_floor_and_no_nan() -> None:
    out = Spectral(Spec(log_mel=LogMel(), mfcc=Mfcc()), RATE, "cpu")([np.zeros(4000, np.int16)])
    assert np.all(out["log_mel"][0] == -100.0)
    assert np.isfinite(out["mfcc"][0]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_cpu(clips: list[np.ndarray]) -> None:
    spec = Spec(log_mel=LogMel(n_fft=1024, hop_length=160, n_mels=80), mfcc=Mfcc(n_mfcc=20))
    cpu, cuda = Spectral(spec, RATE, "cpu")(clips), Spectral(spec, RATE, "cuda")(clips)
    for name in cpu:
        assert max(np.abs(a - b).max() for a, b in zip(cpu[name], cuda[name], strict=True)) < 0.02
