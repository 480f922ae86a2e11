"""Folders of audio with annotations as people have them, for the tests of init."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run, tone, write_audio

from clipmill.pipelines.plan.header_sample import Wanted
from clipmill.schemas.config import Config
from clipmill.stages.decode.header_length import HeaderLength, header_length

RATE = 16000
EVENTS = [(0.0, 1.0, "dog"), (1.5, 2.25, "cat"), (2.5, 3.9, "dog")]


def recordings(folder: Path, n: int = 6, seconds: float = 4.0, rate: int = RATE, ending: str = "wav") -> list[str]:
    """Write recordings r0 to r5; return their stems."""
    for i in range(n):
        write_audio(folder / f"r{i}.{ending}", tone(seconds, rate, seed=i), rate)
    return [f"r{i}" for i in range(n)]


def headers_here(config: Config, wanted: Sequence[Wanted]) -> dict[str, HeaderLength]:
    """Read headers in this process, which takes a second less than another one."""
    found = {}
    for one in wanted:
        with open(f"{config.sources[0].root}/{one.path}", "rb") as stream:
            length = header_length(stream, one.size_bytes)
        if length is not None:
            found[one.recording_id] = length
    return found


def read_headers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let init read headers in this process until the end of the test."""
    import clipmill.pipelines.run.preview  # noqa: F401 - which keeps the function that it finds when it is first imported

    monkeypatch.setattr("clipmill.pipelines.run.header_process.read_headers", headers_here)


def text_grid(tiers: dict[str, Sequence[tuple[float, float, str]]], end: float) -> str:
    """Return a TextGrid in its short form, of tiers of intervals."""
    out = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end), "<exists>", str(len(tiers))]
    for name, intervals in tiers.items():
        out += ['"IntervalTier"', f'"{name}"', "0", str(end), str(len(intervals))]
        for start, stop, text in intervals:
            out += [str(start), str(stop), f'"{text}"']
    return "\n".join(out) + "\n"


def propose(folder: Path, file: Path, *options: Any) -> tuple[dict[str, Any], str]:
    """Run init; return the configuration as plain data, and its text."""
    run("init", folder, "--output", file, "--force", *options)
    text = file.read_text()
    return yaml.safe_load(text), text
