"""Synthesise the corpus of the demo: events such as dog barks in noise, annotated; some recordings are silent, one is corrupt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf

Audio = npt.NDArray[np.float64]
_SECONDS = 8.0
_KINDS = (
    ("wav", 44100, 2, "PCM_16"),
    ("flac", 48000, 1, "PCM_24"),
    ("wav", 22050, 1, "PCM_16"),
    ("flac", 16000, 2, "PCM_16"),
)


def _bark(rng: np.random.Generator, rate: int) -> Audio:
    """Return two short yelps: falling harmonic tones with breath noise and a sharp attack."""
    yelps = []
    for _ in range(2):
        t = np.arange(int(0.22 * rate)) / rate
        pitch = rng.uniform(450, 700) * np.exp(-2.5 * t)
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        tone = sum(np.sin(k * phase) / k for k in range(1, 9) if k * 700 < rate / 2)
        envelope = np.minimum(t / 0.01, 1) * np.exp(-9 * t)
        yelps += [(tone + 0.3 * rng.standard_normal(len(t))) * envelope, np.zeros(int(0.12 * rate))]
    return np.concatenate(yelps)


def _siren(rng: np.random.Generator, rate: int) -> Audio:
    t = np.arange(int(2.0 * rate)) / rate
    pitch = 900 + 350 * np.sin(2 * np.pi * rng.uniform(0.6, 1.2) * t)
    return np.asarray(np.sin(2 * np.pi * np.cumsum(pitch) / rate))


def _rain(rng: np.random.Generator, rate: int) -> Audio:
    noise = rng.standard_normal(int(2.5 * rate))
    return np.asarray(np.diff(noise, prepend=0.0) * np.hanning(len(noise)))


def _clock(rng: np.random.Generator, rate: int) -> Audio:
    tick = np.zeros(int(2.0 * rate))
    for at in range(0, len(tick), rate // 2):
        n = min(int(0.02 * rate), len(tick) - at)
        tick[at : at + n] = rng.standard_normal(n) * np.exp(-np.arange(n) / (0.003 * rate))
    return tick


_EVENTS: dict[str, Callable[[np.random.Generator, int], Audio]] = {
    "dog_bark": _bark, "siren": _siren, "rain": _rain, "clock_tick": _clock,
}  # fmt: skip


def synthesise(folder: Path, seed: int = 0) -> int:
    """Write 25 recordings of 8 s and their annotations, one folder per class; return their number."""
    n = 0
    for number, (name, event) in enumerate(_EVENTS.items()):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for k in range(6):
            rng = np.random.default_rng([seed, number, k])
            extension, rate, channels, subtype = _KINDS[k % len(_KINDS)]
            silent = k == 5
            y = rng.standard_normal((int(_SECONDS * rate), channels)) * 10 ** ((-90 if silent else -60) / 20)
            rows = []
            for start_s in () if silent else sorted(rng.uniform(0.2, _SECONDS - 3.0, 2)):
                sound = event(rng, rate)
                sound = 0.4 * sound / np.abs(sound).max()
                start = int(start_s * rate)
                y[start : start + len(sound)] += sound[:, None] * rng.uniform(0.5, 1.0, channels)
                rows.append(f"{start / rate:.6f},{(start + len(sound)) / rate:.6f},1,{name}\n")
            if silent:
                rows.append(f"1.000000,3.000000,2,{name}\n")
            stem = f"{100 * (number + 1) + k}"
            sf.write(place / f"{stem}.{extension}", np.clip(y, -0.99, 0.99), rate, subtype=subtype)
            (place / f"{stem}.csv").write_text("".join(rows))
            n += 1
    # A file that ends in the middle, like an interrupted copy.
    whole = (folder / "dog_bark" / "101.flac").read_bytes()
    (folder / "dog_bark" / "199.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "dog_bark" / "199.csv").write_text("0.500000,1.500000,1,dog_bark\n")
    return n + 1
