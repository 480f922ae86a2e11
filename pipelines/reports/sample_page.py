"""Write a sample: a few clips as WAV files and pictures, and a page on which they can be heard and seen, without scripts or a server."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import soundfile as sf

from clipmill.pipelines.dataset.inspection import finite
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.reports.amounts import duration_text, value_text
from clipmill.pipelines.reports.clip_figure import clip_figure, decoding, label_text, legible, said_in
from clipmill.pipelines.reports.clip_pictures import clip_picture
from clipmill.pipelines.reports.clip_table import read_clips
from clipmill.pipelines.reports.column_spread import number_columns
from clipmill.pipelines.reports.markup import Safe, join, tag
from clipmill.pipelines.reports.overview_sections import counts, tiled
from clipmill.pipelines.reports.page_head import page_head
from clipmill.pipelines.reports.playable import Playable, playable
from clipmill.pipelines.reports.quality_sections import configuration, present, rejected, section
from clipmill.pipelines.reports.report_facts import Facts, gather_briefly
from clipmill.pipelines.reports.sample_folder import PAGE, claim_folder
from clipmill.pipelines.reports.stored_audio import StoredAudio
from clipmill.pipelines.reports.varied_clips import choose_varied
from clipmill.schemas.keys import slug
from clipmill.schemas.names import transcript_field
from clipmill.schemas.plural import counted
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

MOST_CLIPS = 200
_LOOKED_AT, _PARTS = 50_000, 4
"""Clips among which is chosen, about, and parts of each split's index that are read for that."""
_PLAYED_S = 360.0
"""Audio in a page, in all: 20 MB of 44.1 kHz stereo at most."""
_LONGEST_S, _SHORTEST_S = 30.0, 2.0
_NAME = 30
_PLAIN = ("start_s", "duration_s", "sample_rate_hz", "n_channels", "n_samples", "n_clipped")
"""Columns that a card has in words, or that are the same for all clips."""


@dataclass(frozen=True)
class Sampled:
    """A sample that was written.

    to : address of its folder
    clips : of each the row of the manifest as far as people want it, and its files `wav` and `png`
    asked : number of clips that were asked for
    snapshot : its number, and None where the clips are of a build that was made for them
    counts : recordings and clips by outcome
    rejected, dropped : numbers by reason and by rule
    notes : what is not as asked, as sentences
    words : meanings of rules and reasons that the snapshot has, see `clipmill.schemas.records.Snapshot`
    """

    to: str
    clips: Sequence[Mapping[str, Any]]
    asked: int
    snapshot: int | None
    counts: Mapping[str, int]
    rejected: Mapping[str, int]
    dropped: Mapping[str, int]
    notes: Sequence[str] = field(default_factory=list)
    words: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """The names of its files."""
        return [PAGE, *(str(clip[kind]) for clip in self.clips for kind in ("wav", "png"))]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `clipmill sample --json` prints it."""
        return {
            "to": self.to, "page": PAGE, "files": self.files, "clips": [dict(clip) for clip in self.clips], "asked": self.asked,
            "snapshot": self.snapshot, "counts": dict(self.counts), "rejected": dict(self.rejected), "dropped": dict(self.dropped),
            "notes": list(self.notes),
        }  # fmt: skip


def write_sample(
    published: Published, target: Root, n_clips: int, *, seed: int = 0, force: bool = False, is_trial: bool = False
) -> Sampled:
    """Write a sample of a snapshot's clips into a folder.

    Parameters
    ----------
    n_clips : number of clips, at most `MOST_CLIPS`
    seed : of the choice; the same seed gives the same clips of a snapshot
    force : write also where there are files of others, which stay
    is_trial : whether the dataset is a build of a few recordings that was made for this

    Raises
    ------
    ConfigError : there is something else in the folder
    ClipmillError : the snapshot is damaged, or the folder cannot be written to
    """
    clips = read_clips(published, _LOOKED_AT, seed, _PARTS)
    facts = gather_briefly(published, clips)
    rows = [clips.row(i) for i in choose_varied(clips, n_clips, seed)]
    named = {row["clip_id"]: _named(row, i + 1) for i, row in enumerate(rows)}
    sampled = _sampled(facts, list(named.values()), target, n_clips, is_trial)
    claim_folder(target, sampled.files, force)
    by_id = {row["clip_id"]: row for row in rows}
    longest_s = max(_SHORTEST_S, min(_LONGEST_S, _PLAYED_S / max(1, len(rows))))
    cards: dict[str, Safe] = {}
    if rows:
        with StoredAudio(published) as stored:
            for clip_id, content in stored.each(rows):
                row, names = by_id[clip_id], named[clip_id]
                clip = _write_clip(published, target, row, names, content, longest_s)
                cards[clip_id] = _card(facts, row, names, clip)
    page = _page(facts, sampled, [cards[row["clip_id"]] for row in rows], is_trial)
    _write(target, PAGE, page.encode())
    return sampled


def _named(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return what is said of a clip in plain data, with the names of its files: its number and what is legible of its label."""
    label = label_text(row)
    name = f"{number:02d}-{slug(label or str(row['split']), _NAME)}"
    told = ("clip_id", "recording_id", "source", "split", "start_s", "duration_s", "level_dbfs")
    plain = {key: row[key] for key in told}
    plain["level_dbfs"] = finite(plain["level_dbfs"])
    return {**plain, "label": label or None, "wav": f"{name}.wav", "png": f"{name}.png"}


