"""What a reader of recordings is, and how it says that it cannot go on."""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np
import numpy.typing as npt

MAX_CHANNELS = 1024
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 1_000_000


class DecodeError(Exception):
    """A recording that cannot be decoded. reason : a code of clipmill.schemas.reasons; detail : what happened and where."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class Reader(Protocol):
    """An open recording.

    name : the library that decodes
    n_frames : exact length when the container states it beyond doubt, else None
    exact_seek : `seek` goes to the very frame
    problem : set when decoding broke off, after which nothing more is given
    remarks : code of clipmill.schemas.remarks and detail of what was found so far
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
        """Fill float32 [frames, channels] from the current place; return the frames given, fewer only at the end."""
        ...

    def seek(self, frame: int) -> None: ...

    def close(self) -> None: ...


def check_format(sample_rate_hz: int, n_channels: int) -> None:
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ or not 1 <= n_channels <= MAX_CHANNELS:
        raise DecodeError(
            "bad_format",
            f"{sample_rate_hz} Hz, {n_channels} channels; read are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, 1 to {MAX_CHANNELS} channels",
        )


def one_line(error: BaseException) -> str:
    """Return an error's text without the names of files and objects that libraries put into it."""
    text = " ".join(str(error).split())
    text = re.sub(r"^Error opening .*: (?=[^:]*$)", "", text)
    text = re.sub(r"; last error log: .*$|: '<(?:none|_|stages).*$", "", text)
    # What libsndfile says when it cannot tell what a file holds.
    return text.replace("File does not exist or is not a regular file (possibly a pipe?).", "Format not recognised.")[
        :300
    ]
