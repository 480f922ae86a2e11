"""Find stages by the names in a configuration.

A plain name is a module of `stages/clips` (for the list `clips`) or of `stages/features` (under `features`), or an entry point of the
group `clipmill.stages`. A name with a colon, `package.module:Class`, is a class of any package.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from clipmill.schemas.config.model import Frozen, did_you_mean
from clipmill.schemas.config.problems import describe_problem, keys_at
from clipmill.schemas.errors import ConfigError, Problem, StageError
from clipmill.stages.stage import Scope, Stage
from clipmill.stages.stage_code import DIGEST, code_files, digest_of, receive

GROUP = "clipmill.stages"
_PACKAGES: dict[Scope, str] = {"clip": "clipmill.stages.clips", "derived": "clipmill.stages.features"}
_MODULES = {"model": "network"}
"""Modules that are not named after their stage's section, by section; another module has the name."""
_FOREIGN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PLAIN = re.compile(r"[a-z][a-z0-9_]*")
_OURS = re.compile(r"clipmill(\.|$)")


@dataclass(frozen=True)
class StageClass:
    """Hold the class of a stage. origin : its package and version, or the digest of its code; empty for clipmill's own stages."""

    kind: type[Stage]
    origin: str = ""


def own_names(scope: Scope) -> list[str]:
    """Return the plain names of clipmill's own stages, sorted."""
    package = importlib.import_module(_PACKAGES[scope])
    sections = {module: section for section, module in _MODULES.items()}
    return sorted(sections.get(m.name, m.name) for m in pkgutil.iter_modules(package.__path__) if not m.ispkg)


def known_names(scope: Scope) -> list[str]:
    """Return the plain names of all stages, including those of other packages, sorted."""
    return sorted({*own_names(scope), *(e.name for e in importlib.metadata.entry_points(group=GROUP))})


@cache
def find_stage(name: str, scope: Scope) -> StageClass:
    """Return the class of the stage with a name.

    Raises
    ------
    StageError : no stage has this name, it cannot be imported, or it is not a stage of this scope
    """
    if _FOREIGN.fullmatch(name):
        module, _, attribute = name.partition(":")
        kind = getattr(_imported(module, name), attribute, None)
    else:
        kind = _by_plain_name(name, scope)
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise _unknown(f"{name!r} is not a stage; expected a subclass of clipmill.stages.Stage")
    if getattr(kind, "scope", None) != scope:
        place = "in the list `clips`" if kind.scope == "clip" else "under `features`"
        raise _unknown(f"{name!r} has the scope {kind.scope!r}; it belongs {place}")
    if kind.__module__ == "__main__":
        # Workers would have to run the user's script again, or a notebook's cells.
        raise _unknown(f"{name!r} is defined in a script or a notebook; put it into a module of its own and name that")
    return StageClass(kind, origin_of(kind))


def _by_plain_name(name: str, scope: Scope) -> Any:
    package = _PACKAGES[scope]
    path = f"{package}.{_MODULES.get(name, name)}"
    if _PLAIN.fullmatch(name) and name not in _MODULES.values() and importlib.util.find_spec(path) is not None:
        module = _imported(path, name)
        classes = [c for c in vars(module).values() if _is_stage_of(c, module.__name__) and c.section == name]
        if len(classes) != 1:
            raise _unknown(
                f"{module.__name__} must contain one stage whose section is {name!r}; it contains {len(classes)}"
            )
        return classes[0]
    entries = [e for e in importlib.metadata.entry_points(group=GROUP) if e.name == name]
    if not entries:
        known = known_names(scope)
        hint = did_you_mean(name, known) or f"; known are {', '.join(known) or 'none'}, and package.module:Class"
        raise _unknown(f"unknown stage {name!r}{hint}")
    module, _, attribute = entries[0].value.partition(":")
    return getattr(_imported(module, name), attribute, None)


def _is_stage_of(value: Any, module: str) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, Stage)
        and value.__module__ == module
        and hasattr(value, "section")
    )


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - importing runs foreign code
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise _unknown(f"stage {name!r} cannot be imported: {text}") from None


def _unknown(message: str) -> StageError:
    return StageError(message, code="stage.unknown")


@cache
def origin_of(kind: type[Stage]) -> str:
    """Return text that identifies a stage's code: the version of its package, or a digest of the code.

    It is empty for clipmill's own stages, which have `version`.
    """
    if _OURS.match(kind.__module__):
        return ""
    top = kind.__module__.partition(".")[0]
    for distribution in importlib.metadata.packages_distributions().get(top, []):
        if not _is_editable(distribution):
            return f"{distribution} {importlib.metadata.version(distribution)}"
    module = sys.modules.get(kind.__module__)
    if (digest := getattr(module, DIGEST, None)) is not None:
        return f"sha256 {digest}"
    if getattr(module, "__file__", None) is None:
        raise _unknown(f"stage {kind.section!r} has no file from which workers could load it; put it into a module")
    return f"sha256 {digest_of(code_files(sys.modules[top]))}"


def stage_files(kind: type[Stage]) -> dict[str, str]:
    """Return the files of a stage's code by path; empty when an installed package has them.

    Workers and decoding processes import the stage from these files, since they do not search the command's current folder.
    """
    if not origin_of(kind).startswith("sha256"):
        return {}
    top = kind.__module__.partition(".")[0]
    if importlib.metadata.packages_distributions().get(top):  # linked to its source, where workers find it as well
        return {}
    return {path: content.decode("latin-1") for path, content in code_files(sys.modules[top]).items()}


def receive_files(sources: Mapping[str, str]) -> None:
    """Make stages importable whose files another process got from `stage_files`."""
    if receive(sources):
        find_stage.cache_clear()
        origin_of.cache_clear()


def _is_editable(distribution: str) -> bool:
    """Return whether a package is installed as a link to its source, which can change while the version stays."""
    direct = importlib.metadata.distribution(distribution).read_text("direct_url.json") or ""
    return '"editable": true' in direct


def check_settings(kind: type[Stage], settings: Any, key: str) -> Any:
    """Return a stage's settings as the stage's model.

    Raises
    ------
    ConfigError : the settings do not fit the model; one problem per key
    """
    model = kind.settings or Frozen
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        by_place: dict[str, list[Any]] = {}
        for item in error.errors(include_url=False):
            # A part such as list[int] is no key: it tells which branch of a union did not fit.
            parts = [str(part) for part in item["loc"] if "[" not in str(part)]
            by_place.setdefault(".".join((key, *parts)), []).append(item)
        # Of a list, the entry that is wrong says more than that it is not one value.
        inmost = [p for p in by_place if not any(other.startswith(f"{p}.") for other in by_place)]
        raise ConfigError.of([_problem(by_place[place], kind, place) for place in inmost]) from None


def _problem(items: list[Any], kind: type[Stage], place: str) -> Problem:
    item = items[0]
    if item["type"] == "extra_forbidden":
        known = keys_at(kind.settings or Frozen, item["loc"][:-1])
        hint = did_you_mean(item["loc"][-1], known) or f"; known here: {', '.join(known) or 'none'}"
        return Problem("config.unknown_key", f"unknown key{hint}", place)
    if item["type"] == "missing":
        return Problem("config.missing_key", "is missing and has no default", place)
    told = list(dict.fromkeys(describe_problem(each) for each in items))
    told = [text for text in told if "did you mean" in text] or told
    message = ", or ".join([told[0], *(text.removeprefix("expected ") for text in told[1:])])
    return Problem("config.invalid_value", message, place)
