"""Write a file that a command makes."""

from __future__ import annotations

import os
from pathlib import Path

from clipmill.schemas.errors import ClipmillError, ConfigError, os_error_code


def write_new_file(path: Path, text: str, force: bool) -> None:
    """Write a text as UTF-8, whole or not at all. force : replace what is there

    Raises
    ------
    ConfigError : the file exists, and is not to be replaced
    ClipmillError : it cannot be written
    """
    try:
        if not force:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except FileExistsError:
        raise ConfigError(f"{path} exists and is not replaced; give another file, or --force", code="usage") from None
    except OSError as error:
        raise ClipmillError(f"cannot write {path}: {error.strerror}", code=os_error_code(error)) from None
