"""Features on a GPU: how near they are to the floor of moving the bytes, and how they stand beside torchaudio. Without Ray.

    python -m benchmarks.gpu [--device cuda] [--hours 2] [--rounds 5] [--presets]

Needs torch, torchaudio, numpy and pyarrow alone. The clips are half a second to four seconds of 16-bit noise at 16 kHz; log-mel 80 and
MFCC 20 are computed of each. Prints, in x realtime of the clips:

  clipmill, from host memory     16-bit clips in ordinary memory to float32 features in ordinary memory
  clipmill, float16 back         the same with `dtype: float16`
  bytes moved                    the same bytes to the device and back from pinned memory, nothing computed: the floor
  clipmill, resident             the kernels alone, on clips that are on the device
  torchaudio, same batches       MelSpectrogram + AmplitudeToDB + MFCC on clips padded to the longest, from host memory
  torchaudio, resident           the same on clips that are on the device
  torchaudio, a clip a call      the same, clip by clip

With `--presets` it prints the same of each preset instead: from host memory, the bytes alone, and the kernels alone.

and the largest difference between the device's features and the CPU's. With `--device cpu` it runs anywhere, as a test of itself.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from clipmill.schemas.feature_presets import LOG_MEL, MFCC
from clipmill.schemas.frame_layout import Framing
from clipmill.stages.features.kernels.spectral import BATCH_S, Spectral
from clipmill.stages.features.kernels.transfer import batches

RATE_HZ, N_FFT, HOP, N_MELS, N_MFCC = 16000, 1024, 160, 80, 20

_FEW = 8  # clips at a time, of which torchaudio's frames stay in a CPU's caches


DEFAULTS: dict[str, Any] = {
    "n_fft": 2048, "hop_length": 512, "win_length": None, "window": "hann", "center": True, "pad_mode": "constant", "n_mels": 128, "fmin": 0.0,
    "fmax": None, "mel_scale": "slaney", "norm": "slaney", "power": 2, "top_db": 80.0, "epsilon": 0.0, "log": "db", "floor": None, "offset": 0.0,
    "subtract": 0.0, "divide_by": 1.0, "normalise": None, "pad_value": None,
}  # fmt: skip
"""Defaults of `log_mel`, for a machine without the package that checks configurations."""
OF_MFCC: dict[str, Any] = {"n_mfcc": N_MFCC, "lifter": 0.0, "lifter_from": 1, "use_energy": False}
PLAIN = {"n_fft": N_FFT, "hop_length": HOP, "n_mels": N_MELS}


def mel_of(keys: Mapping[str, Any], rate_hz: int) -> SimpleNamespace:
    """Return a log-mel at a sample rate, as `clipmill.schemas.config.mel_config.LogMel.at` does."""
    given = {**DEFAULTS, **{key: None if value == "none" else value for key, value in keys.items()}}
    for key, seconds in (("win_length", "win_s"), ("hop_length", "hop_s")):
        given[key] = round(given[seconds] * rate_hz) if seconds in given else given[key]
    if given.get("round_to_power_of_two"):
        given["n_fft"] = 1 << (given["win_length"] - 1).bit_length()
    given["fmax"] = rate_hz / 2 + given["fmax"] if (given["fmax"] or 0) < 0 else given["fmax"]
    return SimpleNamespace(**given, framing=Framing.of(given))


def spec(dtype: str, keys: Mapping[str, Any] = PLAIN, rate_hz: int = RATE_HZ, section: str = "both") -> Any:
    """Return what `clipmill.schemas.config.feature_config.Features` says. section : log_mel | mfcc | both"""
    mel = mel_of(keys, rate_hz)
    mfcc = SimpleNamespace(**{name: keys.get(name, default) for name, default in OF_MFCC.items()})
    log_mel, of_mfcc = mel if section != "mfcc" else None, mel if section != "log_mel" else None
    at_rate = SimpleNamespace(spectrogram=None, log_mel=log_mel, of_mfcc=of_mfcc)
    return SimpleNamespace(dtype=dtype, mfcc=mfcc if of_mfcc is not None else None, at=lambda rate_hz: at_rate)


def make_clips(hours: float) -> list[Any]:
    rng = np.random.default_rng(0)
    noise = (3000 * rng.standard_normal(RATE_HZ * 600)).astype(np.int16)
    clips, total = [], 0
    while total < hours * 3600 * RATE_HZ:
        n = RATE_HZ // 2 if rng.random() < 0.7 else int(rng.uniform(0.5, 4.0) * RATE_HZ)
        start = int(rng.integers(0, len(noise) - n))
        clips.append(noise[start : start + n].copy())
        total += n
    return clips


def timed(work: Callable[[], object], device: torch.device, rounds: int) -> list[float]:
    work()
    found = []
    for _ in range(rounds):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return found


class TorchaudioModules:
    """The same features by torchaudio.transforms, whose MFCC module computes a spectrogram of its own.

    Clips are padded to the longest of a batch, and the limit of dB counts from the batch's loudest value, so that a quiet clip comes
    out otherwise than alone: what these modules do with a batch, and not what clipmill gives.
    """

    def __init__(self, device: torch.device) -> None:
        import torchaudio

        mel = {
            "n_fft": N_FFT,
            "hop_length": HOP,
            "n_mels": N_MELS,
            "mel_scale": "slaney",
            "norm": "slaney",
            "pad_mode": "constant",
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.mel = torchaudio.transforms.MelSpectrogram(RATE_HZ, **mel).to(device)
            self.mfcc = torchaudio.transforms.MFCC(RATE_HZ, N_MFCC, melkwargs=mel).to(device)
        self.db = torchaudio.transforms.AmplitudeToDB("power", 80.0).to(device)
        self.dct = torchaudio.functional.create_dct(N_MFCC, N_MELS, "ortho").to(device)
        self.device = device

    def once(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The MFCCs from the log-mel, without the module for them."""
        log_mel = self.db(self.mel(y))
        return log_mel, (log_mel.transpose(-1, -2) @ self.dct).transpose(-1, -2)

    def __call__(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.db(self.mel(y)), self.mfcc(y)

    def padded(self, clips: Any) -> torch.Tensor:
        longest = max(len(c) for c in clips)
        laid = np.zeros((len(clips), longest), np.float32)
        for row, clip in zip(laid, clips, strict=True):
            row[: len(clip)] = clip
        return torch.from_numpy(laid).mul_(1 / 32768)


def moved(batch: Any, device: torch.device, n_values: int, dtype: torch.dtype) -> Callable[[], object]:
    """Return a call that moves as many bytes as a batch's clips and features have, to the device and back."""
    pin = device.type == "cuda"
    up = torch.zeros(sum(len(c) for c in batch), dtype=torch.int16, pin_memory=pin)
    there = torch.zeros(n_values, dtype=dtype, device=device)
    back = torch.zeros(n_values, dtype=dtype, pin_memory=pin)

    def move() -> None:
        up.to(device, non_blocking=True, copy=True)
        back.copy_(there, non_blocking=True)

    return move


def print_presets(clips: list[Any], device: torch.device, rounds: int) -> None:
    """Print the speed of each preset. Clips count as being of the preset's rate."""
    print(f"\n{'x realtime':<20}{'from host':>12}{'bytes alone':>13}{'of floor':>10}{'resident':>12}{'differs':>10}")
    for name, keys in {"log-mel of 1024": PLAIN, **LOG_MEL, **MFCC}.items():
        section = "mfcc" if name in MFCC else "log_mel"
        host, floor, kernels, worst = of_preset(keys, section, clips, device, rounds)
        print(
            f"{name:<20}{host:>12,.0f}{floor:>13,.0f}{floor / host:>9.1f}x{kernels:>12,.0f}{worst:>10.1g}", flush=True
        )


def of_preset(
    keys: Mapping[str, Any], section: str, clips: list[Any], device: torch.device, rounds: int
) -> tuple[float, float, float, float]:
    """Return the speed from host memory, of the bytes alone and of the kernels alone, and the largest difference from the CPU."""
    rate_hz = keys.get("model_rate_hz", RATE_HZ)
    about = spec("float32", keys, rate_hz, section)
    features, audio_s = Spectral(about, rate_hz, device.type), sum(map(len, clips)) / rate_hz
    (framing,) = features._plans
    parts = list(batches(clips, int(BATCH_S[device.type] * rate_hz)))
    resident = [features._transfer.upload(part, framing) for part in parts]
    n_bins = keys["n_mfcc"] if section == "mfcc" else keys["n_mels"]
    moves = [moved(p, device, r.n_frames * n_bins, torch.float32) for p, r in zip(parts, resident, strict=True)]
    works: list[Callable[[], object]] = [
        lambda: features(clips),
        lambda: [move() for move in moves],
        lambda: [features.compute(batch, framing) for batch in resident],
    ]
    with torch.inference_mode():
        host, floor, kernels = (audio_s / statistics.median(timed(work, device, rounds)) for work in works)
    few = clips[:50]
    there, here = features(few)[section], Spectral(about, rate_hz, "cpu")(few)[section]
    return host, floor, kernels, max(float(np.abs(a - b).max()) for a, b in zip(there, here, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", action="store_true", help="time each preset")
    o = parser.parse_args()
    device = torch.device(o.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    clips = make_clips(o.hours)
    audio_s = sum(len(c) for c in clips) / RATE_HZ
    parts = list(batches(clips, int(BATCH_S[device.type] * RATE_HZ)))
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
    print(
        f"{name}, torch {torch.__version__}: {len(clips):,} clips, {audio_s:,.0f} s, {len(parts)} batches, {o.rounds} rounds"
    )

    if o.presets:
        print_presets(clips, device, o.rounds)
        return
    full, half = Spectral(spec("float32"), RATE_HZ, o.device), Spectral(spec("float16"), RATE_HZ, o.device)
    modules = TorchaudioModules(device)
    (framing,) = full._plans
    resident = [full._transfer.upload(p, framing) for p in parts]
    padded = [modules.padded(p).to(device) for p in parts]
    frames = [r.n_frames for r in resident]
    moves = {
        d: [moved(p, device, n * (N_MELS + N_MFCC), d) for p, n in zip(parts, frames, strict=True)]
        for d in (torch.float32, torch.float16)
    }

    def from_host() -> None:
        for part in parts:
            for values in modules(modules.padded(part).to(device)):
                values.cpu()

    by_length = sorted(clips, key=len)

    def at_best() -> None:
        for start in range(0, len(by_length), _FEW):
            for values in modules.once(modules.padded(by_length[start : start + _FEW]).to(device)):
                values.cpu()

    few = clips[: max(1, len(clips) // 50)]

    def clip_by_clip() -> None:
        for clip in few:
            for values in modules(torch.from_numpy(clip).to(device).to(torch.float32).mul_(1 / 32768)):
                values.cpu()

    rows: dict[str, tuple[Callable[[], object], float]] = {
        "clipmill, from host memory": (lambda: full(clips), audio_s),
        "clipmill, float16 back": (lambda: half(clips), audio_s),
        "bytes moved": (lambda: [m() for m in moves[torch.float32]], audio_s),
        "bytes moved, float16 back": (lambda: [m() for m in moves[torch.float16]], audio_s),
        "clipmill, resident": (lambda: [full.compute(r, framing) for r in resident], audio_s),
        "torchaudio, same batches": (from_host, audio_s),
        "torchaudio, resident": (lambda: [modules(p) for p in padded], audio_s),
        f"torchaudio, {_FEW} by length, mel once": (at_best, audio_s),
        "torchaudio, a clip a call": (clip_by_clip, sum(len(c) for c in few) / RATE_HZ),
    }
    speed: dict[str, float] = {}
    print(f"\n{'':<36}{'x realtime':>14}{'least':>14}{'greatest':>14}")
    with torch.inference_mode():
        for row, (work, seconds) in rows.items():
            speeds = [seconds / s for s in timed(work, device, o.rounds)]
            speed[row] = statistics.median(speeds)
            print(f"{row:<36}{speed[row]:>14,.0f}{min(speeds):>14,.0f}{max(speeds):>14,.0f}", flush=True)
    host = speed["clipmill, from host memory"]
    print(
        f"\nagainst torchaudio on the same batches, from host memory: {host / speed['torchaudio, same batches']:.1f} x"
    )
    print(f"against torchaudio, resident: {speed['clipmill, resident'] / speed['torchaudio, resident']:.1f} x")
    print(f"against torchaudio at its best here: {host / speed[f'torchaudio, {_FEW} by length, mel once']:.1f} x")
    print(f"against torchaudio, a clip a call: {host / speed['torchaudio, a clip a call']:.1f} x")
    print(
        f"moving the bytes alone is faster by {speed['bytes moved'] / host:.1f} x"
        f" (float16: {speed['bytes moved, float16 back'] / speed['clipmill, float16 back']:.1f} x)"
    )
    there, here = full(clips[:200]), Spectral(spec("float32"), RATE_HZ, "cpu")(clips[:200])
    for feature, values in there.items():
        worst = max(float(np.abs(a - b).max()) for a, b in zip(values, here[feature], strict=True))
        print(f"{feature}: differs from the CPU by at most {worst:.2g}")


if __name__ == "__main__":
    main()
