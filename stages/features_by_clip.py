"""Compute features of stored clips with librosa, one channel of one clip at a time: what such stages have in common.

librosa takes seconds to import, so it is imported with the first clips; planning, decoding and builds without work do not need it.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from clipmill.schemas.columns import feature
from clipmill.schemas.config.model import Frozen, fingerprint
from clipmill.schemas.config.stft_config import Frames
from clipmill.schemas.errors import ConfigError, StageError
from clipmill.schemas.frame_layout import FrameLayout
from clipmill.stages.arrow_rows import float_lists
from clipmill.stages.clip_samples import waveforms
from clipmill.stages.features import NOT_FINITE, TOO_SHORT
from clipmill.stages.stage import Stage, rejected

if TYPE_CHECKING:
    from clipmill.schemas.config import Config

Signal = npt.NDArray[np.float32]
Values = npt.NDArray[Any]
Norm = Literal["inf", 1, 2]
"""Norms of vectors by their names in a configuration, where `inf` is text."""
Tuning = Annotated[float, Field(ge=-1, le=1)]

_MAX_SAMPLE = 1e12
"""Times full scale. Up to here no sum of librosa's overflows in float32, and it raises no error about infinities."""


class FrameSettings(Frames):
    """Configure the short-time Fourier transform of which librosa computes a feature."""

    window: Literal["hann", "hamming", "blackman", "ones"] = Field("hann", description="shape of the window")


@dataclass(frozen=True)
class FeatureByClip(Stage):
    """Compute one feature of the canonical clips. Subclasses declare what it is, and librosa's function, whose arguments are the settings.

    Takes a table of `clipmill.schemas.tables.CLIPS` and adds the column `section` with values in row-major order, and `<section>_shape`:
    [bins, frames], or [channels, bins, frames] for several channels, each of which is computed by itself. A clip's values depend on that
    clip alone, and on one thread.

    spec : instance of `settings`
    sample_rate_hz : of the clips
    dtype : in which the values are stored, float32 | float16
    function : name of the function in `librosa.feature`

    Clips without a whole frame are rejected, and so are clips with values that the stored dtype cannot represent.
    """

    spec: Any
    sample_rate_hz: int
    dtype: str = "float32"

    scope = "derived"
    rejects = (TOO_SHORT, NOT_FINITE)
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "numpy", "scipy")
    function: ClassVar[str]
    meaning: ClassVar[str]
    unit: ClassVar[str] = ""

    @classmethod
    def of(cls, config: Config, settings: Any = None) -> Self | None:
        if settings is None:
            return None
        stage = cls(settings, config.audio.sample_rate_hz, config.features.dtype)
        if (problem := stage.problem) is not None:
            raise ConfigError(problem[1], key=f"features.{cls.section}.{problem[0]}")
        return stage

    @property
    def problem(self) -> tuple[str, str] | None:
        """Return the key and the message of what does not fit the clips' sample rate, None if all fits."""
        return None

    @property
    def n_bins(self) -> int:
        """Return the number of values in a frame."""
        return 1

    @property
    def frames(self) -> Mapping[str, Any]:
        """Return what `FrameLayout.of` takes: where the frames lie."""
        return {}

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Return the settings as librosa takes them."""
        return {name: np.inf if value == "inf" else value for name, value in self.spec.model_dump().items()}

    def compute(self, librosa: Any, y: Signal) -> Values:
        """Return the feature [bins, frames] of one channel. y : float32 [samples], full scale 1.0, with at least `min_samples`"""
        values: Values = getattr(librosa.feature, self.function)(y=y, sr=self.sample_rate_hz, **self.arguments)
        return values

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        settings = {
            **_written(self.spec),
            **self.frames,
            "sample_rate_hz": self.sample_rate_hz,
            "frame_shift_s": self.spec.hop_length / self.sample_rate_hz,
        }
        return feature(
            self.section,
            self.meaning,
            self.unit,
            shape=[self.n_bins, "n_frames"],
            settings=settings,
            dtype=self.dtype,
        )

    @property
    def layout(self) -> FrameLayout:
        """Return where frames lie, as loaders find it out from the column's settings."""
        return FrameLayout.of({**self.spec.model_dump(), **self.frames})

    @property
    def min_samples(self) -> int:
        """Return the length of the shortest clip that has a frame."""
        return self.layout.min_samples

    @property
    def packages(self) -> tuple[str, ...]:
        return with_librosa(self.section, self.libraries)

    def __call__(self, table: pa.Table) -> pa.Table:
        layout, least = self.layout, self.min_samples
        found: dict[int, Values] = {}
        too_short: dict[int, str] = {}
        beyond: dict[int, str] = {}
        for row, y in waveforms(table):
            n_samples = y.shape[1]
            peak = float(np.abs(y).max(initial=0.0))
            if n_samples < least:
                too_short[row] = f"{self.section}: {n_samples} samples, at least {least} are needed"
            elif not peak <= _MAX_SAMPLE:
                beyond[row] = f"in {self.section}, of samples up to {peak:.1g} times full scale"
            else:
                with alone() as librosa:
                    channels = [self.compute(librosa, np.ascontiguousarray(channel)) for channel in y]
                found[row] = stacked([values[:, : layout.n_frames(n_samples)] for values in channels])
        table = rejected(table, too_short, TOO_SHORT.code)
        table = rejected(table, beyond, NOT_FINITE.code)
        return with_features(table, {self.section: found}, self.dtype)


