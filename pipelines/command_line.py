"""What the commands share: options, how errors are told, and how a dataset is named."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from schemas.errors import ClipmillError, ConfigError
from schemas.failures import describe_os_error
from schemas.storage import Root

P = ParamSpec("P")
T = TypeVar("T")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
number_option = click.option(
    "--snapshot", "number", type=click.IntRange(min=1), help="Which snapshot; default: the newest."
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="CPUs to use on this machine; default: all."
)
address_option = click.option(
    "--address", help="A running Ray cluster, as ray://host:10001 or auto; default: RAY_ADDRESS, else this machine."
)
accept_option = click.option(
    "--accept", is_flag=True, help="Publish even if limits are exceeded; the snapshot records which and by how much."
)
_INTERRUPTED = dict.fromkeys(("build", "retry"), "what is committed is kept, the same command goes on from there")
config_argument = click.argument("config", type=click.Path(dir_okay=False))
root_argument = click.argument("root")  # a folder or an address, or the configuration of the build


def check_reasons(codes: Iterable[str], others: Iterable[str] = ()) -> None:
    from schemas.reasons import REASONS
    from schemas.remarks import REMARKS

    for code in codes:
        if code in REMARKS and code not in REASONS and code not in others:
            raise ConfigError(
                f"--reason {code}: {code} is a remark on recordings that were used; there is nothing to retry"
            )
        if code not in REASONS and code not in others:
            raise ConfigError(f"--reason {code}: there is no such reason; `clipmill failures` lists those that occur")


def fail(message: str, code: int, as_json: bool = False, **more: Any) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": message, **more}))
    else:
        click.echo(f"error: {message}", err=True)
    sys.exit(code)


def reported(command: Callable[P, T]) -> Callable[P, T]:
    """Turn the errors that users are meant to read into one line and an exit code."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        as_json = bool(kwargs.get("as_json"))
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            fail(str(error), 2, as_json, key=error.key, file=error.file, line=error.line)
        except ClipmillError as error:
            fail(str(error), 1, as_json)
        except KeyboardInterrupt:
            fail(f"interrupted; {_INTERRUPTED.get(command.__name__, 'the same command begins anew')}", 1, as_json)
        except BrokenPipeError:
            # Whoever read the output has seen enough; Python would complain once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            fail(
                str(describe_os_error(error, Root(str(kwargs.get("root") or error.filename or "storage")), "use")),
                1,
                as_json,
            )

    return wrapper


def dataset_at(root: str) -> Root:
    """Return the root of a dataset, given itself or the configuration that it was built by, which knows the way to it."""
    from schemas.layout import dataset_name

    if root.endswith((".yaml", ".yml")) and Path(root).is_file():
        from schemas.config_file import load

        output = load(Path(root)).config.output
        place = Root(output.root, output.storage_options)
    else:
        from schemas.config import check_address

        try:
            place = Root(check_address(root))
        except ValueError as error:
            raise ConfigError(f"ROOT {error}") from None
    dataset_name(place)
    return place
