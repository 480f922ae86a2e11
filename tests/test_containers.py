"""Walks over frames and pages: what is there is counted, and nothing goes without a word."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.stages.decode.containers import Container, inspect
from clipmill.stages.decode.containers.ogg import _checksum, _pages
from clipmill.stages.decode.containers.structure import Window
from clipmill.stages.decode.extents import ExtentStream
from clipmill.stages.decode.readers import DecodeError, SoundFileReader

FRAME = b"\xff\xfb\x90\xc0" + bytes(413)  # MPEG-1, layer III, 128 kbit/s, 44.1 kHz, mono
OTHER_RATE = b"\xff\xfb\x94\xc0" + bytes(380)  # 48 kHz
STEREO = b"\xff\xfb\x90\x00" + bytes(413)
ADTS = b"\xff\xf1\x50\x40\x0d\x7f\xfc" + bytes(100)
ID3V2 = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"t" * 128
APE = b"APETAGEX" + struct.pack("<III", 2000, 64, 1)
TAGS = {
    "ID3v1": b"TAG" + b"x" * 125,
    "ID3v2": ID3V2,
    "APE": APE + struct.pack("<I8x", 1 << 31 | 1 << 29) + b"i" * 32 + APE + struct.pack("<I8x", 1 << 31),
    "Lyrics3": b"LYRICSBEGIN" + b"y" * 40 + b"000051LYRICS200",
}


def looked_at(content: bytes) -> Container:
    return inspect(io.BytesIO(content), len(content))


def xing(n_frames: int | None, mark: bytes = b"Info") -> bytes:
    """Return a header frame of the same stream as FRAME."""
    flags = 0 if n_frames is None else 1
    tag = mark + struct.pack(">I", flags) + (b"" if n_frames is None else struct.pack(">I", n_frames))
    return (FRAME[:21] + tag).ljust(len(FRAME), b"\0")


runs = st.lists(st.tuples(st.integers(3, 30), st.sampled_from(sorted(TAGS))), min_size=1, max_size=5)


@given(runs=runs, before=st.booleans())
def test_frames_between_tags_are_all_counted(runs: list[tuple[int, str]], before: bool) -> None:
    content = ID3V2 * 2 * before + b"".join(FRAME * n + TAGS[tag] for n, tag in runs)
    found = looked_at(content)
    assert (found.kind, found.fault, found.truncated, found.remarks) == ("mp3", None, None, ())
    (part,) = found.parts
    total = sum(n for n, _ in runs)
    assert part.n_frames == total * 1152
    assert sum(stop - start for start, stop in part.extents) == total * len(FRAME)
    assert b"".join(content[a:b] for a, b in part.extents) == FRAME * total


@given(
    counts=st.lists(st.integers(3, 20), min_size=2, max_size=4), tag=st.sampled_from(["", *TAGS]), stated=st.booleans()
)
def test_each_header_frame_begins_a_part(counts: list[int], tag: str, stated: bool) -> None:
    between = TAGS.get(tag, b"")
    found = looked_at(between.join(xing(n if stated else None) + FRAME * n for n in counts))
    assert found.fault is None and found.truncated is None
    assert [p.n_frames for p in found.parts] == [n * 1152 for n in counts]
    assert [p.whole_stream for p in found.parts] == [stated] * len(counts)
    assert [code for code, _ in found.remarks] == ["joined"]


@given(n=st.integers(3, 20), stated=st.integers(0, 40))
def test_a_header_that_states_more_than_is_there_is_a_truncation_and_less_is_told(n: int, stated: int) -> None:
    found = looked_at(xing(stated, b"Xing") + FRAME * n)
    assert (found.truncated is not None) == (stated > n + 1)
    if stated < n:
        assert [code for code, _ in found.remarks] == ["header_wrong"]
        assert not found.parts[0].whole_stream


no_frames = st.one_of(st.binary(min_size=24, max_size=3000), st.integers(24, 20_000).map(bytes)).filter(
    lambda junk: b"\xff" not in junk and not junk.startswith((b"TAG", b"ID3"))
)


@given(n=st.integers(3, 20), m=st.integers(3, 20), junk=no_frames)
def test_damage_between_frames_is_found_with_its_place(n: int, m: int, junk: bytes) -> None:
    found = looked_at(FRAME * n + junk + FRAME * m)
    assert found.fault is not None and found.fault[0] == "corrupt"
    assert f"{len(junk)} bytes at byte {n * len(FRAME)} " in found.fault[1]


@given(n=st.integers(3, 20), cut=st.integers(10, len(ID3V2) - 1))
def test_a_file_that_ends_within_a_tag_is_told(n: int, cut: int) -> None:
    found = looked_at(FRAME * n + ID3V2[:cut])
    assert [code for code, _ in found.remarks] == ["trailing_bytes"]


@pytest.mark.parametrize("other", [OTHER_RATE, STEREO])
def test_another_format_behind_the_first_is_no_silent_end(other: bytes) -> None:
    found = looked_at(FRAME * 10 + other * 10)
    assert found.fault is not None and found.fault[0] == "bad_format"


@given(n=st.integers(3, 200), cut=st.integers(1, 106), behind=st.sampled_from([b"", TAGS["ID3v1"], b"\0" * 500]))
def test_adts_is_counted_to_its_last_whole_frame(n: int, cut: int, behind: bytes) -> None:
    whole = looked_at(ADTS * n + behind)
    assert (whole.kind, whole.fault, whole.remarks) == ("aac", None, ())
    assert whole.parts[0].extents == ((0, n * len(ADTS)),)
    found = looked_at(ADTS * n + ADTS[:cut])
    assert found.parts[0].extents == ((0, n * len(ADTS)),)
    assert [code for code, _ in found.remarks] == (["last_frame_cut"] if cut >= 7 else [])


def test_one_header_is_no_proof() -> None:
    """FLAC's frames begin like ADTS's, and any two bytes like MPEG's."""
    assert looked_at(b"\xff\xf8\x69\x18" + bytes(5000)).kind not in ("aac", "mp3")
    assert looked_at(bytes(100) + FRAME + bytes(5000)).kind == ""


