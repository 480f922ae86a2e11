"""The demo: build a dataset from a synthetic corpus, and print how to load it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipmill.pipelines.cli.demo_corpus import synthesise
from clipmill.pipelines.config_file import load
from clipmill.pipelines.dataset.records_io import read_commit
from clipmill.pipelines.run.build import build
from clipmill.pipelines.run.report import Report
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.parquet_tables import read_parquet
from clipmill.stages.storage.root import Root

_CONFIG = """\
# The configuration of the demo: dogs against everything else, as in `recipes/urbansound.yaml` for real recordings.
name: demo-dogs
sources:
  - name: dogs
    root: {corpus}/dog_bark
    annotations:
      sidecar: "{{stem}}.csv"
      header: false
      columns: {{start: 0, end: 1, label: 3}}
      fields: {{salience: 2}}
    segment: {{mode: window, length_s: 0.5, tail: pad_noise}}
    label: dog
  - name: others
    root: {corpus}
    exclude: ["dog_bark/**"]
    segment: {{mode: window, length_s: 0.5, tail: drop, keep_every: 4}}
    label: other
audio: {{sample_rate_hz: 16000, channels: mono}}
silence: {{min_dbfs: -40.0}}
features:
  log_mel: {{n_fft: 1024, hop_length: 160, n_mels: 80}}
  mfcc: {{n_mfcc: 20}}
split: {{train: 0.5, val: 0.25, test: 0.25, by: recording, stratify: label}}
output:
  root: {dataset}
  formats: [parquet, webdataset]
limits: {{max_rejected_share: 0.1}}       # one recording of 25 is corrupt on purpose
"""
_LOAD = """\
Load it, in .venv/bin/python:
  import clipmill
  import pyarrow.dataset as ds
  snapshot = clipmill.open_dataset("{dataset}")
  snapshot.manifest().to_pandas()
  uris = [uri for split in snapshot.splits for uri in snapshot.uris(split)]
  clips = ds.dataset(uris, format="parquet").to_table()
or, after `pip install datasets`:
  from datasets import load_dataset
  files = {{split: snapshot.uris(split) for split in snapshot.splits}}
  splits = load_dataset("parquet", data_files=files)
Look further:
  clipmill show {dataset}
  clipmill failures {dataset}
  clipmill verify {dataset}"""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made. picture : path of the spectrograms; text : lines to print below the summary"""

    report: Report
    config: Path
    picture: Path
    text: list[str]


def run(folder: Path, root: str | None = None, workers: int | None = None, quiet: bool = False) -> DemoResult:
    """Synthesise the corpus, build the dataset and draw its spectrograms under a folder.

    Parameters
    ----------
    root : address of the dataset; None: in the folder
    workers : of a private Ray; None builds in this process, since the corpus is small
    """
    corpus, config = folder / "corpus", folder / "demo.yaml"
    dataset = root or str(folder / "dataset")
    try:
        if not corpus.exists():
            synthesise(corpus)
        config.write_text(_CONFIG.format(corpus=corpus, dataset=json.dumps(dataset)))
    except OSError as error:
        raise ClipmillError(f"cannot write the demo to {folder}: {error.strerror}") from None
    report = build(load(config), workers=workers, quiet=quiet)
    picture = folder / "spectrograms.png"
    lines: list[str] = []
    if report.snapshot is not None and report.exit_code == 0:
        draw(Root(dataset), report.snapshot.commits, picture)
        lines += [
            "",
            f"dataset      {dataset}  (configuration: {config})",
            f"picture      {picture}",
            *_LOAD.format(dataset=dataset).split("\n"),
        ]
    return DemoResult(report, config, picture, lines)


def draw(root: Root, commits: list[str], picture: Path, n_each: int = 4) -> None:
    """Draw log-mel spectrograms of the loudest clips of each label."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    clips: dict[str, list[dict[str, Any]]] = {}
    for key in commits:
        path = next(o.path for o in read_commit(root, key).outputs if o.format == "parquet")
        with contextlib.closing(root.open_read(path)) as stream:
            columns = ["clip_id", "label", "level_dbfs", "duration_s", "log_mel", "log_mel_shape"]
            for row in read_parquet(stream, columns).to_pylist():
                clips.setdefault(row["label"] or "", []).append(row)
    labels = sorted(clips)
    figure, axes = pyplot.subplots(
        len(labels), n_each, figsize=(3 * n_each, 2.6 * len(labels)), squeeze=False, layout="constrained"
    )
    for row_of_axes, label in zip(axes, labels, strict=True):
        loudest = sorted(clips[label], key=lambda c: -float(str(c["level_dbfs"])))[:n_each]
        for axis in row_of_axes:
            axis.set_axis_off()
        for axis, clip in zip(row_of_axes, loudest, strict=False):
            values = np.asarray(clip["log_mel"], np.float32).reshape(clip["log_mel_shape"])
            axis.set_axis_on()
            axis.imshow(
                values, origin="lower", aspect="auto", cmap="magma", extent=(0, clip["duration_s"], 0, len(values))
            )  # type: ignore[arg-type]
            axis.set_title(f"{label}, {float(str(clip['level_dbfs'])):.1f} dBFS", fontsize=9)
            axis.set_xlabel("s", fontsize=8)
            axis.set_ylabel("mel bin", fontsize=8)
            axis.tick_params(labelsize=7)
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)
