"""Read the names of a model's classes from a file."""

from __future__ import annotations

from clipmill.stages.models.unusable import UnusableModelError
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root

_MAX_BYTES = 4 << 20


def read_class_names(root: Root, name: str) -> tuple[str, ...]:
    """Return the lines of a file: the name of one class each, in their order.

    Raises
    ------
    UnusableModelError : the file does not exist, is no text, is too long, or has an empty line among the names
    ClipmillError : the storage failed
    """
    told = f"needs the names of its classes, and {root.uri(name)}"
    try:
        content = root.read_bytes(name, limit=_MAX_BYTES + 1)
    except FileNotFoundError:
        raise UnusableModelError(f"{told} does not exist") from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UnusableModelError(f"{told} cannot be read: {error.strerror}") from None
    except OSError as error:
        raise describe_os_error(error, root, f"read the names of classes in {name} at") from None
    if len(content) > _MAX_BYTES:
        raise UnusableModelError(f"{told} has more than {_MAX_BYTES >> 20} MiB")
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError:
        raise UnusableModelError(f"{told} is not UTF-8 text") from None
    if "" in lines or not lines:
        raise UnusableModelError(
            f"{told} has an empty line, {lines.index('') + 1 if lines else 1}: expected one name on each"
        )
    return tuple(lines)