def with_librosa(section: str, libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages of a stage. Raises StageError if librosa is not installed, which clipmill does without otherwise."""
    if any(importlib.util.find_spec(name) is None for name in ("librosa", "threadpoolctl")):
        raise StageError(f"features.{section} needs librosa, which is not installed; install clipmill[librosa]")
    return libraries


@contextmanager
def alone() -> Iterator[Any]:
    """Provide librosa, with one thread for products of matrices: with several their last bits are others.

    Raises
    ------
    StageError : librosa cannot be imported
    """
    librosa, threads = _library()
    with threads.limit(limits=1, user_api="blas"), warnings.catch_warnings():
        # Clips shorter than a transform are padded, and silence has no tuning: librosa takes 0. Both are documented.
        warnings.filterwarnings("ignore", "n_fft=", UserWarning)
        warnings.filterwarnings("ignore", "Trying to estimate tuning from empty frequency set", UserWarning)
        yield librosa


@cache
def _library() -> tuple[Any, Any]:
    try:
        librosa = importlib.import_module("librosa")
        importlib.import_module("librosa.feature")
        return librosa, importlib.import_module("threadpoolctl").ThreadpoolController()
    except ImportError as error:
        raise StageError(f"librosa cannot be imported: {error}; install clipmill[librosa]") from None
    except RuntimeError as error:  # numba finds no folder for what it compiles
        raise StageError(
            f"librosa cannot be imported: {error}; set NUMBA_CACHE_DIR to a folder that can be written"
        ) from None


def stacked(channels: list[Values]) -> Values:
    """Return the values of a clip's channels, each [bins, frames], as they are stored: with the channels in front if there are several."""
    return channels[0] if len(channels) == 1 else np.stack(channels)


def with_features(table: pa.Table, computed: Mapping[str, Mapping[int, Values]], dtype: str) -> pa.Table:
    """Return a table with columns of features and of their shapes. Clips with values that are not finite in the stored type are rejected.

    computed : arrays by row, by the column's name. Other rows have no values, and no shape
    dtype : of the stored values, float32 | float16
    """
    with np.errstate(over="ignore"):
        stored = {name: {row: v.astype(dtype) for row, v in found.items()} for name, found in computed.items()}
    beyond: dict[int, str] = {}
    for name, values in stored.items():
        for row, value in values.items():
            if not np.isfinite(value).all():
                beyond.setdefault(row, f"in {name}, stored as {dtype}")
    table = rejected(table, beyond, NOT_FINITE.code)
    rows, empty = range(table.num_rows), np.empty(0, dtype)
    for name, values in stored.items():
        kept = {row: value for row, value in values.items() if row not in beyond}
        flat = [kept[row].reshape(-1) if row in kept else empty for row in rows]
        shapes = [list(kept[row].shape) if row in kept else None for row in rows]
        table = table.append_column(name, float_lists(flat, dtype))
        table = table.append_column(f"{name}_shape", pa.array(shapes, type=pa.list_(pa.int32())))
    return table


def _written(spec: Frozen) -> dict[str, Any]:
    settings: dict[str, Any] = fingerprint(spec)
    if "win_length" in settings:
        settings["win_length"] = settings["win_length"] or settings["n_fft"]
    return settings
