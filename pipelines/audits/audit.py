"""Audit a published dataset: cut a sample of its clips again with other programs, and compare samples, levels and features.

Nothing here decodes, cuts or computes with the code of the build: a test sees to what these modules import.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pyarrow.parquet as pq

from clipmill.pipelines.audits.audit_kinds import BeyondClip, Finding, KindTotal
from clipmill.pipelines.audits.clip_sample import choose_clips
from clipmill.pipelines.audits.feature_reference import FeatureReferences
from clipmill.pipelines.audits.level_reference import compare_levels
from clipmill.pipelines.audits.recording_reading import (
    AWAY,
    NotComparedError,
    ReadRecording,
    pydub_segment,
    read_recording,
)
from clipmill.pipelines.audits.recutting import MixedRecording, check_comparable, compare_with_recording, mixed
from clipmill.pipelines.audits.shard_reading import StoredClip, stored_clips
from clipmill.pipelines.audits.source_facts import SourceFacts, source_facts
from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.published import Published
from clipmill.schemas.columns import measured_fields
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.index import Shard
from clipmill.stages.storage.checked import read_checked

_REFERENCES = (
    "pydub", "librosa", "torchaudio", "soundfile", "soxr", "openai-whisper", "kaldi-native-fbank", "torchlibrosa", "transformers",
)  # fmt: skip
_READ_DIFFERENTLY = {
    "timeline_gap", "late_start", "several_tracks", "truncated_kept", "header_wrong", "joined", "end_unmarked", "last_frame_cut",
}  # fmt: skip
"""Remarks on recordings that other programs may read otherwise: none of them fills gaps, or looks for what lies behind a wrong header."""


@dataclass
class Audit:
    """What an audit found.

    snapshot : its number
    asked : number of clips that it was to look at
    clips : number that it looked at
    seed : of the choice
    recut : clips that were compared with their recordings
    kinds : by kind of comparison
    beyond : the clips that differ by more than a tolerance, one entry a kind
    not_compared : clips that were not compared with their recordings, by the reason; their levels and features were
    left_out : clips of which a feature has no reference, by the feature and the reason
    skipped : clips whose feature was not compared with the package of its preset, by the feature, the package and the reason
    without_reference : columns that were compared with nothing, or not for all clips: features, measures and pictures
    readers : clips by the program that read their recordings
    versions : of the packages that were compared with
    """

    snapshot: int
    asked: int
    seed: int
    clips: int = 0
    recut: int = 0
    kinds: list[KindTotal] = field(default_factory=list)
    beyond: list[BeyondClip] = field(default_factory=list)
    not_compared: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    without_reference: list[str] = field(default_factory=list)
    readers: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def n_beyond(self) -> int:
        """Return the number of clips beyond a tolerance."""
        return len({clip.clip_id for clip in self.beyond})

    @property
    def problem(self) -> str | None:
        """Return why an audit without differences is no success all the same; None if it is one."""
        if not self.clips:
            return "the snapshot has no clips, so nothing was compared"
        n_away = sum(n for reason, n in self.not_compared.items() if reason.startswith(AWAY))
        if not self.recut and n_away:
            return (
                f"no clip could be compared with its recording, and of {n_away:,} the recording is not there as it was; run the audit where"
                " the recordings are, or build again"
            )
        return None

    @property
    def is_within(self) -> bool:
        """Return whether all that was compared is within the tolerances, and enough was."""
        return not self.beyond and self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "snapshot": self.snapshot,
            "asked": self.asked,
            "seed": self.seed,
            "clips": self.clips,
            "recut": self.recut,
            "within": self.is_within,
            "problem": self.problem,
            "kinds": [total.to_dict() for total in self.kinds],
            "beyond": [clip.to_dict() for clip in self.beyond],
            "not_compared": self.not_compared,
            "left_out": self.left_out,
            "skipped": self.skipped,
            "without_reference": self.without_reference,
            "readers": self.readers,
            "versions": self.versions,
        }


def audit(
    published: Published,
    n_clips: int = 200,
    seed: int = 0,
    storage_options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Compare a sample of a snapshot's clips with what pydub, librosa, torchaudio and the packages of presets give.

    Parameters
    ----------
    published : a snapshot, as `clipmill.open_dataset` returns it
    n_clips : number of clips, spread over splits, sources and recordings
    seed : another one gives other clips
    storage_options : of sources, by name: options for fsspec to open their recordings; default: those of the dataset's root
    progress : called with the number of clips so far, and of all

    Raises
    ------
    ClipmillError : librosa or pydub is not installed, or a file of the dataset is missing or damaged
    """
    _check_packages()
    chosen = choose_clips(published, n_clips, seed)
    result = Audit(published.snapshot.number, n_clips, seed, versions=dict(_versions()))
    work = _Work(published, chosen, storage_options)
    by_shard: dict[str, list[str]] = {}
    for row in chosen:
        by_shard.setdefault(row["shard"], []).append(row["clip_id"])
    totals: dict[str, KindTotal] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the references, about clips that are short for a transform
        for shard in published.all_shards():
            output = shard.output("parquet", "webdataset")
            if output is None or output.path not in by_shard:
                continue
            work.at(shard)
            for clip in stored_clips(published, shard, by_shard[output.path]):
                for finding in work.findings(clip):
                    totals.setdefault(finding.kind.name, KindTotal(finding.kind)).add(clip.row["clip_id"], finding)
                    if finding.is_beyond:
                        of = clip.row
                        place = BeyondClip(of["clip_id"], of["recording_id"], of["source_uri"], finding)
                        result.beyond.append(place)
                result.clips += 1
                if progress is not None:
                    progress(result.clips, len(chosen))
    result.kinds = list(totals.values())
    result.recut = sum(work.readers.values())
    result.not_compared = dict(work.not_compared.most_common())
    result.left_out = dict(work.features.left_out.most_common())
    result.skipped = dict(work.features.skipped.most_common())
    result.without_reference = list(_without_reference(published, result))
    result.readers = dict(sorted(work.readers.items()))
    return result


