"""Measures, levels, effects, cutting at silences and librosa's features on one core: seconds of audio per second of work.

python -m benchmarks.signals [--rounds 5] [--only NAME ...]

The clips are synthetic speech-like sound at 16 kHz: bursts of filtered noise with harmonics, pauses and a noise floor.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import pyarrow as pa  # noqa: E402

from clipmill.pipelines.chain import chain_of  # noqa: E402
from clipmill.schemas.config import Config  # noqa: E402
from clipmill.schemas.config.augment_config import EFFECTS, Augment  # noqa: E402
from clipmill.schemas.config.level_config import Level  # noqa: E402
from clipmill.schemas.config.trim_config import Trim  # noqa: E402
from clipmill.schemas.errors import StageError  # noqa: E402
from clipmill.schemas.tables import CLIPS  # noqa: E402
from clipmill.schemas.thresholds import as_thresholds  # noqa: E402
from clipmill.stages.activity import Activity  # noqa: E402
from clipmill.stages.clip_chain import apply_stage  # noqa: E402
from clipmill.stages.clips.keep import Keep  # noqa: E402
from clipmill.stages.clips.level import LevelGain  # noqa: E402
from clipmill.stages.clips.measure import MODULES, MeasureClips, MeasureNames, find_measure  # noqa: E402
from clipmill.stages.clips.trim import TrimClips  # noqa: E402
from clipmill.stages.effects.effect import effects_of  # noqa: E402
from clipmill.stages.effects.seeds import rng_of  # noqa: E402
from clipmill.stages.fingerprint import pairs_of_peaks, signature  # noqa: E402
from clipmill.stages.lookup import own_names  # noqa: E402

RATE = 16000
LENGTHS_S = (1.0, 5.0, 10.0)
_MODELS = ("speech", "dnsmos")
_PLAIN = [name for name in MODULES if name not in _MODELS]


def sound(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    """Return sound like speech: float32 [1, samples]."""
    random = np.random.default_rng(seed)
    n = round(seconds * RATE)
    t = np.arange(n) / RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * t + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t) + 0.4 * np.sin(2 * np.pi * 0.37 * t), 0, None)
    return (0.1 * voice * syllables + 0.001 * random.standard_normal(n)).astype(np.float32)[None]


def table_of(clips: list[npt.NDArray[np.float32]]) -> pa.Table:
    """Return clips as a table that stages take."""
    rows = [
        {
            "item_id": "s/a", "recording_id": "s/a", "source": "s", "status": "clip", "clip_id": f"a-{i}", "start_s": 0.0,
            "duration_s": y.shape[1] / RATE, "sample_rate_hz": RATE, "n_channels": 1, "n_samples": y.shape[1], "level_dbfs": -20.0,
            "n_clipped": 0, "pcm": np.rint(y * 32767).astype("<i2").tobytes(), "split": "train",
        }
        for i, y in enumerate(clips)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=CLIPS)


class _Noises:
    """Two seconds of noise, and a room."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self._noise = random.standard_normal((1, 2 * RATE)).astype(np.float32)
        self._room = (random.standard_normal((1, RATE // 2)) * np.exp(-np.arange(RATE // 2) / 800)).astype(np.float32)

    def n_files(self, collection: str) -> int:
        return 1

    def name(self, collection: str, i: int) -> str:
        return collection

    def samples(self, collection: str, i: int) -> npt.NDArray[np.float32]:
        return self._room if collection == "room" else self._noise


_AUGMENT = {
    "speed": [0.9, 1.1], "pitch": [-2, 2], "reverb": {"from": "room"}, "noise": {"from": "noise", "snr_db": [5, 20]},
    "filter": {"lowpass_hz": [2000, 4000]}, "gain_db": [-6, 6], "shift_s": [-0.1, 0.1], "fade_s": [0, 0.1],
}  # fmt: skip


def works() -> Iterator[tuple[str, Callable[[list[npt.NDArray[np.float32]], pa.Table], object]]]:
    """Yield the name of each kind of work, and what does it to clips."""
    for name in (*_PLAIN, *_MODELS):
        if (compute := find_measure(name).compute) is not None:
            yield f"measure {name}", lambda clips, table, compute=compute: [compute(y, RATE) for y in clips]  # type: ignore[misc]
    every = MeasureClips(MeasureNames(_PLAIN))
    yield "measure, all without models, on tables", lambda clips, table: every(table)
    keep = Keep(as_thresholds({"level_dbfs": {"min": -60}}))
    yield "keep", lambda clips, table: keep(table)
    for about in (
        {"to": "rms", "target": -25},
        {"to": "lufs", "target": -23},
        {"to": "lufs", "target": -23, "true_peak_dbtp": -1},
    ):
        level = LevelGain(Level.model_validate(about))
        yield f"level {about}", lambda clips, table, level=level: level(table)  # type: ignore[misc]
    trim = TrimClips(Trim())
    yield "trim", lambda clips, table: trim(table)
    yield "segment silence, first pass", lambda clips, table: [_hear(Activity(RATE, -50, 0.5, 0.1), y) for y in clips]
    noises = _Noises()
    codecs = [{"codec": {"name": name}} for name in ("mp3", "opus", "aac", "mulaw", "amr")]
    for plain in [*({name: _AUGMENT[name]} for name in EFFECTS if name in _AUGMENT), *codecs]:
        ((effect, settings),) = effects_of(Augment.model_validate(plain))
        drawn = effect.draw(rng_of("a", 1, effect.name), settings, noises)
        label = f"augment {effect.name}" + (f" {drawn['name']}" if effect.name == "codec" else "")
        yield (
            label,
            lambda clips, table, effect=effect, drawn=drawn: [effect.apply(y, RATE, drawn, noises) for y in clips],
        )  # type: ignore[misc]
    yield "near duplicates", lambda clips, table: [signature(pairs_of_peaks(y, RATE)) for y in clips]
    for section in own_names("derived"):
        if section != "model":
            yield f"feature {'mfcc and ' * (section == 'deltas')}{section}", _feature(section, True)
    yield "feature chroma {'tuning': 0}", _feature("chroma", {"tuning": 0})


def _feature(section: str, given: object) -> Callable[[list[npt.NDArray[np.float32]], pa.Table], object]:
    """Return what computes a feature, and before it the MFCCs if it is of them."""
    features = {section: given, **({"mfcc": True} if section == "deltas" else {})}
    sources = [{"name": "s", "root": "/in"}]
    config = Config.model_validate(
        {
            "name": "d",
            "sources": sources,
            "audio": {"sample_rate_hz": RATE},
            "features": features,
            "output": {"root": "/out"},
        }
    )
    stages = chain_of(config, "cpu").derived

    def work(clips: list[npt.NDArray[np.float32]], table: pa.Table) -> object:
        for stage in stages:
            (table,) = apply_stage(stage, table)
        return table

    return work


def _hear(activity: Activity, y: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    activity.add(y)
    return activity.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many rounds counts")
    parser.add_argument("--only", nargs="*", default=[], help="work whose name contains one of these")
    options = parser.parse_args()
    print(f"{'x realtime, one core, clips of':<58}" + "".join(f"{length:>8g} s" for length in LENGTHS_S))
    corpora = [[sound(length, i) for i in range(max(1, round(30 / length)))] for length in LENGTHS_S]
    tables = [table_of(clips) for clips in corpora]
    for name, work in works():
        if options.only and not any(part in name for part in options.only):
            continue
        cells = []
        for clips, table in zip(corpora, tables, strict=True):
            try:
                work(clips[:1], table.slice(0, 1))
                best = min(_seconds(work, clips, table) for _ in range(options.rounds))
            except StageError as error:
                cells.append("    absent" if "install" in str(error) else str(error))
                continue
            cells.append(f"{sum(y.shape[1] for y in clips) / RATE / best:>10,.0f}")
        print(f"{name:<58}" + "".join(cells), flush=True)


def _seconds(
    work: Callable[[list[npt.NDArray[np.float32]], pa.Table], object],
    clips: list[npt.NDArray[np.float32]],
    table: pa.Table,
) -> float:
    started = time.process_time()
    work(clips, table)
    return time.process_time() - started


if __name__ == "__main__":
    main()
