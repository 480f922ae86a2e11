"""Say of a file of a dataset what is to be done when it cannot be read."""

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
    """Say of a file of a dataset what is to be done when it cannot be read, or is not what was written.

    Raises
    ------
    ClipmillError : names the file
    """
    try:
        yield
    except (OSError, ValueError, pa.ArrowException, sf.SoundFileError, tarfile.TarError) as error:
        is_gone = isinstance(error, FileNotFoundError)
        if isinstance(error, OSError) and error.errno is not None and not is_gone:  # pyarrow's own have no number
            raise describe_os_error(error, root, "read", path) from None
        replaced = "; if another build has replaced it and `gc` removed it, open the newest snapshot" if is_gone else ""
        raise describe_damage(root, path, "it is not there" if is_gone else str(error), replaced) from None