class _Work:
    """Compares clips, with the recording of the last one in memory.

    not_compared, readers : see `Audit`
    """

    def __init__(
        self, published: Published, chosen: Sequence[Mapping[str, Any]], options: Mapping[str, Mapping[str, Any]] | None
    ) -> None:
        self._published, self._options = published, options or {}
        self._facts = source_facts(published.snapshot)
        self._unusual = _remarked(published, {row["recording_id"] for row in chosen})
        self._resampler = _resampler(published)
        self._versions: dict[str, str] = {}
        self._uri = ""
        self._recording: ReadRecording | str = ""
        self._mixed: dict[tuple[str, int | None, int], MixedRecording] = {}
        self.features = FeatureReferences(published)
        self.not_compared: Counter[str] = Counter()
        self.readers: Counter[str] = Counter()

    def at(self, shard: Shard) -> None:
        """Continue with a shard: look up the versions that its recordings had."""
        self._versions = _recorded_versions(self._published, shard)

    def findings(self, clip: StoredClip) -> Iterator[Finding]:
        """Yield all comparisons of a clip."""
        facts = self._facts.get(str(clip.row["source"]))
        try:
            check_comparable(clip, facts)
            found = list(self._with_recording(clip, facts or SourceFacts()))
        except NotComparedError as error:
            self.not_compared[str(error)] += 1
        else:
            yield from found
        # Measures of clips that a later stage changed are of other samples.
        is_plain = facts is not None and not facts.changing and not facts.moves_starts
        yield from compare_levels(clip.row, clip.samples, clip.sample_rate_hz, is_plain)
        yield from self.features.compare(clip)

    def _with_recording(self, clip: StoredClip, facts: SourceFacts) -> Iterator[Finding]:
        recording_id, uri = str(clip.row["recording_id"]), str(clip.row["source_uri"])
        if (remark := self._unusual.get(recording_id)) is not None:
            raise NotComparedError(f"other programs may read the recording otherwise (remark {remark})")
        if uri != self._uri:
            self._uri, self._mixed = uri, {}
            self._recording = ""  # not two at a time
            try:
                self._recording = read_recording(uri, self._options_of(clip, uri), self._versions.get(recording_id))
            except NotComparedError as error:
                self._recording = str(error)
        if isinstance(self._recording, str):
            raise NotComparedError(self._recording)
        channel, rate_hz = clip.row.get("channel"), clip.sample_rate_hz
        place = (str(clip.row["source"]), channel, rate_hz)  # sources may share recordings, and mix them otherwise
        if place not in self._mixed:
            self._mixed = {place: mixed(self._recording, facts.channels, channel, rate_hz, self._resampler)}
        yield from compare_with_recording(clip, self._mixed[place], facts)
        self.readers[self._recording.reader] += 1

    def _options_of(self, clip: StoredClip, uri: str) -> Mapping[str, Any]:
        own = self._options.get(str(clip.row["source"]))
        if own is not None:
            return own
        root = self._published.root
        is_same_store = not root.is_local and uri.split("://")[0] == root.url.split("://")[0]
        return root.storage_options if is_same_store else {}


def _without_reference(published: Published, result: Audit) -> Iterator[str]:
    """Yield the columns that hold values of clips, and were compared for none of them or not for all."""
    partly = {reason.partition(":")[0] for reason in result.left_out}
    compared = {total.kind.name.split(" ")[0] for total in result.kinds}
    measured = {stored.name for stored in measured_fields(published.columns)}
    for column in published.columns:
        name = column["name"]
        if name in partly or (name not in compared and (name in measured or column.get("kind") == "image")):
            yield name


def _recorded_versions(published: Published, shard: Shard) -> dict[str, str]:
    """Return the versions of a shard's recordings, by id; none for shards that do not say."""
    output = shard.output("recordings")
    if output is None:
        return {}
    with legible(published.root, output.path):
        table = pq.ParquetFile(read_checked(published.root, output), pre_buffer=False).read(
            columns=["recording_id", "version"], use_threads=False
        )
    pairs = zip(table["recording_id"].to_pylist(), table["version"].to_pylist(), strict=True)
    return {recording_id: version for recording_id, version in pairs if version}


def _remarked(published: Published, recordings: set[str]) -> dict[str, str]:
    """Return the first remark on each of some recordings that others may read otherwise."""
    found: dict[str, str] = {}
    for part in published.parts:
        for row in part.table("remarks", ["code", "recording_id"]).to_pylist():
            if row["recording_id"] in recordings and row["code"] in _READ_DIFFERENTLY:
                found.setdefault(row["recording_id"], row["code"])
    return found


def _resampler(published: Published) -> str:
    settings = next((c.get("settings") or {} for c in published.columns if c["name"] == "audio"), {})
    audio = published.snapshot.config.get("audio") or {}
    return str(settings.get("resampler") or audio.get("resampler") or "soxr_hq")


def _check_packages() -> None:
    try:
        import librosa  # noqa: F401 - it is used further down

        pydub_segment()
    except ImportError as error:
        raise ClipmillError(
            f"an audit needs {error.name}, which is not installed: pip install 'clipmill[reference]'"
        ) from None


def _versions() -> Iterator[tuple[str, str]]:
    for package in _REFERENCES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
