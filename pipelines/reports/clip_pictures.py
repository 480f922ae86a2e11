"""Draw a clip with axes, as a picture to put into a talk or a paper: its waveform, and below it its spectrogram."""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.reports.playable import RANGE_DB, band_levels, hz_to_mel
from clipmill.schemas.legible_text import visible

_WIDTH_IN, _HEIGHT_IN, _DPI = 9.0, 4.6, 110
_BANDS_AT, _WAVE_AT, _SCALE_AT = (0.07, 0.095, 0.84, 0.575), (0.07, 0.71, 0.84, 0.23), (0.922, 0.095, 0.018, 0.575)
_COLUMNS, _BANDS = 900, 128
_PEAKS = 1800
_TICKS_HZ = (0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000)
_MAX_TITLE = 90
_CLOSE = 0.04
"""Part of the axis that ticks must be apart."""


def clip_picture(samples: npt.NDArray[np.float32], rate_hz: int, title: str) -> bytes:
    """Return a PNG of 990 x 506.

    Parameters
    ----------
    samples : [n_samples, n_channels], -1 to 1; of several channels the mean is drawn
    title : above it, as one line of plain text
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mono = samples.mean(axis=1) if len(samples) else np.zeros(1, np.float32)
    seconds = len(mono) / rate_hz
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=_DPI)
    FigureCanvasAgg(figure)
    bands = figure.add_axes(_BANDS_AT)  # fixed places: to lay them out takes longer than to draw them
    wave, scale = figure.add_axes(_WAVE_AT, sharex=bands), figure.add_axes(_SCALE_AT)
    starts = np.unique(np.linspace(0, len(mono), min(_PEAKS, len(mono)), endpoint=False).astype(np.int64))
    low, high = np.minimum.reduceat(mono, starts), np.maximum.reduceat(mono, starts)
    wave.fill_between(starts / rate_hz, low, high, color="#0b6bcb", linewidth=0.4, edgecolor="#0b6bcb")
    reach = max(float(np.abs(mono).max()) * 1.05, 1e-4)
    wave.set_ylim(-reach, reach)
    wave.set_ylabel("of full scale", fontsize=9)
    wave.grid(color="#dfe3e9", linewidth=0.6)
    top = hz_to_mel(rate_hz / 2)
    image = bands.imshow(
        (band_levels(mono, rate_hz, _COLUMNS, _BANDS) - 1) * RANGE_DB, origin="lower", aspect="auto", cmap="magma",
        extent=(0.0, seconds, 0.0, top), vmin=-RANGE_DB, vmax=0, interpolation="nearest",
    )  # fmt: skip
    ticks = _ticks(rate_hz / 2)
    bands.set_yticks([hz_to_mel(hz) for hz in ticks], [f"{hz / 1000:g}" for hz in ticks])
    bands.set_ylabel("kHz, mel scale", fontsize=9)
    bands.set_xlabel("s", fontsize=9)
    bands.set_xlim(0, seconds)
    figure.colorbar(image, cax=scale).set_label("dB below the loudest", fontsize=9)
    wave.set_axisbelow(True)
    wave.tick_params(labelbottom=False)
    for axes in (wave, bands, scale):
        axes.tick_params(labelsize=8)
    sink = io.BytesIO()
    # Names are not formulas. A script that the font lacks is drawn as boxes, which the page beside the picture does not have.
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = visible(title)
        shown = shown if len(shown) <= _MAX_TITLE else f"{shown[: _MAX_TITLE - 1]}…"
        wave.set_title(shown, fontsize=10, loc="left", parse_math=False)
        figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def _ticks(highest_hz: float) -> list[float]:
    """Return frequencies to write at the axis, up to the highest one, which is always there."""
    top = hz_to_mel(highest_hz)
    inner = [float(hz) for hz in _TICKS_HZ if hz < highest_hz and top - hz_to_mel(hz) > _CLOSE * top]
    return [*inner, highest_hz]
