"""Module search paths for workers and decoding processes, without the current folder.

A file called `queue.py` or `numpy.py` in it would be imported in place of the library. The command itself does not search it, but Ray
puts the driver's current folder, and that of its script, first in the search path of its workers.
"""

from __future__ import annotations

import os
import site
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import clipmill
from clipmill.pipelines.run.ray_private import job_config_with

TOP = Path(clipmill.__file__).parents[1]
"""The folder that contains the package, in an installation or a checkout."""


def without_current_folder(path: Iterable[str]) -> list[str]:
    """Return a search path without the current folder, unless that contains clipmill itself."""
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # the current folder was removed
        return [p for p in path if p]
    absolute = [p or here for p in path]
    return absolute if here == os.path.realpath(TOP) else [p for p in absolute if os.path.realpath(p) != here]


def job_config(carried: bool) -> Any:
    """Return a `ray.job_config.JobConfig` whose workers search Python's own folders, and clipmill's if it is not installed there.

    carried : clipmill's code is sent to the workers, so they need no folder of this machine for it
    """
    needed = not carried and str(TOP) not in map(os.path.realpath, site.getsitepackages())
    return job_config_with([str(TOP)] if needed else [])
