"""Do the work on recordings and clips: one module per stage, each a pure function of an Arrow table, without Ray.

Import what your own stages need from here; see docs/stages.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmill.schemas.columns import column, feature
    from clipmill.schemas.config.model import Frozen as StageSettings
    from clipmill.schemas.config.model import later
    from clipmill.schemas.reasons import Reason
    from clipmill.stages.clip_samples import waveforms, with_waveforms
    from clipmill.stages.stage import Stage, dropped, is_clip, rejected, with_column

__all__ = [
    "Reason",
    "Stage",
    "StageSettings",
    "column",
    "dropped",
    "feature",
    "is_clip",
    "later",
    "rejected",
    "waveforms",
    "with_column",
    "with_waveforms",
]

_MODULES = {
    "Reason": "schemas.reasons",
    "StageSettings": "schemas.config.model",
    "column": "schemas.columns",
    "feature": "schemas.columns",
    "later": "schemas.config.model",
    "waveforms": "stages.clip_samples",
    "with_waveforms": "stages.clip_samples",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, since the arithmetic of the features must also run where most packages are missing.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"clipmill.{_MODULES.get(name, 'stages.stage')}")
    return getattr(module, "Frozen" if name == "StageSettings" else name)
