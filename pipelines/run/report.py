"""The report of a build."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from clipmill.pipelines.dataset.inspection import describe_saturation
from clipmill.pipelines.dataset.sides import SideChanges
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.findings import Finding
from clipmill.schemas.plural import counted
from clipmill.schemas.records import Snapshot


@dataclass(repr=False)
class Report:
    """What a build did.

    status : published | unchanged | failed | not_published
    root : the dataset's root
    shards_planned, shards_built, shards_reused : numbers of shards
    shards_from_clips : how many of shards_built were made from the clips of committed shards, without reading a recording
    donors_unusable : how many shards were decoded although committed clips had been planned for them, since those were damaged or lacked
        something that only the recordings tell
    failures : a message for each shard that could not be built
    passed_over : files that were listed and are not recordings, by source and kind
    limits : limits that were exceeded
    accepted : whether the snapshot was published although limits were exceeded
    classes : sentences about labels with new or changed ids
    wall_s, plan_s, startup_s, work_s : seconds in all, for planning, for starting and stopping Ray (0 without it), and for building shards
    decoded_s : seconds of audio that were decoded
    features_busy : share of work_s in which the feature actors, one for each GPU, had something to compute; None without such
        actors. Well under 1, the CPUs that decode do not keep up with the GPUs
    remarks : notable things about recordings that were used: {code, count, meaning, remedy, examples}
    snapshot : the published snapshot, or the one that a limit kept from being published; None if shards failed
    warnings : likely mistakes, and shortfalls that did not keep the snapshot from being published
    limited : of a build of a few recordings, as in a snapshot; empty if all were to be read
    side_changes : recordings that are in another split than in the last snapshot
    measured : how the values of measured columns are distributed, by column; see `clipmill.pipelines.dataset.measured.distributions`
    clip_notes : how many clips have each of the notes that stages make, by column, as `level_note`
    shards_healed : damaged shards that were rebuilt byte for byte
    shards_renewed : damaged shards that came out with different bytes and were replaced by new shards
    index_damaged : paths of damaged files of the index, which were written again
    verified : what was checked of the published shards before the build, see `clipmill.pipelines.dataset.verify.Verdict`; if there were
        problems, `unrepaired` has those that are left after it
    upgraded : whether the dataset's records were of an older format version and are of the present one now
    rejections_sha256 : of the table of rejections of a build that was not published; not part of `to_dict`
    storage_weaknesses : what the output's file system lacks, in sentences
    phase_s : seconds of inventory, annotations, plan (the rest of planning), starting, work and publish
    stage_s : seconds by stage, added up over all workers; `write` includes uploads
    requests : number of requests to object stores, by GET, PUT, HEAD, LIST, DELETE, COPY and OTHER
    """

    status: str
    root: str
    shards_planned: int
    shards_built: int
    shards_reused: int
    wall_s: float
    shards_from_clips: int = 0
    plan_s: float = 0.0
    startup_s: float = 0.0
    work_s: float = 0.0
    decoded_s: float = 0.0
    features_busy: float | None = None
    snapshot: Snapshot | None = None
    failures: list[str] = field(default_factory=list)
    limits: list[Finding] = field(default_factory=list)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    accepted: bool = False
    warnings: list[Finding] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    passed_over: dict[str, dict[str, int]] = field(default_factory=dict)
    limited: dict[str, int] = field(default_factory=dict)
    side_changes: SideChanges = field(default_factory=SideChanges)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    clip_notes: dict[str, dict[str, int]] = field(default_factory=dict)
    donors_unusable: int = 0
    shards_healed: int = 0
    shards_renewed: int = 0
    index_damaged: list[str] = field(default_factory=list)
    upgraded: bool = False
    verified: dict[str, Any] | None = None
    rejections_sha256: str = ""
    storage_weaknesses: list[str] = field(default_factory=list)
    phase_s: dict[str, float] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        number = f", snapshot {self.snapshot.number}" if self.snapshot is not None and self.snapshot.number else ""
        shards = f"{self.shards_built} of {counted(self.shards_planned, 'shard')} built, {self.shards_reused} reused"
        return f"Report({self.status}{number}: {shards}, {len(self.failures)} failed; {self.root})"

    @property
    def shards_untried(self) -> int:
        """Number of planned shards that were not tried, because the build ended early."""
        return self.shards_planned - self.shards_built - self.shards_reused - len(self.failures)

    @property
    def exit_code(self) -> int:
        """Exit code of `clipmill build`: 0 published or unchanged, 1 failed, 3 not published."""
        if self.verified is not None and self.verified.get("unrepaired"):
            return 1
        return {"published": 0, "unchanged": 0, "failed": 1, "not_published": 3}[self.status]

    def raise_for_status(self) -> Self:
        """Return this report if its dataset is published.

        Raises
        ------
        ClipmillError : shards failed, or a limit kept the snapshot from being published; the message says which
        """
        if self.status == "failed":
            reasons = "; ".join(dict.fromkeys(self.failures)) or "the build ended before all shards were tried"
            raise ClipmillError(f"{self.root}: {counted(len(self.failures), 'shard')} failed: {reasons}")
        if self.status == "not_published":
            reasons = "; ".join(limit.message for limit in self.limits)
            raise ClipmillError(f"{self.root}: built but not published: {reasons}", code="not_published")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, as `clipmill build --json` prints it."""
        plain = asdict(self)
        plain.pop("rejections_sha256")
        if self.snapshot is not None:
            plain["snapshot"].pop("commits")
            plain["snapshot"].pop("config")
            plain["snapshot"].pop("statistics")  # `clipmill show` has them
            plain["saturation"] = describe_saturation(self.snapshot)
        return plain
