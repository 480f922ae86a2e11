"""The command line. Exit codes: 0 success, 1 the work failed, 2 wrong usage or configuration, 3 built but not published."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from clipmill.pipelines.cli.auditing import audit
from clipmill.pipelines.cli.building import build, demo, plan, retry
from clipmill.pipelines.cli.command_line import colour_option, fail
from clipmill.pipelines.cli.editor_schema import schema
from clipmill.pipelines.cli.exporting import export
from clipmill.pipelines.cli.inspecting import diff, failures, show, status, verify
from clipmill.pipelines.cli.keeping import forget, gc
from clipmill.pipelines.cli.listening import sample
from clipmill.pipelines.cli.recipes import recipes
from clipmill.pipelines.cli.reporting import report
from clipmill.pipelines.cli.starting import init
from clipmill.pipelines.cli.terminal import guard_stderr, say
from clipmill.schemas.errors import ClipmillError, ConfigError


class _Group(click.Group):
    """The commands. With --json, usage errors are printed in the form of all other errors."""

    def main(self, args: Sequence[str] | None = None, *_: Any, standalone_mode: bool = True, **options: Any) -> Any:
        arguments = sys.argv[1:] if args is None else list(args)
        if not standalone_mode:
            return super().main(arguments, standalone_mode=False, **options)
        try:
            code = super().main(arguments, standalone_mode=False, **{**options, "prog_name": "clipmill"})
        except click.ClickException as error:
            if "--json" in arguments:
                fail(ConfigError(" ".join(error.format_message().split()), code="usage"), error.exit_code, as_json=True)
            text = io.StringIO()
            error.show(file=text)
            say(*text.getvalue().rstrip("\n").split("\n"), err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            fail(ClipmillError("interrupted", code="interrupted"), 1, "--json" in arguments)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="clipmill")
def main() -> None:
    """Raw audio corpora in, training shards out.

    A build reads recordings and annotations as described in a YAML configuration, cuts them into clips, computes features, and
    writes Parquet and WebDataset shards under a root. Run again, it builds only what is missing.
    """


for _command in (
    init,
    build,
    retry,
    plan,
    sample,
    demo,
    status,
    failures,
    diff,
    gc,
    forget,
    verify,
    audit,
    show,
    report,
    export,
    recipes,
    schema,
):
    _command.params.append(colour_option())
    main.add_command(_command)


def run() -> None:
    """Run the command line, and exit without Python's shutdown: threads of libraries that are still running then can abort the process
    and turn a success into exit code 134 (seen with pyarrow 26)."""
    code: object = 0
    guard_stderr()
    try:
        main()
    except SystemExit as end:
        code = end.code
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    run()
