"""Check WAV and its relatives: RIFF, RIFX, RF64, BW64.

The chain of chunks is followed to the end of the file before its lengths are used. A header that can be right is trusted: what follows
the samples is not part of them. It is overruled only where it cannot be right.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import IO

from clipmill.stages.decode.containers.mpeg import check_frames
from clipmill.stages.decode.containers.structure import MAX_CHUNKS, Container, Pcm, describe_shortage, read_at
from clipmill.stages.decode.containers.trailing import (
    REMARK_BYTES,
    USUAL_UNKNOWN,
    Chunks,
    find_samples_end,
    is_padding,
    is_placeholder,
    is_tag,
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
# Chunks that libsndfile skips or always accepts. It parses others, and rejects a file for errors in them.
_HARMLESS = frozenset((b"fmt ", b"fact", b"ds64", b"data", b"JUNK", b"junk", b"PAD ", b"FLLR"))


@dataclass(frozen=True)
class Format:
    """The content of a `fmt ` chunk. order : byte order, < or >"""

    tag: int
    n_channels: int
    sample_rate_hz: int
    block_bytes: int
    bits: int
    samples_per_block: int
    order: str

    @property
    def width(self) -> int:
        """Return the bytes of a sample, 0 if samples are compressed or the chunk contradicts itself."""
        if self.tag not in (_PCM, _FLOAT, _ALAW, _MULAW) or self.n_channels == 0:
            return 0
        width = (self.bits + 7) // 8
        allowed = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8)}.get(self.tag, (1,))
        return width if width in allowed and self.block_bytes in (0, width * self.n_channels) else 0

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of a frame, or of a block of compressed samples."""
        return self.width * self.n_channels or max(1, self.block_bytes)

    @property
    def encoding(self) -> str:
        """Return the name in clipmill.stages.decode.pcm.ENCODINGS, "" if there is none."""
        if self.tag in (_ALAW, _MULAW) and self.width:
            return "alaw" if self.tag == _ALAW else "mulaw"
        if not self.width:
            return ""
        ending = "" if self.width == 1 else "le" if self.order == "<" else "be"
        return ("f" if self.tag == _FLOAT else "u" if self.width == 1 else "s") + str(8 * self.width) + ending

    def samples_in(self, n_bytes: int) -> int | None:
        """Return the number of samples per channel in some compressed bytes, None if it cannot be derived."""
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
    """The chunks of one RIFF.

    riff_end : position at which it should end by its own length, None if that is a placeholder
    data : (start, declared length) of each chunk of samples, in bytes
    is_odd : it contains something that libsndfile could fail on
    chunks_end : position after the last chunk
    follower : what follows there: end (of the file), tag, riff, junk
    error : message about the data chunk that is missing
    """

    order: str
    at: int
    riff_end: int | None
    is_long: bool
    format: Format | None = None
    long_size: int | None = None
    fact: int | None = None
    data: list[tuple[int, int]] = field(default_factory=list)
    is_odd: bool = False
    chunks_end: int = 0
    follower: str = "end"
    error: str = "the data chunk is missing"


def check_wav(stream: IO[bytes], size: int, at: int, head: bytes) -> Container:
    """Check a WAV's chunks. The kind of the result is always wav, whatever is wrong."""
    wave = _follow_chunks(stream, size, at)
    if not wave.data:
        return Container("wav", wave.error, start_byte=at)
    if wave.format is None:
        return Container("wav", "the fmt chunk is missing", start_byte=at)
    start, length = wave.data[0]
    if wave.format.tag in _MPEG and not is_placeholder(length, size - start):
        # The chunk holds frames as an MP3 file does, and is checked like one.
        end = min(start + length, size)
        container = check_frames("mp3", stream, end, start)
        if container.parts or container.fault:
            truncated = describe_shortage(length, size - start) if start + length > size else container.truncated
            return replace(
                container, truncated=truncated, parts=tuple(replace(p, is_file=False) for p in container.parts)
            )
    container = _SamplesEnd(stream, size, wave, wave.format).container()
    if not wave.format.width:
        return replace(container, unsupported=f"WAV of format 0x{wave.format.tag:04X}, {wave.format.bits} bits")
    if wave.format.encoding == "s16le" and (hidden := _find_hidden_codec(read_at(stream, size, start, _HIDDEN_BYTES))):
        return replace(container, pcm=None, n_frames=None, understated=True, unsupported=hidden)
    return container


