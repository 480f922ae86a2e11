"""clipmill, from end to end as `clipmill build` does it.

python -m benchmarks.contenders.clipmill_build CORPUS OUT [WORKERS] [--pictures]
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.work import HOP_LENGTH, MIN_DBFS, N_FFT, N_MELS, N_MFCC, RATE_HZ, WINDOW_S, Outcome

CONFIG = f"""
name: bench
sources:
  - name: bench
    root: {{corpus}}
    segment: {{{{mode: window, length_s: {WINDOW_S}, tail: drop}}}}
    label: {{{{from: folder}}}}
audio: {{{{sample_rate_hz: {RATE_HZ}}}}}
silence: {{{{min_dbfs: {MIN_DBFS}}}}}
features:
  device: {{device}}
  log_mel: {{{{n_fft: {N_FFT}, hop_length: {HOP_LENGTH}, n_mels: {N_MELS}}}}}
  mfcc: {{{{n_mfcc: {N_MFCC}}}}}
output: {{{{root: {{out}}{{images}}}}}}
"""


def configured(corpus: Path, out: Path, pictures: bool = False) -> str:
    return CONFIG.format(corpus=corpus / "data", out=out, device="cpu", images=", images: {}" if pictures else "")


def run(corpus: Path, out: Path, workers: int | None, pictures: bool = False) -> Outcome:
    """Build. Everything but starting Ray is work: listing, planning, building, publishing."""
    from clipmill.pipelines.config_file import loads
    from clipmill.pipelines.run.build import build

    report = build(loads(configured(corpus, out, pictures)), workers=workers, quiet=True)
    if report.snapshot is None or report.status != "published":
        raise SystemExit(f"nothing was published: {report.failures}")
    return Outcome("clipmill", report.snapshot.counts.clips_kept, report.wall_s - report.startup_s, report.startup_s)


if __name__ == "__main__":
    plain = [a for a in sys.argv[1:] if a != "--pictures"]
    run(Path(plain[0]), Path(plain[1]), int(plain[2]) if len(plain) > 2 else None, "--pictures" in sys.argv).tell()