def _sampled(facts: Facts, named: list[dict[str, Any]], target: Root, asked: int, is_trial: bool) -> Sampled:
    snapshot = facts.published.snapshot
    n = snapshot.counts
    left_out = snapshot.limited.get("recordings_left_out", 0)
    counts = {
        "recordings_listed": snapshot.recordings_listed, "recordings_left_out": left_out, "recordings_used": n.recordings_used,
        "recordings_rejected": n.recordings_rejected, "clips_candidates": n.clips_candidates, "clips_kept": n.clips_kept,
        "clips_dropped": n.clips_dropped, "clips_rejected": n.clips_rejected,
    }  # fmt: skip
    notes = []
    if len(named) < asked:
        those = "the recordings that were read give" if left_out else "there are"
        notes.append(f"{len(named):,} of {counted(asked, 'clip')}: {those} no more.")
    number = None if is_trial else snapshot.number
    rejected_by = dict(sorted(n.rejected.items(), key=lambda item: (-item[1], item[0])))
    dropped_by = dict(sorted(n.dropped.items(), key=lambda item: (-item[1], item[0])))
    return Sampled(target.url, named, asked, number, counts, rejected_by, dropped_by, notes, facts.failed["words"])


def _write_clip(
    published: Published,
    target: Root,
    row: Mapping[str, Any],
    names: Mapping[str, Any],
    content: bytes,
    longest_s: float,
) -> Playable:
    """Write a clip's two files, and return it for the page. content : the file as it is stored"""
    with decoding(published, row):
        with sf.SoundFile(io.BytesIO(content)) as file:
            rate_hz, is_wav = file.samplerate, file.format in ("WAV", "WAVEX")
            samples = file.read(dtype="float32", always_2d=True)
        wav = content if is_wav else _as_wav(content)
        clip = playable(content, longest_s)
    title = " · ".join(part for part in (names["label"], row["split"], row["recording_id"], _range(row)) if part)
    _write(target, names["wav"], wav)
    _write(target, names["png"], clip_picture(samples, rate_hz, title))
    return clip


def _as_wav(content: bytes) -> bytes:
    """Return a FLAC file of 16 bits as WAV with the same samples."""
    samples, rate_hz = sf.read(io.BytesIO(content), dtype="int16", always_2d=True)
    sink = io.BytesIO()
    sf.write(sink, samples, rate_hz, subtype="PCM_16", format="WAV")
    return sink.getvalue()


def _write(target: Root, name: str, content: bytes) -> None:
    try:
        target.write_bytes(name, content)
    except OSError as error:
        raise describe_os_error(error, target, "write", name, then="give the command again") from None


