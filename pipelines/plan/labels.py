"""Map the labels of a corpus to those of the dataset; leave some out, reject those that are not classes."""

from __future__ import annotations

from collections.abc import Collection

from clipmill.pipelines.plan.label_texts import SEPARATOR, THRESHOLD, OneHot, texts_of
from clipmill.pipelines.plan.refused import RefusedError
from clipmill.schemas.config import Config, Source
from clipmill.schemas.config.label_config import From
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.findings import Finding
from clipmill.stages.annotations.rows import Row


class LabelRule:
    """Map the labels of a source to those of the dataset, and remember which ones occurred.

    separator : what stands between two labels in a text
    makes_lists : whether clips have lists of labels
    one_hot : reads labels from columns, None if they are not configured
    """

    def __init__(self, config: Config, source: Source) -> None:
        label = source.label
        rules = label if isinstance(label, From) else None
        self._map = rules.map if rules is not None else None
        # A table of names often has more than occur.
        self._expected = rules.map or {} if rules is not None and rules.map_file is None else {}
        self._default = rules.default if rules is not None else None
        self._drop = frozenset(rules.drop) if rules is not None else frozenset()
        self._classes = frozenset(config.classes) if config.classes is not None else None
        self._met: set[str] = set()
        self.makes_lists = rules is not None and rules.makes_lists
        self.separator = (rules.separator if rules is not None else None) or SEPARATOR
        self._cuts = rules is not None and rules.several
        self._none = rules.none if rules is not None else None
        self.one_hot = self.one_hot_of(source)
        self._trusting = self._map is None and self._classes is None

    @staticmethod
    def one_hot_of(source: Source) -> OneHot | None:
        """Return what reads a source's labels from columns, None if that is not configured."""
        if not isinstance(source.label, From) or source.label.one_hot is None:
            return None
        return OneHot(source.label.one_hot, THRESHOLD if source.label.threshold is None else source.label.threshold)

    def take_met(self) -> list[str]:
        """Return the labels of `map` and `drop` that occurred since the last call, sorted."""
        met = sorted(self._met)
        self._met = set()
        return met

    def never_met(self, met: Collection[str]) -> list[str]:
        """Return the labels of `map` and `drop` that did not occur, sorted: misspelt, or no longer in the source."""
        return sorted({*self._expected, *self._drop} - set(met) - {self._none})

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

    def texts_of_row(self, row: Row) -> list[str]:
        """Return the labels of a row by their names in the corpus. Raises RefusedError when they cannot be read."""
        if self.one_hot is not None:
            return self.one_hot.texts_of(row)
        return self.texts_of(row.label) if row.label is not None else []

    def texts_of(self, text: str) -> list[str]:
        """Return the labels in a text by their names in the corpus. Raises RefusedError when they cannot be read."""
        return texts_of(text, self.separator) if self._cuts else [text]

    def left(self, texts: list[str]) -> list[str]:
        """Return the labels of the corpus without those that are left out."""
        return [text for text in texts if not self.drops(text)]

    def names(self, texts: list[str]) -> list[str]:
        """Return the dataset's names for labels of the corpus: each once, sorted. Raises RefusedError as `name` does."""
        return sorted({self.name(text) for text in texts})

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
