"""Map the labels of a corpus to those of the dataset; leave some out, reject those that are not classes."""

from __future__ import annotations

from collections.abc import Collection

from clipmill.pipelines.plan.refused import RefusedError
from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.label_config import From
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.findings import Finding


class LabelRule:
    """Map the labels of a source to those of the dataset, and remember which ones occurred."""

    def __init__(self, config: Config, source: Source) -> None:
        label = source.label
        rules = label if isinstance(label, From) else None
        self._map = rules.map if rules is not None else None
        self._default = rules.default if rules is not None else None
        self._drop = frozenset(rules.drop) if rules is not None else frozenset()
        self._classes = frozenset(config.classes) if config.classes is not None else None
        self._met: set[str] = set()
        self._trusting = self._map is None and self._classes is None

    def take_met(self) -> list[str]:
        """Return the labels of `map` and `drop` that occurred since the last call, sorted."""
        met = sorted(self._met)
        self._met = set()
        return met

    def never_met(self, met: Collection[str]) -> list[str]:
        """Return the labels of `map` and `drop` that did not occur, sorted: misspelt, or no longer in the source."""
        return sorted({*(self._map or {}), *self._drop} - set(met))

    def drops(self, label: str | None) -> bool:
        """Return whether clips with a label of the corpus are left out."""
        if label is None or not self._drop:
            return False
        name = (self._map or {}).get(label, label)
        if dropped := {label, name} & self._drop:
            self._met |= dropped
            if self._map is not None and label in self._map:
                self._met.add(label)
        return bool(dropped)

    def name(self, label: str) -> str:
        """Return the dataset's name for a label of the corpus.

        Raises
        ------
        RefusedError : neither `map` nor `classes` has it, and there is no default
        """
        if self._trusting:
            return label
        name: str | None = label
        if self._map is not None:
            name = self._map.get(label)
            if name is None:
                if self._default is None:
                    raise RefusedError("label_not_mapped", f"{label[:80]!r}{did_you_mean(label, self._map)}")
                name = self._default
            else:
                self._met.add(label)
        if self._classes is not None and name not in self._classes:
            if self._default is None:
                raise RefusedError("label_not_a_class", f"{str(name)[:80]!r}{did_you_mean(name, self._classes)}")
            name = self._default
        return str(name)

    def of_unlabelled(self) -> str | None:
        """Return the label for something without one: the default, or None if labels are not restricted.

        Raises
        ------
        RefusedError : `map` or `classes` restrict the labels, and there is no default
        """
        if not self._trusting and self._default is None:
            # The detail of a rejected row is in its shard's key, so its words cannot change.
            raise RefusedError("label_missing", "it is empty, and neither label.map nor classes knows that")
        return None if self._trusting else self._default


def unmet_labels(source: Source, labels: list[str]) -> Finding:
    """Return a warning about labels in the configuration that a source does not have."""
    return Finding(
        "label", len(labels), 0,
        f"source {source.name!r}: no recording or annotation has {'the label' if len(labels) == 1 else 'the labels'}"
        f" {', '.join(map(repr, labels[:5]))}{', ...' if len(labels) > 5 else ''} of label.map or label.drop; check the spelling",
    )  # fmt: skip
