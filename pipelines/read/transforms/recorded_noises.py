"""Read recorded noises for training: the audio files of a folder, or the clips of a dataset."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.pipelines.dataset.damage import legible
from clipmill.pipelines.dataset.published import Published, open_dataset
from clipmill.pipelines.read.shard_rows import ShardRows
from clipmill.schemas.config import AUDIO_EXTENSIONS, check_address
from clipmill.schemas.errors import ClipmillError, StageError
from clipmill.schemas.layout import DATASET_FILE
from clipmill.stages.noise_library import Listed, NoiseLibrary
from clipmill.stages.storage.failures import describe_os_error
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import info_version, version_of
from clipmill.stages.write.encode import decode_waveform

Samples = npt.NDArray[np.float32]
_CACHE_BYTES = 256 << 20


class RecordedNoises(ABC):
    """Noises by number.

    n_noises : how many there are
    """

    n_noises: int

    @abstractmethod
    def samples(self, i: int, sample_rate_hz: int) -> Samples:
        """Return a noise as float32 [samples], the mean of its channels.

        Raises
        ------
        ClipmillError : it cannot be read, or not at this rate
        """


def recorded_noises(noise: object, storage_options: Mapping[str, Any] | None) -> RecordedNoises:
    """Return the noises of a folder or a dataset. noise : what `open_dataset` returned, or an address

    Raises
    ------
    ClipmillError : there is no folder and no dataset, or no audio in it
    """
    if isinstance(noise, Published):
        return ClipsAsNoises(noise)
    try:
        root = Root(check_address(os.fspath(noise)), dict(storage_options or {}))  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise ClipmillError(
            f'noise of AddNoise is {noise!r}; it can be "white", "pink", a folder of audio files, or a dataset ({error})'
        ) from None
    try:
        if root.exists(DATASET_FILE):
            return ClipsAsNoises(open_dataset(root.url, None, storage_options))
        return FilesAsNoises(root)
    except OSError as error:
        raise describe_os_error(error, root, "list the noises of") from None


class FilesAsNoises(RecordedNoises):
    """The audio files of a folder and of those in it, at any rate: they are resampled. Hidden ones are left out."""

    def __init__(self, root: Root) -> None:
        self._root = root
        files = sorted(_listed(root))
        if not files:
            raise ClipmillError(f"noise of AddNoise: {root.url} has no audio files")
        self._files, self.n_noises = files, len(files)
        self._libraries: dict[int, NoiseLibrary] = {}

    def samples(self, i: int, sample_rate_hz: int) -> Samples:
        library = self._libraries.get(sample_rate_hz)
        if library is None:
            library = NoiseLibrary({"noise": self._root}, sample_rate_hz, files={"noise": self._files})
            self._libraries[sample_rate_hz] = library
        try:
            samples: Samples = library.samples("noise", i)[0]
            return samples
        except StageError as error:
            raise ClipmillError(f"noise of AddNoise: {error}") from None


def _listed(root: Root) -> list[Listed]:
    if root.is_local:
        sizes = root.sizes("")
        return [(path, size, version_of(root, path, "auto")) for path, size in sizes.items() if _is_audio(path)]
    files = root.remote_files()
    return [(path, int(info["size"] or 0), info_version(info)) for path, info in files if _is_audio(path)]


def _is_audio(path: str) -> bool:
    is_hidden = any(part.startswith(".") for part in path.split("/"))
    return not is_hidden and path.rsplit(".", 1)[-1].lower() in {e.lstrip(".") for e in AUDIO_EXTENSIONS}


class ClipsAsNoises(RecordedNoises):
    """The clips of all splits of a dataset. Up to 256 MiB of them stay in memory."""

    def __init__(self, published: Published) -> None:
        self._published = published
        self._files = [file for split in published.splits for file in published.shards(split)]
        self._ends = list(accumulate(file.rows for file in self._files))
        self.n_noises = self._ends[-1] if self._ends else 0
        if not self.n_noises:
            raise ClipmillError(f"noise of AddNoise: {published.root.url} has no clips")
        self._rows: ShardRows | None = None
        self._pid = 0
        self._cache: OrderedDict[int, tuple[Samples, int]] = OrderedDict()
        self._cached_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None, "_cache": OrderedDict(), "_cached_bytes": 0}

    def samples(self, i: int, sample_rate_hz: int) -> Samples:
        if i not in self._cache:
            self._read(i)
        self._cache.move_to_end(i)
        samples, rate = self._cache[i]
        if rate != sample_rate_hz:
            raise ClipmillError(
                f"noise of AddNoise: the clips of {self._published.root.url} have {rate} Hz, and those of the dataset {sample_rate_hz} Hz; build the"
                f" noises with audio.sample_rate_hz: {sample_rate_hz}"
            )
        return samples

    def _read(self, i: int) -> None:
        if self._rows is None or self._pid != os.getpid():  # a forked process must not share an open file
            self._rows = ShardRows(self._published, self._files, ["audio", "sample_rate_hz"])
            self._pid = os.getpid()
        shard = bisect_right(self._ends, i)
        row = self._rows.take(shard, i - (self._ends[shard - 1] if shard else 0))
        with legible(self._published.root, self._files[shard].path):
            samples = decode_waveform(row["audio"]["bytes"]).mean(axis=1)
        self._cache[i] = samples, row["sample_rate_hz"]
        self._cached_bytes += samples.nbytes
        while len(self._cache) > 1 and self._cached_bytes > _CACHE_BYTES:
            _, (old, _) = self._cache.popitem(last=False)
            self._cached_bytes -= old.nbytes