def _find_hidden_codec(data: bytes) -> str | None:
    """Return the name of compressed audio that is stored as 16-bit samples, None if there is none. IEC 61937; ETSI TS 102 114."""
    for mark, name in _HIDDEN.items():
        places = []
        at = data.find(mark)
        while at >= 0:
            places.append(at)
            at = data.find(mark, at + len(mark))
        # Four bytes also occur by chance, but bursts come at equal distances.
        distances = {b - a for a, b in pairwise(places)}
        if len(places) >= _HIDDEN_BURSTS and len(distances) == 1:
            return name
    return None


def _follow_chunks(stream: IO[bytes], size: int, at: int) -> _Wave:
    magic = read_at(stream, size, at, 8)
    order = ">" if magic[:4] == b"RIFX" else "<"
    riff_bytes = struct.unpack(order + "I", magic[4:].ljust(4, b"\0"))[0]
    known = riff_bytes not in (0, _ALL_ONES) and not is_placeholder(riff_bytes, size - at)
    wave = _Wave(order, at, at + 8 + riff_bytes if known else None, magic[:4] in (b"RF64", b"BW64"))
    chunks = Chunks(stream, size, order)
    position, likely = at + 12, 1
    for _ in range(MAX_CHUNKS):
        wave.chunks_end = position
        header = chunks.header(position)
        if header is None or (wave.data and (not likely or _is_riff(stream, size, position))):
            break
        name, length = header
        wave.is_odd |= name not in _HARMLESS
        if name == b"data" and (not wave.data or likely == 2):
            if wave.is_long and length == _ALL_ONES and wave.long_size is not None:
                length = wave.long_size
            wave.is_odd |= wave.format is None
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
            wave.error = f"a chunk needs {length} bytes, but only {size - position - 8} are left"
        position, likely = chunks.next_after(end, length)
        wave.is_odd |= position != end + length % 2
        if position >= size:
            break
    else:
        wave.error = "the data chunk is missing among the first chunks"
    wave.chunks_end = min(position, size)
    if wave.data and wave.chunks_end < size:
        wave.follower = "riff" if _is_riff(stream, size, wave.chunks_end) else "junk"
        # The pad byte may be missing or superfluous.
        if any(is_tag(stream, size, wave.chunks_end + by) for by in (0, -1, 1)):
            wave.follower = "tag"
    return wave


def _is_riff(stream: IO[bytes], size: int, position: int) -> bool:
    header = read_at(stream, size, position, 12)
    return header[:4] in _MAGIC and header[8:] == b"WAVE"


def read_format(body: bytes, order: str) -> Format | None:
    """Return the parsed content of a `fmt ` chunk, None if it is incomplete."""
    if len(body) < 14:
        return None
    tag, channels, rate, _, block, bits, _, per_block = struct.unpack(order + "HHIIHHHH", body[:20].ljust(20, b"\0"))
    if tag == _EXTENSIBLE and len(body) >= 28:
        tag = struct.unpack(order + "I", body[24:28])[0]
    return Format(tag, channels, rate, block, bits, per_block if len(body) >= 20 else 0, order)


