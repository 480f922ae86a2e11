"""How fast pictures are drawn: the same clips by the stage and by a figure a clip. Prints what it measures; nothing is compared.

    python -m benchmarks.images [--clips 200] [--seconds 0.5 5] [--rounds 3] [RECORDING ...]

Without recordings it takes the demo's synthesised corpus. All ways get log-mels that are computed already and give PNG
files in memory. The usual way is that of most notebooks: a figure of matplotlib's usual size for each clip,
`librosa.display.specshow`, `savefig(bbox_inches="tight", pad_inches=0)`. Beside it stand one figure of the size of the stage's
pictures, cleared for each clip, without axes, and `imsave`, which makes a pixel of each value and no picture of a fixed size.
They draw fewer pictures a round than the stage. Rounds are taken in turns, and seconds are the processor's, so that other work
on the machine falls on none or on all.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa.display
import matplotlib
import numpy as np
import pyarrow as pa
import soundfile as sf
import soxr

from clipmill.pipelines.cli.demo_corpus import synthesise
from clipmill.schemas.config.feature_config import Features, LogMel
from clipmill.schemas.config.image_config import Images as Spec
from clipmill.schemas.tables import CLIPS
from clipmill.schemas.units import to_pcm16
from clipmill.stages.arrow_rows import float_lists
from clipmill.stages.features.kernels.spectral import Spectral
from clipmill.stages.images import Images

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RATE, HOP, SIDE = 16000, 160, 224
USUAL_CLIPS = 20


def log_mels(recordings: list[Path], n: int, seconds: float) -> list[np.ndarray]:
    """Return the log-mels of n clips, as a build would compute them."""
    clips: list[np.ndarray] = []
    for path in recordings:
        y, rate = sf.read(path, dtype="float32", always_2d=True)
        pcm = to_pcm16(soxr.resample(y.mean(1), rate, RATE))[0]
        length = round(seconds * RATE)
        clips += [pcm[k : k + length] for k in range(0, len(pcm) - length + 1, length)]
    spec = Features(log_mel=LogMel(n_fft=1024, hop_length=HOP, n_mels=80))
    return Spectral(spec, RATE, "cpu")([clips[i * len(clips) // n] for i in range(n)])["log_mel"]


def as_table(mels: list[np.ndarray]) -> pa.Table:
    table = pa.Table.from_pylist([{"status": "clip", "clip_id": f"c{i}"} for i in range(len(mels))], schema=CLIPS)
    shapes = pa.array([list(m.shape) for m in mels], pa.list_(pa.int32()))
    return table.append_column("log_mel", float_lists([m.reshape(-1) for m in mels])).append_column(
        "log_mel_shape", shapes
    )


def by_stage(table: pa.Table, stage: Images) -> list[int]:
    return [len(row["bytes"]) for part in stage(table) for row in part["image"].to_pylist()]


def by_figure_each(mels: list[np.ndarray]) -> list[int]:
    sizes = []
    for mel in mels:
        plt.figure()
        librosa.display.specshow(mel, sr=RATE, hop_length=HOP, x_axis="time", y_axis="mel")
        plt.axis("off")
        sink = io.BytesIO()
        plt.savefig(sink, format="png", bbox_inches="tight", pad_inches=0)
        plt.close()
        sizes.append(len(sink.getvalue()))
    return sizes


def by_one_figure(mels: list[np.ndarray]) -> list[int]:
    sizes = []
    figure = plt.figure(figsize=(SIDE / 100, SIDE / 100), dpi=100)
    for mel in mels:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        librosa.display.specshow(mel, sr=RATE, hop_length=HOP, ax=axes)
        sink = io.BytesIO()
        figure.savefig(sink, format="png")
        sizes.append(len(sink.getvalue()))
        figure.clear()
    plt.close(figure)
    return sizes


def by_imsave(mels: list[np.ndarray]) -> list[int]:
    """No figure at all: a pixel for each value, as many as there are."""
    sizes = []
    for mel in mels:
        sink = io.BytesIO()
        plt.imsave(sink, mel[::-1], format="png")
        sizes.append(len(sink.getvalue()))
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.5, 5.0], help="lengths of clips")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        recordings = options.recordings
        if not recordings:
            synthesise(Path(place))
            recordings = sorted(
                p for p in Path(place).rglob("*.*") if p.suffix in (".wav", ".flac") and p.stem != "199"
            )
        for seconds in options.seconds:
            compare(log_mels(recordings, options.clips, seconds), seconds, options.rounds)


def compare(mels: list[np.ndarray], seconds: float, rounds: int) -> None:
    table, few = as_table(mels), mels[:: max(1, len(mels) // USUAL_CLIPS)]
    usual = "specshow + savefig, usual form"
    ways: dict[str, tuple[int, Callable[[], list[int]]]] = {
        usual: (len(few), lambda: by_figure_each(few)),
        "specshow + savefig, one bare figure": (len(few), lambda: by_one_figure(few)),
        "imsave, not resized": (len(few), lambda: by_imsave(few)),
    }
    for mode in ("indexed", "gray", "rgb"):
        stage = Images(Spec(mode=mode))  # type: ignore[arg-type]
        ways[f"output.images, mode: {mode}"] = (len(mels), lambda stage=stage: by_stage(table, stage))  # type: ignore[misc]
    sizes = {name: statistics.mean(draw()) for name, (_, draw) in ways.items()}  # also loads what is loaded late
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (n, draw) in ways.items():
            started = time.process_time()
            draw()
            speeds[name].append(n / (time.process_time() - started))
    height, width = mels[0].shape
    print(
        f"{len(mels)} clips of {seconds:g} s, log-mel {height} x {width}, pictures of {SIDE} x {SIDE}, {rounds} rounds in turns, one core"
    )
    print(f"{'':<38}{'a second (min, median, max)':>30}{'ratio (min, median, max)':>28}{'mean kB':>10}")
    for name in ways:
        ratios = sorted(a / b for a, b in zip(speeds[name], speeds[usual], strict=True))
        spans = [
            f"{min(v):,.{d}f}, {statistics.median(v):,.{d}f}, {max(v):,.{d}f}"
            for v, d in ((speeds[name], 1), (ratios, 0))
        ]
        print(f"{name:<38}{spans[0]:>30}{spans[1]:>28}{sizes[name] / 1000:>10.1f}")


if __name__ == "__main__":
    main()
