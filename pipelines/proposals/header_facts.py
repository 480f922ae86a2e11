"""What the headers of some recordings say: rates, channels and lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from clipmill.pipelines.plan.header_sample import MOST_HEADERS, Wanted, choose
from clipmill.pipelines.proposals.tree_survey import Tree, bare_config
from clipmill.schemas.config import Config
from clipmill.schemas.plural import counted
from clipmill.stages.decode.header_length import HeaderLength

ReadHeaders = Callable[[Config, Sequence[Wanted]], dict[str, HeaderLength]]
"""`clipmill.pipelines.run.header_process.read_headers`."""
_MOST_SHOWN, _SHOWN_BYTES = 3, 12
_FOR_TABLES = 50
"""Headers that are kept for the recordings that a table names first."""


@dataclass
class Headers:
    """The headers that were read.

    lengths : what they say, by path
    unread : paths of recordings whose header could not be read
    """

    tree: Tree
    read: ReadHeaders
    lengths: dict[str, HeaderLength] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def sample(self) -> None:
        """Read the headers of a sample, the same for the same folder."""
        recordings = self.tree.recordings
        table = pa.table(
            {
                "recording_id": [f"{self.tree.name}/{one.path}" for one in recordings],
                "source": pa.repeat(self.tree.name, len(recordings)),
                "path": [one.path for one in recordings],
                "size_bytes": [one.size_bytes for one in recordings],
                "reason": pa.nulls(len(recordings), pa.string()),
            }
        )
        self._read(choose(table, MOST_HEADERS - _FOR_TABLES))

    def add(self, paths: Iterable[str]) -> None:
        """Read the headers of more recordings, as far as the number of headers allows."""
        left = MOST_HEADERS - len(self.lengths) - len(self.unread)
        met = {*self.lengths, *self.unread}
        wanted = [path for path in dict.fromkeys(paths) if path not in met][: max(0, left)]
        if not wanted:
            return
        names = set(wanted)
        name = self.tree.name
        self._read(
            [
                Wanted(f"{name}/{one.path}", name, one.path, one.size_bytes)
                for one in self.tree.recordings
                if one.path in names
            ]
        )

    def _read(self, wanted: list[Wanted]) -> None:
        found = self.read(bare_config(self.tree), wanted)
        for one in wanted:
            length = found.get(one.recording_id)
            if length is None or length.seconds <= 0:
                self.unread.append(one.path)
            else:
                self.lengths[one.path] = length

    def again(self, config: Config, wanted: Sequence[Wanted]) -> dict[str, HeaderLength]:
        """Return what the headers said that were read, by id, for a plan of this folder or of one below it. No file is opened."""
        below = config.sources[0].root[len(self.tree.address) :].strip("/")
        paths = {one.recording_id: f"{below}/{one.path}" if below else one.path for one in wanted}
        return {name: self.lengths[path] for name, path in paths.items() if path in self.lengths}

    @property
    def n_read(self) -> int:
        return len(self.lengths) + len(self.unread)

    @property
    def unread_share(self) -> float:
        return len(self.unread) / max(1, self.n_read)

    @property
    def rates_hz(self) -> Counter[int]:
        return Counter(one.sample_rate_hz for one in self.lengths.values() if one.sample_rate_hz > 0)

    @property
    def channels(self) -> Counter[int]:
        return Counter(one.n_channels for one in self.lengths.values())

    @property
    def seconds(self) -> list[float]:
        """Lengths, sorted."""
        return sorted(one.seconds for one in self.lengths.values())

    def quantile_s(self, share: float) -> float:
        """Return the length below which this share of the recordings lies; 0 if none is known."""
        return float(np.quantile(self.seconds, share)) if self.lengths else 0.0

    def unread_text(self) -> str:
        """Return what is wrong with the first files whose header could not be read, by their size and first bytes."""
        sizes = {one.path: one.size_bytes for one in self.tree.recordings}
        paths = sorted(self.unread)
        shown = "; ".join(f"{path!r} {self._wrong_with(path, sizes[path])}" for path in paths[:_MOST_SHOWN])
        return shown + (f"; and {len(paths) - _MOST_SHOWN:,} more" if len(paths) > _MOST_SHOWN else "")

    def _wrong_with(self, path: str, size_bytes: int) -> str:
        if not size_bytes:
            return "is empty"
        try:
            first = self.tree.root.read_bytes(path, _SHOWN_BYTES)
        except self.tree.root.errors as error:
            return f"cannot be read: {error}"
        shown = (
            repr(first.decode("ascii")) if first.isascii() and first.decode("ascii").isprintable() else first.hex(" ")
        )
        if size_bytes <= _SHOWN_BYTES:
            return f"ends after {counted(size_bytes, 'byte')}, {shown}"
        return f"begins with {shown}, and in its {size_bytes:,} bytes no header of audio was found that says its length"

    def text(self) -> list[str]:
        """Return lines on what was found."""
        lines = []
        if self.lengths:
            rates = ", ".join(f"{n:,} at {rate:,} Hz" for rate, n in self.rates_hz.most_common(6))
            channels = ", ".join(f"{n:,} with {counted(k, 'channel')}" for k, n in self.channels.most_common(4))
            lengths = self.seconds
            lines.append(
                f"of {counted(self.n_read, 'header')} read: {rates}; {channels};"
                f" {seconds_text(lengths[0])} to {seconds_text(lengths[-1])}, median {seconds_text(self.quantile_s(0.5))}"
            )
        if self.unread:
            lines.append(
                f"{counted(len(self.unread), 'header')} of {self.n_read:,} could not be read: {', '.join(map(repr, sorted(self.unread)[:3]))}"
                f"{' and others' if len(self.unread) > 3 else ''}; a build rejects what it cannot decode, with the reason"
            )
        return lines


def seconds_text(seconds: float) -> str:
    """Return a length as people write it: ``0.4 s``, ``31 s``, ``12 min`` or ``1.5 h``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
