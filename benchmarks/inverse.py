"""What is left of a clip in its features: audio by `clipmill.inverse`, and how far its own features are from those it was made of.

    python -m benchmarks.inverse [RECORDING ...] [--table] [--n-iter 32]

Takes the first 5 s of each recording that is named; without any, of six of the demo's synthesised ones. `again` is the difference of the feature
itself, `bands` that of 64 mel bands up to 6 kHz; both in dB, as the median and the nine tenths of all values that are within 60 dB of the
clip's largest. `level` is the median difference of the clips' levels, and `time` seconds of audio per second of work on one core. librosa's
way is beside ours where it has one for the feature.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import librosa  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

import clipmill  # noqa: E402
from benchmarks.parity import read  # noqa: E402
from clipmill.pipelines.cli.demo_corpus import synthesise  # noqa: E402
from clipmill.schemas.columns import describe_columns, feature_fields  # noqa: E402
from clipmill.schemas.config.feature_config import Features  # noqa: E402
from clipmill.schemas.feature_presets import LOG_MEL, MFCC  # noqa: E402
from clipmill.stages.features.kernels.spectral import Spectral  # noqa: E402

_RATE_HZ = 16000
_CLIP_S = 5
_RANGE_DB = 60.0
_HEARD = {"n_fft": 1024, "hop_length": 256, "n_mels": 64, "fmax": 6000.0, "top_db": None}
Clip = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]
FEATURES: dict[str, dict[str, Any]] = {
    "spectrogram, phase": {"spectrogram": {"output": "magnitude", "phase": True}},
    "spectrogram in dB, phase": {"spectrogram": {"phase": True}},
    "spectrogram": {"spectrogram": {}},
    "log_mel": {"log_mel": {}},
    **{preset: {"log_mel": {"preset": preset}} for preset in LOG_MEL if preset != "nemo"},
    "mfcc": {"mfcc": {}},
    **{preset: {"mfcc": {"preset": preset}} for preset in MFCC},
}
"""What is inverted, as the keys of `features`."""
_LIBROSA: dict[str, Callable[[Floats, int], Floats]] = {
    "spectrogram": lambda v, n: librosa.griffinlim(librosa.db_to_amplitude(v), length=n, random_state=0),
    "log_mel": lambda v, n: librosa.feature.inverse.mel_to_audio(librosa.db_to_power(v), sr=_RATE_HZ, length=n),
    "mfcc": lambda v, n: librosa.feature.inverse.mfcc_to_audio(v, sr=_RATE_HZ, length=n),
}


class Front:
    """Compute one feature, and describe its columns as a snapshot does. keys : of `features`"""

    def __init__(self, keys: dict[str, Any]) -> None:
        preset = {**LOG_MEL, **MFCC}.get(next(iter(keys.values())).get("preset", ""), {})
        self.rate_hz = int(preset.get("model_rate_hz", _RATE_HZ))
        self.spec = Features.model_validate(keys)
        self.name = self.spec.names[0]
        self.column = {c["name"]: c for c in describe_columns(feature_fields(self.spec, self.rate_hz))}[self.name]
        self._spectral = Spectral(self.spec, self.rate_hz, "cpu")

    def __call__(self, clip: Clip | Floats) -> dict[str, Floats]:
        """Return a clip's features by name, float32 [bins, frames]."""
        return {name: values[0].astype(np.float32) for name, values in self._spectral([clip]).items()}

    def inverse(self, clip: Clip, **options: Any) -> Floats:
        """Return audio of a clip's features, float32 [samples]."""
        found = self(clip)
        return clipmill.inverse(found[self.name], self.column, phase=found.get("phase"), n_samples=len(clip), **options)

    def decibels(self, clip: Clip | Floats) -> Floats | None:
        """Return the feature in dB; None for coefficients."""
        values = self(clip)[self.name]
        if self.name == "log_mel":
            return values / np.float32(self.spec.log_mel.per_db)  # type: ignore[union-attr, arg-type]
        if self.name == "mfcc":
            return None
        is_magnitude = self.column["settings"]["output"] == "magnitude"
        return librosa.amplitude_to_db(values, top_db=None) if is_magnitude else values


