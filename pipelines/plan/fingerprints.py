"""Compute fingerprints: the parts of a configuration, a source and an item that enter the keys of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from clipmill.pipelines.chain import CHUNK_STAGES, Chain
from clipmill.pipelines.clip_lists import Step
from clipmill.pipelines.plan.items import Item
from clipmill.pipelines.plan.listing import source_root as source_root
from clipmill.schemas.config import Source
from clipmill.schemas.config.label_config import From
from clipmill.schemas.config.model import fingerprint
from clipmill.schemas.keys import digest
from clipmill.schemas.layout import Retries
from clipmill.stages.annotations.rows import HINT
from clipmill.stages.canonical import CanonicalPcm
from clipmill.stages.clipping import Clipping
from clipmill.stages.clips.augment import AugmentClips
from clipmill.stages.clips.silence import SilenceFilter
from clipmill.stages.decode.families import decode_version
from clipmill.stages.features import Features
from clipmill.stages.images import Images
from clipmill.stages.stage import Stage
from clipmill.stages.storage.root import split_name
from clipmill.stages.write import Write

_UP_TO_CLIPS: tuple[type[Stage], ...] = (*(kind for kind in CHUNK_STAGES if kind is not Clipping), CanonicalPcm)


def clips_fingerprint(chain: Chain, field_names: list[str], noises: str = "", copies: bool = True) -> dict[str, Any]:
    """Return what changes the clips of every shard: the chunk stages, and the clip stages of sources without a list of their own.

    noises : digest of the noises that stages use; empty if they use none
    copies : whether clips are copied; without copies only the columns of `augment` count, not its recipe
    """
    config = chain.config
    # Clips of all sources have the column if any source has a clip for each channel.
    more: dict[str, Any] = {"channel_column": True} if config.has_channel_column else {}
    more |= {"label_lists": config.label_lists} if config.label_lists else {}
    wide = {"clip_id_bits": config.output.clip_id_bits} if config.output.has_wide_clip_ids else {}
    silence, steps = _silence_alone(chain.common, copies)
    return {
        **more,
        **wide,
        **({"clips": steps} if steps else {}),
        **({"noises": noises} if noises else {}),
        "audio": fingerprint(config.audio),
        "silence": {"min_dbfs": silence},
        "fields": field_names,
        "stages": {kind.identity: kind.version for kind in _UP_TO_CLIPS},
    }


def _silence_alone(steps: Sequence[Step], copies: bool) -> tuple[float | None, list[list[Any]]]:
    """Return the level if `silence` is the only stage, as in keys from before there were others; else return the stages."""
    if not steps:
        return None, []
    if len(steps) == 1 and isinstance(steps[0].stage, SilenceFilter):
        return steps[0].stage.min_dbfs, []
    return None, [
        step.identity if copies or not isinstance(step.stage, AugmentClips) else [AugmentClips.section]
        for step in steps
    ]


def files_fingerprint(chain: Chain) -> dict[str, Any]:
    """Return what else changes the content of every shard. Device, limits and shard size do not."""
    config = chain.config
    images = config.output.images
    drawn = {"images": {**images.appearance, "version": Images.version}} if images is not None else {}
    computed = {"computed": [step.identity for step in chain.computed]} if chain.computed else {}
    layout = {"layout": config.output.features} if config.output.features != "inside" else {}
    return {
        **drawn,
        **computed,
        **layout,
        **_stored_fingerprint(chain),
        "features": fingerprint(config.features, by_alias=True, exclude=frozenset({"device"})),
        "mfcc_given": sorted(config.features.mfcc.model_fields_set) if config.features.mfcc else [],
        "formats": sorted(config.output.formats),
        "audio_codec": config.output.audio_codec,
        "stages": {Features.identity: Features.version, Write.identity: Write.version},
    }


def audio_fingerprint(chain: Chain) -> dict[str, Any]:
    """Return what, besides their clips, changes the audio files that features lie beside: nothing of the derived stages."""
    stages = {Write.identity: Write.version}
    return {**_stored_fingerprint(chain), "audio_codec": chain.config.output.audio_codec, "stages": stages}


def _stored_fingerprint(chain: Chain) -> dict[str, Any]:
    """Return the clip stages that work on stored clips; nothing if there are none.

    Those of one source change the keys of all shards, but all of them get their clips from committed ones.
    """
    common = [step.identity for step in chain.common_stored]
    own = {name: [step.identity for step in steps] for name, steps in chain.stored.items()}
    different = {name: steps for name, steps in own.items() if steps != common}
    return {"stored": [common, different]} if common or different else {}


def source_fingerprint(chain: Chain, source: Source) -> str:
    """Return a digest of what changes the clips of a source: it enters the digests of the source's items."""
    config = chain.config
    unit = source.annotations.row_unit if source.annotations else None
    tolerance = source.annotations.end_tolerance_s if source.annotations else None
    decoded = fingerprint(source)
    # A source that repeats the choice of `audio` has no choice of its own.
    choices: dict[str, Any] = {"channels": config.channels_of(source), "track": config.track_of(source)}
    if source.channel_by_row:
        decoded["channels"] = choices["channels"] = "by row"
    different = {name: decoded[name] for name, value in choices.items() if value != getattr(config.audio, name)}
    own, common = ([step.identity for step in steps] for steps in (chain.clips[source.name], chain.common))
    if own != common:
        different["clips"] = own
    if isinstance(source.label, From) and source.label.by_overlap is not None:
        none = source.label.none
        different["by_overlap"] = [fingerprint(source.label.by_overlap), none, none in source.label.drop]
    # The root is in every row, as source_uri.
    raw = [{"raw": fingerprint(source.raw)}] if source.raw is not None else []
    changes = [different] if different else []
    return digest([source_root(source).uri(""), fingerprint(source.segment), unit, tolerance, *raw, *changes])


def item_digest(item: Item, source_digest: str, retries: Retries) -> str:
    """Return a digest of what changes the clips of an item."""
    rows = None
    if item.annotations is not None:
        # The line of a good row can move without changing its clip; a rejected row is identified by its line.
        rows = [
            [a.start, a.end, a.ordinal, a.label, a.fields]
            + ([{"channel": a.channel}] if a.channel is not None else [])
            + ([a.reason, a.file, a.line, a.detail and a.detail.partition(HINT)[0]] if a.reason is not None else [])
            for a in item.annotations
        ]
    version, n_retries = retries.get(item.item_id, ("", 0))
    again = [n_retries] if version == item.recording.version else []
    decoded = decode_version(split_name(item.recording.path)[2])
    raised = [{"decode": decoded}] if decoded > 1 else []
    # Which side of the split counts a recording depends on the sides that have it. Of spans the first one always counts.
    aside = [{"counted": False}] if item.annotations is not None and not item.primary else []
    said = [{"events": [list(astuple(e)) for e in item.events]}] if item.events is not None else []
    return digest(
        [
            item.item_id,
            item.recording.version,
            item.span,
            item.label,
            item.fields,
            rows,
            source_digest,
            *again,
            *raised,
            *aside,
            *said,
        ]
    )
