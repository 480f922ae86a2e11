"""Progress: redrawn in place on a terminal, lines without control characters in a log, one output in a notebook, and never in the way."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.cli.terminal import _coloured
from clipmill.pipelines.run import surfaces
from clipmill.pipelines.run.display import Progress
from clipmill.pipelines.run.progress import LocalTally, Tally
from clipmill.pipelines.run.standing import Pace, Standing, describe_left
from clipmill.pipelines.run.surfaces import LogLines, NotebookOutput, due_times_s
from clipmill.stages.meter import Spent

CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")
BLOCK = """
import logging, sys
logging.basicConfig()  # its handler holds the stream itself
from clipmill.pipelines.run.surfaces import choose_surface
surface = choose_surface(False)
for i in range(4):
    surface.show("build", i / 4, [f"{i} of 4 recordings " + "and more " * 30, "second line"], "line")
    logging.getLogger("a_library").warning("logged %d", i)
    print("said", i)
print("MIDDLE", file=sys.stderr)
surface.close()
print("the end")
"""


class Screen:
    """The part of a terminal that programs here use. lines : what it shows; is_cursor_shown : whether its cursor is visible"""

    def __init__(self, columns: int) -> None:
        self.columns, self.lines, self.row, self.column, self.is_cursor_shown = columns, [""], 0, 0, True
        self.widest = 0

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            if match := CONTROL.match(text, at):
                self._control(match[1], match[2])
                at = match.end()
                continue
            if text[at] == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif text[at] == "\r":
                self.column = 0
            else:
                assert text[at] >= " ", repr(text[at])
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + text[at] + line[self.column + 1 :]
                self.column += 1
                self.widest = max(self.widest, self.column)
            at += 1

    def _control(self, arguments: str, letter: str) -> None:
        if letter == "A":
            self.row = max(0, self.row - int(arguments or 1))
        elif letter == "K":
            assert arguments == "2"
            self.lines[self.row] = ""
        elif arguments == "?25":
            self.is_cursor_shown = letter == "h"
        else:
            assert letter == "m", (arguments, letter)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines if line.strip())


def on_terminal(
    command: list[str], columns: int = 80, interrupt_at: str | None = None, **env: str
) -> tuple[Screen, str, int]:
    """Run a command on a pseudo-terminal; return the screen, all that was written, and the exit code.

    interrupt_at : text at whose appearance Ctrl-C is pressed
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    base = {
        k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "RAY_ADDRESS")
    }
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        env={**base, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    written, ends_at = b"", time.monotonic() + 240
    while time.monotonic() < ends_at:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                written += os.read(leader, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
        if interrupt_at is not None and interrupt_at.encode() in written:
            os.write(leader, b"\x03")
            interrupt_at = None
    os.close(leader)
    text = written.decode()
    screen = Screen(columns)
    screen.feed(text)
    return screen, text, process.wait(30)


@pytest.mark.parametrize("columns", [80, 40])
def test_a_block_is_redrawn_in_place_and_what_is_printed_meanwhile_stays_above_it(columns: int) -> None:
    screen, text, code = on_terminal([sys.executable, "-c", BLOCK], columns)
    assert code == 0, text
    said = [line for i in range(4) for line in (f"WARNING:a_library:logged {i}", f"said {i}")]
    assert screen.text.split("\n") == [*said, "MIDDLE", "the end"]
    assert screen.is_cursor_shown and screen.widest <= columns
    assert "█" in text and "\x1b[32m" in text


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_no_control_characters(term: str) -> None:
    _, text, code = on_terminal([sys.executable, "-c", BLOCK], TERM=term)
    assert code == 0 and "\x1b" not in text and "█" not in text


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., Path]) -> Path:
    for i in range(4):
        write_audio(tmp_path / f"in/r{i}.wav", tone(3.0, 8000, seed=i), 8000)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    return make_config(
        {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.25}}, limits={"max_rejected_share": 1.0}
    )


def test_a_build_on_a_terminal_shows_its_steps_and_a_summary_that_fits(config: Path) -> None:
    command = [sys.executable, "-m", "clipmill", "build", str(config)]
    screen, text, code = on_terminal(command)
    assert code == 0, text
    assert "\x1b[1mbuild" in text and "\x1b[?25l" in text and screen.is_cursor_shown
    lines = screen.text.split("\n")
    assert len(lines) <= 24 and all(len(line) <= 80 or str(config.parent) in line for line in lines)
    assert "5 listed = 4 used + 1 rejected" in screen.text and lines[0].startswith("asked ")
    assert "\x1b[32mpublished\x1b[0m" in text and "\x1b[33m1 rejected\x1b[0m" in text
    plain, text, code = on_terminal([*command[:3], "status", str(config)], NO_COLOR="1")
    assert code == 0 and not re.search(r"\x1b\[\d*(3|4)\dm", text)
    assert plain.text.startswith("published    snapshot 1 of ")


def test_an_interrupted_build_leaves_a_clean_terminal(config: Path) -> None:
    screen, text, code = on_terminal([sys.executable, "-m", "clipmill", "build", str(config)], interrupt_at="\x1b[?25l")
    assert code == 1, text
    assert screen.is_cursor_shown
    last = " ".join(screen.text.replace("^C", "").split())
    assert last.startswith("error: interrupted"), screen.text


