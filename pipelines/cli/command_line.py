"""What all commands share: options, reporting of errors, and opening a dataset's root."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from clipmill.pipelines.cli.terminal import say, say_json
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.secret_values import hide_secrets
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

P = ParamSpec("P")
T = TypeVar("T")


class WholeNumber(click.IntRange):
    """A whole number as an option's value; click calls it an integer range."""

    name = "whole number"


class YamlText(click.ParamType):  # type: ignore[type-arg]
    """A value in YAML's short form, as in '{snr_db: {min: 15}}'; the braces around all of it can be left out."""

    name = "yaml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as plain data."""
        import yaml

        if not isinstance(value, str):
            return value
        if len(value) > _MAX_YAML:
            self.fail(f"is longer than {_MAX_YAML:,} characters", param, ctx)
        try:
            return yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            self.fail(f"{value!r} is not YAML; expected a value as in '{{snr_db: {{min: 15}}}}'", param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
number_option = click.option(
    "--snapshot", "number", type=WholeNumber(min=1), help="Number of the snapshot; default: the newest."
)
workers_option = click.option(
    "--workers", type=WholeNumber(min=1), help="Number of CPUs to use on this machine; default: all."
)
address_option = click.option(
    "--address", help="Running Ray cluster, such as ray://host:10001 or auto; default: RAY_ADDRESS, else this machine."
)
accept_option = click.option(
    "--accept",
    is_flag=True,
    help="Publish even if limits are exceeded; the snapshot records which ones and by how much.",
)


def colour_option() -> click.Option:
    """Return the option that each command has, which decides about colours before the environment does."""

    def decide(ctx: click.Context, param: click.Parameter, value: bool | None) -> None:
        if value is not None:
            ctx.color = value

    return click.Option(
        ["--color/--no-color"], default=None, expose_value=False, callback=decide,
        help="Colours, or none; default: on terminals, unless NO_COLOR is set.",
    )  # fmt: skip


def hides_progress(quiet: bool, as_json: bool) -> bool:
    """Return whether a command shows no progress: with --json it shows it only to who watches stderr."""
    return quiet or (as_json and not sys.stderr.isatty())


_INTERRUPTED = dict.fromkeys(("build", "retry"), "what is committed is kept; run the same command to continue")
_MAX_WHY = 300
_MAX_YAML = 10_000


class _ConfigPath(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if os.path.isdir(value):
            self.fail(f"{os.fspath(value)!r} is a folder; give the YAML file of a configuration.", param, ctx)
        return super().convert(value, param, ctx)


config_argument = click.argument("config", type=_ConfigPath())
root_argument = click.argument("root")  # a folder or an address, or the configuration of the build


def check_reasons(codes: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raise ConfigError if one of the codes is not a reason for rejections. others : codes that are allowed as well"""
    from clipmill.pipelines.chain import known_reasons
    from clipmill.schemas.remarks import REMARKS

    reasons = known_reasons()
    for code in codes:
        if code in REMARKS and code not in reasons and code not in others:
            raise ConfigError(
                f"--reason {code}: {code} is a remark on recordings that were used; there is nothing to retry",
                code="usage",
            )
        if code not in reasons and code not in others:
            raise ConfigError(
                f"--reason {code}: unknown reason; `clipmill failures` lists the ones that occur", code="usage"
            )


def fail(error: ClipmillError, exit_code: int, as_json: bool = False) -> NoReturn:
    """Report an error and exit: lines on stderr, one per problem, or one JSON object on stdout."""
    if as_json:
        say_json(error.to_dict())
    else:
        # Several problems have one line each; a line break in a single message is part of a name.
        lines = str(error).split("\n") if len(error.problems) > 1 else [str(error)]
        say(*(f"error: {line}" for line in lines), err=True)
    sys.exit(exit_code)


def _damage() -> tuple[type[Exception], ...]:
    """Return the exceptions that libraries raise on damaged files."""
    import pyarrow as pa  # takes a tenth of a second, so only on errors

    return (pa.ArrowException, UnicodeError)


def told_as(error: BaseException, command: str, arguments: Mapping[str, Any]) -> tuple[ClipmillError, int] | None:
    """Return how an exception of a command is told, and the exit code; None for one that is not told, as a bug.

    command : the command's name
    arguments : of the command
    """
    if isinstance(error, ClipmillError):
        return error, 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, KeyboardInterrupt):
        what = _INTERRUPTED.get(command, "the same command starts over")
        return ClipmillError(f"interrupted; {what}", code="interrupted"), 1
    if isinstance(error, MemoryError):
        return ClipmillError("this machine has run out of memory", code="out_of_memory"), 1
    if isinstance(error, OSError):
        root = str(arguments.get("root") or "")
        place = Root(str(root or error.filename or "storage"))
        builds = "config" in arguments
        again = {} if builds else {"then": "give the same command again"}
        return describe_os_error(error, place, "use" if builds else "read", **again), 1
    if isinstance(error, _damage()):
        # Damaged files whose reader did not name them.
        root = str(arguments.get("root") or arguments.get("config") or "")
        why = hide_secrets(" ".join(str(error).split()))[:_MAX_WHY]
        return ClipmillError(f"{root}: a file cannot be read: {why}; run `clipmill verify`", code="root.damaged"), 1
    return None


def reported(command: Callable[P, T]) -> Callable[P, T]:
    """Return a command that reports errors as lines, or as JSON, and exits with their exit code."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            # The reader of the output has closed it; Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except (Exception, KeyboardInterrupt) as error:
            told = told_as(error, command.__name__, kwargs)
            if told is None:
                raise
            fail(*told, bool(kwargs.get("as_json")))

    return wrapper


def names_config(root: str) -> bool:
    """Return whether an argument CONFIG|ROOT is the path of a configuration."""
    return root.endswith((".yaml", ".yml")) and "://" not in root and not Path(root).is_dir()


def dataset_at(root: str) -> Root:
    """Return a dataset's root. root : its address, or the path of the configuration that it was built with"""
    from clipmill.pipelines.dataset.identity import dataset_name

    if names_config(root):
        from clipmill.pipelines.config_file import load

        output = load(Path(root)).config.output
        place = Root(output.root, output.storage_options)
    else:
        from clipmill.schemas.config import check_address

        try:
            place = Root(check_address(root))
        except ValueError as error:
            raise ConfigError(f"ROOT {error}", code="usage") from None
        try:
            place.connect()
        except ConfigError as error:  # not the configuration: there is none
            raise ConfigError(f"ROOT {error}", code="usage") from None
    dataset_name(place)
    return place
