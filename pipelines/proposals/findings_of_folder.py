"""Look at a folder: everything that a proposal is made from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from clipmill.pipelines.proposals.found_annotations import FoundAnnotations
from clipmill.pipelines.proposals.header_facts import Headers, ReadHeaders
from clipmill.pipelines.proposals.name_patterns import Names, look_at_names
from clipmill.pipelines.proposals.purposes import PURPOSES, Purpose
from clipmill.pipelines.proposals.recipe_fit import FittingRecipe, fitting_recipe
from clipmill.pipelines.proposals.sidecar_groups import find_groups, find_sidecars
from clipmill.pipelines.proposals.split_choice import Lists, find_lists
from clipmill.pipelines.proposals.table_search import find_tables, rank
from clipmill.pipelines.proposals.tree_survey import Tree, survey
from clipmill.schemas.errors import ConfigError
from clipmill.stages.storage.root import split_name

_LOSSLESS = ("flac", "wav", "aiff", "aif")
_FEWEST_COPIES = 0.5


@dataclass
class Findings:
    """What a folder shows.

    found : annotations that could be used, the most useful first
    lists : files that list the recordings of splits
    include : patterns that leave out other encodings of the same recordings; None if all are used
    copies : how many recordings of the chosen extension there are in others too, by extension
    """

    tree: Tree
    purpose: Purpose
    headers: Headers
    names: Names
    found: list[FoundAnnotations]
    lists: Lists
    recipe: FittingRecipe | None
    include: list[str] | None = None
    copies: Counter[str] = field(default_factory=Counter)
    n_all: int = 0


def look_at(address: str, purpose: str, read_headers: ReadHeaders, recipes: Mapping[str, str]) -> Findings:
    """Look at a folder.

    Parameters
    ----------
    address : of the folder: absolute, or a URL
    purpose : one of `PURPOSES`
    recipes : texts of the recipes by name

    Raises
    ------
    ConfigError : it has no audio, or none whose header can be read
    ClipmillError : it cannot be listed
    """
    whole = survey(address)
    kind = PURPOSES[purpose]
    tree, include, copies = _one_encoding(whole)
    headers = Headers(tree, read_headers)
    headers.sample()
    if not headers.lengths:
        raise ConfigError(
            f"none of {headers.n_read:,} headers under {address} could be read, so there is nothing to propose: {headers.unread_text()}."
            " Files with an audio extension that have no header, but samples alone, need `raw`; see docs/configuration.md",
            code="usage",
        )
    beside = {path for group in find_groups(tree) for path in group.pairs.values() if len(group.pairs) > 1}
    found = find_sidecars(tree, headers, kind.wants_text)
    found += find_tables(tree, headers, beside, kind.wants_text)
    return Findings(
        tree,
        kind,
        headers,
        look_at_names(tree.paths),
        rank(found, len(tree.paths), kind.wants_text),
        find_lists(tree),
        fitting_recipe(recipes, tree.paths, tree.others),
        include,
        copies,
        len(whole.paths),
    )


def _one_encoding(tree: Tree) -> tuple[Tree, list[str] | None, Counter[str]]:
    """Return a tree without further encodings of the same recordings: the same name in the same folder, with another extension."""
    by_stem: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in tree.paths:
        folder, stem, extension = split_name(path)
        by_stem[folder, stem].add(extension)
    several = Counter(extension for each in by_stem.values() if len(each) > 1 for extension in each)
    if sum(len(each) > 1 for each in by_stem.values()) < _FEWEST_COPIES * len(by_stem):
        return tree, None, Counter()
    everywhere = Counter(extension for each in by_stem.values() for extension in each)
    order = sorted(
        everywhere, key=lambda e: (-everywhere[e], _LOSSLESS.index(e) if e in _LOSSLESS else len(_LOSSLESS), e)
    )
    chosen = order[0]
    if everywhere[chosen] < len(by_stem):
        return tree, None, several
    recordings = tree.recordings.copy()
    recordings.keep_if(lambda path: split_name(path)[2] == chosen)
    return replace(tree, recordings=recordings), [f"**/*.{chosen}"], several
