"""Define the roles of annotation columns, and recognize names that are probably meant as one."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

ROLES = ("start", "end", "duration", "label", "channel")

_SYNONYMS = {
    "start": "start begin begins onset from tmin xmin starts",
    "end": "end ends edn stop stops offset to until tmax xmax finish",
    "duration": "duration dur length len",
    "label": "label tag class lbl",
    "channel": "channel chan",
}
_ROLE_OF = {synonym: role for role, synonyms in _SYNONYMS.items() for synonym in synonyms.split()}
_ELSEWHERE = {
    "start": "anfang beginn anfangszeit beginnzeit startzeit von debut commencement inicio comienzo desde comeco inizio van begintijd"
    " starttijd poczatek od",
    "end": "ende endzeit schluss bis fin final hasta fim termino ate fine termine einde eind eindtijd tot koniec do",
    "duration": "dauer lange laenge duree longueur duracion duracao durata lunghezza duur lengte dlugosc czas_trwania",
    "label": "klasse kategorie etikett bezeichnung ereignis art classe etiquette espece evenement categorie etiqueta clase especie"
    " categoria evento rotulo etichetta specie soort etykieta klasa gatunek kategoria",
}
"""The same in German, French, Spanish, Portuguese, Italian, Dutch and Polish, without accents."""
_ROLE_ELSEWHERE = {word: role for role, words in _ELSEWHERE.items() for word in words.split()}
_UNITS = re.compile(r"_(s|secs?|seconds?|ms|msecs?|samples?|frames?|time|times)$")
_OWN_WORDS = frozenset(
    "state stats stars bend send band tags n_channels channel_id labeler labeller labeled labelled".split()
)
_CUTOFF = 0.8
_LOOKED_AT, _LONGEST = 200, 40


LABEL_COLUMNS = frozenset("event_label category species target".split())
"""Common names of the label column. Where labels come from elsewhere, they are as often names of fields."""


@lru_cache(1000)  # a hundred thousand sidecars have one header
def guess_roles(header: tuple[str, ...], used: frozenset[str], given: frozenset[str]) -> dict[str, str]:
    """Return the columns of a header that are probably meant as roles that the configuration lacks, by role.

    An end or a duration counts only together with a start, since tables of whole recordings often have lengths. A channel never
    counts, since it is as often a field.

    header : names of the columns; only the first columns and names of usual length are considered
    used : columns that the configuration names
    given : roles that the configuration names
    """
    guesses: dict[str, str] = {}
    for name in header[:_LOOKED_AT]:
        if name in used or len(name) > _LONGEST:
            continue
        plain = name.lower()
        role = plain if plain in ROLES else near_miss(name, given) or ("label" if plain in LABEL_COLUMNS else None)
        if role is not None and role not in given and role not in guesses and role != "channel":
            guesses[role] = name
    if {"end", "duration"} & set(given) or not {"start"} & {*given, *guesses}:
        guesses.pop("end", None), guesses.pop("duration", None)
    elif "end" in guesses:
        guesses.pop("duration", None)
    return {role: guesses[role] for role in ROLES if role in guesses}


def near_miss(name: str, given: Collection[str]) -> str | None:
    """Return the role that a name under `columns` is probably meant for, None where it is probably a field.

    A misspelt role counts whatever else is given. A synonym of a role, such as `onset`, counts only where the role itself is not
    given: together with `start` it is a field like any other.

    given : all names under `columns`
    """
    if name in ROLES:
        return None
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("time_").removeprefix("t_")
    for _ in range(2):  # start_time_s
        plain = _UNITS.sub("", plain)
    if (role := _ROLE_OF.get(plain)) is not None:
        alternatives = {"end", "duration"} if role in ("end", "duration") else {role}
        return None if alternatives & set(given) else role
    if plain in _OWN_WORDS or len(plain) < 3:
        return None
    near = difflib.get_close_matches(plain, ROLES, n=1, cutoff=_CUTOFF)
    if not near or (near[0] in given and re.match(rf"{near[0]}[_0-9]", plain)):  # label_2 beside label
        return None
    return near[0]


def role_elsewhere(name: str) -> str | None:
    """Return the role that a column's name says in other languages than English, None if it says none.

    Only proposals ask this, which people read: such words are often names of fields, so no build takes them for misspelt roles.
    """
    letters = unicodedata.normalize("NFKD", name.lower().replace("ł", "l"))
    plain = re.sub(r"[^a-z0-9]+", "_", "".join(c for c in letters if not unicodedata.combining(c))).strip("_")
    for _ in range(2):
        plain = _UNITS.sub("", plain)
    return _ROLE_ELSEWHERE.get(plain)
