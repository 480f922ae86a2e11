"""All that clipmill uses of Ray's private names, each with what it is for and what is done without it.

A version of Ray that renames one of them costs what the name is for, not the build; `tests/test_ray_private.py` says which one it was.
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
    """Have Ray Data look for the answer to how much it may use more often than each second, while the first tasks start.

    Ray 2.60 asks without waiting, takes "nothing" for the first answer, and lets one task alone run until it looks again: a
    second in which all other workers stand still. Without the name, that second is lost.
    """
    manager = resource_manager()
    if manager is None:
        yield
        return
    name = _RESOURCE_MANAGER[2]
    usual_s = getattr(manager, name)
    setattr(manager, name, _RESOURCES_EVERY_S)
    try:
        yield
    finally:
        setattr(manager, name, usual_s)


def resource_manager() -> Any:
    """Return the class that has the interval, None where this Ray has none."""
    module, kind, name = _RESOURCE_MANAGER
    try:
        found = getattr(importlib.import_module(module), kind)
        float(getattr(found, name))
    except (ImportError, AttributeError, TypeError, ValueError):
        _LOG.warning("Ray has no %s.%s.%s any more: a build loses its first second", module, kind, name)
        return None
    return found


def job_config_with(search_path: list[str]) -> Any:
    """Return a `ray.job_config.JobConfig` whose workers search these folders and no others of the driver.

    Ray 2.60 puts the folder of the driver's script and the current one in front of all that its workers search, and has no
    setting for it. Without the name workers search these as well.
    """
    from ray.job_config import JobConfig

    class PlainPath(JobConfig):  # type: ignore[misc]
        def _serialize(self) -> Any:
            # `ray.init` writes the attribute just before it calls this.
            if hasattr(self, SEARCH_PATH):
                setattr(self, SEARCH_PATH, search_path)
            else:
                _LOG.warning(
                    "Ray has no JobConfig.%s any more: workers also search the folder of the command", SEARCH_PATH
                )
            return super()._serialize()

    return PlainPath()
