"""Turn a stored clip into what every browser plays and shows: a short FLAC file, and a picture of its waveform and spectrogram."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from clipmill.pipelines.reports.amounts import duration_text, value_text
from clipmill.pipelines.reports.markup import Safe, tag

_LOWEST_HZ, _HIGHEST_HZ = 8_000, 96_000
_PLAYED_LOW_HZ, _PLAYED_HIGH_HZ = 8_000, 48_000
COLUMNS, BANDS = 240, 64
RANGE_DB = 70.0
_WINDOW_S = 0.032
_LEVELS = 32
_WAVE = 40


@dataclass(frozen=True)
class Playable:
    """A clip for a page.

    audio : bytes of a FLAC file
    picture : PNG of its spectrogram
    wave : peaks of the waveform, [n_columns, 2] from -1 to 1, scaled to its greatest one
    peak : that one, 0 to 1 of full scale
    is_cut : whether the audio ends before the clip does
    notes : how the audio differs from the stored clip, for people
    duration_s, top_hz : length of what is shown, and the highest frequency in the picture
    """

    audio: bytes
    picture: bytes
    wave: Sequence[tuple[float, float]]
    peak: float
    is_cut: bool
    notes: tuple[str, ...]
    duration_s: float
    top_hz: float


def playable(content: bytes, longest_s: float) -> Playable:
    """Return a clip for a page. content : its stored file; longest_s : how much of it is played and shown

    Raises
    ------
    RuntimeError : the file cannot be decoded
    """
    with sf.SoundFile(io.BytesIO(content)) as file:
        rate_hz, is_flac, n_frames = file.samplerate, file.format == "FLAC" and file.subtype == "PCM_16", file.frames
        samples = file.read(min(n_frames, round(longest_s * rate_hz)), dtype="float32", always_2d=True)
    is_cut = len(samples) < n_frames
    notes = [f"the first {duration_text(longest_s)}"] if is_cut else []
    mono = samples.mean(axis=1)
    peak = float(np.abs(mono).max(initial=0.0))
    picture, wave = _spectrogram(mono, rate_hz), _peaks(mono / peak if peak else mono)
    played, played_hz = samples, rate_hz
    if samples.shape[1] > 2:
        played, is_flac = mono[:, None], False
        notes.append(f"mixed down from {samples.shape[1]} channels")
    if not _LOWEST_HZ <= rate_hz <= _HIGHEST_HZ:
        played_hz = _PLAYED_LOW_HZ if rate_hz < _LOWEST_HZ else _PLAYED_HIGH_HZ
        played, is_flac = soxr.resample(played, rate_hz, played_hz), False
        notes.append(f"played at {played_hz / 1000:g} kHz")
    audio = content if is_flac and not is_cut else _flac(played, played_hz)
    return Playable(audio, picture, wave, peak, is_cut, tuple(notes), len(samples) / rate_hz, rate_hz / 2)


def _flac(samples: npt.NDArray[np.float32], rate_hz: int) -> bytes:
    sink = io.BytesIO()
    sf.write(sink, np.clip(samples, -1.0, 1.0), rate_hz, subtype="PCM_16", format="FLAC")
    return sink.getvalue()


def _peaks(mono: npt.NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return the least and the greatest sample in each of at most `COLUMNS` stretches."""
    if not len(mono):
        return []
    starts = np.unique(np.linspace(0, len(mono), min(COLUMNS, len(mono)), endpoint=False).astype(np.int64))
    low, high = np.minimum.reduceat(mono, starts), np.maximum.reduceat(mono, starts)
    return list(zip(np.clip(low, -1, 1).tolist(), np.clip(high, -1, 1).tolist(), strict=True))


