"""Make the text of clips: take it from a field or from the label, and make it uniform."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from typing import Any, Literal, cast

import regex

from clipmill.pipelines.plan.refused import RefusedError
from clipmill.schemas.config import Source
from clipmill.schemas.config.model import did_you_mean
from clipmill.schemas.config.text_config import RAW_TEXT, TEXT, Text
from clipmill.schemas.errors import ConfigError
from clipmill.stages.annotations.rows import field_name

MAX_CHARACTERS = 200_000
"""Longest text in characters, before the rules and after each of them."""
_REGEX_TIMEOUT_S = 1.0
_SPACE = re.compile(r"\s+")
_SHOWN = 80
Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


class TextRule:
    """Make texts by the settings of one source.

    key : configuration key of the settings, for messages
    """

    def __init__(self, spec: Text, key: str) -> None:
        self._spec, self._key = spec, key
        self._from = field_name(spec.from_)
        form = cast(Form | None, None if spec.normalise == "none" else spec.normalise.upper())
        self._normalised: Callable[[str], str] = (lambda text: unicodedata.normalize(form, text)) if form else str
        self._rules: list[tuple[str, Callable[[str], str]]] = [("normalise", self._normalised)]
        if spec.dual is not None:
            self._rewrite("dual.pattern", spec.dual.pattern, f"\\{spec.dual.use}")
        for pattern in spec.remove:
            self._rewrite("remove", pattern, "")
        for i, rule in enumerate(spec.rewrite):
            self._rewrite(f"rewrite[{i}].pattern", rule.pattern, rule.with_)
        if spec.replace:
            self._rules.append(("replace", self._replaced()))
        if spec.lower or spec.upper:
            self._rules.append(("lower", str.lower) if spec.lower else ("upper", str.upper))
        if len(self._rules) > 1:  # what is left of a text need not be in the form any more
            self._rules.append(("normalise", self._normalised))
        if spec.collapse_spaces:
            self._rules.append(("collapse_spaces", lambda text: _SPACE.sub(" ", text)))
        if spec.strip:
            self._rules.append(("strip", str.strip))

    def _rewrite(self, name: str, pattern: str, template: str) -> None:
        compiled = regex.compile(pattern)

        def rewritten(text: str) -> str:
            try:
                return str(compiled.sub(template, text, timeout=_REGEX_TIMEOUT_S))
            except TimeoutError:
                raise ConfigError(
                    f"the regular expression {pattern!r} takes longer than {_REGEX_TIMEOUT_S:g} s on the text {_short(text)};"
                    " write it without repetitions inside repetitions",
                    key=f"{self._key}.{name}",
                ) from None

        self._rules.append((name, rewritten))

    def _replaced(self) -> Callable[[str], str]:
        """Return what puts all of `replace` in place at once: what takes the place of one text is not replaced again."""
        by_text = {self._normalised(old): self._normalised(new) for old, new in self._spec.replace.items()}
        either = re.compile("|".join(map(re.escape, sorted(by_text, key=len, reverse=True))))
        return lambda text: either.sub(lambda match: by_text[match[0]], text)

    def apply(self, text: str) -> str:
        """Return a text after all rules.

        Raises
        ------
        ConfigError : a regular expression takes too long; the message names its key
        RefusedError : the text is too long
        """
        _check_length(text, "it has")
        for name, rule in self._rules:
            text = rule(text)
            _check_length(text, f"after text.{name} it has")
        return text

    def add_to(self, fields: dict[str, str], label: str | None) -> tuple[str, ...]:
        """Add the text to a clip's fields, and return notes, codes of `clipmill.schemas.annotation_notes`.

        Without the field that the text comes from there is none.

        Parameters
        ----------
        fields : by their stored names
        label : of the row, as the corpus has it; None if there is none

        Raises
        ------
        ConfigError : as in `apply`; or there is a field `text` or `text_raw` already, which would be lost
        RefusedError : the text is too long
        """
        from_label = self._spec.from_ == "label"
        raw = (label or "") if from_label else fields.get(self._from)
        self._check_free(fields, TEXT)
        if raw is None:
            return ("texts_missing",)
        if self._spec.keep_raw:
            self._check_free(fields, RAW_TEXT)
            fields[RAW_TEXT] = raw
        text = fields[TEXT] = self.apply(raw)
        return () if text else ("texts_empty",)

    def _check_free(self, fields: dict[str, Any], name: str) -> None:
        if name in fields and name != self._from:
            raise ConfigError(
                f"the corpus has a field {name!r} of its own, which would be lost; take the text from it (from: {name}), or give the field"
                " another name in annotations.fields or in the regex",
                key=f"{self._key}.from",
            )


def check_text_field(source: Source, names: Collection[str]) -> None:
    """Raise ConfigError if no clip of a source has the field that its texts come from. names : of the fields that clips have"""
    if source.text is None or field_name(source.text.from_) in names:
        return
    there = f"; there are {', '.join(sorted(names))}" if names else ""
    raise ConfigError(
        f"no row and no path of source {source.name!r} has the field {source.text.from_!r}"
        f"{did_you_mean(source.text.from_, names) or there}; name the field with the transcripts, or `label`",
        key=f"sources.{source.name}.text.from",
    )


def _check_length(text: str, what: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise RefusedError("text_too_long", f"{what} {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
