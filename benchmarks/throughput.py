"""How fast a build is: the README's table, and one core by stage. Prints what it measures; nothing is compared.

    python benchmarks/throughput.py [--recordings 200] [--rounds 3] [--corpus FOLDER]

Without --corpus it makes one: recordings of 30 s on average with events in noise, half WAV, a quarter FLAC, an eighth each
Ogg Vorbis and MP3, in several rates and channel counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

from pipelines.build import build
from pipelines.graph import clip_stages, stages_of, through
from pipelines.plan import make_plan
from schemas.config_file import loads

KINDS = [
    ("wav", 44100, 2),
    ("wav", 44100, 2),
    ("wav", 48000, 1),
    ("wav", 44100, 1),
    ("flac", 48000, 1),
    ("flac", 44100, 2),
    ("ogg", 44100, 2),
    ("mp3", 22050, 1),
]
CONFIG = """
name: throughput
sources: [{{name: all, root: {corpus}, segment: {{mode: window, length_s: 0.5, tail: pad_noise, keep_every: {every}}}}}]
silence: {{min_dbfs: {gate}}}
features: {{device: cpu, log_mel: {{n_fft: 1024, hop_length: 160, n_mels: 80}}, mfcc: {{n_mfcc: 20}}}}
output: {{root: {out}, formats: [parquet, webdataset], shard_seconds: 600}}
"""
BUILDS = {"every half-second window is kept": (1, "null"), "every fourth window, gate at -40 dBFS": (4, "-40")}


def make_corpus(folder: Path, recordings: int) -> None:
    for i in range(recordings):
        rng = np.random.default_rng([1, i])
        extension, rate, channels = KINDS[i % len(KINDS)]
        seconds = float(np.clip(rng.lognormal(np.log(30) - 0.32, 0.8), 2, 600))
        y = 0.001 * rng.standard_normal((int(seconds * rate), channels)).astype(np.float32)
        for _ in range(max(1, rng.poisson(seconds / 10))):
            t = np.arange(min(rate * 2, len(y))) / rate
            event = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * t) * np.exp(-3 * t) + 0.05 * rng.standard_normal(
                len(t)
            )
            start = int(rng.uniform(0, len(y) - len(t) + 1))
            y[start : start + len(t)] += event[:, None].astype(np.float32)
        with sf.SoundFile(folder / f"{i}.{extension}", "w", rate, channels) as file:
            for k in range(0, len(y), 65536):
                file.write(np.clip(y[k : k + 65536], -0.99, 0.99))


def timed(name: str, tables: Iterable[Any], spent: Counter[str]) -> Iterator[Any]:
    """Pass tables on and add up the time that getting them took, everything before included."""
    waiting = iter(tables)
    while True:
        started = time.perf_counter()
        table = next(waiting, None)
        spent[name] += time.perf_counter() - started  # type: ignore[assignment]
        if table is None:
            return
        yield table


def by_stage(config: str) -> None:
    torch.set_num_threads(1)
    file = loads(config)
    plan = make_plan(file.config)
    stages = stages_of(file.config, plan, "cpu")
    before_write = (*clip_stages(file.config), stages.features)
    spent: Counter[str] = Counter()
    audio_s = 0.0
    started = time.perf_counter()
    for i in range(len(plan.keys)):
        tables: Any = [plan.shard(i)]
        for stage in before_write:
            tables = timed(type(stage).__name__, through([stage], tables), spent)
        audio_s += stages.write(plan.shard(i), tables).seconds.decoded_s
    total = time.perf_counter() - started
    before = 0.0
    print(f"\none core, no Ray, {audio_s:,.0f} s of audio\n{'stage':<12}{'s':>8}{'x realtime':>14}")
    for stage in before_write:
        name = type(stage).__name__
        own, before = spent[name] - before, spent[name]
        print(f"{name:<12}{own:>8.2f}{audio_s / max(own, 1e-9):>14,.0f}")
    print(
        f"{'Write':<12}{total - before:>8.2f}{audio_s / (total - before):>14,.0f}\n{'all':<12}{total:>8.2f}{audio_s / total:>14,.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        corpus = options.corpus or Path(place) / "corpus"
        if options.corpus is None:
            corpus.mkdir()
            make_corpus(corpus, options.recordings)
        print(f"{'build':<40}{'clips':>9}{'start s':>9}{'work s':>9}{'x realtime (min, median, max)':>32}")
        for name, (every, gate) in BUILDS.items():
            reports = [
                build(
                    loads(CONFIG.format(corpus=corpus, every=every, gate=gate, out=f"{place}/{every}-{k}")), quiet=True
                )
                for k in range(options.rounds)
            ]
            speeds = sorted(r.decoded_s / r.work_s for r in reports)
            start, work = (statistics.median(getattr(r, n) for r in reports) for n in ("startup_s", "work_s"))
            clips = reports[0].snapshot.counts.clips_kept if reports[0].snapshot else 0
            shown = f"{speeds[0]:,.0f}, {statistics.median(speeds):,.0f}, {speeds[-1]:,.0f}"
            print(f"{name:<40}{clips:>9,}{start:>9.1f}{work:>9.1f}{shown:>32}", flush=True)
        by_stage(CONFIG.format(corpus=corpus, every=1, gate="null", out=f"{place}/stages"))


if __name__ == "__main__":
    main()
