"""How close each preset is to the front end that it stands for: the largest difference from the code of others, by kind of clip.

    python -m benchmarks.parity [RECORDING ...] [--table] [--only PRESET ...]

Takes made-up signals, and the recordings that are named; without any, the demo's synthesised corpus. Each is resampled to the preset's rate
and rounded to 16 bits. A reference that is not installed is named and left out. `--table` prints Markdown, as docs/features.md has it.
Exits 1 if shapes differ.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from benchmarks.front_ends import FRONT_ENDS, made_clips
from clipmill.pipelines.cli.demo_corpus import synthesise
from clipmill.schemas.config.feature_config import Features
from clipmill.schemas.feature_presets import LOG_MEL, MFCC
from clipmill.schemas.units import to_pcm16
from clipmill.stages.features.kernels.spectral import Spectral

_RATE_HZ = 16000
_LONGEST_S = 30
Clip = npt.NDArray[np.int16]


def rate_of(preset: str) -> int:
    """Return the sample rate that a preset is for, 16 kHz if it is for any."""
    return int({**LOG_MEL, **MFCC}[preset].get("model_rate_hz", _RATE_HZ))


def section_of(preset: str) -> str:
    """Return log_mel or mfcc."""
    return "log_mel" if preset in LOG_MEL else "mfcc"


def computed(preset: str, clips: Sequence[Clip]) -> list[npt.NDArray[np.float32]]:
    """Return a preset's features of clips, float32 [bins, frames]."""
    section = section_of(preset)
    return Spectral(Features.model_validate({section: {"preset": preset}}), rate_of(preset), "cpu")(clips)[section]


def read(path: Path, rate_hz: int) -> Clip:
    """Return the first 30 s of a recording, mixed to mono and resampled."""
    y, rate = sf.read(path, dtype="float32", always_2d=True)
    y = y[: _LONGEST_S * rate].mean(1)
    return to_pcm16(soxr.resample(y, rate, rate_hz) if rate != rate_hz else y)[0]


def long_enough(preset: str, clip: Clip) -> bool:
    spec = Features.model_validate({section_of(preset): {"preset": preset}}).at(rate_of(preset))
    # torch and librosa pad by reflection only what is longer than the padding.
    return len(clip) >= max(spec.min_samples, 1600)


def differences(preset: str, clips: Mapping[str, Clip]) -> dict[str, dict[str, float]]:
    """Return the largest difference from each reference that is installed, by clip. Raises ValueError if shapes differ."""
    chosen = {name: clip for name, clip in clips.items() if long_enough(preset, clip)}
    ours = computed(preset, list(chosen.values()))
    found: dict[str, dict[str, float]] = {}
    for reference, compute in FRONT_ENDS[preset].items():
        with contextlib.suppress(ImportError):
            for (name, clip), mine in zip(chosen.items(), ours, strict=True):
                with contextlib.redirect_stderr(io.StringIO()):
                    theirs = compute(clip.astype(np.float32) / 32768)
                if theirs.shape != mine.shape:
                    raise ValueError(f"{preset}, {name}: {reference} gives {theirs.shape}, clipmill {mine.shape}")
                found.setdefault(reference, {})[name] = float(np.abs(theirs - mine).max(initial=0.0))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--table", action="store_true", help="print Markdown")
    parser.add_argument("--only", nargs="*", default=list(FRONT_ENDS), help="presets")
    o = parser.parse_args()
    line = "| {} | {} | {} | {} | {} |" if o.table else "{:<16}{:<22}{:>14}{:>14}   {}"
    print(line.format("preset", "reference", "chirp", "recordings", "largest, made-up signals"))
    if o.table:
        print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = o.recordings
        if not paths:
            synthesise(Path(folder))
            paths = sorted(p for p in Path(folder).rglob("*.*") if p.suffix in (".wav", ".flac") and p.stem != "199")
        for preset in o.only:
            made = made_clips(rate_of(preset))
            recorded = {str(path): read(path, rate_of(preset)) for path in paths}
            by_reference = differences(preset, {**made, **recorded})
            for reference in FRONT_ENDS[preset]:
                if reference not in by_reference:
                    print(line.format(preset, reference, "-", "-", "not installed"))
                    continue
                of = by_reference[reference]
                worst = max(made, key=lambda name: of.get(name, 0.0))
                of_recorded = max((v for name, v in of.items() if name in recorded), default=0.0)
                print(
                    line.format(
                        preset, reference, f"{of['chirp']:.1e}", f"{of_recorded:.1e}", f"{of[worst]:.1e} ({worst})"
                    ),
                    flush=True,
                )
    print(f"\n{len(paths)} recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