@dataclass
class _SamplesEnd:
    """Decides where the samples of a WAV end.

    remarks : pairs of code and detail
    is_repaired : the header's length was overruled
    shortage : message about samples that are missing, None if none are
    """

    stream: IO[bytes]
    size: int
    wave: _Wave
    format: Format
    remarks: list[tuple[str, str]] = field(default_factory=list)
    is_repaired: bool = False
    shortage: str | None = None

    def container(self) -> Container:
        """Return the structure of the file."""
        wave, fmt = self.wave, self.format
        parts = [(wave.data[0][0], self._first_length())]
        parts += [(start, min(length, self.size - start)) for start, length in wave.data[1:] if length]
        if not self.is_repaired and wave.follower == "riff":
            parts += self._following()
        parts = [(start, n_bytes - n_bytes % fmt.frame_bytes) for start, n_bytes in parts] if fmt.width else parts
        parts = [(start, n_bytes) for start, n_bytes in parts if n_bytes > 0]
        if len(parts) > 1:
            places = ", ".join(str(start) for start, _ in parts[:3])
            self.remarks.append(("joined", f"{len(parts)} runs of samples, from the bytes {places}"))
        n_bytes = sum(n for _, n in parts)
        plain = (
            not (self.is_repaired or wave.is_odd or wave.at or len(parts) > 1) and fmt.block_bytes == fmt.frame_bytes
        )
        plain &= wave.follower == "end"
        pcm = None
        if fmt.width and parts and not plain:
            first, *more = parts
            pcm = Pcm(*first, fmt.sample_rate_hz, fmt.n_channels, fmt.encoding, tuple(more))
        n_frames = None
        if self.shortage is None and fmt.width:
            n_frames = n_bytes // fmt.frame_bytes
        elif self.shortage is None:
            n_frames = self._stated(n_bytes)
        return Container(
            "wav",
            self.shortage,
            # FFmpeg must ignore the stated length of compressed samples.
            understated=self.is_repaired and not fmt.width,
            n_frames=n_frames,
            pcm=pcm,
            start_byte=wave.at,
            empty=not parts and self.shortage is None,
            remarks=tuple(self.remarks),
        )

    def _first_length(self) -> int:
        """Return how many bytes of the first data chunk are samples."""
        start, length = self.wave.data[0]
        available, frame = self.size - start, self.format.frame_bytes
        if length // frame > available // frame:
            return self._end_of_overlong(start, length, available)
        if length > available or self.wave.follower == "end" or self.wave.follower == "riff":
            return min(length, available)
        if length and len(self.wave.data) == 1 and self.wave.follower == "tag":
            return length
        return self._end_of_short(start, length, available)

    def _end_of_overlong(self, start: int, length: int, available: int) -> int:
        # The RIFF's own length may mean "unknown" while the other is any impossible number.
        endless = self.wave.riff_end is None and length >= 1 << 30
        if is_placeholder(length, available) or endless:
            self.is_repaired = True
            return find_samples_end(self.stream, self.size, start, self.wave.order) - start
        if self.wave.riff_end == self.size and length - available <= start - self.wave.at:
            # By the first length the file is whole; the second one also counts headers.
            self._repair(length, available)
            return available
        self.shortage = describe_shortage(length, available)
        return available

    def _end_of_short(self, start: int, length: int, available: int) -> int:
        """Return the length of the samples if neither a chunk nor a tag follows the declared ones."""
        rest_start = self.wave.chunks_end
        if rest_start != start + length + length % 2 and rest_start != start + length:
            self._remark_trailing(rest_start)  # after other chunks, so they are not samples
            return length
        # They are samples if the RIFF's own length counts them, perhaps modulo 2**32.
        riff_end = self.wave.riff_end
        is_counted = riff_end is not None and (self.size - riff_end + 8) % (1 << 32) <= 16
        if length in USUAL_UNKNOWN:
            self.is_repaired = True
            return find_samples_end(self.stream, self.size, start, self.wave.order) - start
        if length == 0:
            has_tag = is_tag(self.stream, self.size, start)
            if available < max(8, self.format.frame_bytes) or has_tag or is_padding(self.stream, self.size, start):
                return 0
            self.is_repaired = True
            return find_samples_end(self.stream, self.size, start, self.wave.order) - start
        rest = self.size - start - length
        if rest < 8 or is_padding(self.stream, self.size, rest_start):
            return length
        samples = find_samples_end(self.stream, self.size, start, self.wave.order) - start
        if is_counted and samples % self.format.frame_bytes == 0:
            self._repair(length, samples)
            return samples
        self._remark_trailing(rest_start)
        return length

    def _repair(self, declared: int, available: int) -> None:
        self.is_repaired = True
        self.remarks.append(
            ("header_wrong", f"the header declares {declared} bytes of samples, but {available} are used")
        )

    def _remark_trailing(self, position: int) -> None:
        if self.size - position >= REMARK_BYTES and not is_padding(self.stream, self.size, position):
            self.remarks.append(("trailing_bytes", f"{self.size - position} bytes from byte {position} on"))

    def _following(self) -> list[tuple[int, int]]:
        """Return (start, length) of the samples of further WAV files after this one, as `cat` and some recorders write them."""
        parts: list[tuple[int, int]] = []
        position = self.wave.chunks_end
        for _ in range(MAX_PARTS):
            if not _is_riff(self.stream, self.size, position):
                return parts
            wave = _follow_chunks(self.stream, self.size, position)
            if wave.format != self.format or not self.format.width:
                self.remarks.append(
                    ("trailing_bytes", f"a WAV of another format begins at byte {position} and is not used")
                )
                return parts
            for start, length in wave.data:
                if start + length > self.size and not is_placeholder(length, self.size - start):
                    self.shortage = describe_shortage(length, self.size - start)
                parts.append((start, min(length, self.size - start)))
            position = wave.chunks_end
        return parts

    def _stated(self, n_bytes: int) -> int | None:
        """Return the number of compressed samples: that of `fact` if it is at most two blocks less than the file holds."""
        available = self.format.samples_in(n_bytes)
        if available is None:
            return None
        block = self.format.samples_in(self.format.block_bytes) or 0
        fact = self.wave.fact
        return fact if fact is not None and max(0, available - 2 * block) < fact <= available else available
