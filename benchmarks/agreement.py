"""How close the numbers are to the field's reference: the largest differences found. Prints; nothing is compared.

    python -m benchmarks.agreement [RECORDING ...]

Without recordings it takes the demo's synthesised corpus.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import librosa
import numpy as np
import soundfile as sf
import soxr
import torch
import torchaudio

from clipmill.pipelines.cli.demo_corpus import synthesise
from clipmill.schemas.config.feature_config import Features, LogMel, Mfcc
from clipmill.schemas.units import to_pcm16
from clipmill.stages import spans
from clipmill.stages.features.kernels.spectral import Spectral
from clipmill.stages.resample import resample_cells

RATE = 16000


def features(clips: list[np.ndarray]) -> None:
    spec = Features(log_mel=LogMel(n_fft=1024, hop_length=160, n_mels=80), mfcc=Mfcc(n_mfcc=20))
    ours = Spectral(spec, RATE, "cpu")(clips)
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=1024, hop_length=160, n_mels=80, norm="slaney", mel_scale="slaney", pad_mode="constant"
    )
    worst = dict.fromkeys(("log-mel, librosa", "MFCC, librosa", "log-mel, torchaudio"), 0.0)
    for i, pcm in enumerate(clips):
        y = pcm.astype(np.float32) / 32768
        theirs = librosa.power_to_db(
            librosa.feature.melspectrogram(y=y, sr=RATE, n_fft=1024, hop_length=160, n_mels=80)
        )
        other = torchaudio.transforms.AmplitudeToDB(top_db=80)(mel(torch.from_numpy(y))).numpy()
        for name, a, b in (
            ("log-mel, librosa", ours["log_mel"][i], theirs),
            ("MFCC, librosa", ours["mfcc"][i], librosa.feature.mfcc(S=theirs, n_mfcc=20)),
            ("log-mel, torchaudio", ours["log_mel"][i], other),
        ):
            worst[name] = max(worst[name], float(np.abs(a - b).max()))
    print(f"features of {len(clips)} clips, {sum(map(len, clips)) / RATE:,.0f} s: largest difference")
    for name, value in worst.items():
        print(f"  {name:<22}{value:.6f}")


def cells() -> None:
    y = (0.1 * np.random.default_rng(0).standard_normal((44100 * 60, 1))).astype(np.float32)

    def seconds(cell_s: int) -> tuple[float, np.ndarray]:
        import clipmill.stages.resample as module

        module.CELL_S, before = cell_s, module.CELL_S
        try:
            runs = []
            for _ in range(5):
                started = time.perf_counter()
                out = resample_cells(y, 0, len(y), 44100, RATE, "HQ")
                runs.append(time.perf_counter() - started)
        finally:
            module.CELL_S = before
        return min(runs), out

    whole, reference = seconds(60)
    print("resampling 60 s from 44.1 to 16 kHz by cells, against in one piece")
    for cell_s in (1, 2, 4, 10):
        took, out = seconds(cell_s)
        mark = "  <- used" if cell_s == spans.CELL_S else ""
        print(
            f"  cells of {cell_s:>2} s: {took / whole - 1:>6.1%} more time, largest difference {np.abs(out - reference).max():.1e}{mark}"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(p) for p in sys.argv[1:]]
        if not paths:
            synthesise(Path(place))
            paths = sorted(p for p in Path(place).rglob("*.*") if p.suffix in (".wav", ".flac") and p.stem != "199")
        clips = []
        for path in paths:
            y, rate = sf.read(path, dtype="float32", always_2d=True)
            clips.append(to_pcm16(soxr.resample(y.mean(1), rate, RATE))[0])
    features(clips)
    cells()


if __name__ == "__main__":
    main()
