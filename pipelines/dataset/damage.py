"""Turn errors in reading a file of a dataset into messages that say what to do."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator

import pyarrow as pa
import soundfile as sf

from clipmill.stages.storage.failures import describe_damage, describe_os_error
from clipmill.stages.storage.root import Root


@contextlib.contextmanager
def legible(root: Root, path: str) -> Iterator[None]:
    """Turn an error in reading a file of a dataset into one that names the file and says what to do.

    Raises
    ------
    ClipmillError : the file is missing, damaged or cannot be read
    """
    try:
        yield
    except (OSError, ValueError, pa.ArrowException, sf.SoundFileError, tarfile.TarError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        if (
            isinstance(error, OSError) and error.errno is not None and not is_missing
        ):  # errors of pyarrow itself have no errno
            raise describe_os_error(error, root, "read", path) from None
        advice = (
            "; if another build has replaced it and `gc` has removed it, open the newest snapshot" if is_missing else ""
        )
        raise describe_damage(root, path, "it is missing" if is_missing else str(error), advice) from None
