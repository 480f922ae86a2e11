"""Check an output before anything is written to it."""

from __future__ import annotations

import os
from dataclasses import replace

from clipmill.pipelines.config_file import ConfigFile
from clipmill.pipelines.dataset.identity import Identity, identity_for
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.keys import CLIP_ID_BITS
from clipmill.stages.storage.root import Root


def check_output(file: ConfigFile, root: Root) -> ConfigFile:
    """Check the output as a build does, without writing: that it is not another dataset, and not inside a source.

    Returns
    -------
    the configuration with what the dataset says that all of its builds must agree on

    Raises
    ------
    ConfigError : the output is inside a source
    ClipmillError : the output contains another dataset
    """
    check_apart(file, root)
    asked = file.config.output.clip_id_bits or CLIP_ID_BITS
    return with_clip_id_bits(file, identity_for(root, file.config.name, asked))


def with_clip_id_bits(file: ConfigFile, identity: Identity) -> ConfigFile:
    """Return a configuration with the dataset's width of clip ids. Raises ConfigError if it asks for another one."""
    output = file.config.output
    if output.clip_id_bits not in (None, identity.clip_id_bits):
        raise ConfigError(
            f"the ids of this dataset's clips have {identity.clip_id_bits} bits, as its dataset.json says; leave the key out, or choose"
            " another output.root",
            key="output.clip_id_bits",
        )
    output = output.model_copy(update={"clip_id_bits": identity.clip_id_bits})
    return replace(file, config=file.config.model_copy(update={"output": output}))


def check_apart(file: ConfigFile, root: Root, key: str = "output.root") -> None:
    """Raise ConfigError if a place is inside a source: the next build would read its clips as recordings.

    key : what named the place: a key of the configuration, or an option
    """
    for source in file.config.sources:
        source_base = Root(source.root, source.storage_options)
        if source_base.is_s3 and root.is_s3:
            same_store = source.storage_options.get("endpoint_url") == root.storage_options.get("endpoint_url")
            inside = same_store and f"{root.full()}/".startswith(f"{source_base.full()}/") and "/." not in root.full()
        elif source_base.is_local and root.is_local:
            place, top = (f"{os.path.realpath(one.full())}{os.sep}" for one in (root, source_base))
            inside = place.startswith(top) and not _hidden(place, source_base)
        else:
            inside = False
        if inside:
            text = f"{root.url} is inside the source {source.root}: its clips would be read as recordings; "
            if key.startswith("--"):
                raise ConfigError(f"{key} {text}give another folder", code="usage")
            raise ConfigError(f"{text}move one of them", key=key, file=file.path)


def _hidden(path: str, source: Root) -> bool:
    relative = os.path.relpath(path, os.path.realpath(source.full()))
    return any(part.startswith(".") and part not in (".", "..") for part in relative.split(os.sep))
