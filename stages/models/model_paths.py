"""Make the paths of a configuration's models those of this machine: they are relative to the configuration's folder."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from clipmill.schemas.config.model_settings import listed_models


def with_model_paths(config: Any, folder: str) -> Any:
    """Return a configuration, as plain data, with absolute paths of models and of the names of their classes.

    folder : of the configuration's file; empty: the current one

    What has not the form of a model stays as it is, for others to complain about.
    """
    features = config.get("features") if isinstance(config, dict) else None
    models = features.get("model") if isinstance(features, dict) else None
    if not isinstance(models, dict | list):
        return config
    made: Any = models
    with contextlib.suppress(ValueError):
        listed = [(name, _placed(one, folder)) for name, one in listed_models(models)]
        made = [one for _, one in listed]
        if isinstance(models, dict):
            made = made[0] if listed[0][0] is None else dict(listed)
    return {**config, "features": {**features, "model": made}} if isinstance(features, dict) else config


def _placed(model: Any, folder: str) -> Any:
    if not isinstance(model, dict):
        return model
    placed = {**model, **({"file": _absolute(model["file"], folder)} if "file" in model else {})}
    if "output" in model:
        placed["output"] = _with_names(model["output"], folder)
    outputs = model.get("outputs")
    if isinstance(outputs, list):
        placed["outputs"] = [_with_names(one, folder) for one in outputs]
    elif isinstance(outputs, dict):
        placed["outputs"] = {name: _with_names(one, folder) for name, one in outputs.items()}
    return placed


def _with_names(output: Any, folder: str) -> Any:
    if isinstance(output, dict) and isinstance(output.get("labels"), str):
        return {**output, "labels": _absolute(output["labels"], folder)}
    return output


def _absolute(path: Any, folder: str) -> Any:
    if not isinstance(path, str) or not path or "://" in path:
        return path
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))