def band_levels(
    mono: npt.NDArray[np.float32], rate_hz: int, most_columns: int = COLUMNS, n_bands: int = BANDS
) -> npt.NDArray[np.float64]:
    """Return levels of bands that are equally wide on the mel scale: [n_bands, n_columns], 0 for 70 dB below the loudest, 1 for that.

    There are at most `most_columns`; all are 0 in digital silence. The mel scale is 2595 log10(1 + f / 700 Hz) (O'Shaughnessy, 1987).
    """
    n_fft = 1 << max(6, round(np.log2(_WINDOW_S * rate_hz)))
    padded = np.pad(mono, (0, max(0, n_fft - len(mono))))
    n_columns = int(min(most_columns, max(1, 1 + (len(padded) - n_fft) // (n_fft // 16))))
    starts = np.linspace(0, len(padded) - n_fft, n_columns).astype(np.int64)
    frames = padded[starts[:, None] + np.arange(n_fft)] * np.hanning(n_fft).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    edges_hz = mel_to_hz(np.linspace(0, hz_to_mel(rate_hz / 2), n_bands + 1))
    places = np.clip(edges_hz / (rate_hz / 2) * (power.shape[1] - 1), 0, power.shape[1] - 1)
    sums = np.concatenate([np.zeros((n_columns, 1)), np.cumsum(power, axis=1)], axis=1)
    first = np.floor(places[:-1]).astype(np.int64)
    last = np.maximum(first + 1, np.ceil(places[1:]).astype(np.int64))
    bands = (sums[:, last] - sums[:, first]) / (last - first)
    level = 10 * np.log10(np.maximum(bands, 1e-12))
    if level.max() <= -119:  # digital silence
        return np.zeros_like(level.T)
    shown: npt.NDArray[np.float64] = np.clip((level - level.max() + RANGE_DB) / RANGE_DB, 0, 1).T
    return shown


def hz_to_mel(hz: float) -> float:
    """Return a frequency in Hz on the mel scale."""
    return float(2595 * np.log10(1 + hz / 700))


def mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return places on the mel scale in Hz."""
    return 700 * (10 ** (mel / 2595) - 1)


def _spectrogram(mono: npt.NDArray[np.float32], rate_hz: int) -> bytes:
    """Return a PNG of at most `COLUMNS` x `BANDS`."""
    from PIL import Image

    shown = band_levels(mono, rate_hz)
    picture = Image.fromarray(np.round(shown[::-1] * (_LEVELS - 1)).astype(np.uint8))
    picture.putpalette(_palette())
    sink = io.BytesIO()
    picture.save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _palette() -> list[int]:
    from matplotlib import colormaps

    colours = colormaps["magma"](np.linspace(0, 1, _LEVELS))[:, :3]
    palette: list[int] = np.round(colours * 255).astype(int).ravel().tolist()
    return palette


def drawn(clip: Playable, words: str, colour: str | None = None) -> Safe:
    """Return the waveform above the spectrogram as one SVG element.

    words : what clip it is, for those who do not see it
    colour : of the waveform; None: the page's
    """
    height = _WAVE + BANDS
    middle, reach = _WAVE / 2, _WAVE / 2 - 1
    step = COLUMNS / max(1, len(clip.wave))
    up = [f"{i * step:.1f},{middle - high * reach:.1f}" for i, (_, high) in enumerate(clip.wave)]
    down = [f"{i * step:.1f},{middle - low * reach:.1f}" for i, (low, _) in enumerate(clip.wave)]
    outline = (
        tag("path", d=f"M{' '.join(up + down[::-1])}Z", class_="wave", fill=colour, stroke=colour, stroke_width=0.5)
        if clip.wave
        else None
    )
    image = tag(
        "image", href=data_uri(clip.picture, "image/png"), x=0, y=_WAVE, width=COLUMNS, height=BANDS,
        preserveAspectRatio="none",
    )  # fmt: skip
    peak = f"{20 * np.log10(clip.peak):.1f} dBFS" if clip.peak else "none, as it is silent"
    size = f"{duration_text(clip.duration_s)}, up to {value_text(clip.top_hz / 1000, 'kHz')}"
    about = f"{words}: waveform, scaled to its peak ({peak}), and spectrogram of {size}"
    return tag(
        "svg", outline, image, viewBox=f"0 0 {COLUMNS} {height}", preserveAspectRatio="none", class_="sound", role="img",
        aria_label=about, xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def data_uri(content: bytes, kind: str) -> Safe:
    """Return bytes as an address that holds them. kind : their media type"""
    return Safe(f"data:{kind};base64,{base64.b64encode(content).decode()}")
