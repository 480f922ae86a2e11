"""The sections of a report on what a snapshot holds: its numbers, splits, labels, distributions and fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipmill.pipelines.reports.amounts import duration_text, in_order, share_text, size_text, value_text
from clipmill.pipelines.reports.column_spread import QUANTILES, Spread
from clipmill.pipelines.reports.figures import SERIES, band_means, bar, histogram, share_words
from clipmill.pipelines.reports.markup import Safe, join, table, tag
from clipmill.pipelines.reports.report_facts import Facts
from clipmill.schemas.names import transcript_field
from clipmill.schemas.plural import counted
from clipmill.schemas.statistics import FeatureSums

_LABELS_SHOWN = 60
_MAX_BINS = 2049
_QUANTILE_HEADS = ["least", "5 %", "25 %", "median", "75 %", "95 %", "greatest"]
_VALUE_LENGTH = 60


def tiles(facts: Facts) -> Safe:
    """Return the most important numbers."""
    snapshot = facts.published.snapshot
    labels = [label for label in facts.balance.labels if label]
    seconds = snapshot.seconds
    overlap = seconds.kept_s > seconds.decoded_s  # clips overlap, or are padded
    numbers: list[tuple[str, str, str]] = [
        (
            "audio",
            duration_text(seconds.kept_s),
            f"{'from' if overlap else 'of'} {duration_text(seconds.decoded_s)} decoded",
        ),
        ("clips", f"{snapshot.counts.clips_kept:,}", f"of {counted(snapshot.counts.clips_candidates, 'candidate')}"),
        ("recordings used", f"{snapshot.counts.recordings_used:,}", f"of {snapshot.recordings_listed:,} listed"),
        ("labels", f"{len(labels):,}" if labels else "none", "several a clip" if snapshot.label_lists else ""),
        ("shards", f"{len(snapshot.commits):,}", size_text(snapshot.bytes_stored)),
    ]
    if snapshot.counts.clips_augmented:
        numbers.append(("augmented copies", f"{snapshot.counts.clips_augmented:,}", "beside the clips"))
    return tiled(numbers)


def tiled(numbers: Sequence[tuple[str, str, str]]) -> Safe:
    """Return numbers in large type: for each its name, the number, and what it is about."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", n, tag("small", about)), class_="tile") for name, n, about in numbers),
        class_="tiles",
    )


def counts(facts: Facts) -> Safe:
    """Return where recordings, annotations and clips have gone."""
    snapshot = facts.published.snapshot
    n = snapshot.counts
    rows = [
        _flow("recordings", snapshot.recordings_listed, [
            ("kept", "used", n.recordings_used), ("rejected", "rejected", n.recordings_rejected),
            ("dropped", "with a label that is left out", sum(snapshot.recordings_dropped.values())),
            ("other", "without annotations", snapshot.recordings_without_annotations),
            ("other", "forgotten", snapshot.recordings_forgotten),
            ("other", "left out by the limit", snapshot.limited.get("recordings_left_out", 0)),
        ]),
        _flow("annotations", snapshot.annotations_read, [
            ("kept", "used", n.annotations_used), ("rejected", "rejected", n.annotations_rejected),
            ("dropped", "with a label that is left out", sum(snapshot.annotations_dropped.values())),
            ("other", "merged", snapshot.annotations_merged), ("other", "ignored", snapshot.annotations_ignored),
            ("other", "left out by the limit", snapshot.limited.get("annotations_left_out", 0)),
        ]),
        _flow("clips", n.clips_candidates, [
            ("kept", "kept", n.clips_kept), ("dropped", "dropped by rules", n.clips_dropped), ("rejected", "rejected", n.clips_rejected),
        ]),
    ]  # fmt: skip
    sources = [
        (source, f"{own['recordings']:,.0f}", f"{own['clips']:,.0f}", duration_text(own["seconds"]))
        for source, own in facts.sources.items()
    ]
    sampled = " (in the sample)" if facts.clips.is_sample else ""
    return join(
        table(["", "in all", "", ""], [row for row in rows if row is not None], numbers_from=9, caption="What has become of everything"),
        tag("h3", f"Sources{sampled}"),
        table(["source", "recordings", "clips", "audio"], sources, caption="Sources"),
    )  # fmt: skip


def _flow(thing: str, total: int, parts: list[tuple[str, str, int]]) -> list[object] | None:
    if not total:
        return None
    words = ", ".join(f"{n:,} {name} ({share_text(n, total)})" for _, name, n in parts if n)
    return [thing, f"{total:,}", bar([(kind, n) for kind, _, n in parts], total, words), words]


