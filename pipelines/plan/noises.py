"""List the noises and impulse responses that stages of a configuration use."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from clipmill.pipelines.plan.inventory import take_inventory
from clipmill.pipelines.plan.listing import source_root
from clipmill.schemas.config import Config, Source
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.keys import digest
from clipmill.stages.noise_library import Listed


def list_noises(config: Config, names: Collection[str]) -> dict[str, list[Listed]]:
    """Return the files of trees of noises, sorted by path, by the trees' names.

    names : of the trees that are used

    Raises
    ------
    ConfigError : a tree has no audio file
    ClipmillError : a tree cannot be listed
    """
    listed = {}
    for i, noise in enumerate(config.noises):
        if noise.name not in names:
            continue
        about = noise.model_dump(include={"name", "root", "storage_options", "include", "exclude"})
        source = Source.model_validate(about)
        try:
            recordings = take_inventory(source, source_root(source)).recordings
        except ClipmillError as error:
            text = str(error).replace(f"source {noise.name!r}", f"noises {noise.name!r}")
            raise ConfigError(text, key=f"noises[{i}].root") from None
        if not recordings:
            raise ConfigError(f"{noise.root} has no audio file that `include` names", key=f"noises[{i}].root")
        listed[noise.name] = sorted((r.path, r.size_bytes, r.version) for r in recordings)
    return listed


def digest_of_noises(noises: Mapping[str, list[Listed]]) -> str:
    """Return a digest of the files of trees of noises: of their names and versions, not of where the trees are."""
    return digest([[name, [[path, version] for path, _, version in files]] for name, files in sorted(noises.items())])
