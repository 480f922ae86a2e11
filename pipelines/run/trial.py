"""Build a few items of a configuration into a temporary folder, to look at and listen to what a build would store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from clipmill.pipelines.config_file import ConfigFile, load_config
from clipmill.pipelines.plan.few_items import VariedItems
from clipmill.pipelines.run.build import Builder
from clipmill.pipelines.run.graph import output_root
from clipmill.pipelines.run.guard import guarded
from clipmill.pipelines.run.report import Report
from clipmill.pipelines.run.scratch import elsewhere
from clipmill.stages.storage.root import Root

_ITEMS_PER_CLIP = 2
"""Recordings that are read for each clip that is wanted, since some give none."""
_MOST_S = 1800.0
"""Audio of clips, as estimated, beyond which no further recording is read: a minute of work even with slow stages."""


@contextmanager
def tried_out(
    config: ConfigFile | str | os.PathLike[str] | Mapping[str, Any], n_clips: int, seed: int = 0, *, quiet: bool = False
) -> Iterator[tuple[Report, Root]]:
    """Build a few recordings, or parts of long ones, by the steps of `build`; the dataset is removed when the block ends.

    Parameters
    ----------
    n_clips : number of clips that are wanted; there can be fewer
    seed : of the choice of recordings, which are of as many sources, splits and labels as there are

    Yields
    ------
    the report of the build, and the root of its dataset, which has a snapshot even if no clip was kept

    Raises
    ------
    ConfigError, ClipmillError : as `build` does, also if a shard could not be built
    """
    file = load_config(config)
    few = VariedItems(_ITEMS_PER_CLIP * n_clips, _MOST_S, seed)
    # A hidden folder: what is in it is not listed as recordings, even if a source's tree holds temporary files.
    with tempfile.TemporaryDirectory(prefix=".clipmill-sample-", ignore_cleanup_errors=True) as folder:
        with guarded(file):
            aside = elsewhere(file, f"{folder}/dataset", "", few, in_process=True)
        with guarded(aside.file):
            report = Builder(aside.file, None, None, quiet, aside).run(accept=True)
        yield report.raise_for_status(), output_root(aside.file.config)
