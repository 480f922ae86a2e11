"""Compare the settings that a snapshot recorded of a preset's column with those that its configuration asks for.

What a preset means is read from `schemas`, which the build reads as well. Where the configuration replaces none of a preset's keys, the
values are compared besides with the preset's own package, which knows nothing of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from clipmill.pipelines.audits.audit_kinds import Finding, Kind
from clipmill.schemas.columns import describe_columns, feature_fields
from clipmill.schemas.config.feature_config import Features

Settings = Mapping[str, Any]
_WITH_PRESETS = ("log_mel", "mfcc")
_MOST_SHOWN = 5


@dataclass(frozen=True)
class NamedPreset:
    """A preset that the configuration names for a column.

    name : of the preset
    finding : how the recorded settings differ from those that the configuration asks for
    replaced : keys in which the configuration differs from the preset alone
    """

    name: str
    finding: Finding
    replaced: tuple[str, ...]


def named_presets(columns: Mapping[str, Mapping[str, Any]], config: Settings) -> dict[str, NamedPreset]:
    """Return the presets of columns, by the column's name. Columns that neither record one nor are to have one are left out.

    columns : descriptions of features, by name
    config : of the snapshot, as the user wrote it
    """
    found = {}
    written = config.get("features")
    given = {
        name: value
        for name, value in (written if isinstance(written, Mapping) else {}).items()
        if name in _WITH_PRESETS
    }
    for name in _WITH_PRESETS:
        recorded = (columns.get(name) or {}).get("settings") or {}
        own = given.get(name)
        asked = own.get("preset") if isinstance(own, Mapping) else None
        preset = asked or recorded.get("preset")
        if not recorded or preset is None:
            continue
        kind = Kind(f"{name} ({preset}) settings", "keys", 0.0)
        rate_hz = recorded.get("sample_rate_hz")
        wanted, plain = _settings(given, name, rate_hz), _settings({name: {"preset": preset}}, name, rate_hz)
        if wanted is None or plain is None:
            detail = f"the configuration has no {name}, or one that this version does not understand"
            found[name] = NamedPreset(str(preset), Finding(kind, math.inf, detail=detail), ())
            continue
        different = list(_different(recorded, wanted))
        shown = [f"{key} {recorded.get(key)!r}, {wanted.get(key)!r} expected" for key in different[:_MOST_SHOWN]]
        finding = Finding(kind, float(len(different)), detail="; ".join(shown))
        found[name] = NamedPreset(str(preset), finding, tuple(_different(wanted, plain)))
    return found


def _settings(features: Mapping[str, Any], name: str, rate_hz: Any) -> Settings | None:
    """Return the settings of a feature of a configuration; None if it has none, or is not valid."""
    try:
        fields = feature_fields(Features.model_validate(features), int(rate_hz))
    except (ValidationError, ValueError, TypeError):
        return None
    return next((about["settings"] for about in describe_columns(fields) if about["name"] == name), None)


def _different(one: Settings, other: Settings) -> Iterator[str]:
    for key in sorted({*one, *other}):
        if (key in one) != (key in other) or one.get(key) != other.get(key):
            yield key
