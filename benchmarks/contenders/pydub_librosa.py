"""The script that the field writes: pydub to decode, cut and measure, librosa for the features, one file at a time.

    python -m benchmarks.contenders.pydub_librosa CORPUS OUT [--twice] [--pictures WAY N]

librosa computes the log-mel once and MFCCs from it, or, with --twice and where pictures are drawn, each from the samples: that
is how scripts are written, and costs nearly as much again.

With --pictures it stops after N clips and draws each of them by librosa.display.specshow on a figure of its own: `axes` with
axes and a colour bar, as librosa's documentation shows it, `plain` small and without margins, as people make them for a CNN.

pydub reads WAV by itself and asks the program ffmpeg for everything else. Where that is not installed, libsndfile decodes
in its place, which is faster than a process a file. Resampling is librosa's soxr, so that the outputs can be compared.
"""

from __future__ import annotations

import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pydub import AudioSegment

import librosa
import librosa.display
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile as sf

from benchmarks.work import (
    HOP_LENGTH,
    MIN_DBFS,
    N_FFT,
    N_MELS,
    N_MFCC,
    RATE_HZ,
    Outcome,
    flac,
    label_of,
    recordings,
    windows,
)  # fmt: skip

ROWS = 2000


def load(path: Path) -> AudioSegment:
    if path.suffix == ".wav" or shutil.which("ffprobe"):
        return AudioSegment.from_file(path)
    pcm, rate = sf.read(path, dtype="int16", always_2d=True)
    return AudioSegment(pcm.tobytes(), frame_rate=rate, sample_width=2, channels=pcm.shape[1])


def clips_of(path: Path, twice: bool, most: int | None = None) -> list[dict[str, Any]]:
    sound = load(path).set_channels(1)
    y = np.array(sound.get_array_of_samples(), dtype=np.float32) / float(1 << (8 * sound.sample_width - 1))
    y = librosa.resample(y, orig_sr=sound.frame_rate, target_sr=RATE_HZ, res_type="soxr_hq")
    pcm = np.clip(np.rint(y * 32768), -32768, 32767).astype(np.int16)
    whole = AudioSegment(pcm.tobytes(), frame_rate=RATE_HZ, sample_width=2, channels=1)
    rows = []
    for start, stop in windows(len(pcm))[:most]:
        chunk = whole.get_sample_slice(start, stop)
        if chunk.dBFS >= MIN_DBFS:
            samples = np.array(chunk.get_array_of_samples(), dtype=np.int16)
            rows.append(row(path.name, start, label_of(path), samples, twice))
    return rows


def row(name: str, start: int, label: str, samples: Any, twice: bool = False) -> dict[str, Any]:
    """Return a clip with the features that librosa computes.

    twice : whether MFCCs are asked for by the samples, as most scripts do, which makes librosa compute the log-mel again
    """
    y = samples.astype(np.float32) / 32768
    mel = librosa.feature.melspectrogram(y=y, sr=RATE_HZ, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=N_MELS)
    log_mel = librosa.power_to_db(mel)
    if twice:
        mfcc = librosa.feature.mfcc(y=y, sr=RATE_HZ, n_mfcc=N_MFCC, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=N_MELS)
    else:
        mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=N_MFCC)
    return {
        "clip_id": f"{name}-{start}",
        "recording": name,
        "start_s": start / RATE_HZ,
        "label": label,
        "audio": flac(samples),
        "log_mel": log_mel.reshape(-1),
        "mfcc": mfcc.reshape(-1),
    }


def draw_plain(log_mel: Any, path: Path) -> None:
    figure = plt.figure(figsize=(2.24, 2.24), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    librosa.display.specshow(log_mel, sr=RATE_HZ, hop_length=HOP_LENGTH, ax=axes, cmap="magma")
    axes.set_axis_off()
    figure.savefig(path)
    plt.close(figure)


def draw_with_axes(log_mel: Any, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(10, 4))
    image = librosa.display.specshow(
        log_mel, sr=RATE_HZ, hop_length=HOP_LENGTH, x_axis="time", y_axis="mel", fmax=RATE_HZ / 2, ax=axes
    )
    figure.colorbar(image, ax=axes, format="%+2.0f dB")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


WAYS = {"plain": draw_plain, "axes": draw_with_axes}


def with_pictures(corpus: Path, out: Path, way: str, n: int) -> Outcome:
    """Make the first n clips and a picture of each."""
    out.mkdir(parents=True)
    draw = WAYS[way]
    row("warm-up", 0, "", np.zeros(RATE_HZ, np.int16))
    draw(np.random.default_rng(0).random((N_MELS, 51)), out / "warm-up.png")
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for path in recordings(corpus):
        for clip in clips_of(path, True, n - len(rows)):
            draw(clip["log_mel"].reshape(N_MELS, -1), out / f"{clip['clip_id']}.png")
            rows.append(clip)
        if len(rows) == n:
            break
    pd.DataFrame(rows).to_parquet(out / "clips.parquet", compression="zstd")
    return Outcome("pydub + librosa + matplotlib", len(rows), time.perf_counter() - started)


def run(corpus: Path, out: Path, twice: bool) -> Outcome:
    out.mkdir(parents=True)
    row("warm-up", 0, "", np.zeros(RATE_HZ, np.int16))  # numba compiles on the first call
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    clips = n_files = 0
    for path in recordings(corpus):
        rows.extend(clips_of(path, twice))
        if len(rows) >= ROWS:
            pd.DataFrame(rows).to_parquet(out / f"{n_files}.parquet", compression="zstd")
            clips, n_files, rows = clips + len(rows), n_files + 1, []
    if rows:
        pd.DataFrame(rows).to_parquet(out / f"{n_files}.parquet", compression="zstd")
    return Outcome("pydub + librosa", clips + len(rows), time.perf_counter() - started)


if __name__ == "__main__":
    if "--pictures" in sys.argv:
        way, n = sys.argv[sys.argv.index("--pictures") + 1 :][:2]
        with_pictures(Path(sys.argv[1]), Path(sys.argv[2]), way, int(n)).tell()
    else:
        run(Path(sys.argv[1]), Path(sys.argv[2]), "--twice" in sys.argv).tell()
