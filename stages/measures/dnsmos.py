"""Estimate how people would rate the quality of speech, with DNSMOS P.835 and P.808.

The networks are those of the package speechmos, and so are the windows and formulas. The package itself is not imported: it needs librosa
and requests, and runs the networks in as many threads as there are cores. Source: Reddy, Gopal and Cutler, "DNSMOS P.835: A non-intrusive
perceptual objective speech quality metric to evaluate noise suppressors", ICASSP 2022.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import soxr

from clipmill.schemas.columns import column
from clipmill.schemas.errors import StageError
from clipmill.stages.measures.declaration import Measure

MODEL_RATE_HZ = 16000
WINDOW_FRAMES = 144160
"""Samples of a window: 9.01 s. Windows begin 1 s apart."""

_WINDOW_S = 9.01
_MODELS = ("dnsmos_models/sig_bak_ovr.onnx", "dnsmos_models/model_v8.onnx")
_FRAME, _HOP, _N_MELS = 321, 160, 120
# From the networks' scale to that of people's ratings: polynomials, the highest power first.
_TO_SIG = (-0.08397278, 1.22083953, 0.0052439)
_TO_BAK = (-0.13166888, 1.60915514, -0.39604546)
_TO_OVRL = (-0.06766283, 1.11546468, 0.04602535)

Signal = npt.NDArray[np.float32]


def compute_dnsmos(y: Signal, sample_rate_hz: int) -> tuple[float | None, ...]:
    """Return the mean ratings of a clip's windows of 9 s, as `speechmos.dnsmos.run`.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0. The mean of the channels is rated, at 16 kHz, limited to [-1, 1]. A shorter clip than
        a window is repeated until it is long enough

    Returns
    -------
    sig, bak, ovrl, p808 : 1 to 5, higher is better; None for a clip without samples at 16 kHz, or with samples that are not finite

    Raises
    ------
    StageError : speechmos or ONNX Runtime is not installed

    Notes
    -----
    speechmos computes the end of a window in floating point and leaves out windows that thus lack a sample. These are all windows that
    begin 7 to 23 s after the clip's start, among others, so of a clip of less than 34 s at most the first 15 s are rated. It is the same here.
    """
    rating, listening = _sessions()
    mono = y[0] if len(y) == 1 else y.mean(axis=0)
    x = mono if sample_rate_hz == MODEL_RATE_HZ else soxr.resample(mono, sample_rate_hz, MODEL_RATE_HZ)
    if x.size == 0 or not np.isfinite(x).all():
        return (None, None, None, None)
    x = np.clip(x, -1.0, 1.0)
    n = x.size
    while x.size < WINDOW_FRAMES:
        x = np.append(x, x)
    found: dict[int, tuple[float, ...]] = {}
    ratings = []
    for second in range(int(x.size // MODEL_RATE_HZ - _WINDOW_S) + 1):
        start = second * MODEL_RATE_HZ
        window = x[start : int((second + _WINDOW_S) * MODEL_RATE_HZ)]
        if window.size < WINDOW_FRAMES:
            continue
        place = start % n  # windows of a repeated clip can be equal
        if place not in found:
            sig, bak, ovrl = rating.run(None, {"input_1": window[None]})[0][0]
            p808 = listening.run(None, {"input_1": mel_levels(window[:-_HOP])[None]})[0][0][0]
            polynomials = ((_TO_SIG, sig), (_TO_BAK, bak), (_TO_OVRL, ovrl))
            found[place] = (*(float(np.polyval(p, value)) for p, value in polynomials), float(p808))
        ratings.append(found[place])
    return tuple(np.mean(np.array(ratings), axis=0).tolist())


def mel_levels(x: Signal) -> Signal:
    """Return the log-mel that the P.808 network takes: levels below the loudest, from -80 to 0 dB, as -1 to 1.

    Parameters
    ----------
    x : float32 [samples], at 16 kHz

    Returns
    -------
    levels : float32 [n_frames, 120], as ``(librosa.power_to_db(librosa.feature.melspectrogram(...), ref=np.max) + 40) / 40``
    """
    window, filters = _window_and_filters()
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, _FRAME // 2), _FRAME)[::_HOP]
    bins = np.fft.rfft(frames * window)
    power = np.square(bins.real) + np.square(bins.imag)
    levels_db = 10.0 * np.log10(np.maximum(power @ filters, np.float32(1e-10)))
    levels_db -= levels_db.max()
    levels: Signal = (np.maximum(levels_db, np.float32(-80)) + np.float32(40)) / np.float32(40)
    return levels


@cache
def _window_and_filters() -> tuple[Signal, Signal]:
    from clipmill.stages.features.kernels.mel_filters import mel_filters  # imports torch

    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)
    filters = mel_filters(MODEL_RATE_HZ, _FRAME, _N_MELS, 0.0, None, "slaney", "slaney")
    return window.astype(np.float32), np.ascontiguousarray(filters.T)


@cache
def _sessions() -> tuple[Any, Any]:
    """Return the networks of P.835 and P.808."""
    # The package's folder is found without importing it.
    spec = importlib.util.find_spec("speechmos")
    if spec is None or not spec.origin or importlib.util.find_spec("onnxruntime") is None:
        raise StageError(
            "the measure dnsmos needs speechmos and onnxruntime, which are not installed; install clipmill[dnsmos]"
        )
    import onnxruntime  # type: ignore[import-untyped,import-not-found]

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    folder = Path(spec.origin).parent
    rating, listening = (
        onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
        for name in _MODELS
    )
    return rating, listening


MEASURE = Measure(
    name="dnsmos",
    columns=(
        column("dnsmos_sig", pa.float64(), "DNSMOS P.835: quality of the speech, 1 to 5"),
        column(
            "dnsmos_bak", pa.float64(), "DNSMOS P.835: quality of the background, 1 to 5, 5 where it does not disturb"
        ),
        column("dnsmos_ovrl", pa.float64(), "DNSMOS P.835: quality overall, 1 to 5"),
        column("dnsmos_p808", pa.float64(), "DNSMOS P.808: quality overall, 1 to 5"),
    ),
    compute=compute_dnsmos,
    libraries=("speechmos", "onnxruntime", "soxr"),
    extra="dnsmos",
)
