"""Damages recordings in many ways and watches what decoding makes of them; compares outcomes with those of plain decoders.

    python tests/fuzz_decode.py --n 2000 --seed 1 [--jobs 1] [--only PART-OF-NAME]
    python tests/fuzz_decode.py --compare FOLDER [--either]

Reported are deaths of the process, exceptions that escape, over 10 s, over 1 GB; and for a human to look at, recordings
that are used without a word and are shorter than both FFmpeg and libsndfile read them, or of another length than intact.
Every recording is decoded in a process of its own kind, which is started again when it dies.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

SLOW_S, KILL_S, LARGE_MB = 10.0, 40.0, 1000.0
SHORTER_S, OTHER_S = 0.1, 0.2
TAGS = (
    b"data fact RIFF fmt  ds64 SSND COMM FORM Xing Info VBRI moov mdat mdhd mvhd stsz stts stsc stco elst tkhd OggS fLaC ID3 caff desc"
    b" wvpk TTA1 .snd LIST vorbis OpusHead trun tfhd moof".split(b" ")
)


def mutate(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done and the damaged bytes."""
    n = len(content)
    if n < 16:
        return "as it is", content
    kind = rng.choice(["bits", "head", "zeros", "cut", "twice", "lost", "swapped", "length", "length", "junk"])
    a = int(rng.integers(0, n))
    size = int(min(n - a, rng.choice([1, 16, 100, 1000, 4096, 20_000])))
    b = int(rng.integers(0, n))
    block = content[a : a + size]
    if kind in ("bits", "head"):
        found = bytearray(content)
        for at in rng.integers(0, n if kind == "bits" else min(n, 300), int(rng.integers(1, 9))):
            found[at] ^= 1 << int(rng.integers(0, 8))
        return kind, bytes(found)
    if kind == "zeros":
        return f"{size} zeros at {a}", content[:a] + b"\0" * size + content[a + size :]
    if kind == "cut":
        return f"cut at {a}", content[:a]
    if kind == "twice":
        return f"{size} at {a} twice", content[: a + size] + content[a:]
    if kind == "lost":
        return f"{size} at {a} lost", content[:a] + content[a + size :]
    if kind == "swapped":
        rest = content[:a] + content[a + size :]
        return f"{size} moved from {a} to {b}", rest[:b] + block + rest[b:]
    if kind == "junk":
        return f"{size} of junk at {a}", content[:a] + rng.integers(0, 256, size).astype(np.uint8).tobytes() + content[
            a:
        ]
    return length_changed(content, rng)