def test_without_a_terminal_nothing_is_coloured_or_redrawn(config: Path) -> None:
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 0 and "\x1b" not in done.output
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}Z (plan|build|publish): ", line) for line in done.stderr.splitlines())
    quiet = CliRunner().invoke(main, ["build", str(config), "--quiet"])
    assert (quiet.output, quiet.exit_code) == ("", 0)
    failing = CliRunner().invoke(main, ["build", str(config) + "x", "-q"])
    assert failing.exit_code == 2 and failing.stderr.startswith("error: ") and failing.stdout == ""
    coloured = CliRunner().invoke(main, ["build", str(config), "--color"], color=True)
    assert "\x1b[32munchanged" in coloured.output
    forced = CliRunner(env={"FORCE_COLOR": "1"}).invoke(main, ["status", str(config)], color=True)
    assert "\x1b[32mpublished" in forced.output
    for args, env in ((["--no-color"], {"FORCE_COLOR": "1"}), ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"})):
        plain = CliRunner(env=env).invoke(main, ["status", str(config), *args], color=True)
        assert plain.exit_code == 0 and "\x1b" not in plain.output


def test_colours_say_nothing_that_the_words_do_not() -> None:
    lines = [
        "error: no", "warning: hm", "published    nothing yet", "published    snapshot 1", "shards       3 planned: 1 built, 2 failed",
        "shards       3 planned: 3 built, 0 failed", "snapshot 1: 3 shards: all as committed", "snapshot 1: 3 shards: 2 problems",
        "published_by_someone is a label", "clips        3 candidates = 1 kept + 2 rejected",
    ]  # fmt: skip
    coloured = [_coloured(line) for line in lines]
    assert [CONTROL.sub("", line) for line in coloured] == lines
    seen = [re.findall(r"\x1b\[3(\d)m", line) for line in coloured]
    assert seen == [["1"], ["3"], [], ["2"], ["1"], [], ["2"], ["1"], [], ["3"]]


def test_a_log_gets_lines_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(islice(due_times_s(), 5)) == [10, 30, 60, 120, 180]
    assert sum(1 for _ in takewhile(lambda due: due < 86_400, due_times_s())) < 150, "of a day"
    now = [0.0]
    monkeypatch.setattr(surfaces.time, "monotonic", lambda: now[0])
    log = LogLines(sys.stderr)
    for second in range(61):
        now[0] = float(second)
        log.show("build", 0.5, ["not in logs"], f"{second} of 60 \x1b[2J")
    log.close()
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line) for line in lines] == [
        rf"build: {second} of 60 \x1b[2J" for second in (10, 30, 60)
    ]


def test_a_notebook_has_one_output_that_is_updated() -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(("new", data["text/plain"]))
        return Handle()

    output = NotebookOutput(display)
    for step in ("plan", "build"):
        for i in range(3):
            output.show(step, None, ["a", "b"], f"line {i}")
        output.close()
    assert shown == [("new", "plan: line 0"), "plan: done", "build: line 0", "build: done"], "one a second at most"


def test_what_a_display_knows() -> None:
    tally = LocalTally()
    display = Progress(True).counting(tally, n_items=10, n_shards=3, divided=False, workers=2, here=False)
    tally.add(Tally(4, 40, 60.0, 1))
    display.shard_done(None, built=False, failed=True, on_it=Spent(retries=2))
    standing = display.standing()
    assert (standing.done, standing.clips, standing.rejected, standing.failed, standing.retries) == (4, 40, 1, 1, 2)
    assert (
        "4 of 10 recordings (40%), 40 clips cut, 1 rejected, 2 retries, 1 min 0 s of audio, 1 of 3 shards, 1 failed"
        in str(standing)
    )
    tally.add(Tally(9, 0, 0.0, 0))
    assert display.standing().done == 10, "what was done twice is counted once"


@given(st.builds(
    Standing, done=st.integers(0, 10**9), total=st.integers(0, 10**9), divided=st.booleans(), clips=st.integers(0, 10**12),
    decoded_s=st.floats(0, 1e9), size_bytes=st.integers(0, 10**15), elapsed_s=st.floats(0, 1e6),
    left_s=st.none() | st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
))  # fmt: skip
def test_a_line_can_be_read_alone_and_a_block_is_small(standing: Standing) -> None:
    assert "\n" not in str(standing) and "recording" in str(standing)
    assert len(standing.lines()) == 4
    assert 0 <= standing.share <= 1


def test_the_time_left_is_a_range_of_the_speeds_so_far() -> None:
    pace = Pace()
    assert pace.left_s(1.0, 10, 100) is None, "too early"
    assert all(pace.left_s(float(t), 10 * t, 1000) for t in range(2, 10))
    least, most = pace.left_s(10.0, 100, 1000) or (0.0, 0.0)
    assert least == pytest.approx(90) and most == pytest.approx(90)
    least, most = pace.left_s(20.0, 110, 1000) or (0.0, 0.0)
    assert least < 890 / 5 < most, "it has become slower"
    assert describe_left(8.2, 11.0) == "8 to 10 s"
    assert (describe_left(40, 41), describe_left(50, 130), describe_left(3000, 12_600)) == (
        "about 40 s",
        "50 s to 2 min",
        "50 min to 3.5 h",
    )
