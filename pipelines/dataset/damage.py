"""Turn errors in reading a file of a dataset into messages that say what to do, and mark what is damaged for the next build."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator

import pyarrow as pa
import soundfile as sf

from clipmill.pipelines.dataset.marks import mark
from clipmill.schemas.errors import ClipmillError
from clipmill.stages.storage.failures import NOT_MARKED, describe_damage, describe_os_error
from clipmill.stages.storage.root import Root


@contextlib.contextmanager
def legible(root: Root, path: str) -> Iterator[None]:
    """Turn an error in reading a file of a dataset into one that names the file and says what to do. Damage is marked.

    Raises
    ------
    ClipmillError : the file is missing, damaged or cannot be read
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, sf.SoundFileError, tarfile.TarError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        if (
            isinstance(error, OSError) and error.errno is not None and not is_missing
        ):  # errors of pyarrow itself have no errno
            raise describe_os_error(error, root, "read", path) from None
        advice = (
            "; if another build has replaced it and `gc` has removed it, open the newest snapshot" if is_missing else ""
        )
        raise damaged(root, path, "it is missing" if is_missing else str(error), advice) from None


def damaged(root: Root, path: str, why: str, else_: str = "") -> ClipmillError:
    """Mark a file as damaged, and return the error that says so. why, else_ : see `describe_damage`"""
    hint = "" if mark(root, path, why) else NOT_MARKED.format(root.url)
    return describe_damage(root, path, why, hint + else_)
