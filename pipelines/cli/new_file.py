"""Write a file that a command makes."""

from __future__ import annotations

import errno
from pathlib import Path

from clipmill.schemas.errors import ClipmillError, ConfigError, os_error_code


def write_new_file(path: Path, text: str, force: bool) -> None:
    """Write a text as UTF-8, whole or not at all. force : replace what is there

    Raises
    ------
    ConfigError : the file exists, and is not to be replaced
    ClipmillError : it cannot be written
    """
    from clipmill.stages.storage.root import Root

    try:
        if not path.parent.is_dir():  # a mistake in the path would create it
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}")
        with Root(str(path.parent)).write(path.name, replace=force) as file:
            file.write(text.encode())
    except FileExistsError:
        raise ConfigError(f"{path} exists and is not replaced; give another file, or --force", code="usage") from None
    except OSError as error:
        raise ClipmillError(f"cannot write {path}: {error.strerror}", code=os_error_code(error)) from None
