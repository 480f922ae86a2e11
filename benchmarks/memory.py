"""How much memory a build takes: every process of it watched while it runs, for corpora and recordings of many sizes.

    python -m benchmarks.memory                      1 h, 10 h, a 10-hour recording as WAV and as FLAC, 1 h of 25 channels,
                                                     8 hours of MP3, 8 hours in a FLAC of 100 KB
    python -m benchmarks.memory --cases "100 h"      ten times the corpus of 10 h, as links

Prints, for each case, the largest resident memory of a worker, of the process that decodes beside it, of the driver, the
largest sum over the process tree (proportional, so that shared pages count once), and what Ray spilled to disk.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import psutil
import soundfile as sf

from benchmarks.contenders.clipmill_build import configured
from benchmarks.corpus import make_corpus, recording

TOP = Path(__file__).parents[1]
_EVERY_S = 0.2
_FLAC_BLOCK = 65535


def corpus_of(hours: float) -> Callable[[Path], None]:
    return lambda folder: (make_corpus(folder, hours), None)[1]


def repeated(hours: float, times: int) -> Callable[[Path], None]:
    """Make a corpus and give each of its recordings so many names."""

    def make(folder: Path) -> None:
        make_corpus(folder, hours)
        for path in sorted((folder / "data").rglob("*.*")):
            for k in range(1, times):
                os.link(path, path.with_name(f"{k}-{path.name}"))

    return make


def long(extension: str, hours: float = 10.0, rate: int = 44100, channels: int = 2) -> Callable[[Path], None]:
    """Make one recording of many hours."""

    def make(folder: Path) -> None:
        place = folder / "data" / "long"
        place.mkdir(parents=True)
        minute, _ = recording(np.random.default_rng(0), 60.0, rate, channels, 6)
        form = "RF64" if extension == "wav" else extension.upper()  # a WAV of more than 4 GB
        with sf.SoundFile(place / f"long.{extension}", "w", rate, channels, "PCM_16", format=form) as file:
            for _ in range(round(hours * 60)):
                file.write(minute)

    return make


def long_mp3(hours: float) -> Callable[[Path], None]:
    """Make one MP3 of many hours, 64 kbit/s at 22,050 Hz: the frames of one minute over and over, without a count of them."""

    def make(folder: Path) -> None:
        samples, _ = recording(np.random.default_rng(0), 60.0, 22050, 1, 6)
        sink = io.BytesIO()
        with av.open(sink, "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as file:
            track = file.add_stream("mp3", rate=22050, layout="mono")
            track.bit_rate = 64000
            _encode(file, track, np.ascontiguousarray(samples.reshape(1, -1), np.float32), "fltp")
            file.mux(track.encode(None))
        place = folder / "data" / "long"
        place.mkdir(parents=True)
        with open(place / "long.mp3", "wb") as joined:
            for _ in range(round(hours * 60)):
                joined.write(sink.getvalue())

    return make


def small_flac(hours: float, rate: int = 16000) -> Callable[[Path], None]:
    """Make a FLAC of many hours in few bytes: a constant at -20 dBFS, over silence.min_dbfs, in blocks as large as can be."""

    def make(folder: Path) -> None:
        place = folder / "data" / "long"
        place.mkdir(parents=True)
        block = np.full((1, _FLAC_BLOCK), 3277, np.int16)
        with av.open(str(place / "small.flac"), "w", format="flac") as file:
            options = {"frame_size": str(_FLAC_BLOCK), "strict": "-2"}
            track = file.add_stream("flac", rate=rate, layout="mono", options=options)
            track.format = "s16"
            for _ in range(round(hours * 3600 * rate / _FLAC_BLOCK)):
                _encode(file, track, block, "s16")
            file.mux(track.encode(None))

    return make


def _encode(file: Any, track: Any, samples: npt.NDArray[Any], form: str) -> None:
    frame = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
    frame.sample_rate = track.rate
    file.mux(track.encode(frame))


CASES: dict[str, Callable[[Path], None]] = {
    "1 h": corpus_of(1),
    "10 h": corpus_of(10),
    "100 h": repeated(10, 10),
    "one WAV of 10 h": long("wav"),
    "one FLAC of 10 h": long("flac"),
    "1 h of 25 channels": long("wav", hours=1.0, rate=48000, channels=25),
    "one MP3 of 8 h": long_mp3(8),
    "100 KB FLAC of 8 h": small_flac(8),
}


def kind_of(process: psutil.Process, driver: int) -> str | None:
    if process.pid == driver:
        return "driver"
    command = " ".join(process.cmdline())
    if "clipmill.pipelines.run.sandbox_child" in command:
        return "decoding"
    return "worker" if "ray::" in command else None


def watch(process: subprocess.Popen[str], place: Path) -> dict[str, float]:
    """Return peaks in MB by kind of process until the build ends, and of what Ray spilled, which it removes as it ends."""
    peaks: dict[str, float] = defaultdict(float)
    while process.poll() is None:
        together = 0.0
        try:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for one in tree:
            try:
                memory = one.memory_full_info()
                kind = kind_of(one, process.pid)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            together += memory.pss / 1e6
            if kind is not None:
                peaks[kind] = max(peaks[kind], memory.rss / 1e6)
        peaks["tree"] = max(peaks["tree"], together)
        spilled = sum(_size(f) for d in place.rglob("ray_spilled_objects*") for f in d.rglob("*"))
        peaks["spilled"] = max(peaks["spilled"], spilled / 1e6)
        time.sleep(_EVERY_S)
    return peaks


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # removed just now
        return 0


def measure(name: str, place: Path) -> str:
    corpus, out = place / "corpus", place / "out"
    CASES[name](corpus)
    config = place / "config.yaml"
    config.write_text(configured(corpus, out))
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": str(place / "ray")}
    started = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "clipmill",
        "build",
        str(config),
        "--workers",
        str(len(os.sched_getaffinity(0))),
    ]
    with subprocess.Popen(
        command, cwd=TOP, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        peaks = watch(process, place)
        _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{name}: the build failed: {errors[-2000:]}")
    cells = [peaks["worker"], peaks["decoding"], peaks["driver"], peaks["tree"], peaks["spilled"]]
    return f"{name:<20}" + "".join(f"{c:>12,.0f}" for c in cells) + f"{time.perf_counter() - started:>10,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help=f"by comma, of: {', '.join(CASES)}; default: all but 100 h")
    parser.add_argument(
        "--folder", type=Path, help="where corpora are made, up to 25 GB; default: the temporary folder"
    )
    o = parser.parse_args()
    names = [n.strip() for n in o.cases.split(",")] if o.cases else [n for n in CASES if n != "100 h"]
    print(f"{'peak MB':<20}{'worker':>12}{'decoding':>12}{'driver':>12}{'all':>12}{'spilled':>12}{'build s':>10}")
    for name in names:
        with tempfile.TemporaryDirectory(prefix="clipmill-", dir=o.folder) as place:
            print(measure(name, Path(place)), flush=True)


if __name__ == "__main__":
    main()