@given(st.binary(min_size=27, max_size=300))
def test_checksum_of_a_page_is_that_of_rfc_3533(page: bytes) -> None:
    crc = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    assert _checksum(page) == crc


@given(st.data())
def test_extents_read_as_a_file_of_their_own(data: st.DataObject) -> None:
    content = data.draw(st.binary(min_size=1, max_size=200))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), min_size=2, max_size=8)))
    extents = tuple(zip(cuts[::2], cuts[1::2], strict=False))
    whole = b"".join(content[a:b] for a, b in extents)
    stream, reference = ExtentStream(io.BytesIO(content), extents), io.BytesIO(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(whole) + 5))
            assert stream.seek(place) == reference.seek(place)
        n = data.draw(st.integers(-1, 250))
        assert stream.read(n) == reference.read(n)
        assert stream.tell() == reference.tell()
    assert stream.seek(0, io.SEEK_END) == len(whole)


@pytest.fixture(scope="module")
def vorbis() -> bytes:
    sink = io.BytesIO()
    with sf.SoundFile(sink, "w", 16000, 1, format="OGG", subtype="VORBIS") as file:
        for block in np.array_split(tone(12.0, 16000), 12):
            file.write(block)
    return sink.getvalue()


def test_pages_account_for_all_samples(vorbis: bytes) -> None:
    found = looked_at(vorbis)
    assert (found.truncated, found.fault, found.remarks) == (None, None, ())
    (part,) = found.parts
    assert (part.n_frames, part.hole, part.whole_stream) == (12 * 16000, None, True)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_page_goes_without_a_word(vorbis: bytes, data: st.DataObject) -> None:
    """Whatever happens to one page, the walk knows of it, and where nothing happened it says nothing."""
    places = [(p.start, p.stop) for p in _pages(Window(io.BytesIO(vorbis), len(vorbis)), 0) if not isinstance(p, str)]
    # Without its first page of audio a stream reads as one that was entered later.
    start, stop = places[data.draw(st.integers(3, len(places) - 1))]
    how = data.draw(st.sampled_from(["lost", "bit", "zeros", "cut short"]))
    if how == "lost":
        content = vorbis[:start] + vorbis[stop:]
    elif how == "bit":
        at = data.draw(st.integers(start, stop - 1))
        content = vorbis[:at] + bytes([vorbis[at] ^ 1 << data.draw(st.integers(0, 7))]) + vorbis[at + 1 :]
    elif how == "zeros":
        content = vorbis[:start] + bytes(stop - start) + vorbis[stop:]
    else:
        at = data.draw(st.integers(start + 1, stop - 1))
        content = vorbis[:at] + vorbis[stop:]
    found = looked_at(content)
    told = found.fault or found.truncated or any(p.hole for p in found.parts)
    assert told, how


def test_the_way_that_libsndfile_has_come_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, tone(4.0, 16000), 16000)
    reader = SoundFileReader(str(path))
    out = np.empty((16000, 1), np.float32)
    assert reader.position_bytes < path.stat().st_size
    while reader.read_into(out) == len(out):
        pass
    assert reader.position_bytes == path.stat().st_size
    reader.close()


def test_a_file_that_is_refused_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, tone(1.0, 500), 500)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(DecodeError):
            SoundFileReader(str(path))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 73026\n", "`git lfs pull`"),
        (b"/annex/objects/SHA256E-s73026--4d7a.wav\n", "`git annex get`"),
        (b"\n<!DOCTYPE HTML>\n<title>404</title>", "a web page in place of the file"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error/>", "XML in place of the file"),
    ],
)
def test_what_stands_in_place_of_a_file_is_named(head: bytes, what: str) -> None:
    reason, detail = inspect(io.BytesIO(head), len(head)).fault or ("", "")
    assert reason == "not_audio" and what in detail
    assert inspect(io.BytesIO(b"x" + head), len(head) + 1).fault is None
