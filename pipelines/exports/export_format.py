"""What a module of `exports` declares of its format, and the options that only this format has."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from clipmill.schemas.config.model import Frozen, did_you_mean
from clipmill.schemas.config.problems import describe_problem
from clipmill.schemas.errors import ClipmillError, ConfigError

Place = Literal["folder", "root", "versions", "service"]


class NoOptions(Frozen):
    """The options of a format that has none."""


@dataclass(frozen=True)
class Format:
    """Declare a format. Each module of `exports` that is one has it as `FORMAT`.

    summary : what it writes, for the help of `clipmill export`; at most some 90 characters
    place : where the files go.
        folder: into a folder of one snapshot's export alone, where `--to` says or under ROOT/exports
        root: into the dataset's root, where its readers look for it; there is no `--to`
        versions: into a folder that holds the exports of several snapshots as versions, where `--to` says or under ROOT/exports
        service: to what `--to` names, which is no folder
    address : how `--to` is written where `place` is service, as in NAMESPACE/NAME
    whole_shards : whether it names the shards as they are, and so all of their clips; then there is no `--where`
    copies_audio : whether it repeats the audio
    options : model of its options
    needs : packages that it imports, with the extra of clipmill that installs each
    """

    summary: str
    place: Place = "folder"
    address: str = ""
    whole_shards: bool = False
    copies_audio: bool = False
    options: type[Frozen] = NoOptions
    needs: Mapping[str, str] = field(default_factory=dict)

    def check_packages(self, name: str) -> None:
        """Raise a ClipmillError that names the first package that cannot be imported."""
        for package, extra in self.needs.items():
            try:
                importlib.import_module(package)
            except ImportError:
                raise ClipmillError(
                    f"the export to {name} needs {package}, which is not installed: pip install 'clipmill[{extra}]'"
                ) from None

    def read_options(self, name: str, given: Mapping[str, Any]) -> Frozen:
        """Return the options of an export.

        Raises
        ------
        ConfigError : there is no such option, or it has no such value
        """
        known = list(self.options.model_fields)
        try:
            return self.options.model_validate(dict(given))
        except ValidationError as error:
            told = []
            for item in error.errors(include_url=False):
                key = str(item["loc"][0]) if item["loc"] else ""
                if item["type"] == "extra_forbidden":
                    there = f"its options are {', '.join(known)}" if known else "it has no options"
                    told.append(f"--option {key}: {name} has no such option; {there}{did_you_mean(key, known)}")
                elif item["type"] == "missing":
                    about = self.options.model_fields[key].description
                    told.append(f"--option {key}=...: {name} needs it: {about}")
                else:
                    told.append(f"--option {key}: {describe_problem(item)}")
            raise ConfigError("\n".join(told), code="usage") from None

    def describe_options(self) -> list[str]:
        """Return a line for each option: its name, values, default and meaning."""
        lines = []
        for name, about in self.options.model_fields.items():
            default = about.default
            shown = str(default).lower() if isinstance(default, bool) else default
            values = f" ({default_of(about.annotation, shown)})" if shown not in (None, "") else ""
            lines.append(f"{name}: {about.description}{values}")
        return lines


def default_of(annotation: Any, default: Any) -> str:
    """Return the values that an option can have, the default in front."""
    if get_origin(annotation) is Literal:
        return " | ".join([str(default), *(str(v) for v in get_args(annotation) if v != default)])
    return str(default)
