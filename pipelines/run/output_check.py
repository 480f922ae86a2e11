"""Check an output before anything is written to it."""

from __future__ import annotations

import os

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.dataset.records_io import check_name
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.root import Root


def check_output(file: ConfigFile, root: Root) -> None:
    """Check the output as a build does, without writing: that it is not another dataset, and not inside a source.

    Raises
    ------
    ConfigError : the output is inside a source
    ClipmillError : the output contains another dataset
    """
    check_apart(file, root)
    check_name(root, file.config.name)


def check_apart(file: ConfigFile, root: Root) -> None:
    """Raise ConfigError if the output is inside a source: the next build would read its clips as recordings."""
    for source in file.config.sources:
        source_base = Root(source.root, source.storage_options)
        if source_base.is_s3 and root.is_s3:
            same_store = source.storage_options.get("endpoint_url") == root.storage_options.get("endpoint_url")
            if same_store and f"{root.full()}/".startswith(f"{source_base.full()}/") and "/." not in root.full():
                raise ConfigError(
                    f"{root.url} is inside the source {source.root}: its clips would be read as recordings; move one of them",
                    key="output.root", file=file.path,
                )  # fmt: skip
        if source_base.is_local and root.is_local:
            inside = os.path.realpath(root.full()) + os.sep
            if inside.startswith(os.path.realpath(source_base.full()) + os.sep) and not _hidden(inside, source_base):
                raise ConfigError(
                    f"{root.url} is inside the source {source.root}: its clips would be read as recordings; move one of them",
                    key="output.root", file=file.path,
                )  # fmt: skip


def _hidden(path: str, source: Root) -> bool:
    relative = os.path.relpath(path, os.path.realpath(source.full()))
    return any(part.startswith(".") and part not in (".", "..") for part in relative.split(os.sep))
