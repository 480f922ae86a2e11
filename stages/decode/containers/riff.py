"""WAV and its relatives: RIFF, RIFX, RF64, BW64.

The chain of chunks is walked to the file's end before anything is believed. Where the header can be right it is: what
stands behind the samples is none of them. It is overruled only where it cannot be right.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import IO

from clipmill.stages.decode.containers.mpeg import check_frames
from clipmill.stages.decode.containers.structure import MAX_CHUNKS, Container, Pcm, missing, read_at
from clipmill.stages.decode.containers.trailing import (
    REMARK_BYTES,
    USUAL_UNKNOWN,
    Chunks,
    is_padding,
    is_tag,
    samples_end,
    stands_for_unknown,
)

MAX_PARTS = 1000
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_ALL_ONES = 0xFFFFFFFF
_HIDDEN_BYTES = 1 << 16
_HIDDEN_BURSTS = 4
_HIDDEN = {
    b"\x72\xf8\x1f\x4e": "compressed audio for S/PDIF (IEC 61937)",
    b"\xff\x1f\x00\xe8": "DTS",
    b"\xfe\x7f\x01\x80": "DTS",
    b"\x7f\xfe\x80\x01": "DTS",
}
_MPEG = frozenset((0x50, 0x55))
_PCM, _MS_ADPCM, _FLOAT, _ALAW, _MULAW, _IMA_ADPCM, _GSM, _EXTENSIBLE = 1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE
# What libsndfile skips or cannot fail on. It reads other chunks, and gives a file up over what it does not like in them.
_HARMLESS = frozenset((b"fmt ", b"fact", b"ds64", b"data", b"JUNK", b"junk", b"PAD ", b"FLLR"))


@dataclass(frozen=True)
class Format:
    """What a `fmt ` chunk says. width : bytes a sample takes, 0 where samples are compressed or the chunk contradicts itself."""

    tag: int
    n_channels: int
    sample_rate_hz: int
    block_bytes: int
    bits: int
    samples_per_block: int
    order: str

    @property
    def width(self) -> int:
        if self.tag not in (_PCM, _FLOAT, _ALAW, _MULAW) or self.n_channels == 0:
            return 0
        width = (self.bits + 7) // 8
        allowed = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8)}.get(self.tag, (1,))
        return width if width in allowed and self.block_bytes in (0, width * self.n_channels) else 0

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame, or of a block of compressed samples."""
        return self.width * self.n_channels or max(1, self.block_bytes)

    @property
    def encoding(self) -> str:
        """Name of clipmill.stages.decode.pcm, "" where there is none."""
        if self.tag in (_ALAW, _MULAW) and self.width:
            return "alaw" if self.tag == _ALAW else "mulaw"
        if not self.width:
            return ""
        ending = "" if self.width == 1 else "le" if self.order == "<" else "be"
        return ("f" if self.tag == _FLOAT else "u" if self.width == 1 else "s") + str(8 * self.width) + ending

    def samples_in(self, n_bytes: int) -> int | None:
        """Return how many samples a channel some compressed bytes hold, None when that cannot be told."""
        if self.tag == _GSM:
            return n_bytes // 65 * 320 if self.n_channels == 1 and self.block_bytes == 65 else None
        head = {_IMA_ADPCM: 4, _MS_ADPCM: 7}.get(self.tag)
        first = 1 if self.tag == _IMA_ADPCM else 2
        if head is None or self.n_channels == 0 or self.block_bytes <= head * self.n_channels:
            return None
        head *= self.n_channels
        fitting = (self.block_bytes - head) * 2 // self.n_channels + first
        whole, rest = divmod(n_bytes, self.block_bytes)
        last = (rest - head) * 2 // self.n_channels + first if rest > head else 0
        return whole * (min(fitting, self.samples_per_block) if self.samples_per_block else fitting) + last


@dataclass
class _Wave:
    """What the chain of one RIFF gives.

    riff_end : where it should end by its own length, None when that says nothing
    data : (start, length as declared, length there) of each chunk of samples
    odd : there is something over which libsndfile could stumble
    behind : where bytes begin that are no chunk, behind all chunks; what : end, tag, riff, junk
    """

    order: str
    at: int
    riff_end: int | None
    is_long: bool
    format: Format | None = None
    long_size: int | None = None
    fact: int | None = None
    data: list[tuple[int, int]] = field(default_factory=list)
    odd: bool = False
    behind: int = 0
    what: str = "end"
    stopped: str = "there is no data chunk"


