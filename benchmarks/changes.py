"""What each change to the hot path gives: the way it was, or would be, beside the way it is, on the same audio.

    python -m benchmarks.changes [--minutes 10] [--rounds 5]

One core, one process. Each pair runs in turns; the table gives the milliseconds that an hour of audio takes, and what the
way it is gains (median, least and greatest over the rounds). Pairs that must give the same numbers are compared first.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
import torch

from benchmarks.contenders.clipmill_build import configured
from benchmarks.contenders.kernels import Kernels
from benchmarks.corpus import make_corpus, recording
from benchmarks.work import HOP_LENGTH, N_FFT, N_MELS, N_MFCC, RATE_HZ, WINDOW_S
from clipmill.pipelines.run.cluster import WORKER_ENV
from clipmill.schemas.config.feature_config import Features
from clipmill.schemas.units import to_pcm16
from clipmill.stages.arrow_rows import float_lists
from clipmill.stages.decode.containers import Container
from clipmill.stages.decode.cursor import Cursor as _Cursor
from clipmill.stages.decode.readers import SoundFileReader
from clipmill.stages.downmix import mono
from clipmill.stages.features.kernels.mel_filters import bands, mel_filters
from clipmill.stages.features.kernels.spectral import Spectral
from clipmill.stages.write.shard_files import ROW_GROUP_ROWS

TOP = Path(__file__).parents[1]
SOURCE_RATE_HZ = 44100
PIECE_FRAMES = 30 * SOURCE_RATE_HZ
BLOCK_FRAMES = 1 << 17


class Pair(NamedTuple):
    """One change. before, after : do the same work; what they return is compared unless `tolerance` is None."""

    name: str
    before: Callable[[], Any]
    after: Callable[[], Any]
    tolerance: float | None = None


def decoding(path: Path) -> Pair:
    def blocks() -> None:
        with sf.SoundFile(path) as file:
            while True:
                parts = [file.read(BLOCK_FRAMES, dtype="float32", always_2d=True) for _ in range(11)]
                if not len(np.concatenate(parts)):
                    return

    def in_place() -> None:
        reader = SoundFileReader(str(path))
        cursor = _Cursor(reader, False, Container("wav"), lambda: None)
        for start in range(0, reader.n_frames or 0, PIECE_FRAMES):
            cursor.take(start, start + PIECE_FRAMES)
        reader.close()

    return Pair("decode into one buffer, not into blocks that are put together", blocks, in_place)


def mixing(y: npt.NDArray[np.float32]) -> Pair:
    return Pair("mix by a matrix product, not by mean(axis)", lambda: y.mean(axis=1), lambda: mono(y), 1e-6)


def rounding(y: npt.NDArray[np.float32]) -> Pair:
    length = round(WINDOW_S * RATE_HZ)
    places = range(0, len(y) - length + 1, length)

    def each() -> Any:
        return np.concatenate([to_pcm16(y[a : a + length])[0] for a in places])

    def at_once() -> Any:
        pcm, _ = to_pcm16(y)
        return np.concatenate([pcm[a : a + length] for a in places])

    return Pair("to 16 bit by the chunk, not the clip", each, at_once, 0)


def power(bins: list[torch.Tensor]) -> Pair:
    return Pair(
        "power from two squares, not from a sum over an axis of two",
        lambda: [torch.view_as_real(b).square().sum(-1) for b in bins],
        lambda: [b.real.square().add_(b.imag.square()) for b in bins],
        1e-3,
    )


def mel(powers: list[torch.Tensor]) -> Pair:
    filters = mel_filters(RATE_HZ, N_FFT, N_MELS, 0.0, None, "slaney", "slaney")
    whole, banded = torch.from_numpy(filters.T.copy()), bands(filters, 16)

    def by_band(p: torch.Tensor) -> torch.Tensor:
        out = torch.empty((len(p), N_MELS))
        for first, last, low, high, weights in banded:
            out[:, first:last] = (p[:, low:high] @ weights)[:, : last - first]
        return out

    return Pair(
        "mel filters in bands of 16, not one product with zeros",
        lambda: [p @ whole for p in powers],
        lambda: [by_band(p) for p in powers],
        1e-3,
    )


def features(clips: npt.NDArray[np.int16]) -> Pair:
    kernels = Kernels()
    spec = Features.model_validate(
        {"log_mel": {"n_fft": N_FFT, "hop_length": HOP_LENGTH, "n_mels": N_MELS}, "mfcc": {"n_mfcc": N_MFCC}}
    )
    spectral = Spectral(spec, RATE_HZ, "cpu")

    def plain() -> Any:
        return np.concatenate([kernels.features(clips[i : i + 60])[0] for i in range(0, len(clips), 60)])

    def ours() -> Any:
        return np.stack(spectral(list(clips))["log_mel"])

    return Pair("features of all clips in blocks of frames, not torch.stft by the recording", plain, ours, 1e-3)


def storing(log_mel: list[npt.NDArray[np.float32]]) -> Pair:
    flat = [v.reshape(-1) for v in log_mel]

    def write(rows: int, split: bool) -> None:
        sink = io.BytesIO()
        schema = pa.schema([("log_mel", pa.large_list(pa.float32()))])
        by_significance = ["log_mel.list.element"] if split else False
        with pq.ParquetWriter(
            sink, schema, compression="zstd", compression_level=1, use_dictionary=False,
            use_byte_stream_split=by_significance,
        ) as writer:  # fmt: skip
            for i in range(0, len(flat), rows):
                writer.write_table(pa.table([float_lists(flat[i : i + rows])], schema=schema))

    return Pair(
        "Parquet: floats by significance, groups of 100 rows, not plain in groups of 2,000",
        lambda: write(2000, False),
        lambda: write(ROW_GROUP_ROWS, True),
    )


def memory(folder: Path, hours: float) -> Pair:
    """The whole chain in a process of its own: what malloc and Arrow are told is read when a process starts."""
    make_corpus(folder / "corpus", hours)
    config = configured(folder / "corpus", folder / "out")
    program = (
        "import shutil, sys\nfrom benchmarks.stages import run\n"
        "seconds = run(sys.argv[1]).work_s\nshutil.rmtree(sys.argv[2])\nprint(seconds)"
    )
    told = {name for name in WORKER_ENV if name.startswith(("MALLOC_", "ARROW_"))}
    threads = {name: value for name, value in WORKER_ENV.items() if name.endswith("_THREADS")}

    def chain(extra: dict[str, str]) -> float:
        plain = {name: value for name, value in os.environ.items() if name not in told}
        done = subprocess.run(
            [sys.executable, "-c", program, config, str(folder / "out")],
            env={**plain, **threads, **extra}, check=True, capture_output=True, text=True, cwd=TOP,
        )  # fmt: skip
        return float(done.stdout.split()[-1])

    return Pair(
        "all stages: freed memory kept, not given back",
        lambda: chain({}),
        lambda: chain({name: WORKER_ENV[name] for name in told}),
    )


def same(pair: Pair) -> None:
    if pair.tolerance is None:
        return
    before, after = pair.before(), pair.after()
    whole = [np.concatenate([np.asarray(v) for v in x]) if isinstance(x, list) else x for x in (before, after)]
    scale = max(1.0, float(np.abs(whole[0]).max()))
    np.testing.assert_allclose(whole[1] / scale, whole[0] / scale, rtol=0, atol=pair.tolerance, err_msg=pair.name)


def seconds(work: Callable[[], Any]) -> float:
    """Return what a piece of work took: what it says of itself, or the time of the call."""
    started = time.perf_counter()
    told = work()
    return told if isinstance(told, float) else time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of audio to try each pair on")
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    source, _ = recording(rng, o.minutes * 60, SOURCE_RATE_HZ, 2, int(6 * o.minutes))
    y, _ = recording(rng, o.minutes * 60, RATE_HZ, 1, int(6 * o.minutes))
    length = round(WINDOW_S * RATE_HZ)
    clips = to_pcm16(y.reshape(-1))[0][: len(y) // length * length].reshape(-1, length)
    with tempfile.TemporaryDirectory(prefix="clipmill-bench-") as place, torch.inference_mode():
        folder = Path(place)
        sf.write(folder / "long.wav", source, SOURCE_RATE_HZ, subtype="PCM_16")
        frames = torch.from_numpy(clips[:, :N_FFT].astype(np.float32) / 32768)
        n_blocks = max(1, round(o.minutes * 60 * RATE_HZ / HOP_LENGTH / len(frames)))
        bins = [torch.fft.rfft(frames) for _ in range(n_blocks)]
        powers = [b.abs().square() for b in bins]
        log_mel = list(Kernels().features(clips)[0])
        pairs = [
            decoding(folder / "long.wav"), mixing(source), rounding(y.reshape(-1)), power(bins), mel(powers),
            features(clips), storing(log_mel), memory(folder, o.minutes / 60),
        ]  # fmt: skip
        print(f"{'ms for an hour of audio':<80}{'before':>9}{'after':>9}   times as fast")
        for pair in pairs:
            same(pair)
            times = [(seconds(pair.before), seconds(pair.after)) for _ in range(o.rounds)]
            before, after = (statistics.median(t) * 60 / o.minutes * 1000 for t in zip(*times, strict=True))
            ratios = [b / a for b, a in times]
            told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            print(f"{pair.name:<80}{before:>9,.0f}{after:>9,.0f}   {told}", flush=True)


if __name__ == "__main__":
    main()
