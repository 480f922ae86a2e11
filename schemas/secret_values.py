"""Tell which values of a configuration are secrets, and hide them in whatever leaves the process.

A secret may stand in the wrong place: a key as `region_name`, a password in `config_kwargs`. So every text under `storage_options` counts
as one, except a few that are known to be harmless, as an endpoint or a region. The values are collected once, when a configuration or an
address is opened, and are remembered by the process. Errors hide them when they are made; commands hide them in what they print.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

MASK = "***"
OPTIONS = "storage_options"
_LONG = 8
"""Values from this length on are hidden in everything. Shorter ones are often words, as `test`: they are hidden in messages only."""
_SHORTEST = 4
_MOST = 10_000
_NAMED_SECRET = re.compile(
    r"(aws_)?(secret|secret_access_key|access_key|access_key_id|secret_key|session_token|sas_token|account_key|password|passwd)",
    re.I,
)
"""Names of secrets that nothing else in a configuration has; a `key` can also be the column of a table."""
_KWARGS = frozenset({"client_kwargs", "config_kwargs", "s3_additional_kwargs", "headers"})
_AS_OPTIONS = 0.8
_HARMLESS_WORDS = frozenset(
    "true false none null auto path virtual standard legacy adaptive s3 s3v4 s3-query v4 unsigned anon anonymous cloud cache browser"
    " google_default when_required when_supported readahead bytes blockcache all first background mmap parts http https private"
    " public-read bucket-owner-full-control aes256 aws:kms standard_ia intelligent_tiering utf-8 identity gzip localhost".split()
)
_ENDPOINTS = frozenset({"endpoint_url", "endpoint", "endpoint_override", "http", "https", "proxy", "account_host"})
_ENDPOINT = re.compile(r"(https?://)?([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/[\w.~/-]{0,40})?")
_REGIONS = frozenset({"region_name", "region", "location", "aws_region"})
_REGION = re.compile(r"((af|ap|ca|cn|eu|il|me|mx|sa|us)(-[a-z]{2,10}){1,3}-\d{1,3}|default|us|eu|fr-par|nl-ams|pl-waw)")
_CERTIFICATES = frozenset({"verify", "ca_bundle", "proxy_ca_bundle"})
_CERTIFICATE = re.compile(r"[\w./~-]+\.(pem|crt|cer|ca-bundle)")
_VARIABLE = re.compile(r"\$\{\w+\}")
_USERINFO = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^/\s@'\"]+)@", re.I)
_SURE = (
    (_USERINFO, rf"\1{MASK}@"),
    (re.compile(r"\b(AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ABIA|ACCA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+"), MASK),
    (re.compile(r"\b(ghp_|gho_|ghs_|github_pat_|hf_|ya29\.|xox[abp]-|glpat-)[\w-]{20,}"), MASK),
    (re.compile(r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig)=)[^&\s'\"]+"), rf"\1{MASK}"),
)  # fmt: skip
"""Credentials that are known by their form. No name of a file or label has it."""
_AWS_SECRET = re.compile(r"(?<![\w/+=.-])(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[A-Za-z0-9+][A-Za-z0-9/+]{39}(?![\w/+=.-])")
"""What may be a secret key of AWS, or the path of a file: 40 letters, digits, / and +. Hidden in messages only."""
_SLASHES = 4
_AUTHORIZATION = re.compile(r"\b(Bearer|Basic) (?=\S*[\d+/=])[\w.~+/=-]{8,}")


class _Remembered:
    """The secrets of this process, the oldest of which are forgotten when there are too many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, None] = {}
        self.long: re.Pattern[str] | None = None
        self.short: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        new = {form for value in values for form in _forms(value)}
        with self._lock:
            if new <= self._values.keys():
                return
            self._values |= dict.fromkeys(new)
            for old in list(self._values)[: max(0, len(self._values) - _MOST)]:
                del self._values[old]
            by_length = sorted(self._values, key=len, reverse=True)
            # Without regard to case, since the host in an address, in which a region may stand, is told in small letters.
            self.long = _any_of((re.escape(v) for v in by_length if len(v) >= _LONG), re.I)
            self.short = _any_of((rf"(?<!\w){re.escape(v)}(?!\w)" for v in by_length if len(v) < _LONG), 0)


def _any_of(patterns: Iterable[str], flags: int) -> re.Pattern[str] | None:
    text = "|".join(patterns)
    return re.compile(text, flags) if text else None


def _forms(value: str) -> set[str]:
    """Return a value as messages may quote it: as it is, in one line, escaped by Python or JSON, and in an address."""
    one_line = " ".join(value.split())
    forms = {value, one_line}
    for text in (value, one_line):
        forms |= {
            repr(text)[1:-1],
            ascii(text)[1:-1],
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
        }
        raw = text.encode("utf-8", "surrogatepass")
        forms |= {_in_address(raw, safe) for safe in (b"", b"/", b"/:", b"/+=")}
    return {form for form in forms if len(form) >= _SHORTEST}


def _in_address(value: bytes, safe: bytes) -> str:
    """Return a value as it stands in a URL. safe : characters that are left, besides letters, digits and ``_.-~``"""
    return "".join(
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or b in b"_.-~" + safe) else f"%{b:02X}" for b in value
    )


