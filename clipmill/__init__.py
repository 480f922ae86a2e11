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
    from clipmill.pipelines.read.batches import padded
    from clipmill.pipelines.read.training import ClipDataset
    from clipmill.pipelines.read.transforms.add_noise import AddNoise
    from clipmill.pipelines.read.transforms.crop import Crop
    from clipmill.pipelines.read.transforms.mixup import Mixup
    from clipmill.pipelines.read.transforms.random_gain import RandomGain
    from clipmill.pipelines.read.transforms.spec_augment import SpecAugment
    from clipmill.pipelines.read.transforms.transform import BatchTransform, Transform
    from clipmill.pipelines.run.build import build
    from clipmill.pipelines.run.preview import Preview, plan
    from clipmill.pipelines.run.report import Report
    from clipmill.schemas.errors import ClipmillError
    from clipmill.stages.inverse import inverse
    from clipmill.stages.stage import Stage

    __version__: str

__all__ = [
    "AddNoise", "BatchTransform", "ClipDataset", "ClipmillError", "ConfigFile", "Crop", "Mixup", "Preview", "Published", "RandomGain",
    "Report", "SpecAugment", "Stage", "Transform", "build", "inverse", "load_config", "open_dataset", "padded", "plan",
]  # fmt: skip

_NAMES = {
    "pipelines.config_file": "ConfigFile load_config",
    "pipelines.dataset.published": "Published open_dataset",
    "pipelines.read.batches": "padded",
    "pipelines.read.training": "ClipDataset",
    "pipelines.read.transforms.add_noise": "AddNoise",
    "pipelines.read.transforms.crop": "Crop",
    "pipelines.read.transforms.mixup": "Mixup",
    "pipelines.read.transforms.random_gain": "RandomGain",
    "pipelines.read.transforms.spec_augment": "SpecAugment",
    "pipelines.read.transforms.transform": "BatchTransform Transform",
    "pipelines.run.build": "build",
    "pipelines.run.preview": "Preview plan",
    "pipelines.run.report": "Report",
    "schemas.errors": "ClipmillError",
    "stages.inverse": "inverse",
    "stages.stage": "Stage",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


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
