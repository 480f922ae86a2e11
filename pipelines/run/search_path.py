"""Where workers and decoding processes look for modules: not in the folder in which a user happens to be.

A file called `queue.py` or `numpy.py` in it would be taken for the library. The command itself does not look there, but Ray adds
the driver's current folder, and its script's, in front of all else that its workers search.
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
"""The folder that the package lies in: of an installation, or of a checkout."""


def without_current_folder(path: Iterable[str]) -> list[str]:
    """Return a search path without the current folder, unless clipmill itself lies in it."""
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # it was removed
        return [p for p in path if p]
    absolute = [p or here for p in path]
    return absolute if here == os.path.realpath(TOP) else [p for p in absolute if os.path.realpath(p) != here]


def job_config(carried: bool) -> Any:
    """Return a `ray.job_config.JobConfig` whose workers search what Python itself says, and clipmill's folder where it is another.

    carried : workers are given clipmill's code, so that they need no folder of this machine for it
    """
    needed = not carried and str(TOP) not in map(os.path.realpath, site.getsitepackages())
    return job_config_with([str(TOP)] if needed else [])
