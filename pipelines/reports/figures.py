"""Draw distributions as SVG for a page: by matplotlib, without scripts, with text as text, in colours that the page's style sets."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipmill.pipelines.reports.amounts import share_text, value_text
from clipmill.pipelines.reports.column_spread import Spread
from clipmill.pipelines.reports.markup import Safe, tag
from clipmill.schemas.legible_text import visible
from clipmill.schemas.statistics import FeatureSums

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = 6
"""Number of colours for splits."""
# matplotlib writes colours as numbers; these stand for variables of the style sheet, so that pictures are right by day and by night.
_INK, _FAINT = "#0a0b01", "#0a0b02"
_COLOURS = [f"#0a0c{i:02x}" for i in range(SERIES)]
_VARIABLES = {_INK: "var(--ink)", _FAINT: "var(--line)"} | {c: f"var(--series-{i})" for i, c in enumerate(_COLOURS)}
_WIDTH_IN, _HEIGHT_IN = 4.6, 2.3
_MAX_NAME = 24


def histogram(spread: Spread) -> Safe:
    """Return a picture of how a column's values are spread: the share of each split's clips in each bin."""
    figure, axes = _figure()
    edges = np.asarray(spread.edges)
    for i, (split, counts) in enumerate(list(spread.counts.items())[:SERIES]):
        heights = 100 * np.asarray(counts) / max(1, sum(counts))
        axes.stairs(heights, edges, color=_COLOURS[i], fill=True, alpha=0.18)
        axes.stairs(heights, edges, color=_COLOURS[i], linewidth=1.4, label=_short(split))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(spread.unit or spread.name)
    axes.set_ylabel("% of clips")
    if len(spread.counts) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="best", handlelength=1.2)
    return _svg(figure, f"spread {spread.name}", _words_of(spread))


def band_means(name: str, unit: str, by_split: Mapping[str, FeatureSums]) -> Safe:
    """Return a picture of a feature's mean in each bin, with one standard deviation to both sides. by_split : at least one with values"""
    figure, axes = _figure()
    for i, (split, sums) in enumerate(list(by_split.items())[:SERIES]):
        mean, std = np.asarray(sums.mean_by_bin), np.asarray(sums.std_by_bin)
        bins = np.arange(len(mean))
        axes.fill_between(bins, mean - std, mean + std, color=_COLOURS[i], alpha=0.12, linewidth=0)
        axes.plot(bins, mean, color=_COLOURS[i], linewidth=1.4, label=_short(split))
    axes.set_xlabel("bin")
    axes.set_ylabel(unit or "value")
    if len(by_split) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="best", handlelength=1.2)
    means = ", ".join(f"{split} {value_text(sums.mean, unit)}" for split, sums in by_split.items())
    return _svg(figure, f"bands {name}", f"Mean of {name} by bin. Over all bins: {means}.")


def _words_of(spread: Spread) -> str:
    """Return what a picture of a column shows, for those who do not see it."""
    if not spread.overall:
        return f"No clip has a value of {spread.name}."
    least, low, _, median, _, high, greatest = (value_text(v, spread.unit) for v in spread.overall)
    return f"Distribution of {spread.name}: median {median}, 5 % of clips below {low}, 5 % above {high}, from {least} to {greatest}."


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=8, length=2.5, width=0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.label.set(color=_INK, fontsize=8.5)
    axes.yaxis.label.set(color=_INK, fontsize=8.5)
    return figure, axes


def _svg(figure: Figure, name: str, words: str) -> Safe:
    """Return a figure as an element. name : which no other figure of the page has; words : what it shows"""
    import matplotlib as mpl
    from matplotlib.text import Text

    sink = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Names are not formulas, whatever signs are in them. Missing glyphs only change how wide a text is taken to be.
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "axes.unicode_minus": True}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in figure.findobj(Text):
            if isinstance(part, Text):
                part.set_parse_math(False)
        figure.savefig(sink, format="svg", metadata=nothing)
    text = sink.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"font: ([0-9.]+)px [^;\"]+", r"font-size: \1px", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    box = re.search(r'viewBox="([^"]+)"', body)
    start = body.index(">") + 1
    inner = body[start : body.rindex("</svg>")]
    inner = re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_[0-9]+"', "", inner)  # every figure has the same ones
    return tag("svg", Safe(inner), viewBox=box[1] if box else None, class_="figure", role="img", aria_label=words)


def _short(name: str) -> str:
    shown = visible(name)
    return shown if len(shown) <= _MAX_NAME else f"{shown[: _MAX_NAME - 1]}…"


def bar(parts: Sequence[tuple[str, float]], whole: float, words: str) -> Safe:
    """Return a bar of stacked parts as HTML. parts : style class and size of each; whole : the size of the full width"""
    pieces = [
        tag("span", class_=f"part {kind}", style=f"width:{100 * size / whole:.2f}%")
        for kind, size in parts
        if size > 0 and whole > 0 and math.isfinite(size)
    ]
    return tag("span", *pieces, class_="bar", role="img", aria_label=words, title=words)


def share_words(parts: Sequence[tuple[str, float]], whole: float) -> str:
    """Return the shares of named parts as text."""
    return ", ".join(f"{name} {share_text(size, whole)}" for name, size in parts)