def length_changed(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Change four bytes near a word that stands before lengths."""
    here = [tag for tag in TAGS if tag in content]
    tag = here[int(rng.integers(0, len(here)))] if here else b""
    at = content.find(tag, int(rng.integers(0, len(content))) if rng.random() < 0.3 else 0)
    at = max(at, 0) + len(tag) * bool(tag) + 4 * int(rng.integers(-2, 6))
    at = min(max(at, 0), len(content) - 4)
    form = "<I" if rng.random() < 0.5 else ">I"
    (was,) = struct.unpack_from(form, content, at)
    some = [0, 1, 0xFFFFFFFF, 0x7FFFFFFF, was * 2, was // 2, was + 1, was - 1, int(rng.integers(0, 1 << 32))]
    value = some[int(rng.integers(0, len(some)))] & 0xFFFFFFFF
    found = bytearray(content)
    struct.pack_into(form, found, at, value)
    return f"{was} becomes {value} at {at}, after {tag.decode('latin-1')}", bytes(found)


# What decoders say. These run in the process that may die.


def clipmill_says(path: Path) -> tuple[float | None, str, bool]:
    """Return seconds, the outcome in words, and whether anything was told (a rejection or a remark)."""
    from odd_judge import run_chain

    ((_, found),) = list(run_chain(path.parent, [path.name], {}, {}))
    seconds = None if found.reason and found.decoded_s is None else found.decoded_s
    return seconds, str(found)[:200], bool(found.reason or found.remarks)


def ffmpeg_says(path: Path, limit_s: float = 8.0) -> float | None:
    """Return the seconds that FFmpeg gives of the first audio stream, over errors; None if it opens nothing."""
    import av

    begun, seconds = time.monotonic(), 0.0
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            for packet in container.demux(container.streams.audio[0]):
                with contextlib.suppress(av.FFmpegError):
                    seconds += sum(f.samples / f.sample_rate for f in packet.decode() if f.sample_rate)
                if time.monotonic() - begun > limit_s:
                    return seconds
    except (av.FFmpegError, IndexError, ValueError):
        return seconds or None
    return seconds


def libsndfile_says(path: Path, limit_s: float = 8.0) -> float | None:
    import soundfile as sf

    begun, frames = time.monotonic(), 0
    try:
        with sf.SoundFile(path) as file:
            rate, block = file.samplerate, np.empty((65536, file.channels), np.float32)
            while (got := len(file.read(out=block))) and time.monotonic() - begun < limit_s:
                frames += got
    except (sf.LibsndfileError, ValueError, RuntimeError, MemoryError):
        return frames / rate if frames else None
    return frames / rate if rate else None


def worker(pipe: Connection) -> None:
    """Answer requests (path, whether to ask the others as well): first clipmill's word, then theirs."""
    sys.path.insert(0, str(Path(__file__).parent))
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import av

    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    with contextlib.suppress(EOFError):
        while True:
            path, others, intact_s = pipe.recv()
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
            begun, before = time.monotonic(), _memory_mb("VmRSS")
            seconds, words, told = clipmill_says(path)
            pipe.send((seconds, words, told, time.monotonic() - begun, _memory_mb("VmHWM") - before))
            odd = not told and seconds is not None and abs(seconds - intact_s) > SHORTER_S
            pipe.send((ffmpeg_says(path), libsndfile_says(path)) if others or odd else None)


def _memory_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass
class Said:
    """What came of one file. died : how the process ended, or that it had to be killed"""

    seconds: float | None = None
    words: str = ""
    told: bool = False
    took_s: float = 0.0
    memory_mb: float = 0.0
    others: tuple[float | None, float | None] | None = None
    died: str = ""


class Worker:
    """A process that decodes; a new one when it has died."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None

    def ask(self, path: Path, others: bool = False, intact_s: float = 0.0) -> Said:
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=worker, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        said = Said()
        try:
            self._pipe.send((path, others, intact_s))
            said.seconds, said.words, said.told, said.took_s, said.memory_mb = self._receive("decoding")
            said.others = self._receive("the plain decoders")
        except (EOFError, TimeoutError, ConnectionError) as error:
            self._process.join(2)
            said.died = str(error) or f"exit code {self._process.exitcode}"
            if said.words:
                said.died = ""  # the plain decoders' fault
            self.close()
        return said

    def _receive(self, what: str) -> Any:
        if not self._pipe.poll(KILL_S):
            raise TimeoutError(f"{what} took over {KILL_S:g} s")
        return self._pipe.recv()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


# The two programs.


def recordings(only: str) -> dict[str, bytes]:
    """Return what is damaged: the field cases, the generated ones, and small files of the real corpora, one or two a folder and ending."""
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import CORPORA
    from test_field_cases import all_cases, named

    found = {named(c): c.make() for c in all_cases() if only in named(c) and c.seconds < 15 and c.kind != "raw"}
    seen: Counter[tuple[str, str]] = Counter()
    for path in sorted(CORPORA.rglob("*")) if CORPORA.exists() else []:
        place = (path.relative_to(CORPORA).parts[0], path.suffix)
        audio = path.suffix in AUDIO and path.is_file() and 100 < path.stat().st_size < 150_000
        if audio and seen[place] < 2 and only in str(path):
            seen[place] += 1
            found[f"corpora/{path.relative_to(CORPORA)}"] = path.read_bytes()
    return found


AUDIO = frozenset(".wav .flac .mp3 .ogg .opus .m4a .mp4 .aac .aiff .aifc .au .webm .voc .sph .8svx .hcom .sndt".split())


def fuzz(n: int, seed: int, jobs: int, only: str) -> int:
    contents = recordings(only)
    names = sorted(contents)
    counts: Counter[str] = Counter()
    findings: list[tuple[str, str]] = []

    def share(job: int) -> None:
        asked = Worker()
        intact: dict[str, Said] = {}
        with tempfile.TemporaryDirectory() as folder:
            for i in range(job, n, jobs):
                rng = np.random.default_rng([seed, i])
                name = names[int(rng.integers(0, len(names)))]
                path = Path(folder) / f"x{Path(name).suffix or '.wav'}"
                if name not in intact:
                    path.write_bytes(contents[name])
                    intact[name] = asked.ask(path)
                done, content = mutate(contents[name], rng)
                path.write_bytes(content)
                before = intact[name].seconds
                said = asked.ask(path, intact_s=before or 0.0)
                counts["told" if said.told else "used"] += 1
                for what, words in verdicts(said, before):
                    findings.append((what, f"{i}: {name}, {done}: {words}"))
        asked.close()

    begun = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(share, range(jobs)))
    for what, words in sorted(findings):
        print(f"{what:8} {words}")
    kinds = Counter(what for what, _ in findings)
    print(
        f"{n} mutations of {len(names)} recordings in {time.monotonic() - begun:.0f} s: {dict(counts)}; {dict(kinds)}"
    )
    return int(any(kinds[what] for what in ("DIED", "ESCAPED", "SLOW", "LARGE")))


def verdicts(said: Said, intact_s: float | None) -> Iterator[tuple[str, str]]:
    """Yield what is to be reported of a damaged recording."""
    if said.died:
        yield "DIED", said.died
        return
    if said.words.startswith("EXCEPTION"):
        yield "ESCAPED", said.words
    if said.took_s > SLOW_S:
        yield "SLOW", f"{said.took_s:.1f} s; {said.words}"
    if said.memory_mb > LARGE_MB:
        yield "LARGE", f"{said.memory_mb:.0f} MB; {said.words}"
    if said.told or said.seconds is None:
        return
    theirs = [s for s in said.others or () if s is not None]
    if len(theirs) == 2 and said.seconds < min(theirs) - SHORTER_S:
        yield "LESS", f"{said.seconds:.3f} s, FFmpeg {theirs[0]:.3f}, libsndfile {theirs[1]:.3f}"
    elif intact_s is not None and abs(said.seconds - intact_s) > OTHER_S:
        plain = ", ".join("-" if s is None else f"{s:.3f}" for s in said.others or ())
        yield "SILENT", f"{said.seconds:.3f} s, intact {intact_s:.3f}; FFmpeg, libsndfile: {plain}"


def compare(folder: Path, either: bool) -> int:
    """Print the files of which clipmill gives less or more than both plain decoders, or which it rejects and both read.

    either : print as well those of which it gives less than one of them
    """
    asked, n, rows = Worker(), 0, 0
    with tempfile.TemporaryDirectory() as there:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            copy = Path(there) / f"x{path.suffix if path.suffix in AUDIO else '.wav'}"
            copy.write_bytes(path.read_bytes())
            said = asked.ask(copy, others=True)
            copy.unlink()
            n += 1
            ffmpeg, libsndfile = said.others or (None, None)
            theirs = [s for s in (ffmpeg, libsndfile) if s]
            if said.died:
                why = f"died: {said.died}"
            elif said.seconds is None:
                why = f"rejected, both read it: {said.words}" if len(theirs) == 2 else ""
            elif theirs and said.seconds < (max if either else min)(theirs) - SHORTER_S:
                why = f"less: {said.words}"
            elif theirs and said.seconds > max(theirs) + SHORTER_S:
                why = f"more: {said.words}"
            else:
                why = "" if theirs else f"neither reads it: {said.words}"
            if why:
                rows += 1
                plain = " ".join(
                    f"{s:10.3f}" if s is not None else "         -" for s in (said.seconds, ffmpeg, libsndfile)
                )
                print(f"{plain}  {path.relative_to(folder)}  {why}", flush=True)
    asked.close()
    print(f"{rows} of {n} files; seconds by clipmill, FFmpeg, libsndfile")
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="mutations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="only recordings with this in their name")
    parser.add_argument("--compare", type=Path, metavar="FOLDER", help="compare with plain decoders, instead")
    parser.add_argument("--either", action="store_true", help="with --compare: also where one of the two gives more")
    options = parser.parse_args(arguments)
    if options.compare is not None:
        return compare(options.compare, options.either)
    return fuzz(options.n, options.seed, options.jobs, options.only)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
