"""Make training sets out of raw audio corpora.

>>> import clipmill
>>> clipmill.plan("dogs.yaml")                       # what a build would do
>>> clipmill.build("dogs.yaml").raise_for_status()   # recordings to clips, features, shards and a snapshot
>>> dataset = clipmill.open_dataset("s3://datasets/dogs")
>>> dataset.manifest().to_pandas()                   # a row a clip
>>> clips = clipmill.ClipDataset(dataset, "train", columns=["log_mel", "label_id"])  # for torch's DataLoader

What is imported from here is loaded when it is first used: `import clipmill` itself loads neither torch nor ray.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from clipmill.python_version import AS_COMMAND, PROBLEM, SUPPORTED

if not SUPPORTED:
    if not AS_COMMAND:
        raise ImportError(PROBLEM)
    print(f"error: {PROBLEM}", file=sys.stderr)
    sys.exit(2)

if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and os.path.realpath(sys.path[0]) != os.path.realpath(f"{__path__[0]}/..")
):
    # `python -m clipmill`: Python searches the current folder first, and a user's file called `json.py` is no library.
    del sys.path[0]

if TYPE_CHECKING:
    from clipmill.pipelines.config_file import ConfigFile, load_config
    from clipmill.pipelines.dataset.published import Published, open_dataset
    from clipmill.pipelines.read.training import ClipDataset, padded
    from clipmill.pipelines.run.build import build
    from clipmill.pipelines.run.preview import Preview, plan
    from clipmill.pipelines.run.report import Report
    from clipmill.schemas.errors import ClipmillError
    from clipmill.stages.stage import Stage

    __version__: str

__all__ = [
    "ClipDataset",
    "ClipmillError",
    "ConfigFile",
    "Preview",
    "Published",
    "Report",
    "Stage",
    "build",
    "load_config",
    "open_dataset",
    "padded",
    "plan",
]

_MODULES = {
    "ClipDataset": "pipelines.read.training",
    "ClipmillError": "schemas.errors",
    "ConfigFile": "pipelines.config_file",
    "Preview": "pipelines.run.preview",
    "Published": "pipelines.dataset.published",
    "Report": "pipelines.run.report",
    "Stage": "stages.stage",
    "build": "pipelines.run.build",
    "load_config": "pipelines.config_file",
    "open_dataset": "pipelines.dataset.published",
    "padded": "pipelines.read.training",
    "plan": "pipelines.run.preview",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("clipmill")
    if name not in _MODULES:
        raise AttributeError(f"module 'clipmill' has no attribute {name!r}")
    value = getattr(import_module(f"clipmill.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