_remembered = _Remembered()


def remember_secrets(values: Iterable[str]) -> None:
    """Hide these values in every message and output of this process from now on. Those of fewer than 4 characters are ignored."""
    _remembered.add(values)


def hide_secrets(text: str) -> str:
    """Return a message in which remembered secrets, and whatever looks like a credential, are replaced by ``***``."""
    text = _hide_long(text)
    if _remembered.short is not None:
        text = _remembered.short.sub(MASK, text)
    text = _AUTHORIZATION.sub(rf"\1 {MASK}", text)
    return _AWS_SECRET.sub(lambda m: m[0] if m[0].count("/") > _SLASHES else MASK, text)


def hide_in_data(value: Any) -> Any:
    """Return plain data, or a line of output, in which secrets are replaced by ``***``.

    Unlike in messages, secrets of fewer than 8 characters are left, since they are often words that a corpus has as well.
    """
    if isinstance(value, str):
        return _hide_long(value)
    if isinstance(value, Mapping):
        return {hide_in_data(k): hide_in_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [hide_in_data(v) for v in value]
    return value


def _hide_long(text: str) -> str:
    if _remembered.long is not None:
        text = _remembered.long.sub(MASK, text)
    for pattern, mask in _SURE:
        text = pattern.sub(mask, text)
    return text


def secrets_of(options: Any, addresses: Iterable[str] = ()) -> set[str]:
    """Return the secrets in storage options: every text and long number that is not known to be harmless, and what looks random in keys.

    addresses : of the trees of files that the options belong to: what is part of one is no secret
    """
    found: set[str] = set()
    _collect(options, "", found)
    known = list(addresses)
    return {v for v in found if len(v) >= _SHORTEST and not any(v in address for address in known)}


def secrets_of_config(data: Any) -> set[str]:
    """Return the secrets in a configuration as plain data, right or wrong: all under `storage_options`, or what is meant as that, and all
    values of keys that are named like a secret."""
    found: set[str] = set()
    roots: list[str] = []
    waiting: list[tuple[str, Any]] = [("", data)]
    while waiting:
        name, value = waiting.pop()
        if may_hold_secrets((name,)):
            _collect(value, name, found)
        elif isinstance(value, Mapping):
            waiting += [(str(k), v) for k, v in value.items()]
            roots += [v for k, v in value.items() if k == "root" and isinstance(v, str)]
        elif isinstance(value, list | tuple):
            waiting += [("", v) for v in value]
        elif isinstance(value, str):
            found |= _of_userinfo(value)
    roots = [_USERINFO.sub(r"\1", root).partition("?")[0] for root in roots]
    return {v for v in found if len(v) >= _SHORTEST and not any(v in root for root in roots)}


def may_hold_secrets(path: Iterable[object]) -> bool:
    """Return whether a key is, or lies under, `storage_options`, what is probably meant as that, or a key that is named like a secret."""
    return any(_is_of_secrets(part) for part in path if isinstance(part, str))


@lru_cache(maxsize=4096)
def _is_of_secrets(name: str) -> bool:
    if name in _KWARGS or _NAMED_SECRET.fullmatch(name):
        return True
    return SequenceMatcher(None, name.lower()[: 2 * len(OPTIONS)], OPTIONS).ratio() >= _AS_OPTIONS or OPTIONS in name


def _collect(value: Any, name: str, found: set[str]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str) and len(key) >= 2 * _LONG and any(c.isdigit() for c in key):
                found.add(key)
            _collect(inner, str(key), found)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _collect(inner, name, found)
    elif isinstance(value, bytes):
        _collect(value.decode("utf-8", "replace"), name, found)
    elif isinstance(value, str):
        found |= _of_text(value, name)
    elif value is not None and not isinstance(value, bool):
        text = str(value)
        if len(text) >= _LONG:  # a number of fewer digits is a timeout or a size
            found.add(text)


def _of_text(value: str, name: str) -> set[str]:
    if value.strip().lower() in _HARMLESS_WORDS or _VARIABLE.fullmatch(value):
        return set()
    for names, pattern in ((_ENDPOINTS, _ENDPOINT), (_REGIONS, _REGION), (_CERTIFICATES, _CERTIFICATE)):
        if name in names and pattern.fullmatch(value) and (names is not _ENDPOINTS or re.search(r"[:.]", value)):
            return set()
    if name in _ENDPOINTS and (userinfo := _of_userinfo(value)):
        return userinfo | (set() if _ENDPOINT.fullmatch(_USERINFO.sub(r"\1", value)) else {value})
    parts = {part for part in re.split(r"[\s:=,;]+", value) if len(part) >= _LONG}
    return {value} | {part for part in parts if part.lower() not in _HARMLESS_WORDS} | _of_userinfo(value)


def _of_userinfo(value: str) -> set[str]:
    """Return user and password of an address, and both together."""
    return {
        text
        for match in _USERINFO.finditer(value)
        for text in (match[2], *match[2].split(":", 1))
        if len(text) >= _SHORTEST
    }
