"""All private names of Ray that clipmill uses, each with its purpose and what happens without it.

If a version of Ray renames one of them, builds lose only what the name is for; `tests/test_ray_private.py` shows which one it was.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import Any

_LOG = logging.getLogger(__name__)
_RESOURCES_EVERY_S = 0.05
_RESOURCE_MANAGER = (
    "ray.data._internal.execution.resource_manager",
    "ResourceManager",
    "GLOBAL_LIMITS_UPDATE_INTERVAL_S",
)
SEARCH_PATH = "_py_driver_sys_path"


@contextlib.contextmanager
def resources_looked_for_at_once() -> Iterator[None]:
    """Let Ray Data update its resource limits more often than once per second while the block runs.

    Ray 2.60 requests the limits without waiting, takes the first answer to be nothing, and runs a single task until the next update:
    all other workers are idle for a second. Without the name, that second is lost.
    """
    manager = resource_manager()
    if manager is None:
        yield
        return
    name = _RESOURCE_MANAGER[2]
    default_s = getattr(manager, name)
    setattr(manager, name, _RESOURCES_EVERY_S)
    try:
        yield
    finally:
        setattr(manager, name, default_s)


def resource_manager() -> Any:
    """Return the class that has the update interval, None if this Ray does not have it."""
    module, kind, name = _RESOURCE_MANAGER
    try:
        manager = getattr(importlib.import_module(module), kind)
        float(getattr(manager, name))
    except (ImportError, AttributeError, TypeError, ValueError):
        _LOG.warning("this version of Ray has no %s.%s.%s: a build loses its first second", module, kind, name)
        return None
    return manager


def job_config_with(search_path: list[str]) -> Any:
    """Return a `ray.job_config.JobConfig` that adds only these folders to the module search path of workers.

    Ray 2.60 puts the folder of the driver's script and the current folder first in that path, and has no setting for it. Without the
    name, workers search these two as well.
    """
    from ray.job_config import JobConfig

    class PlainPath(JobConfig):  # type: ignore[misc]
        def _serialize(self) -> Any:
            # `ray.init` sets the attribute just before this call.
            if hasattr(self, SEARCH_PATH):
                setattr(self, SEARCH_PATH, search_path)
            else:
                _LOG.warning(
                    "this version of Ray has no JobConfig.%s: workers also search the folder of the command",
                    SEARCH_PATH,
                )
            return super()._serialize()

    return PlainPath()