class Found(NamedTuple):
    """Differences of one clip: in dB, of values near the loudest. again : None for coefficients"""

    again: Floats | None
    bands: Floats
    level: float
    largest: float


def heard_bands(rate_hz: int) -> Spectral:
    """Return what computes the mel bands by which all features are compared."""
    return Spectral(Features.model_validate({"log_mel": _HEARD}), rate_hz, "cpu")


def near_loudest(a: Floats, b: Floats) -> Floats:
    """Return the differences of two clips' values where the first one's are within 60 dB of their maximum."""
    return np.abs(a - b)[a > a.max() - _RANGE_DB]


def compared(front: Front, clip: Clip, y: Floats) -> Found:
    """Compare audio with the clip that it comes from."""
    x = clip.astype(np.float32) / 32768
    again = front.decibels(clip)
    if again is not None:
        again = near_loudest(again, front.decibels(y))  # type: ignore[arg-type]
    bands = heard_bands(front.rate_hz)
    ours, theirs = (bands([signal])["log_mel"][0].astype(np.float32) for signal in (x, y))
    level = 20 * np.log10(np.sqrt(np.mean(y.astype(float) ** 2)) / np.sqrt(np.mean(x.astype(float) ** 2)))
    return Found(again, near_loudest(ours, theirs), float(level), float(np.abs(x - y).max()))


def _line(name: str, found: Sequence[Found], speed: float) -> list[str]:
    def both(parts: Sequence[Floats]) -> str:
        values = np.concatenate(parts)
        return f"{np.median(values):.2f} / {np.quantile(values, 0.9):.2f}"

    again = both([f.again for f in found if f.again is not None]) if found[0].again is not None else ""
    level = f"{np.median([f.level for f in found]):+.1f}"
    largest = f"{max(f.largest for f in found):.0e}" if "phase" in name else ""
    return [name, again, both([f.bands for f in found]), level, largest, f"{speed:,.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--n-iter", type=int, default=32)
    parser.add_argument("--table", action="store_true", help="print Markdown")
    o = parser.parse_args()
    warnings.simplefilter("ignore")  # librosa's, of short clips
    line = "| {} | {} | {} | {} | {} | {} |" if o.table else "{:<28}{:>14}{:>14}{:>8}{:>9}{:>7}"
    print(line.format("feature", "again", "bands", "level", "largest", "time"))
    if o.table:
        print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        paths = o.recordings
        if not paths:
            synthesise(Path(place))
            paths = sorted(p for p in Path(place).rglob("*.*") if p.suffix in (".wav", ".flac") and p.stem != "199")
            paths = paths[:: len(paths) // 6][:6]
        for name, keys in FEATURES.items():
            front = Front(keys)
            clips = [read(path, front.rate_hz)[: _CLIP_S * front.rate_hz] for path in paths]
            clips = [clip for clip in clips if len(clip) >= 4096 and clip.any()]
            ways: dict[str, Callable[[Clip], Floats]] = {name: lambda clip: front.inverse(clip, n_iter=o.n_iter)}  # noqa: B023
            if name in _LIBROSA:
                ways[f"{name}, librosa"] = lambda clip: _LIBROSA[name](front(clip)[front.name], len(clip))  # noqa: B023
            for way, back in ways.items():
                back(clips[0])
                started = time.process_time()
                heard = [back(clip) for clip in clips]
                took = time.process_time() - started
                found = [compared(front, clip, y) for clip, y in zip(clips, heard, strict=True)]
                print(line.format(*_line(way, found, sum(map(len, clips)) / front.rate_hz / took)), flush=True)


if __name__ == "__main__":
    main()
