"""Tell others how a build ended, however it ended: a file of metrics (`--metrics`), and a command (`--on-finish`)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from clipmill.pipelines.cli.command_line import told_as
from clipmill.pipelines.cli.prometheus_text import metrics_text, write_metrics
from clipmill.pipelines.cli.terminal import say, versioned
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.secret_values import hide_in_data

LIMIT_S = 600.0
metrics_option = click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for metrics in Prometheus's text format, also if the build fails.",
)
on_finish_option = click.option(
    "--on-finish",
    help="Command to run afterwards, however the build ended, for at most 600 s and without a shell. CLIPMILL_REPORT names a file"
    " with what --json prints; see also CLIPMILL_STATUS, CLIPMILL_EXIT_CODE, CLIPMILL_ROOT and CLIPMILL_SNAPSHOT.",
)


@dataclass
class Watch:
    """What a build gives to those who watch it. numbers : filled by the build; exit_code : of the whole command, set at the end"""

    numbers: dict[str, Any] = field(default_factory=dict)
    status: str = "failed"
    report: dict[str, Any] = field(default_factory=dict)
    root: str = ""
    snapshot: int | None = None
    exit_code: int = 1

    def ended(self, report: Any, plain: dict[str, Any]) -> None:
        """Take over the report of a build. plain : what --json prints"""
        self.status, self.report, self.root, self.exit_code = report.status, plain, report.root, report.exit_code
        if report.snapshot is not None and report.status in ("published", "unchanged"):
            self.snapshot = report.snapshot.number


@contextmanager
def watching(command: str, config: str, metrics: Path | None, on_finish: str | None) -> Iterator[Watch]:
    """Write the metrics and run the command when the block ends. Failures of both are told and make `exit_code` 1 if it was 0.

    command : build or retry

    Raises
    ------
    ConfigError : before the block, if the command does not exist, or the metrics have no folder
    """
    words = _words(on_finish) if on_finish is not None else []
    if metrics is not None and not os.access(metrics.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--metrics {metrics}: {metrics.parent} is not a folder that can be written to", code="usage")
    watch = Watch()
    try:
        yield watch
    except BaseException as error:
        if not watch.report:  # else it has ended, and only what is printed could not be
            told, watch.exit_code = told_as(error, command, {"config": config}) or (ClipmillError(str(error)), 1)
            watch.status = "interrupted" if told.code == "interrupted" else "failed"
            watch.report = told.to_dict()
        _finish(watch, config, metrics, words)
        raise
    _finish(watch, config, metrics, words)


def _words(on_finish: str) -> list[str]:
    try:
        words = shlex.split(on_finish)
    except ValueError as error:
        raise ConfigError(f"--on-finish {on_finish!r}: {error}; put the command in quotes", code="usage") from None
    if not words or shutil.which(words[0]) is None:
        name = words[0] if words else ""
        raise ConfigError(
            f"--on-finish: there is no command {name!r} that can be run; nothing was built. It is not run by a shell: for pipes and"
            " variables, put it into a script",
            code="usage",
        )
    return words


def _finish(watch: Watch, config: str, metrics: Path | None, words: list[str]) -> None:
    name = _name_and_root(watch, config)
    problems = []
    if metrics is not None:
        labels = {"dataset": name, "config": os.path.basename(config)}
        try:
            write_metrics(metrics, metrics_text(watch.numbers, labels, watch.status, watch.exit_code, time.time()))
        except OSError as error:
            problems.append(f"cannot write the metrics to {metrics}: {error.strerror}")
    if words and (problem := _run(words, watch)):
        problems.append(problem)
    if problems:
        say(*(f"error: {problem}" for problem in problems), err=True)
        watch.exit_code = watch.exit_code or 1


def _name_and_root(watch: Watch, config: str) -> str:
    """Return the dataset's name, and set its root; both are unknown if the configuration cannot be read."""
    from clipmill.pipelines.config_file import load_config

    with suppress(ClipmillError):
        checked = load_config(config).config
        watch.root = watch.root or checked.output.root
        return checked.name
    return ""


def _run(words: list[str], watch: Watch) -> str:
    """Run the command; return what went wrong, or an empty text."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="clipmill-report-", suffix=".json", encoding="utf-8") as report:
            json.dump(hide_in_data(versioned(watch.report)), report)
            report.flush()
            environment = {
                **os.environ,
                "CLIPMILL_REPORT": report.name,
                "CLIPMILL_STATUS": watch.status,
                "CLIPMILL_ROOT": watch.root,
                "CLIPMILL_SNAPSHOT": "" if watch.snapshot is None else str(watch.snapshot),
                "CLIPMILL_EXIT_CODE": str(watch.exit_code),
            }
            sys.stdout.flush()
            # Its output goes to stderr, since stdout may be for one JSON object.
            process = subprocess.Popen(  # noqa: S603 - a list, and the user's own command
                words, stdin=subprocess.DEVNULL, stdout=2, env=environment, start_new_session=True
            )
            try:
                code = process.wait(LIMIT_S)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    return f"--on-finish: {words[0]} had not ended after {LIMIT_S:g} s and was killed"
                raise
    except OSError as error:
        return f"--on-finish: {words[0]} cannot be run: {error.strerror}"
    return f"--on-finish: {words[0]} ended with exit code {code}" if code else ""
