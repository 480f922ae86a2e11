"""Get the stored audio of single clips of a snapshot, without reading the shards that hold them as a whole."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.published import Published
from clipmill.pipelines.read.shard_rows import ShardRows
from clipmill.pipelines.reports.clip_table import SHARD_ROW
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.records import OutputFile
from clipmill.stages.storage.checked import open_checked


class StoredAudio:
    """The audio of clips as it is stored: FLAC or WAV files. To be used in a `with` block, by one thread at a time.

    Raises
    ------
    ClipmillError : shards of the snapshot are missing or truncated
    """

    def __init__(self, published: Published) -> None:
        outputs = [shard.output("parquet", "webdataset") for shard in published.all_shards()]
        files: list[OutputFile] = [output for output in outputs if output is not None and output.rows]
        self._published = published
        self._files = {output.path: (i, output) for i, output in enumerate(files)}
        self._rows = ShardRows(published, files, ["clip_id", "audio"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Return the audio file of a clip. row : of the manifest, with `shard` and `SHARD_ROW`

        Raises
        ------
        ClipmillError : the shard is missing or damaged
        """
        return next(self.each([row]))[1]

    def each(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
        """Yield the ids of clips and their audio files, in the order of the shards, so that each is opened once. Parameters as for `read`."""
        by_shard: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            by_shard.setdefault(row["shard"], []).append(row)
        for path in sorted(by_shard):
            wanted = sorted(by_shard[path], key=lambda row: int(row[SHARD_ROW]))
            if path not in self._files:
                raise ClipmillError(f"{self._published.root.uri(path)}: this shard holds no clips", code="root.damaged")
            index, output = self._files[path]
            if output.format == "webdataset":
                yield from self._of_tar(output, {row["clip_id"] for row in wanted})
                continue
            for row in wanted:
                stored = self._rows.take(index, int(row[SHARD_ROW]))
                with legible(self._published.root, path):
                    if stored["clip_id"] != row["clip_id"]:
                        raise ValueError(f"clip {row['clip_id']} is not in its place")
                yield row["clip_id"], stored["audio"]["bytes"]

    def _of_tar(self, output: OutputFile, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield clips of a tar, which is read up to the last of them."""
        left = set(wanted)
        with (
            legible(self._published.root, output.path),
            contextlib.closing(open_checked(self._published.root, output)) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                clip_id, _, extension = member.name.partition(".")
                content = tar.extractfile(member) if clip_id in left and extension in ("flac", "wav") else None
                if content is not None:
                    left.remove(clip_id)
                    yield clip_id, content.read()
                if not left:
                    return
            raise ValueError(f"clip {min(left)} is not in it")
