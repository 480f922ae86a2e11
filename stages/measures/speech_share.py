"""Measure how much of a clip is speech, with Silero VAD."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipmill.schemas.columns import column
from clipmill.stages.measures.declaration import Measure
from clipmill.stages.speech import SpeechActivity


def compute_speech_share(y: npt.NDArray[np.float32], sample_rate_hz: int) -> tuple[float | None]:
    """Return the share of a clip's time that is speech, as silero-vad's `get_speech_timestamps` finds it with its defaults.

    Parameters
    ----------
    y : float32 [channels, samples], full scale 1.0. Speech is looked for in the mean of the channels, at 16 kHz

    Returns
    -------
    speech_share : 0 to 1; None for a clip without samples

    Raises
    ------
    StageError : silero-vad or ONNX Runtime is not installed
    """
    activity = SpeechActivity(sample_rate_hz)
    activity.add(y)
    n_speech = sum(stop - start for start, stop in activity.finish().intervals)
    return (n_speech / y.shape[1] if y.shape[1] else None,)


MEASURE = Measure(
    name="speech",
    columns=(column("speech_share", pa.float64(), "share of the time in which Silero VAD finds speech, 0 to 1"),),
    compute=compute_speech_share,
    libraries=("silero-vad", "onnxruntime", "soxr"),
    extra="speech",
)
