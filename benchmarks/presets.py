"""Presets on one core: seconds of audio per second of work, beside the log-mel of librosa's conventions, and what each preset's own steps cost.

    python -m benchmarks.presets [--seconds 120] [--rounds 5] [--only PRESET ...] [--table]

`plain` has the preset's rate, n_fft, hop_length and bands, and otherwise librosa's defaults. For each step of its own, the preset is also
timed without it; the difference is given in per cent of the plain log-mel's time. The least time of all rounds counts, in seconds of the
processor, and the rounds of all candidates of a preset alternate.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from clipmill.schemas.config.feature_config import Features  # noqa: E402
from clipmill.schemas.feature_presets import LOG_MEL, MFCC  # noqa: E402
from clipmill.stages.features.kernels.spectral import Spectral  # noqa: E402

_CLIP_S = 5.0
_PLAIN = ("n_fft", "hop_length", "n_mels", "n_mfcc")
_STEPS: dict[str, dict[str, Any]] = {
    "clip's mean": {"remove_mean": False},
    "frames' mean": {"remove_dc": False},
    "pre-emphasis": {"preemphasis": 0.0, "preemphasis_by": "clip"},
    "padding": {"pad_mode": "constant", "zeros_behind": 0},
    "energy": {"use_energy": False},
    "root": {"power": 2},
    "range": {"top_db": None},
    "scaling": {"subtract": 0.0, "divide_by": 1.0},
    "normalising": {"normalise": None},
    "own frames": {"frames_beyond": "keep"},
}
"""What a preset has of its own, and the keys that leave it out."""


def spectral(section: str, keys: dict[str, Any], rate_hz: int) -> Spectral:
    return Spectral(Features.model_validate({section: keys}), rate_hz, "cpu")


def candidates(preset: str) -> tuple[dict[str, Spectral], int]:
    """Return what is timed: the preset, the plain log-mel or MFCC of the same sizes, and the preset without each step; and the rate."""
    section, keys = ("log_mel", LOG_MEL[preset]) if preset in LOG_MEL else ("mfcc", MFCC[preset])
    rate_hz = keys.get("model_rate_hz", 16000)
    at_rate = Features.model_validate({section: {"preset": preset}}).at(rate_hz)
    mel: Any = at_rate.log_mel or at_rate.of_mfcc
    plain = {name: getattr(mel, name) for name in _PLAIN if name != "n_mfcc"}
    plain |= {"n_mfcc": keys["n_mfcc"]} if section == "mfcc" else {}
    found = {"preset": spectral(section, {"preset": preset}, rate_hz), "plain": spectral(section, plain, rate_hz)}
    for step, off in _STEPS.items():
        own = {key: value for key, value in off.items() if key in keys and keys[key] not in (value, "none")}
        if not own:
            continue
        if step == "pre-emphasis":
            own = {key: value for key, value in off.items() if key in keys}
        found[step] = spectral(section, {"preset": preset, **own}, rate_hz)
    return found, rate_hz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[*LOG_MEL, *MFCC])
    parser.add_argument("--table", action="store_true", help="print Markdown")
    o = parser.parse_args()
    torch.set_num_threads(1)
    line = "| {} | {} | {} | {} | {} |" if o.table else "{:<18}{:>12}{:>12}{:>10}   {}"
    print(line.format("preset", "x realtime", "plain", "time", "of which"))
    if o.table:
        print("|---|---|---|---|---|")
    today = {"n_fft": 1024, "hop_length": 160, "n_mels": 80}
    for name in ["log-mel of 1024", *o.only]:
        found, rate_hz = candidates(name) if name in o.only else ({"preset": spectral("log_mel", today, 16000)}, 16000)
        n = int(_CLIP_S * rate_hz)
        noise = (3000 * np.random.default_rng(0).standard_normal(n)).astype(np.int16)
        clips = [noise] * max(1, round(o.seconds / _CLIP_S))
        seconds: dict[str, list[float]] = {candidate: [] for candidate in found}
        for _ in range(o.rounds + 1):  # the first one warms up
            for candidate, features in found.items():
                started = time.process_time()
                features(clips)
                seconds[candidate].append(time.process_time() - started)
        least = {candidate: min(each[1:]) for candidate, each in seconds.items()}
        audio_s = len(clips) * _CLIP_S
        if "plain" not in least:
            print(line.format(name, f"{audio_s / least['preset']:,.0f}", "", "", ""), flush=True)
            continue
        costs = {
            step: (least["preset"] - least[step]) / least["plain"] for step in least if step not in ("preset", "plain")
        }
        print(
            line.format(
                name,
                f"{audio_s / least['preset']:,.0f}",
                f"{audio_s / least['plain']:,.0f}",
                f"{least['preset'] / least['plain'] - 1:+.0%}",
                ", ".join(f"{step} {cost:+.0%}" for step, cost in costs.items() if abs(cost) >= 0.005),
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
