"""The kernels alone on one core, in one thread, without any framework: the floor.

    python -m benchmarks.contenders.kernels CORPUS OUT

Straight calls of the libraries, each in its fast form: libsndfile, a matrix product for the mix, soxr HQ, one batched
torch STFT a recording for both features, libsndfile's FLAC, Arrow and zstd. Whole recordings are decoded, nothing is checked,
hashed, accounted for or made safe against crashes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
import soxr
import torch

from benchmarks.work import (
    HOP_LENGTH,
    N_FFT,
    N_MELS,
    N_MFCC,
    RATE_HZ,
    Clock,
    Outcome,
    event_windows,
    flac,
    is_loud,
    label_of,
    recordings,
    windows,
)  # fmt: skip
from clipmill.stages.features.kernels.mel_filters import dct_matrix

ROWS = 2000


class Kernels:
    """What is set up once."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        mel = librosa.filters.mel(sr=RATE_HZ, n_fft=N_FFT, n_mels=N_MELS)
        self.window = torch.hann_window(N_FFT)
        self.mel = torch.from_numpy(mel)
        self.dct = torch.from_numpy(dct_matrix(N_MELS, N_MFCC).T.copy())

    def features(self, pcm: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return log-mel and MFCC, float32 [clips, bins, frames], of int16 [clips, samples]."""
        y = torch.from_numpy(pcm).to(torch.float32).mul_(1 / 32768)
        spectrum = torch.stft(
            y, N_FFT, HOP_LENGTH, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        db = (self.mel @ power).clamp_(min=1e-10).log10_().mul_(10)
        db = torch.maximum(db, db.amax((1, 2), keepdim=True) - 80)
        return db.numpy(), (self.dct @ db).numpy()


def run(corpus: Path, out: Path, annotated: bool = False) -> Outcome:
    """Process a corpus. annotated : cut the windows of the annotated events instead of all."""
    out.mkdir(parents=True)
    kernels = Kernels()
    kernels.features(np.zeros((1, RATE_HZ), np.int16))
    clock, rows, clips, n_files = Clock(), [], 0, 0
    with torch.inference_mode():
        for path in recordings(corpus):
            y, rate = sf.read(path, dtype="float32", always_2d=True)
            clock.lap("decode")
            y = y @ np.full(y.shape[1], 1 / y.shape[1], np.float32)
            clock.lap("mix")
            if rate != RATE_HZ:
                y = soxr.resample(y, rate, RATE_HZ, quality="HQ")
            clock.lap("resample")
            pcm = np.clip(np.rint(y * 32768), -32768, 32767).astype(np.int16)
            cut = [
                (a, pcm[a:b])
                for a, b in (event_windows(path, len(pcm)) if annotated else windows(len(pcm)))
                if is_loud(pcm[a:b])
            ]
            clock.lap("cut, gate")
            if cut:
                log_mel, mfcc = kernels.features(np.stack([samples for _, samples in cut]))
            clock.lap("features")
            for i, (start, samples) in enumerate(cut):
                rows.append((path.name, start, label_of(path), flac(samples), log_mel[i], mfcc[i]))
            clock.lap("FLAC")
            clips += len(cut)
            if len(rows) >= ROWS:
                write(rows, out / f"{n_files}.parquet")
                rows, n_files = [], n_files + 1
                clock.lap("Parquet")
        if rows:
            write(rows, out / f"{n_files}.parquet")
            clock.lap("Parquet")
    return Outcome("kernels", clips, sum(clock.stages.values()), stages=clock.stages)


def write(rows: list[tuple[Any, ...]], path: Path) -> None:
    names, starts, labels, audio, log_mel, mfcc = zip(*rows, strict=True)
    table = {
        "clip_id": [f"{n}-{s}" for n, s in zip(names, starts, strict=True)],
        "recording": names,
        "start_s": np.array(starts) / RATE_HZ,
        "label": labels,
        "audio": pa.array(audio, pa.binary()),
        "log_mel": lists(log_mel),
        "mfcc": lists(mfcc),
    }
    pq.write_table(
        pa.table(table), path, compression="zstd", compression_level=1, use_dictionary=["recording", "label"]
    )


def lists(values: tuple[npt.NDArray[np.float32], ...]) -> pa.Array:
    offsets = np.cumsum([0, *(v.size for v in values)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate([v.reshape(-1) for v in values])))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2])).tell()
