"""The section of a report in which clips can be heard and seen, as many as fit into the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from clipmill.pipelines.reports.amounts import duration_text, value_text
from clipmill.pipelines.reports.clip_choice import Choice
from clipmill.pipelines.reports.clip_figure import clip_figure, decoding, label_text, said_in
from clipmill.pipelines.reports.markup import Safe, join, tag
from clipmill.pipelines.reports.playable import Playable, playable
from clipmill.pipelines.reports.report_facts import Facts
from clipmill.pipelines.reports.stored_audio import StoredAudio
from clipmill.schemas.plural import counted

_BATCH = 12
"""Clips whose audio is in memory at a time, beside what is already in the page."""


@dataclass
class Cards:
    """The clips of a report.

    by_label : the cards of each label, in the order of the labels
    n_chosen, n_shown, n_cut : clips that were chosen, that fitted into the file, and of which only the beginning is there
    n_bytes : size of the cards
    """

    by_label: dict[str, list[Safe]] = field(default_factory=dict)
    n_chosen: int = 0
    n_shown: int = 0
    n_cut: int = 0
    n_bytes: int = 0


def make_cards(facts: Facts, choices: Sequence[Choice], by: str, longest_s: float, most_bytes: int) -> Cards:
    """Return cards of the chosen clips, the most important first, until one does not fit.

    Parameters
    ----------
    by : the column by which they were chosen
    longest_s : how much of a clip is played and shown
    most_bytes : size of all cards

    Raises
    ------
    ClipmillError : a shard is missing or damaged
    """
    cards = Cards(n_chosen=len(choices))
    for choice in choices:
        cards.by_label.setdefault(choice.label, [])
    if not choices:
        return cards
    with StoredAudio(facts.published) as stored:
        for start in range(0, len(choices), _BATCH):
            batch = choices[start : start + _BATCH]
            rows = {choice.row: facts.clips.row(choice.row) for choice in batch}
            audio = dict(stored.each(rows.values()))
            for choice in batch:
                row = rows[choice.row]
                with decoding(facts.published, row):
                    clip = playable(audio[row["clip_id"]], longest_s)
                card = _card(facts, choice, row, clip, by)
                if cards.n_bytes + len(card.encode()) > most_bytes:
                    return cards
                cards.by_label[choice.label].append(card)
                cards.n_bytes += len(card.encode())
                cards.n_shown += 1
                cards.n_cut += clip.is_cut
    return cards


def _card(facts: Facts, choice: Choice, row: dict[str, object], clip: Playable, by: str) -> Safe:
    label, said = label_text(row), said_in(facts.published, row)
    value = row.get(by)
    number = value_text(float(value), _unit(facts, by)) if isinstance(value, int | float) else "unknown"
    why = f"{choice.kind} {by}" if choice.kind != "random" else "random"
    notes = f" ({'; '.join(clip.notes)})" if clip.notes else ""
    caption = tag(
        "figcaption",
        tag("span", why, class_="chip"), tag("span", str(row["split"]), class_="chip"),
        tag("strong", label) if label else None,
        tag("span", said, class_="said") if said else None,
        tag("small", f"{by} {number} · {duration_text(float(str(row['duration_s'])))}{notes}"),
        tag("small", tag("code", row["clip_id"])),
    )  # fmt: skip
    return clip_figure(clip, row, caption, "none")


def cards_section(facts: Facts, cards: Cards, by: str, n_labels_left_out: int, notes: Sequence[str]) -> Safe | None:
    """Return the section with the clips. notes : what was left out, for people"""
    if not facts.clips.table.num_rows:
        return None
    meaning = next((str(c.get("meaning", "")) for c in facts.published.columns if c["name"] == by), "")
    about = f"Of each label the clips with the greatest and the least {by}" + (f" ({meaning})" if meaning else "")
    found: list[Safe | None] = [tag("p", f"{about}, and random ones.", class_="soft")]
    found += [tag("p", note, class_="soft") for note in notes]
    counts = Counter({label: own["clips"] for label, own in facts.balance.labels.items()})
    for label, own in cards.by_label.items():
        if own:
            unlabelled = "Clips without a label" if len(cards.by_label) > 1 else None
            head = f"{label} · {counted(counts[label], 'clip')}" if label else unlabelled
            found += [tag("h3", head) if head else None, tag("div", *own, class_="clips")]
    if n_labels_left_out:
        found.append(tag("p", f"{counted(n_labels_left_out, 'label')} with fewer clips not shown.", class_="soft"))
    return join(found)


def _unit(facts: Facts, name: str) -> str:
    return next((str(c.get("unit", "")) for c in facts.published.columns if c["name"] == name), "")
