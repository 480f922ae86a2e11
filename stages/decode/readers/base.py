"""The interface of the readers of recordings, and the error that they raise."""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np
import numpy.typing as npt

MAX_CHANNELS = 1024
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 1_000_000


class DecodeError(Exception):
    """A recording cannot be decoded. reason : a code of clipmill.schemas.reasons; detail : what happened, and where"""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class Reader(Protocol):
    """An open recording.

    name : of the library that decodes
    n_frames : exact length if the container states it beyond doubt, else None
    exact_seek : `seek` reaches exactly the frame that is asked for
    problem : what stopped decoding early, None if nothing did; no frames follow once it is set
    remarks : pairs of a code of clipmill.schemas.remarks and a detail, as far as the recording was read
    """

    name: str
    sample_rate_hz: int
    n_channels: int
    n_frames: int | None
    problem: str | None

    @property
    def exact_seek(self) -> bool: ...

    @property
    def remarks(self) -> list[tuple[str, str]]: ...

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        """Fill float32 [frames, channels] from the current place; return the number of frames, fewer only at the end."""
        ...

    def seek(self, frame: int) -> None: ...

    def close(self) -> None: ...


def check_format(sample_rate_hz: int, n_channels: int) -> None:
    """Raise DecodeError, bad_format, unless the sample rate and the number of channels are supported."""
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ or not 1 <= n_channels <= MAX_CHANNELS:
        raise DecodeError(
            "bad_format",
            f"{sample_rate_hz} Hz, {n_channels} channels; supported are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, 1 to {MAX_CHANNELS} channels",
        )


def one_line(error: BaseException) -> str:
    """Return an error's text in one line, at most 300 characters, without names of files and objects that libraries put into it."""
    text = " ".join(str(error).split())
    text = re.sub(r"^Error opening .*: (?=[^:]*$)", "", text)
    text = re.sub(r"; last error log: .*$|: '<(?:none|_|stages).*$", "", text)
    # This is libsndfile's message when it does not recognise the format.
    return text.replace("File does not exist or is not a regular file (possibly a pipe?).", "Format not recognised.")[
        :300
    ]
