"""Find speech in a recording with Silero VAD, piece by piece.

The network is the one of the package silero-vad that takes many windows at a time. It is run by ONNX Runtime in one thread, without torch
and without importing the package, which would limit torch to one thread. Probabilities are bit for bit those of the package's ONNX model
for single windows, and within 2e-6 of its torch model.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from clipmill.schemas.errors import StageError
from clipmill.schemas.units import resampled_length

MODEL_RATE_HZ = 16000
WINDOW_FRAMES = 512
"""Samples of a window at MODEL_RATE_HZ: 32 ms. Each has one probability."""

_CONTEXT_FRAMES = 64  # the end of the previous window, which the network sees as well
_PIECE_WINDOWS = 128
_MODEL_FILE = "data/silero_vad_16k_sequence.onnx"


@dataclass(frozen=True)
class Speech:
    """Hold what was found in a recording.

    intervals : (start_sample, stop_sample) of speech, half-open, in order, without overlap, within the recording, at its own rate
    probabilities : float32 [n_windows], of speech in each window of 32 ms
    sample_rate_hz : of the recording
    """

    intervals: list[tuple[int, int]]
    probabilities: npt.NDArray[np.float32]
    sample_rate_hz: int

    def least_probable(self, first_sample: int, last_sample: int) -> int:
        """Return the middle of the window where speech is least probable, the first of equals, within a range of samples.

        Parameters
        ----------
        first_sample, last_sample : the range, both included, at the recording's rate
        """
        scale = self.sample_rate_hz * WINDOW_FRAMES / MODEL_RATE_HZ
        first = max(0, math.ceil(first_sample / scale - 0.5))
        candidates = self.probabilities[first : int(last_sample / scale - 0.5) + 1]
        window = first + (int(np.argmin(candidates)) if candidates.size else 0)
        return min(max(round((window + 0.5) * scale), first_sample), last_sample)


class SpeechActivity:
    """Collect the speech probabilities of a recording that arrives in pieces, and return its intervals of speech.

    Parameters
    ----------
    sample_rate_hz : of the recording. Rates other than 16 kHz are resampled by soxr, as if the recording were one piece
    threshold, min_speech_s, min_silence_s, pad_s : see `speech_intervals`

    Raises
    ------
    StageError : silero-vad or ONNX Runtime is not installed

    Notes
    -----
    The network works on pieces of fixed length from the recording's start, so the result does not depend on how the recording was
    divided. Memory is a few megabytes, and 4 bytes for each 32 ms.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        threshold: float = 0.5,
        min_speech_s: float = 0.25,
        min_silence_s: float = 0.1,
        pad_s: float = 0.03,
    ) -> None:
        self._session = _session()
        self._rate_hz = sample_rate_hz
        self._settings = (threshold, min_speech_s, min_silence_s, pad_s)
        self._resampler = (
            soxr.ResampleStream(sample_rate_hz, MODEL_RATE_HZ, 1, dtype="float32", quality="HQ")
            if sample_rate_hz != MODEL_RATE_HZ
            else None
        )
        piece_frames = _PIECE_WINDOWS * WINDOW_FRAMES * sample_rate_hz // MODEL_RATE_HZ
        self._piece, self._n_waiting = np.empty(piece_frames, np.float32), 0
        self._frames = self._model_frames = 0
        self._rest = np.empty(0, np.float32)
        self._context = np.zeros(_CONTEXT_FRAMES, np.float32)
        self._hidden = np.zeros((1, 1, 128), np.float32)
        self._cell = np.zeros((1, 1, 128), np.float32)
        self._probabilities: list[npt.NDArray[np.float32]] = []

    def add(self, y: npt.NDArray[np.float32]) -> None:
        """Add the next piece of the recording.

        Parameters
        ----------
        y : float32 [channels, samples], full scale 1.0, of any length. Speech is looked for in the mean of the channels. Samples that are
            not finite count as zeros
        """
        self._frames += y.shape[1]
        done = 0
        while done < y.shape[1]:
            n = min(y.shape[1] - done, len(self._piece) - self._n_waiting)
            part = y[:, done : done + n]
            self._piece[self._n_waiting : self._n_waiting + n] = part[0] if len(part) == 1 else part.mean(axis=0)
            done += n
            self._n_waiting += n
            if self._n_waiting == len(self._piece):
                self._process(last=False)

    def finish(self) -> Speech:
        """Return the speech of the recording, after its last piece."""
        self._process(last=True)
        probabilities = np.concatenate([np.empty(0, np.float32), *self._probabilities])
        found = speech_intervals(probabilities, self._model_frames, *self._settings)
        limit, rate = self._frames, self._rate_hz
        intervals = [
            (min(resampled_length(a, MODEL_RATE_HZ, rate), limit), min(resampled_length(b, MODEL_RATE_HZ, rate), limit))
            for a, b in found
        ]
        return Speech([(a, b) for a, b in intervals if a < b], probabilities, rate)

    def _process(self, last: bool) -> None:
        x = self._piece[: self._n_waiting]
        self._n_waiting = 0
        if not np.isfinite(x).all():
            x = np.where(np.isfinite(x), x, np.float32(0))
        if self._resampler is not None:
            x = self._resampler.resample_chunk(x, last=last)
        self._model_frames += len(x)
        x = np.concatenate([self._rest, x])
        n_windows = -(-len(x) // WINDOW_FRAMES) if last else len(x) // WINDOW_FRAMES
        n = n_windows * WINDOW_FRAMES
        self._rest = x[n:]
        if n_windows == 0:
            return
        windows = np.zeros((n_windows, _CONTEXT_FRAMES + WINDOW_FRAMES), np.float32)
        windows[:, _CONTEXT_FRAMES:] = np.pad(x[:n], (0, n - len(x[:n]))).reshape(n_windows, WINDOW_FRAMES)
        windows[0, :_CONTEXT_FRAMES] = self._context
        windows[1:, :_CONTEXT_FRAMES] = windows[:-1, -_CONTEXT_FRAMES:]
        self._context = windows[-1, -_CONTEXT_FRAMES:].copy()
        values, self._hidden, self._cell = self._session.run(
            ["speech_probs", "hn", "cn"], {"input": windows, "h": self._hidden, "c": self._cell}
        )
        self._probabilities.append(values.reshape(-1))


def speech_intervals(
    probabilities: npt.NDArray[np.float32],
    n_frames: int,
    threshold: float = 0.5,
    min_speech_s: float = 0.25,
    min_silence_s: float = 0.1,
    pad_s: float = 0.03,
) -> list[tuple[int, int]]:
    """Return the intervals of speech that follow from probabilities, as silero-vad's `get_speech_timestamps` of a recording at 16 kHz.

    Parameters
    ----------
    probabilities : float32 [n_windows]
    n_frames : length of the recording at 16 kHz
    threshold : above 0.01; speech begins with a window of at least this probability, and can end with one of less than `threshold - 0.15`,
        but at least 0.01
    min_speech_s : shorter speech is left out; so is speech of exactly this length
    min_silence_s : speech ends if no window reaches the threshold for this time, and the last one is as improbable as the first
    pad_s : added on both sides; a silence shorter than twice this is divided in its middle

    Returns
    -------
    intervals : (start, stop) in samples at 16 kHz, half-open, in order, without overlap
    """
    p = np.asarray(probabilities, np.float64)
    is_speech = np.append(np.flatnonzero(p >= threshold), len(p))
    is_silence = np.append(np.flatnonzero(p < max(threshold - 0.15, 0.01)), len(p))
    shortest_windows = min_silence_s * MODEL_RATE_HZ / WINDOW_FRAMES

    def following(windows: npt.NDArray[np.intp], at: float) -> int:
        return int(windows[min(int(np.searchsorted(windows, at)), len(windows) - 1)])

    found: list[list[int]] = []
    start = following(is_speech, 0)
    while start < len(p):
        begin = start
        while True:  # one turn for each dip
            stop = following(is_silence, begin)
            again, enough = following(is_speech, stop), following(is_silence, stop + shortest_windows)
            if enough < again or again == len(p):
                break
            begin = again
        ends = stop * WINDOW_FRAMES if enough < len(p) else n_frames
        if ends - start * WINDOW_FRAMES > min_speech_s * MODEL_RATE_HZ:
            found.append([start * WINDOW_FRAMES, ends])
        start = following(is_speech, enough)
    pad = round(pad_s * MODEL_RATE_HZ)
    for before, after in pairwise(found):
        room = min(pad, (after[0] - before[1]) // 2)
        before[1], after[0] = before[1] + room, after[0] - room
    if found:
        found[0][0], found[-1][1] = max(0, found[0][0] - pad), min(n_frames, found[-1][1] + pad)
    return [(a, b) for a, b in found]


@cache
def _session() -> Any:
    """Return the network."""
    # The package's folder is found without importing it.
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.origin or importlib.util.find_spec("onnxruntime") is None:
        raise StageError(
            "speech is found with silero-vad and onnxruntime, which are not installed; install clipmill[speech]"
        )
    path = Path(spec.origin).parent / _MODEL_FILE
    if not path.exists():
        raise StageError(f"silero-vad has no {_MODEL_FILE}; install clipmill[speech], or silero-vad 6.2.3 or newer")
    import onnxruntime  # type: ignore[import-untyped,import-not-found]

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
