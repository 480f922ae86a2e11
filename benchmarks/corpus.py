"""A corpus like UrbanSound's for benchmarks: events in quiet noise, several containers, rates and channel counts, a sidecar each.

    python -m benchmarks.corpus FOLDER --hours 1

FOLDER/data/<class>/<id>.<extension> are the recordings, and <id>.csv beside each has one line an event: start, end (seconds),
salience, class. Half of the recordings are WAV, a quarter FLAC, an eighth each Ogg Vorbis and MP3; 30 s long on average. The
same arguments give the same samples.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf

CLASSES = ("dog_bark", "rain", "siren", "jackhammer", "drilling", "street_music", "car_horn", "engine_idling")
KINDS = {
    "wav": (44100, 2, "PCM_16", 0.5),
    "flac": (48000, 1, "PCM_24", 0.25),
    "ogg": (44100, 2, "VORBIS", 0.125),
    "mp3": (22050, 1, "MPEG_LAYER_III", 0.125),
}
"""By extension: sample rate in Hz, channels, libsndfile's subtype, share of the recordings."""
MEAN_S = 30.0
EVENT_S = 5.0
_BLOCK_FRAMES = 65536  # libsndfile's Vorbis encoder crashes on one long write


def make_corpus(
    folder: Path,
    hours: float,
    *,
    kinds: str = "wav,flac,ogg,mp3",
    events_per_minute: float = 6.0,
    mean_s: float = MEAN_S,
    seed: int = 0,
) -> float:
    """Write recordings of so many hours in all; return their exact length in seconds."""
    chosen = kinds.split(",")
    shares = np.array([KINDS[k][3] for k in chosen])
    total_s = 0.0
    number = 0
    while total_s < hours * 3600:
        rng = np.random.default_rng([seed, number])
        extension = chosen[rng.choice(len(chosen), p=shares / shares.sum())]
        seconds = float(np.clip(rng.lognormal(np.log(mean_s) - 0.32, 0.8), 2.0, 20 * mean_s))
        label = CLASSES[number % len(CLASSES)]
        place = folder / "data" / label
        place.mkdir(parents=True, exist_ok=True)
        n_events = max(1, int(rng.poisson(seconds / 60 * events_per_minute)))
        rate, channels, subtype, _ = KINDS[extension]
        samples, events = recording(rng, seconds, rate, channels, n_events)
        path = place / f"{100000 + number}.{extension}"
        with sf.SoundFile(path, "w", rate, channels, subtype=subtype) as file:
            for start in range(0, len(samples), _BLOCK_FRAMES):
                file.write(samples[start : start + _BLOCK_FRAMES])
        lines = (f"{start:.6f},{end:.6f},{salience},{label}\n" for start, end, salience in events)
        path.with_suffix(".csv").write_text("".join(lines))
        total_s += len(samples) / rate
        number += 1
    return total_s


def recording(
    rng: np.random.Generator, seconds: float, rate: int, channels: int, n_events: int
) -> tuple[npt.NDArray[np.float32], list[tuple[float, float, int]]]:
    """Return a recording, float32 [frames, channels], and its events: start and end in seconds, salience 1 or 2."""
    n = int(seconds * rate)
    y = (rng.standard_normal((n, channels), dtype=np.float32) * np.float32(10 ** (-62 / 20))).astype(np.float32)
    events = []
    for _ in range(n_events):
        start = int(rng.uniform(0, max(1, n - rate)))
        t = np.arange(min(int(EVENT_S * rate), n - start), dtype=np.float32) / rate
        salience = int(rng.integers(1, 3))
        swell = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.2, 2.0) * t)
        sweep = np.sin(2 * np.pi * (rng.uniform(150, 3000) * t + rng.uniform(-100, 100) * t * t))
        event = swell * (0.4 * sweep + 0.1 * rng.standard_normal(len(t))) * (1.0 if salience == 1 else 0.25)
        y[start : start + len(t)] += (event[:, None] * rng.uniform(0.3, 1.0, channels)).astype(np.float32)
        events.append((start / rate, (start + len(t)) / rate, salience))
    np.clip(y, -0.999, 0.999, out=y)
    return y, sorted(events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--kinds", default="wav,flac,ogg,mp3", help="containers to use")
    parser.add_argument("--events-per-minute", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    total_s = make_corpus(o.folder, o.hours, kinds=o.kinds, events_per_minute=o.events_per_minute, seed=o.seed)
    print(f"{total_s:,.0f} s in {o.folder}")


if __name__ == "__main__":
    main()
