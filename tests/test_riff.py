"""Where the samples of a WAV and its relatives end: chunks, pad bytes, tags, padding, junk, and lengths that are none."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.schemas.remarks import REMARKS
from clipmill.stages.decode.containers import Container, inspect
from clipmill.stages.decode.containers.riff import check_wav
from clipmill.stages.decode.containers.trailing import is_placeholder
from clipmill.stages.decode.pcm import PcmReader

TONE = (9000 * np.sin(np.arange(4000) / 5)).astype("<i2").tobytes()
LIST = b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf59.27.100\0"
ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
ID3V2 = b"ID3\x03\0\0\0\0\x02\x00" + b"TIT2".ljust(256, b"\0")
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 64, 1, 0xA0000000) + bytes(8)
APE += b"x" * 32 + b"APETAGEX" + struct.pack("<IIII", 2000, 64, 1, 0x80000000) + bytes(8)
NOISE = np.random.default_rng(1).integers(0, 256, 6001, np.uint8).tobytes()


def fmt(tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, block: int | None = None) -> bytes:
    block = channels * bits // 8 if block is None else block
    return b"fmt " + struct.pack("<IHHIIHH", 16, tag, channels, rate, rate * block, block, bits)


def data(body: bytes, length: int | None = None) -> bytes:
    return b"data" + struct.pack("<I", len(body) if length is None else length) + body


def riff(*chunks: bytes, length: int | None = None, behind: bytes = b"") -> bytes:
    inside = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(inside) if length is None else length) + inside + behind


def look(content: bytes, at: int = 0) -> Container:
    return check_wav(io.BytesIO(content), len(content), at, content[at : at + 4096])


def samples(content: bytes, found: Container) -> npt.NDArray[np.float32]:
    """Read a file as a build does: by place when the container says so, else by libsndfile."""
    assert found.truncated is None and not found.understated
    assert all(code in REMARKS for code, _ in found.remarks)
    if found.empty:
        return np.empty((0, 1), np.float32)
    if found.pcm is None:
        with sf.SoundFile(io.BytesIO(content)) as file:
            out = file.read(dtype="float32", always_2d=True)
        assert len(out) == found.n_frames
        return out
    reader = PcmReader(io.BytesIO(content), found.pcm)
    assert reader.n_frames is not None and reader.n_frames == found.n_frames
    out = np.empty((reader.n_frames + 1, reader.n_channels), np.float32)
    assert reader.read_into(out) == reader.n_frames
    return out[:-1]


def as_int16(content: bytes, at: int = 0) -> bytes:
    return (samples(content, look(content, at))[:, 0] * 32768).astype("<i2").tobytes()


BEHIND = {
    "nothing": b"", "LIST": LIST, "spurious-pad": b"\0", "wrong-pad": b"\x07", "pad-LIST": b"\0" + LIST, "id3v1": ID3V1, "id3v2": ID3V2,
    "pad-id3v2": b"\0" + ID3V2, "ape": APE, "zeros": bytes(5000), "ones": b"\xff" * 5000, "noise": NOISE, "LIST-noise": LIST + NOISE,
    "LIST-id3v1": LIST + ID3V1, "few": b"abc", "cut-LIST": b"LIST\xff\xff\0\0INFO", "text": b"recorded by hand",
}  # fmt: skip


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
@pytest.mark.parametrize(
    "before", [b"", LIST, b"bext\x03\0\0\0abc\0", b"bext\x03\0\0\0abc"], ids=["", "LIST", "odd", "no-pad"]
)
def test_header_that_is_right_counts_whatever_stands_behind(before: bytes, behind: bytes) -> None:
    assert as_int16(riff(fmt(), before, data(TONE), behind=behind)) == TONE


@pytest.mark.parametrize("name", sorted(BEHIND.keys() - {"noise", "text"}))
def test_tag_or_padding_is_no_sample_though_the_outer_length_counts_it(name: str) -> None:
    assert as_int16(riff(fmt(), data(TONE), BEHIND[name])) == TONE


@pytest.mark.parametrize("behind", [b"LIST" + LIST[4:], ID3V1, b"", b"\0"], ids=["LIST", "id3v1", "nothing", "pad"])
@pytest.mark.parametrize("pad", [b"", b"\0", b"\x99"])
@pytest.mark.parametrize("inside", [True, False])
def test_odd_length_with_and_without_pad(behind: bytes, pad: bytes, inside: bool) -> None:
    body = NOISE[: 3 * 1001]
    chunks = (fmt(bits=24), data(body) + pad + (behind if inside else b""))
    content = riff(*chunks, behind=b"" if inside else behind)
    whole = samples(content, look(content))[:, 0]
    wide = np.zeros((1001, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
    assert np.array_equal(whole, wide.reshape(-1).view("<i4") / 2**31)


@pytest.mark.parametrize("behind", [b"", LIST, b"\0" + LIST, ID3V1, ID3V2, b"ab", bytes(4000), b"\xff" * 4000])
@pytest.mark.parametrize("length", [None, 0, 0xFFFFFFFF])
def test_empty_data_chunk_is_empty(behind: bytes, length: int | None) -> None:
    content = riff(fmt(), data(b""), length=length, behind=behind)
    assert look(content).empty and look(content).truncated is None


UNKNOWN = [
    0,
    0x7FFF0000,
    0x7FFFF000,
    0x7FFFFFFE,
    0x7FFFFFFF,
    0x7FFFFFDB,
    0x80000000,
    0xFFFFFFDB,
    0xFFFFFFFE,
    0xFFFFFFFF,
    0x7FFFEFFC,
]


@pytest.mark.parametrize("length", UNKNOWN)
@pytest.mark.parametrize("outer", [36, 0, 0xFFFFFFFF, "more"])
@pytest.mark.parametrize(
    "behind", [b"", LIST, ID3V1, ID3V2, APE, LIST + ID3V1], ids=["", "LIST", "v1", "v2", "ape", "both"]
)
def test_length_that_stands_for_unknown_lasts_to_the_end(length: int, outer: int | str, behind: bytes) -> None:
    outer_length = min(length + 36, 0xFFFFFFFF) if isinstance(outer, str) else outer
    content = riff(fmt(), data(TONE, length), length=outer_length, behind=behind)
    found = look(content)
    assert not found.remarks
    assert as_int16(content) == TONE


def test_placeholder_counts_in_a_file_that_is_longer() -> None:
    assert not is_placeholder(0x7FFFF000, 0x7FFFF000) and is_placeholder(0x7FFFF000, 0x7FFFEFFF)
    assert not is_placeholder(0x7FFFE000, 0x7FFF0000), "a recorder that splits at 2 GB, and a file that was cut"


@pytest.mark.parametrize("length", [len(TONE) + 2, 2 * len(TONE), 5 * 3600 * 16000, 0x70000000])
def test_plausible_length_over_fewer_bytes_is_truncated(length: int) -> None:
    assert look(riff(fmt(), data(TONE, length), length=36 + length)).truncated


def test_length_that_counts_the_header_is_repaired() -> None:
    content = riff(fmt(), data(TONE, len(TONE) + 36))
    assert [code for code, _ in look(content).remarks] == ["header_wrong"]
    assert as_int16(content) == TONE


def test_length_that_is_too_short_is_repaired_when_the_outer_one_counts_the_samples() -> None:
    content = riff(fmt(), data(TONE, 2000))
    assert [code for code, _ in look(content).remarks] == ["header_wrong"]
    assert as_int16(content) == TONE
    alone = riff(fmt(), data(TONE, 2000), length=36 + 2000)
    assert [code for code, _ in look(alone).remarks] == ["trailing_bytes"]
    assert as_int16(alone) == TONE[:2000]


def test_container_behind_a_tag() -> None:
    content = ID3V2 + riff(fmt(), data(TONE), LIST)
    found = inspect(io.BytesIO(content), len(content))
    assert found.start_byte == len(ID3V2) and found.kind == "wav"
    assert as_int16(content, at=len(ID3V2)) == TONE


def test_format_behind_the_samples() -> None:
    assert as_int16(riff(data(TONE), fmt())) == TONE


def test_block_of_no_bytes() -> None:
    assert as_int16(riff(fmt(block=0), data(TONE))) == TONE


def test_several_runs_of_samples_are_one_recording() -> None:
    content = riff(fmt(), data(TONE), LIST, data(TONE[:400]), data(b""))
    assert [code for code, _ in look(content).remarks] == ["joined"]
    assert as_int16(content) == TONE + TONE[:400]


def test_joined_files_are_one_recording_when_they_are_alike() -> None:
    content = riff(fmt(), data(TONE), LIST) + riff(fmt(), data(TONE[:400]))
    assert as_int16(content) == TONE + TONE[:400]
    other = riff(fmt(), data(TONE)) + riff(fmt(rate=16000), data(TONE))
    assert [code for code, _ in look(other).remarks] == ["trailing_bytes"]
    assert as_int16(other) == TONE
    assert look(content[:-2]).truncated


def test_rf64_from_a_pipe_and_rf64_that_is_cut() -> None:
    def rf64(n: int) -> bytes:
        sizes = b"ds64" + struct.pack("<IQQQI", 28, n and min(n + 72, 2**64 - 1), n, n // 2, 0)
        return b"RF64\xff\xff\xff\xffWAVE" + sizes + fmt() + data(TONE, 0xFFFFFFFF)

    for n in (0, len(TONE), 2**64 - 1):
        assert as_int16(rf64(n)) == TONE
    assert look(rf64(10 * len(TONE))).truncated


def test_big_endian_and_extensible() -> None:
    content = io.BytesIO()
    sf.write(content, np.frombuffer(TONE, "<i2"), 8000, format="WAV", subtype="PCM_16", endian="BIG")
    assert content.getvalue()[:4] == b"RIFX"
    assert as_int16(content.getvalue() + NOISE) == TONE
    content = io.BytesIO()
    sf.write(content, np.frombuffer(TONE, "<i2"), 8000, format="WAVEX", subtype="PCM_16")
    assert as_int16(content.getvalue() + NOISE) == TONE


@pytest.mark.parametrize(
    "content", [riff(fmt(channels=0), data(TONE)), riff(fmt(rate=0), data(TONE)), riff(fmt(bits=0), data(TONE))]
)
def test_impossible_format_is_left_to_the_decoder(content: bytes) -> None:
    assert look(content).pcm is None and look(content).truncated is None


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 100_000])
def test_chunk_of_absurd_size_before_the_samples_is_told(length: int) -> None:
    assert look(riff(b"junk" + struct.pack("<I", length) + bytes(100), fmt(), data(TONE))).truncated


@pytest.mark.parametrize(("subtype", "block"), [("GSM610", 320), ("IMA_ADPCM", 505), ("MS_ADPCM", 500)])
@pytest.mark.parametrize("frames", [320, 4001, 7680])
@pytest.mark.parametrize("fact", ["right", "zero", "absurd"])
def test_count_of_compressed_samples(subtype: str, block: int, frames: int, fact: str) -> None:
    file = io.BytesIO()
    sf.write(file, np.resize(np.frombuffer(TONE, "<i2"), frames), 8000, format="WAV", subtype=subtype)
    content = bytearray(file.getvalue())
    place = content.index(b"fact") + 8
    stated = struct.unpack_from("<I", content, place)[0]
    struct.pack_into("<I", content, place, {"right": frames, "zero": 0, "absurd": 10 * frames}[fact])
    found = look(bytes(content))
    decoded = len(sf.read(io.BytesIO(file.getvalue()))[0])
    assert found.n_frames is not None and found.pcm is None and stated <= decoded + block
    if fact == "right":
        assert found.n_frames == frames
    else:
        assert frames <= found.n_frames < frames + 2 * block


def test_pad_byte_is_no_block_of_gsm() -> None:
    blocks = b"\xd2" * 65 * 7
    wave = struct.pack("<IHHIIHHHH", 20, 0x31, 1, 8000, 1625, 65, 0, 2, 320)
    fact = b"fact" + struct.pack("<II", 4, 7 * 320)
    assert look(riff(b"fmt " + wave, fact, data(blocks) + b"\0")).n_frames == 2240


CHUNK = st.tuples(
    st.sampled_from([b"LIST", b"bext", b"cue ", b"id3 ", b"JUNK", b"iXML", b"smpl", b"PEAK"]), st.binary(max_size=40)
)
PADS = st.sampled_from(["rule", "none", "always"])


def _chunk(name: bytes, body: bytes, pads: str) -> bytes:
    pad = b"" if pads == "none" or (pads == "rule" and len(body) % 2 == 0) else b"\0"
    return name + struct.pack("<I", len(body)) + body + pad


@settings(max_examples=400, deadline=None)
@given(
    before=st.lists(CHUNK, max_size=4),
    after=st.lists(CHUNK, max_size=4),
    body=st.integers(8, 3000).map(lambda n: NOISE[:n]),
    bits=st.sampled_from([8, 16, 24, 32]),
    channels=st.integers(1, 3),
    pads=PADS,
    junk=st.sampled_from([b"", ID3V1, ID3V2, APE, bytes(700), b"\xff" * 700, NOISE[3000:]]),
)
def test_exactly_the_samples_that_were_put_in_come_out(
    before: list[tuple[bytes, bytes]],
    after: list[tuple[bytes, bytes]],
    body: bytes,
    bits: int,
    channels: int,
    pads: str,
    junk: bytes,
) -> None:
    chunks = [_chunk(n, b, "rule") for n, b in before]
    content = riff(
        *chunks,
        fmt(bits=bits, channels=channels),
        _chunk(b"data", body, pads),
        *(_chunk(n, b, pads) for n, b in after),
        behind=junk,
    )
    frame = channels * bits // 8
    found = look(content)
    n = len(body) // frame
    assert found.truncated is None and found.empty == (n == 0)
    assert all(code == "trailing_bytes" for code, _ in found.remarks)
    kind = {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_32"}[bits]
    raw = sf.SoundFile(
        io.BytesIO(body[: n * frame]), samplerate=8000, channels=channels, format="RAW", subtype=kind, endian="LITTLE"
    )
    if n:
        assert np.array_equal(samples(content, found), raw.read(dtype="float32", always_2d=True))


@settings(max_examples=400, deadline=None)
@given(place=st.integers(0, 100), junk=st.binary(max_size=12), cut=st.integers(0, 8100))
def test_damaged_header_never_raises(place: int, junk: bytes, cut: int) -> None:
    content = bytearray(riff(fmt(), LIST, data(TONE), LIST))
    content[place : place + len(junk)] = junk
    found = look(bytes(content[: len(content) - cut]))
    assert found.kind == "wav"


def test_compressed_audio_in_samples_is_known_by_bursts_at_equal_distances() -> None:
    burst = b"\x72\xf8\x1f\x4e\x01\x00" + bytes(6138)
    hidden = look(riff(fmt(), data(burst * 8)))
    assert hidden.unsupported is not None
    # The four bytes of a sync word occur in noise.
    rng = np.random.default_rng(0)
    noise = bytearray(rng.integers(0, 256, 60_000, np.uint8).tobytes())
    for at in (1000, 9000, 20_002, 33_000, 50_000):
        noise[at : at + 4] = b"\xff\x1f\x00\xe8"
    assert look(riff(fmt(), data(bytes(noise)))).unsupported is None