def labels(facts: Facts) -> Safe:
    """Return clips and hours by split and label."""
    snapshot, balance = facts.published.snapshot, facts.balance
    splits = in_order({*snapshot.by_split, *facts.published.splits_without_clips})
    rows = []
    for split in splits:
        sums = snapshot.by_split.get(split, {})
        n, seconds = int(sums.get("clips", 0)), sums.get("seconds", 0.0)
        rows.append((split, f"{n:,}", share_text(n, snapshot.counts.clips_kept), duration_text(seconds),
                     f"{int(sums.get('shards', 0)):,}"))  # fmt: skip
    found = [
        tag("h3", "Splits"),
        table(["split", "clips", "share", "audio", "shards"], rows, caption="Clips by split"),
    ]
    if not any(balance.labels):
        return join(found, tag("p", "The clips have no labels.", class_="soft"))
    most = max(own["clips"] for own in balance.labels.values())
    found.append(tag("h3", "Labels"))
    found.append(tag("p", _about_labels(facts), class_="soft"))
    found.append(tag("p", [_key(split, i) for i, split in enumerate(splits)]))
    body = []
    for label, own in list(balance.labels.items())[:_LABELS_SHOWN]:
        parts = [(f"series-{min(i, SERIES - 1)}", own["splits"].get(split, 0)) for i, split in enumerate(splits)]
        words = share_words([(split, own["splits"].get(split, 0)) for split in splits], own["clips"])
        body.append((label or tag("em", "no label"), bar(parts, most, f"{label or 'no label'}: {words}"),
                     f"{own['clips']:,}", duration_text(own["seconds"]),
                     *(f"{own['splits'].get(split, 0):,}" for split in splits)))  # fmt: skip
    found.append(table(["label", "", "clips", "audio", *splits], body, numbers_from=2, caption="Clips by label"))
    if (n := len(balance.labels) - _LABELS_SHOWN) > 0:
        found.append(tag("p", f"and {counted(n, 'label')} more with fewer clips", class_="soft"))
    return join(found)


def _about_labels(facts: Facts) -> str:
    n = len([label for label in facts.balance.labels if label])
    text = counted(n, "label")
    if (ratio := facts.balance.ratio) is not None:
        text += (
            ", each with the same number of clips"
            if ratio == 1
            else f"; the most frequent one has {value_text(ratio)} times as many clips as the rarest"
        )
    if facts.published.snapshot.label_lists:
        text += "; a clip with several labels counts for each of them"
    return text + "."


def _key(name: str, index: int) -> Safe:
    return tag("span", tag("i", class_=f"series-{min(index, SERIES - 1)}"), name, class_="key")


def spread(facts: Facts) -> Safe:
    """Return how lengths, levels and everything measured are spread, and the means of features."""
    figures = []
    for each in facts.spreads:
        if not each.overall:
            continue
        notes = [each.meaning] if each.meaning else []
        notes += [f"{counted(each.unknown, 'clip')} unknown"] if each.unknown else []
        notes += [f"{counted(each.infinite, 'clip')} of digital silence not shown"] if each.infinite else []
        notes += ["the outermost bins have the 1 % beyond them"] if each.is_cut else []
        caption = tag("figcaption", tag("strong", each.name), tag("small", "; ".join(notes)))
        figures.append(tag("figure", caption, histogram(each) if each.overall[0] < each.overall[-1] else _same(each)))
    for column in facts.published.columns:
        if column.get("kind") == "feature" and (by_split := _sums_of(facts, column["name"])):
            about = f"{column.get('meaning', '')}: mean and standard deviation in each bin"
            caption = tag("figcaption", tag("strong", column["name"]), tag("small", about))
            figures.append(tag("figure", caption, band_means(column["name"], str(column.get("unit", "")), by_split)))
    rows = [(each.name, *(value_text(v) for v in each.overall), each.unit) for each in facts.spreads if each.overall]
    assert len(_QUANTILE_HEADS) == len(QUANTILES)  # noqa: S101 - the heads of the table
    heads = ["column", *_QUANTILE_HEADS, "unit"]
    measured = [(name, own) for name, own in facts.shown["measured"].items() if own["dropped"]]
    notes = [f"{name}: {counted(own['dropped'], 'clip')}" for name, own in measured]
    return join(
        tag("div", *figures, class_="figures"),
        tag("details", tag("summary", "as numbers"), table(heads, rows, caption="Quantiles of columns")),
        tag("p", f"Clips that were dropped by these columns are not in the pictures: {', '.join(notes)}.", class_="soft") if notes else None,
    )  # fmt: skip


def _same(each: Spread) -> Safe:
    """Return the value that all clips have. A picture of it would be one bar."""
    return tag(
        "p", f"{value_text(each.overall[0])} {each.unit}".rstrip(), " in all clips that have a value", class_="soft"
    )


def _sums_of(facts: Facts, name: str) -> Mapping[str, FeatureSums]:
    statistics = facts.published.snapshot.statistics
    found = {split: own.features[name] for split in in_order(statistics) if name in (own := statistics[split]).features}
    return {split: sums for split, sums in found.items() if sums.n and len(sums.total) <= _MAX_BINS}


def fields(facts: Facts) -> Safe | None:
    """Return what the corpus's own fields hold; None without fields."""
    if not facts.fields:
        return None
    transcript = transcript_field(list(facts.fields))
    rows = []
    for name, own in facts.fields.items():
        if own.n_values and own.n_values > 0.5 * max(1, facts.clips.table.num_rows):
            examples = f"for example {_short(own.most[0][0])}"
        else:
            examples = ", ".join(f"{_short(value)} ({n:,})" for value, n in own.most)
        about = f"{own.mean_length:.0f} characters on average; {examples}" if name == transcript else examples
        rows.append((tag("code", name), f"{own.n_values:,}", f"{own.n_missing:,}", about))
    n_more = len(facts.published.snapshot.fields) - len(facts.fields)
    heads = ["field", "values", "clips without", "most frequent"]
    body = [[name, tag("span", values), tag("span", missing), about] for name, values, missing, about in rows]
    more = tag("p", f"and {counted(n_more, 'field')} more", class_="soft") if n_more > 0 else None
    return join(table(heads, body, numbers_from=9, caption="Fields of the corpus"), more)


def _short(text: str) -> str:
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 1]}…"
