"""What FFmpeg's filters `ebur128` and `loudnorm` make of samples, as a judge of loudness and true peak."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile as sf
import soxr
from av.filter import Graph

RATES = (8000, 16000, 22050, 44100, 48000)
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 5: "5.0", 6: "5.1"}


def filtered(y: np.ndarray, rate: int, name: str, options: str) -> list[av.AudioFrame]:
    """Return the frames that a filter makes of samples, float [channels, samples]."""
    graph, layout = Graph(), LAYOUTS[len(y)]
    source = graph.add_abuffer(sample_rate=rate, format="dblp", layout=layout, time_base=Fraction(1, rate))
    middle, sink = graph.add(name, options), graph.add("abuffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y, np.float64), format="dblp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    graph.push(frame)
    graph.push(None)
    frames = []
    while True:
        try:
            frames.append(graph.pull())
        except (av.error.EOFError, av.error.BlockingIOError):
            return frames


def ebur128(y: np.ndarray, rate: int) -> tuple[float, float]:
    """Return FFmpeg's integrated loudness in LUFS, with three decimals, and its true peak in dBTP; -inf where it has none."""
    # The last frame has no metadata if it is shorter than 100 ms, and peaks are told as amplitudes.
    told = [dict(f.metadata) for f in filtered(y, rate, "ebur128", "metadata=1:peak=true")]
    loudness = [float(m["lavfi.r128.I"]) for m in told if "lavfi.r128.I" in m]
    peaks = [float(v) for m in told for k, v in m.items() if "true_peak" in k]
    with np.errstate(divide="ignore"):
        return (loudness[-1] if loudness else -np.inf), float(20 * np.log10(max(peaks, default=0.0)))


def recordings(corpora: Path) -> list[tuple[str, np.ndarray, int]]:
    """Return real recordings of speech and of the surroundings: name, float32 [channels, samples], sample rate."""
    paths = sorted((corpora / "coqui-tts/tests/data/ljspeech/wavs").glob("*.wav"))[:6]
    for folder in sorted((corpora / "esc10").iterdir()):
        paths += sorted(folder.glob("*.ogg"))[:1] if folder.is_dir() else []
    found = []
    for path in paths:
        y, rate = sf.read(path, dtype="float32", always_2d=True)
        found.append((path.name, np.ascontiguousarray(y.T), rate))
    return found


def at_rate(y: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return samples at another rate, float32 [channels, samples]."""
    return np.ascontiguousarray(soxr.resample(y.T, rate, wanted).T) if rate != wanted else y
