"""Decide whether clipmill treats a recording correctly: the outcome, the length, the tones at their times, and the messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
from odd_signal import N_TONES, Case

from clipmill.pipelines.chain import chain_of, known_reasons
from clipmill.pipelines.plan.planning import make_plan
from clipmill.pipelines.run.shard_work import apply_stages
from clipmill.schemas.config import Config
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.remarks import REMARKS

RATE = 16000
HOP, WINDOW = 160, 800
SILENT, OTHER = -2, -9


@dataclass(frozen=True)
class Outcome:
    """The result of a recording.

    clips : int16 [frames, channels] at 16 kHz, each with its start in seconds
    seconds : length of the first clip
    decoded_s : decoded length of the recording
    reason, detail : of its rejection, "" if it was used
    remarks : pairs of code and detail
    """

    clips: tuple[tuple[float, npt.NDArray[np.int16]], ...] = ()
    decoded_s: float | None = None
    reason: str = ""
    detail: str = ""
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.clips[0][1]) / RATE if self.clips else 0.0

    def __str__(self) -> str:
        if self.reason:
            return f"{self.reason}: {self.detail}"
        remarks = "".join(f" [{code}: {detail}]" for code, detail in self.remarks)
        return f"{'+'.join(f'{len(y) / RATE:.4f}' for _, y in self.clips)} s{remarks}"


Rows = list[dict[str, Any]]


def run_items(
    folder: Path, names: Iterable[str], audio: Mapping[str, Any], source: Mapping[str, Any], **output: Any
) -> Iterator[tuple[str, Rows | Outcome]]:
    """Plan a folder, and pass each item separately through all stages that make clips, in this process; yield path and rows.

    An exception that a stage does not turn into a row is a bug. It is reported as the reason `EXCEPTION`.
    """
    names = set(names)
    endings = sorted({f"*{Path(name).suffix}" for name in names})
    plain = {
        "name": "odd",
        "sources": [{"name": "s", "root": str(folder), "include": endings, **source}],
        "output": {"root": str(folder / "out"), **output},
        "audio": {"sample_rate_hz": RATE, **audio},
    }
    try:
        config = Config.model_validate(plain)
    except pydantic.ValidationError as error:
        for name in names:
            yield name, Outcome(reason="CONFIG", detail=f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}")
        return
    try:
        table = make_plan(config).table
    except ClipmillError as error:
        for name in names:
            yield name, Outcome(reason="PLAN", detail=str(error))
        return
    stages = chain_of(config).to_clips
    paths = table["path"].to_pylist()
    for name in names - set(paths):
        yield name, Outcome(reason="NOT_LISTED", detail="the plan does not have the file")
    for i, path in enumerate(paths):
        if path in names:
            try:
                rows = [r for t in apply_stages(stages, [table.slice(i, 1)]) for r in t.to_pylist()]
            except Exception as error:  # noqa: BLE001 - the boundary of a case: any exception is a finding
                yield path, Outcome(reason="EXCEPTION", detail=f"{type(error).__name__}: {error}"[:200])
            else:
                yield path, rows


def run_chain(
    folder: Path, names: Iterable[str], audio: Mapping[str, Any], source: Mapping[str, Any]
) -> Iterator[tuple[str, Outcome]]:
    """Run whole recordings; yield path and outcome."""
    for path, rows in run_items(folder, names, audio, source):
        yield path, rows if isinstance(rows, Outcome) else outcome_of(rows)


def outcome_of(rows: list[dict[str, Any]]) -> Outcome:
    """Return the outcome of an item by its rows."""
    last = rows[-1]
    assert last["status"] == "account" and last["last"], last
    void = max((i for i, r in enumerate(rows) if r["status"] == "void"), default=-1)
    rejections = [r for r in rows if r["status"] == "rejected"]
    of_recording = [r for r in rejections if r["kind"] in ("recording", "span")]
    remarks = tuple((r["code"], r["detail"] or "") for r in last["remarks"] or [])
    if of_recording:
        return Outcome(reason=of_recording[0]["reason"], detail=of_recording[0]["detail"] or "", remarks=remarks)
    clips = tuple(
        (r["start_s"], np.frombuffer(r["pcm"], "<i2").reshape(-1, r["n_channels"]))
        for r in rows[void + 1 :]
        if r["status"] == "clip"
    )
    if not clips and rejections:
        return Outcome((), last["decoded_s"], rejections[0]["reason"], rejections[0]["detail"] or "", remarks)
    return Outcome(clips, last["decoded_s"], remarks=remarks)


def labels(y: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Return what is heard every 10 ms: the number of the tone, -1 for noise, SILENT, or OTHER. y : int16 [frames]"""
    x = np.concatenate([np.zeros(WINDOW // 2), y / 32768, np.zeros(WINDOW)])
    n = len(y) // HOP
    frames = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[: n * HOP : HOP][:n]
    t = np.arange(WINDOW) / RATE
    window = np.hanning(WINDOW)
    hz = 300 + 100 * np.arange(N_TONES)
    tones = np.abs(frames @ (window[:, None] * np.exp(-2j * np.pi * hz * t[:, None]))) * 2 / window.sum()
    level = frames.std(1)
    best = tones.argmax(1)
    strength = tones[np.arange(n), best] if n else np.empty(0)
    heard = np.full(n, OTHER)
    heard[(level > 0.02) & (strength**2 / 2 < 0.6 * level**2)] = -1
    clear = (strength > 0.1) & (strength**2 / 2 >= 0.6 * level**2)
    heard[clear] = best[clear]
    heard[level < 0.006] = SILENT
    return heard


def misplaced(case: Case, y: npt.NDArray[np.int16]) -> str:
    """Return a message if tones are not where they should be, else "". y : int16 [frames]"""
    heard = labels(y)
    n = len(heard)
    times = np.arange(n) * HOP / RATE
    expected = np.full(n, SILENT)
    slack = np.zeros(n, bool)
    for part in case.parts:
        inside = (times >= part.at_s - 1e-6) & (times < part.at_s + part.seconds - 1e-6)
        expected[inside] = [part.label(t + 1e-6) for t in times[inside]]
        for edge in (part.at_s, part.at_s + part.seconds):
            if 0 < edge < case.seconds:
                slack |= np.abs(times - edge) < case.loose_s
    for edge in np.flatnonzero(np.diff(expected)):
        slack |= np.abs(times - times[edge]) < case.shift_s + WINDOW / 2 / RATE / 2
    slack |= (times < case.shift_s) | (times > case.seconds - case.shift_s - 0.03)
    wrong = (heard != expected) & ~slack
    # Codecs smear noise: a tone instead of noise is wrong, softer noise is not.
    wrong &= ~((expected == -1) & (heard == OTHER))
    if wrong.sum() <= 3:
        return ""
    name = {-1: "noise", SILENT: "silence", OTHER: "something"}
    first = int(np.flatnonzero(wrong)[0])
    w, h = int(expected[first]), int(heard[first])
    return (
        f"{wrong.sum() / 100:.2f} s are not as they should be, first at {times[first]:.2f} s:"
        f" {name.get(h, f'{300 + 100 * h} Hz')} instead of {name.get(w, f'{300 + 100 * w} Hz')}"
    )


def judge(case: Case, result: Outcome) -> list[str]:
    """Return messages about what is wrong with the outcome of a case, none if it is right."""
    if result.reason:
        if result.reason not in known_reasons():
            return [str(result)[:160]]
        if case.outcome == "used":
            return [f"rejected, not used ({str(result)[:160]})"]
        wrong = [] if result.detail else ["the rejection has no detail"]
        if result.reason not in case.reasons:
            wrong.append(f"rejected as {result.reason}, which is not true: {' or '.join(sorted(case.reasons))}")
        elif case.outcome == "hole told" and not re.search(r"\d", result.detail):
            wrong.append(f"the rejection does not say where the hole is: {result.detail!r}")
        if case.says not in result.detail:
            wrong.append(f"the detail does not name {case.says!r}: {result.detail!r}")
        if "remove the file" in known_reasons()[result.reason].remedy and result.reason == "unsupported_format":
            wrong.append("the remedy is to remove a file that is fine")
        return wrong
    unknown = [code for code, _ in result.remarks if code not in REMARKS]
    wrong = [f"unknown remark {code}" for code in unknown]
    if case.outcome == "rejected":
        return [*wrong, f"used ({result}), not rejected as {' or '.join(sorted(case.reasons))}"]
    if not result.clips:
        return [*wrong, "used, but without a clip"]
    codes = {code for code, _ in result.remarks}
    if case.enough & codes:
        return wrong
    y = result.clips[0][1]
    tries = [case, *(replace(case, seconds=seconds, parts=parts) for seconds, parts in case.also)]
    wrong += min((of_samples(variant, y) for variant in tries), key=len)
    wrong += [f"remark {code}, which is not true: {detail}" for code, detail in result.remarks if code in case.quiet]
    if len(result.clips) != case.n_clips:
        wrong.append(f"{len(result.clips)} clips, not {case.n_clips}")
    if case.remarks and not case.remarks & codes:
        wrong.append(f"no remark {' or '.join(sorted(case.remarks))}")
    if any(
        code in case.remarks & {"timeline_gap", "late_start"} and not re.search(r"\d", detail)
        for code, detail in result.remarks
    ):
        wrong.append(f"the remark does not say where: {result}")
    return wrong


def of_samples(case: Case, y: npt.NDArray[np.int16]) -> list[str]:
    """Return messages about what is wrong with a clip's length and content. y : int16 [frames, channels]"""
    wrong = []
    seconds = len(y) / RATE
    if abs(seconds - case.seconds) > case.tolerance_s + 1.01 / RATE:
        wrong.append(f"{seconds:.4f} s, not {case.seconds:g} +- {case.tolerance_s:g}")
    if case.parts:
        wrong += [w for w in [misplaced(case, y[:, 0])] if w]
    return wrong
