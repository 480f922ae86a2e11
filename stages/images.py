"""Images: draw every clip's log-mel as a PNG directly from the array, without figure and axes.

The module needs only numpy, pyarrow and Pillow to be imported. matplotlib, which has the table of 256 colours, is imported
with the first clips, without pyplot.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from clipmill.stages.arrow_rows import list_values
from clipmill.stages.stage import Stage

if TYPE_CHECKING:
    from clipmill.schemas.config import Config

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A picture as Hugging Face `datasets` stores it."""
_N_COLOURS = 256
_TABLE_BYTES = 32 << 20
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
_GRAY, _RGB, _INDEXED = 0, 2, 3  # PNG's colour types
_LEFT, _ABOVE = 1, 2  # PNG's filter types: a pixel minus its neighbour to the left, or above


@dataclass(frozen=True)
class Images(Stage):
    """Draw the log-mel of each clip, whichever logarithm it is in.

    Takes a table of `clipmill.schemas.tables.CLIPS` with the column `log_mel`. Yields tables with the same rows and a column `image`
    of type `IMAGE`, null in rows that are not clips. A table is divided where its pictures exceed 32 MiB, so that a whole shard of
    clips, as it comes from a GPU, never has all its pictures in memory.

    spec : an object with the attributes of `clipmill.schemas.config.image_config.Images`; with None tables pass unchanged
    per_db : what a decibel is in the log-mel, so that range_db can be one of another logarithm
    zero : what 0 dB are in the log-mel
    """

    spec: Any = None
    per_db: float = 1.0
    zero: float = 0.0

    section = "images"
    identity = "images"
    scope = "derived"
    libraries = ("pillow", "matplotlib", "zlib")

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        mel = config.features.log_mel
        if config.output.images is None or mel is None:
            return None
        return cls(config.output.images, mel.per_db or 1.0, -mel.subtract / mel.divide_by)

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        from clipmill.schemas.columns import image_field

        return () if self.spec is None else (image_field(self.spec),)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_palette"}

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        if self.spec is None:
            yield table
            return
        status, ids = table["status"].to_pylist(), table["clip_id"].to_pylist()
        values, shapes = list_values(table["log_mel"]), table["log_mel_shape"].to_pylist()
        images: list[dict[str, Any] | None] = []
        start = n_bytes = 0
        for i, state in enumerate(status):
            image = None
            if state == "clip":
                image = {"bytes": self.draw(values[i].reshape(shapes[i])), "path": f"{ids[i]}.png"}
                n_bytes += len(image["bytes"])
            images.append(image)
            if n_bytes >= _TABLE_BYTES:
                yield table.slice(start, len(images)).append_column("image", pa.array(images, IMAGE))
                images, start, n_bytes = [], i + 1, 0
        if images or not start:
            yield table.slice(start).append_column("image", pa.array(images, IMAGE))

    def draw(self, log_mel: npt.NDArray[np.float32]) -> bytes:
        """Return one clip's picture as a PNG file.

        Parameters
        ----------
        log_mel : dB [n_mels, frames], or [channels, n_mels, frames], whose channels are drawn one above the other, the first on top

        The values are converted to levels from 0 to 255, the levels are resized, and colours are applied last: the mean of two
        levels lies between them, but the mean of two colours need not be in the map. Pillow resizes 8-bit levels in integer
        arithmetic, so the pixels do not depend on the processor. The lowest band is the lowest row.
        """
        levels = self._levels(log_mel)[..., ::-1, :].reshape(-1, log_mel.shape[-1])
        size = (self.spec.width or levels.shape[1], self.spec.height or levels.shape[0])
        image = Image.fromarray(levels).resize(size, _RESAMPLING[self.spec.resize])
        if self.spec.mode == "gray":
            return png(np.asarray(image))
        if self.spec.mode == "indexed":
            return png(np.asarray(image), self._palette)
        image.putpalette(self._palette)
        return png(np.asarray(image.convert("RGB")))  # Pillow looks colours up ten times as fast as numpy

    def _levels(self, log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return dB as levels from 0 to 255: ``min(255, floor(256 * (dB - low) / (high - low)))``, at least 0.

        The steps are those of matplotlib (`Normalize`, then `Colormap`), and the results equal to the last bit. A clip without
        range, such as digital silence, is 0 everywhere.
        """
        low, high = self._range(log_mel)
        if not 0 < high - low < math.inf:
            return np.zeros(log_mel.shape, np.uint8)
        levels = log_mel.astype(np.float32)
        levels -= np.float64(low)  # in double precision, then rounded to float32, as in matplotlib
        with np.errstate(over="ignore"):  # of a tiny range; overflowing values get the last colour
            levels /= np.float64(high - low)
        levels *= np.float32(_N_COLOURS)
        # fmin and fmax also replace NaN, which features of float samples can have after an overflow.
        np.fmin(levels, np.float32(_N_COLOURS - 1), out=levels)
        np.fmax(levels, np.float32(0), out=levels)
        return levels.astype(np.uint8)

    def _range(self, log_mel: npt.NDArray[np.float32]) -> tuple[float, float]:
        """Return the values at which the first colour begins and the last one ends."""
        if self.spec.range_db is None:
            return float(log_mel.min()), float(log_mel.max())
        low, high = self.spec.range_db
        zero = float(log_mel.max()) if self.spec.reference == "max" else self.zero
        return zero + low * self.per_db, zero + high * self.per_db

    @cached_property
    def _palette(self) -> bytes:
        """Return the map's 256 colours as RGB, 3 bytes each, taken from the middles of 256 equal parts."""
        import matplotlib

        middles = (np.arange(_N_COLOURS) + 0.5) / _N_COLOURS
        return bytes(matplotlib.colormaps[self.spec.colormap](middles, bytes=True)[:, :3].tobytes())


def png(pixels: npt.NDArray[np.uint8], palette: bytes | None = None) -> bytes:
    """Return a picture as a PNG file, without a time stamp or text.

    Parameters
    ----------
    pixels : [height, width] levels or indexes, or [height, width, 3] RGB
    palette : of indexes, 3 bytes a colour

    PNG specification, third edition: https://www.w3.org/TR/png-3/. The whole picture uses one filter, the better of two, and zlib's
    run-length strategy. Pillow's encoder tries five filters on each row, which takes twice the time for a tenth less, and does
    not filter pictures with a palette, which makes them twice as large. The run-length strategy also needs no search for
    matches, in which some builds of zlib differ by processor; the bytes must not.
    """
    height, width = pixels.shape[:2]
    colour = _RGB if pixels.ndim == 3 else _GRAY if palette is None else _INDEXED
    filtered = _filter_rows(pixels.reshape(height, -1), 3 if colour == _RGB else 1)
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette))
    parts.append(_chunk(b"IDAT", deflate.compress(filtered.data) + deflate.flush()))
    return b"".join((*parts, _chunk(b"IEND", b"")))


def _filter_rows(rows: npt.NDArray[np.uint8], n: int) -> npt.NDArray[np.uint8]:
    """Return rows as PNG's differences from the left or from above, whichever are smaller. n : bytes per pixel.

    Differences wrap around at 256, and each row begins with its filter's number. A short clip, stretched in time, changes
    little from left to right; a long clip changes little from row to row.
    """
    left, above = (np.empty((len(rows), 1 + rows.shape[1]), np.uint8) for _ in range(2))
    left[:, 0], left[:, 1 : 1 + n] = _LEFT, rows[:, :n]
    np.subtract(rows[:, n:], rows[:, :-n], out=left[:, 1 + n :])
    above[:, 0], above[0, 1:] = _ABOVE, rows[0]
    np.subtract(rows[1:], rows[:-1], out=above[1:, 1:])
    left_size, above_size = (
        int(np.minimum(f, -f).sum()) for f in (left[::4], above[::4])
    )  # every fourth row is enough
    return left if left_size < above_size else above


def _chunk(kind: bytes, content: bytes) -> bytes:
    return b"".join(
        (struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
    )
