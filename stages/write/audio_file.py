"""Write a shard's audio file where features lie beside it: named by its content, it is one file for all shards with the same audio."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

import pyarrow as pa

from clipmill.schemas.layout import EXTENSIONS, shard_path
from clipmill.schemas.records import OutputFile
from clipmill.stages.clip_buffer import temporary_file_errors
from clipmill.stages.storage.checked import is_as_written
from clipmill.stages.storage.root import Root
from clipmill.stages.write.shard_files import ParquetFile

_FORMAT = "parquet"
_PURPOSE = "keep a shard's audio in a temporary file"
_BLOCK_BYTES = 1 << 20


class AudioFile(ParquetFile):
    """A Parquet file of clips whose name is made of its sha256, so it waits in a temporary file until it is complete.

    A name stands for one content: what two shards, or two builds, write under it are the same bytes, and what is damaged is replaced by
    what was there. So shards whose clips are the same share the file, whatever is computed from the clips.
    """

    def __init__(self, split: str, partition: str, spool: IO[bytes], schema: pa.Schema) -> None:
        super().__init__(_FORMAT, "", spool, schema)
        self._place, self._spool = (split, partition), spool
        self._output: OutputFile | None = None

    def finish(self) -> OutputFile:
        with temporary_file_errors(_PURPOSE):
            output = super().finish()
        path = shard_path(*self._place, output.sha256, EXTENSIONS[_FORMAT])
        self._output = replace(output, path=path)
        return self._output

    def add(self, clips: pa.Table) -> None:
        with temporary_file_errors(_PURPOSE):
            super().add(clips)

    def publish(self, root: Root) -> None:
        """Give the finished file its name under a root, unless it is there already, which is read to be sure of it."""
        if self._output is None:
            return
        path = self._output.path
        if is_as_written(root, self._output):
            root.sync([path])  # who wrote it may not have got as far
            return
        with temporary_file_errors(_PURPOSE):
            self._spool.seek(0)
        with root.write(path) as sink:
            shutil.copyfileobj(self._spool, sink, _BLOCK_BYTES)


@contextlib.contextmanager
def audio_file(root: Root, split: str, partition: str, schema: pa.Schema) -> Iterator[AudioFile]:
    """Open the audio file of a shard. It appears under its name when the block ends, if it was finished, and never when the block raises.

    Raises
    ------
    StorageError : the temporary file cannot be written
    OSError : storage failed
    """
    with temporary_file_errors(_PURPOSE):
        spool = tempfile.TemporaryFile(prefix="clipmill-")  # noqa: SIM115 - closed below
    with contextlib.closing(spool):
        part = AudioFile(split, partition, spool, schema)
        yield part
        part.publish(root)