def check_wav(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Look at a WAV's chunks. Its kind is wav, whatever is wrong with it."""
    wave = _walk(stream, size, at)
    if not wave.data:
        return Container("wav", wave.stopped, start_byte=at)
    if wave.format is None:
        return Container("wav", "there is no fmt chunk", start_byte=at)
    start, length = wave.data[0]
    if wave.format.tag in _MPEG and not stands_for_unknown(length, size - start):
        # The chunk is the file of frames that it would be alone, and is held against them.
        end = min(start + length, size)
        found = check_frames("mp3", stream, end, start)
        if found.parts or found.fault:
            cut = missing(length, size - start) if start + length > size else found.truncated
            return replace(found, truncated=cut, parts=tuple(replace(p, is_file=False) for p in found.parts))
    found = _Judge(stream, size, wave, wave.format).container()
    if not wave.format.width:
        return replace(found, unsupported=f"WAV of format 0x{wave.format.tag:04X}, {wave.format.bits} bits")
    if wave.format.encoding == "s16le" and (hidden := _hidden(read_at(stream, size, start, _HIDDEN_BYTES))):
        return replace(found, pcm=None, n_frames=None, understated=True, unsupported=hidden)
    return found


def _hidden(data: bytes) -> str | None:
    """Return what 16-bit samples are that are none: compressed audio on its way to a receiver. IEC 61937; ETSI TS 102 114."""
    for mark, name in _HIDDEN.items():
        places = []
        at = data.find(mark)
        while at >= 0:
            places.append(at)
            at = data.find(mark, at + len(mark))
        # Four bytes occur by chance; bursts come at equal distances.
        distances = {b - a for a, b in pairwise(places)}
        if len(places) >= _HIDDEN_BURSTS and len(distances) == 1:
            return name
    return None


def _walk(stream: IO[bytes], size: int, at: int) -> _Wave:
    magic = read_at(stream, size, at, 8)
    order = ">" if magic[:4] == b"RIFX" else "<"
    riff_bytes = struct.unpack(order + "I", magic[4:].ljust(4, b"\0"))[0]
    known = riff_bytes not in (0, _ALL_ONES) and not stands_for_unknown(riff_bytes, size - at)
    wave = _Wave(order, at, at + 8 + riff_bytes if known else None, magic[:4] in (b"RF64", b"BW64"))
    chunks = Chunks(stream, size, order)
    position, likely = at + 12, 1
    for _ in range(MAX_CHUNKS):
        wave.behind = position
        found = chunks.header(position)
        if found is None or (wave.data and (not likely or _is_riff(stream, size, position))):
            break
        name, length = found
        wave.odd |= name not in _HARMLESS
        if name == b"data" and (not wave.data or likely == 2):
            if wave.is_long and length == _ALL_ONES and wave.long_size is not None:
                length = wave.long_size
            wave.odd |= wave.format is None
            wave.data.append((position + 8, length))
        elif name == b"ds64" and wave.is_long:
            long_riff, wave.long_size = struct.unpack("<QQ", read_at(stream, size, position + 8, 16).ljust(16, b"\0"))
            wave.riff_end = at + 8 + long_riff if 0 < long_riff < 1 << 48 else None
        elif name == b"fmt " and wave.format is None:
            wave.format = read_format(read_at(stream, size, position + 8, min(length, 40)), order)
        elif name == b"fact" and length >= 4:
            wave.fact = struct.unpack(order + "I", read_at(stream, size, position + 8, 4).ljust(4, b"\0"))[0]
        end = position + 8 + length
        if end > size and not wave.data:
            wave.stopped = f"a chunk needs {length} bytes and {size - position - 8} are there"
        position, likely = chunks.behind(end, length)
        wave.odd |= position != end + length % 2
        if position >= size:
            break
    else:
        wave.stopped = "there is no data chunk among the first chunks"
    wave.behind = min(position, size)
    if wave.data and wave.behind < size:
        wave.what = "riff" if _is_riff(stream, size, wave.behind) else "junk"
        # The pad byte may be missing, or be one too many.
        if any(is_tag(stream, size, wave.behind + by) for by in (0, -1, 1)):
            wave.what = "tag"
    return wave


def _is_riff(stream: IO[bytes], size: int, position: int) -> bool:
    found = read_at(stream, size, position, 12)
    return found[:4] in _MAGIC and found[8:] == b"WAVE"


def read_format(body: bytes, order: str) -> Format | None:
    """Return what the content of a `fmt ` chunk says, None when it is not whole."""
    if len(body) < 14:
        return None
    tag, channels, rate, _, block, bits, _, per_block = struct.unpack(order + "HHIIHHHH", body[:20].ljust(20, b"\0"))
    if tag == _EXTENSIBLE and len(body) >= 28:
        tag = struct.unpack(order + "I", body[24:28])[0]
    return Format(tag, channels, rate, block, bits, per_block if len(body) >= 20 else 0, order)


@dataclass
class _Judge:
    """Decides where the samples of a WAV end."""

    stream: IO[bytes]
    size: int
    wave: _Wave
    format: Format
    remarks: list[tuple[str, str]] = field(default_factory=list)
    repaired: bool = False
    missing: str | None = None

    def container(self) -> Container:
        wave, fmt = self.wave, self.format
        parts = [(wave.data[0][0], self._first_length())]
        parts += [(start, min(length, self.size - start)) for start, length in wave.data[1:] if length]
        if not self.repaired and wave.what == "riff":
            parts += self._following()
        parts = [(start, n_bytes - n_bytes % fmt.frame_bytes) for start, n_bytes in parts] if fmt.width else parts
        parts = [(start, n_bytes) for start, n_bytes in parts if n_bytes > 0]
        if len(parts) > 1:
            places = ", ".join(str(start) for start, _ in parts[:3])
            self.remarks.append(("joined", f"{len(parts)} runs of samples, from the bytes {places}"))
        n_bytes = sum(n for _, n in parts)
        plain = not (self.repaired or wave.odd or wave.at or len(parts) > 1) and fmt.block_bytes == fmt.frame_bytes
        plain &= wave.what == "end"
        pcm = None
        if fmt.width and parts and not plain:
            first, *more = parts
            pcm = Pcm(*first, fmt.sample_rate_hz, fmt.n_channels, fmt.encoding, tuple(more))
        n_frames = None
        if self.missing is None and fmt.width:
            n_frames = n_bytes // fmt.frame_bytes
        elif self.missing is None:
            n_frames = self._stated(n_bytes)
        return Container(
            "wav",
            self.missing,
            # FFmpeg must be told that the length of compressed samples is none.
            understated=self.repaired and not fmt.width,
            n_frames=n_frames,
            pcm=pcm,
            start_byte=wave.at,
            empty=not parts and self.missing is None,
            remarks=tuple(self.remarks),
        )

    def _first_length(self) -> int:
        """Return how many bytes of the first data chunk are samples."""
        start, length = self.wave.data[0]
        there, frame = self.size - start, self.format.frame_bytes
        if length // frame > there // frame:
            return self._too_long(start, length, there)
        if length > there or self.wave.what == "end" or self.wave.what == "riff":
            return min(length, there)
        if length and len(self.wave.data) == 1 and self.wave.what == "tag":
            return length
        return self._too_short(start, length, there)

    def _too_long(self, start: int, length: int, there: int) -> int:
        # The RIFF's own length may stand for "unknown" where the other is anything beyond reason.
        endless = self.wave.riff_end is None and length >= 1 << 30
        if stands_for_unknown(length, there) or endless:
            self.repaired = True
            return samples_end(self.stream, self.size, start, self.wave.order) - start
        if self.wave.riff_end == self.size and length - there <= start - self.wave.at:
            # The file is whole by its first length, and the second one counts headers too.
            self._repair(length, there)
            return there
        self.missing = missing(length, there)
        return there

    def _too_short(self, start: int, length: int, there: int) -> int:
        """Return the length when what follows is neither a chunk nor a tag."""
        rest_start = self.wave.behind
        if rest_start != start + length + length % 2 and rest_start != start + length:
            self._tell(rest_start)  # behind other chunks: none of the samples
            return length
        # What speaks for samples: the RIFF's own length counts them, perhaps without what does not fit into 32 bits.
        riff_end = self.wave.riff_end
        counted = riff_end is not None and (self.size - riff_end + 8) % (1 << 32) <= 16
        if length in USUAL_UNKNOWN:
            self.repaired = True
            return samples_end(self.stream, self.size, start, self.wave.order) - start
        if length == 0:
            tagged = is_tag(self.stream, self.size, start)
            if there < max(8, self.format.frame_bytes) or tagged or is_padding(self.stream, self.size, start):
                return 0
            self.repaired = True
            return samples_end(self.stream, self.size, start, self.wave.order) - start
        rest = self.size - start - length
        if rest < 8 or is_padding(self.stream, self.size, rest_start):
            return length
        samples = samples_end(self.stream, self.size, start, self.wave.order) - start
        if counted and samples % self.format.frame_bytes == 0:
            self._repair(length, samples)
            return samples
        self._tell(rest_start)
        return length

    def _repair(self, declared: int, there: int) -> None:
        self.repaired = True
        self.remarks.append(("header_wrong", f"the header declares {declared} bytes of samples, and {there} were used"))

    def _tell(self, position: int) -> None:
        if self.size - position >= REMARK_BYTES and not is_padding(self.stream, self.size, position):
            self.remarks.append(("trailing_bytes", f"{self.size - position} bytes from byte {position} on"))

    def _following(self) -> list[tuple[int, int]]:
        """Return the samples of further WAV files behind this one, as `cat` and some recorders make them."""
        found: list[tuple[int, int]] = []
        position = self.wave.behind
        for _ in range(MAX_PARTS):
            if not _is_riff(self.stream, self.size, position):
                return found
            wave = _walk(self.stream, self.size, position)
            if wave.format != self.format or not self.format.width:
                self.remarks.append(
                    ("trailing_bytes", f"another WAV of another format begins at byte {position}, and was not used")
                )
                return found
            for start, length in wave.data:
                if start + length > self.size and not stands_for_unknown(length, self.size - start):
                    self.missing = missing(length, self.size - start)
                found.append((start, min(length, self.size - start)))
            position = wave.behind
        return found

    def _stated(self, n_bytes: int) -> int | None:
        """Return the count of compressed samples: what `fact` says when that is less than a block under what is there."""
        there = self.format.samples_in(n_bytes)
        if there is None:
            return None
        block = self.format.samples_in(self.format.block_bytes) or 0
        fact = self.wave.fact
        return fact if fact is not None and max(0, there - 2 * block) < fact <= there else there
