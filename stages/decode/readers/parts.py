"""Decode a recording part by part, and check each part against the length that its own headers state."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from clipmill.stages.decode.containers.structure import Part
from clipmill.stages.decode.readers.base import DecodeError, Reader


class Opener(Protocol):
    """Opens a part; raises DecodeError if no library can."""

    def __call__(self, part: Part, is_only: bool, /) -> Reader: ...


class PartsReader:
    """Reads parts one after the other.

    Parameters
    ----------
    parts : in the order of the file, at least one
    opener : opens a part
    """

    exact_seek = False

    def __init__(self, parts: tuple[Part, ...], opener: Opener) -> None:
        # Skip parts without a frame: a recorder that was started and stopped at once leaves them.
        self._parts = tuple(p for p in parts if p.n_frames != 0) or parts[:1]
        self._opener = opener
        self.n_frames: int | None = None
        self.problem: str | None = None
        self._earlier_remarks: list[tuple[str, str]] = []
        self._k = self._n_decoded = 0
        self._reader = opener(self._parts[0], len(parts) == 1)
        self.name = self._reader.name
        self.sample_rate_hz, self.n_channels = self._reader.sample_rate_hz, self._reader.n_channels

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """Return the remarks on all parts so far."""
        return [*self._earlier_remarks, *self._reader.remarks]

    def _next(self) -> bool:
        """Open the next part; return whether there is one. Raise DecodeError if its rate or channels differ."""
        if self._k + 1 == len(self._parts):
            return False
        self._earlier_remarks += self._reader.remarks
        self._reader.close()
        self._k, self._n_decoded = self._k + 1, 0
        part = self._parts[self._k]
        reader = self._reader = self._opener(part, False)
        if reader.name not in self.name:
            self.name += f"+{reader.name}"
        if (reader.sample_rate_hz, reader.n_channels) != (self.sample_rate_hz, self.n_channels):
            raise DecodeError(
                "bad_format",
                f"{self.sample_rate_hz} Hz, {self.n_channels} channels become {reader.sample_rate_hz} Hz,"
                f" {reader.n_channels} channels at byte {part.extents[0][0]}",
            )
        return True

    def read_into(self, out: npt.NDArray[np.float32]) -> int:
        """Fill float32 [frames, channels], across parts; return the number of frames, fewer only at the end."""
        filled = 0
        while filled < len(out) and self.problem is None:
            room = out[filled:]
            if self._reader.n_frames is not None:
                room = room[: max(0, self._reader.n_frames - self._n_decoded)]
            n = self._reader.read_into(room) if len(room) else 0
            filled += n
            self._n_decoded += n
            if n < len(room) or not len(room):
                self._check_end()
                if self.problem is None and not self._next():
                    break
        return filled

    def _check_end(self) -> None:
        """Compare the decoded length of a part with the one that its headers declare."""
        reader, part = self._reader, self._parts[self._k]
        where = f"in part {self._k + 1} of {len(self._parts)}, " if len(self._parts) > 1 else ""
        rate = self.sample_rate_hz
        scale = rate / part.sample_rate_hz if part.n_frames is not None else 0.0
        wanted = (part.n_frames or 0) * scale
        is_short = part.n_frames is None or self._n_decoded < wanted - part.tolerance * scale - 1
        if reader.problem is not None and is_short:  # an error after all that was declared does not matter
            self.problem = where + reader.problem
        elif part.n_frames is not None and is_short:
            self.problem = f"{where}the file's own headers declare {wanted / rate:.3f} s, but only {self._n_decoded / rate:.3f} s could be decoded"

    def seek(self, frame: int) -> None:
        raise NotImplementedError("parts are read from start to end")

    def close(self) -> None:
        self._reader.close()
