"""Choose the tiers of a file: layers of annotations over one recording, as Praat and ELAN write them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BeforeValidator

from clipmill.schemas.config.model import Frozen, later
from clipmill.stages.annotations.rows import SettingError

_SHOWN = 20
_WILD = "*?"


def _checked(value: Any) -> Any:
    each = value if isinstance(value, list) else [value]
    for tier in each:
        if isinstance(tier, bool) or not isinstance(tier, str | int):
            raise ValueError("give a tier's name, its number, counted from 1, or a list of these")
        if isinstance(tier, int) and tier < 1:
            raise ValueError("tiers are counted from 1")
    if not each:
        raise ValueError("the list of tiers is empty")
    return value


Tier = Annotated[str | int | list[str | int], BeforeValidator(_checked)]


class TierOptions(Frozen):
    """Configure which tiers of a file are read."""

    tier: Tier | None = later(
        None, description="tier to read: its name, its number from 1, a pattern such as '* - words', or a list of these"
    )


def choose_tiers(names: Sequence[str], kinds: Sequence[str], wanted: str | int | list[str | int] | None) -> list[int]:
    """Return the indexes of the tiers to read, from 0, in the order of the file.

    Parameters
    ----------
    names : of the tiers of the file
    kinds : what each tier holds, for messages, such as ``12 intervals``
    wanted : `TierOptions.tier`

    Raises
    ------
    SettingError : the file has several tiers and none is named, or lacks the named one, or has several of its name
    """
    if wanted is None:
        if len(names) > 1:
            raise SettingError(
                f"the file has {len(names)} tiers; set `tier` to one of: {_listed(names, kinds)}", "tier"
            )
        return list(range(len(names)))
    chosen = {at for each in (wanted if isinstance(wanted, list) else [wanted]) for at in _found(each, names, kinds)}
    return sorted(chosen)


def takes_several(wanted: str | int | list[str | int] | None) -> bool:
    """Return whether a configuration can choose several tiers of a file, so that each row carries the name of its own."""
    return isinstance(wanted, list) or (isinstance(wanted, str) and any(sign in wanted for sign in _WILD))


def _found(wanted: str | int, names: Sequence[str], kinds: Sequence[str]) -> list[int]:
    if isinstance(wanted, int):
        if wanted > len(names):
            raise SettingError(f"the file has no tier {wanted}; it has: {_listed(names, kinds)}", "tier")
        return [wanted - 1]
    same = [at for at, name in enumerate(names) if name == wanted]
    if len(same) > 1:
        numbers = " and ".join(str(at + 1) for at in same[:_SHOWN])
        raise SettingError(f"tiers {numbers} are all called {wanted!r}; set `tier` to the number of one", "tier")
    if not same and any(sign in wanted for sign in _WILD):
        same = [at for at, name in enumerate(names) if fnmatchcase(name, wanted)]
    if not same:
        raise SettingError(f"the file has no tier {wanted!r}; it has: {_listed(names, kinds)}", "tier")
    return same


def _listed(names: Sequence[str], kinds: Sequence[str]) -> str:
    shown = [f"{name[:60]!r} ({kind})" for name, kind in zip(names[:_SHOWN], kinds[:_SHOWN], strict=True)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(shown) or "none") + more