def _card(facts: Facts, row: Mapping[str, Any], names: Mapping[str, Any], clip: Playable) -> Safe:
    published = facts.published
    text_field, said = transcript_field(published.snapshot.fields), said_in(published, row)
    facts_of_clip: list[tuple[str, Any]] = [("from", tag("code", row["recording_id"])), ("at", _range(row))]
    for column in number_columns(published):
        name = column["name"]
        if name not in _PLAIN and name in row:
            facts_of_clip.append((name, value_text(row[name], str(column.get("unit", "")))))
    facts_of_clip += [
        (name, legible(str(row[name]))) for name in published.snapshot.fields if name != text_field and row.get(name)
    ]
    caption = tag(
        "figcaption",
        tag("strong", names["label"]) if names["label"] else None,
        tag("span", row["split"], class_="chip"),
        tag("span", duration_text(float(row["duration_s"])), class_="chip"),
        tag("span", said, class_="said") if said else None,
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts_of_clip), class_="about"),
        tag("small", f"played: {'; '.join(clip.notes)}") if clip.notes else None,
        tag("small", tag("a", "WAV", href=names["wav"]), " · ", tag("a", "picture with axes", href=names["png"])),
        tag("small", tag("code", row["clip_id"])),
    )  # fmt: skip
    return clip_figure(clip, row, caption, "metadata")


def _range(row: Mapping[str, Any]) -> str:
    return f"{row['start_s']:.2f} to {row['start_s'] + row['duration_s']:.2f} s"


def _page(facts: Facts, sampled: Sampled, cards: Sequence[Safe], is_trial: bool) -> Safe:
    snapshot = facts.published.snapshot
    title = f"{counted(len(cards), 'clip')} of {snapshot.name}"
    n = sampled.counts
    if is_trial:
        n_all = snapshot.limited["recordings"] + n["recordings_left_out"]
        about = [
            "Before anything is built: ",
            f"{snapshot.limited['recordings']:,} of {counted(n_all, 'recording')} were read, ",
        ]
        about += ["chosen at random among sources, splits and labels. The clips are what a build would store."]
    else:
        about = [
            f"From snapshot {snapshot.number} in ",
            tag("code", facts.published.root.uri("").rstrip("/")),
            ", as they are stored.",
        ]
    n_read = snapshot.limited["recordings"] if is_trial else n["recordings_used"]
    tiles = tiled([
        (f"recordings {'read' if is_trial else 'used'}", f"{n_read:,}", f"of {n['recordings_listed']:,} listed"),
        ("audio decoded", duration_text(snapshot.seconds.decoded_s), f"{duration_text(snapshot.seconds.kept_s)} in clips"),
        ("clips kept", f"{n['clips_kept']:,}", f"of {counted(n['clips_candidates'], 'candidate')}"),
        ("clips dropped", f"{n['clips_dropped']:,}", "by rules"),
        ("rejected", f"{sum(sampled.rejected.values()):,}", "recordings, rows and clips"),
    ])  # fmt: skip
    losses = [f"{counted(k, 'clip')} dropped by the rule {rule}." for rule, k in sampled.dropped.items()]
    losses += [f"{group['count']:,} × {group['reason']}: {group['meaning']}." for group in facts.failed["reasons"]]
    remarks = [tag("li", note, class_="serious" if not cards else None) for note in sampled.notes]
    remarks += [tag("li", tag("a", loss, href="#rejected")) for loss in losses]
    sections = present([
        section("clips", "Clips", tag("div", *cards, class_="clips wide") if cards else None),
        section("counts", "What became of it", counts(facts)),
        section("rejected", "Rejected and dropped", rejected(facts)),
        section("configuration", "Configuration", configuration(facts)),
    ])  # fmt: skip
    body = tag(
        "body",
        tag("nav", tag("ol", *(tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in sections)), aria_label="contents"),
        tag(
            "main",
            tag("h1", title), tag("p", about, class_="soft"), tiles,
            tag("ul", *remarks, class_="remarks") if remarks else None,
            *(tag("section", tag("h2", name, id=key), content, aria_labelledby=key) for key, name, content in sections),
            class_="page",
        ),
    )  # fmt: skip
    return join(
        Safe("<!DOCTYPE html>\n"), tag("html", page_head(title, "clipmill sample"), body, lang="en"), Safe("\n")
    )
