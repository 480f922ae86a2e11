"""Check that a machine has the device that a configuration asks for."""

from __future__ import annotations

from clipmill.pipelines.chain import chain_of
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ConfigError


def check_device(config: Config, elsewhere: bool) -> None:
    """Raise ConfigError if features need a GPU and this machine has none. elsewhere : a cluster builds, which is asked once it is connected"""
    if config.features.device != "cuda" or not chain_of(config).can_use_gpu or elsewhere:
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "is cuda, and this machine has no GPU that torch can use: set auto or cpu, or build on a cluster with --address",
            key="features.device",
            code="config.no_gpu",
        )
