"""Samples read by their place in a file: equal to libsndfile's to the last bit; files without a header; lengths from pipes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile as sf
from conftest import build_here, clips_of, shard_hashes

from clipmill.pipelines.chain import known_reasons
from clipmill.pipelines.config_file import load
from clipmill.pipelines.plan.planning import make_plan
from clipmill.schemas.config.raw_config import Raw
from clipmill.schemas.errors import ConfigError
from clipmill.stages.decode.containers import Container, inspect
from clipmill.stages.decode.containers.structure import Pcm
from clipmill.stages.decode.pcm import ENCODINGS, PcmReader
from clipmill.stages.decode.readers import DecodeError

NOISE = np.random.default_rng(3).uniform(-1.1, 1.1, (150_001, 2))
LAWS = {"u8": ("PCM_U8", "LITTLE"), "s8": ("PCM_S8", "LITTLE"), "mulaw": ("ULAW", "LITTLE"), "alaw": ("ALAW", "LITTLE")}
for _bits, _kind in (("s16", "PCM_16"), ("s24", "PCM_24"), ("s32", "PCM_32"), ("f32", "FLOAT"), ("f64", "DOUBLE")):
    LAWS |= {f"{_bits}le": (_kind, "LITTLE"), f"{_bits}be": (_kind, "BIG")}


def test_configuration_and_reader_know_the_same_encodings() -> None:
    assert set(get_args(Raw.model_fields["encoding"].annotation)) == set(ENCODINGS) == set(LAWS)
    for name, (width, _) in ENCODINGS.items():
        assert Raw.model_validate({"sample_rate_hz": 8000, "channels": 3, "encoding": name}).frame_bytes == 3 * width


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("content", ["random", "codes", "signal"])
def test_samples_are_those_of_libsndfile_to_the_last_bit(encoding: str, content: str) -> None:
    subtype, endian = LAWS[encoding]
    about = {"samplerate": 8000, "channels": 2, "format": "RAW", "subtype": subtype, "endian": endian}
    if content == "signal":
        file = io.BytesIO()
        sf.write(file, NOISE, 8000, format="RAW", subtype=subtype, endian=endian)
        data = file.getvalue()
    elif content == "random":
        data = np.random.default_rng(5).integers(0, 256, 16 * 20_000, np.uint8).tobytes()
    else:
        data = bytes(range(256)) * 3 * 16
    with sf.SoundFile(io.BytesIO(data), **about) as whole, np.errstate(all="ignore"):
        expected = whole.read(dtype="float32", always_2d=True)
    reader = PcmReader(io.BytesIO(b"head" + data), Pcm(4, len(data), 8000, 2, encoding))
    assert reader.n_frames == len(expected)
    out = np.empty_like(expected)
    done = 0
    for n in (1, 0, 7, 70_000, len(out)):
        done += reader.read_into(out[done : done + n])
    assert done == len(expected) and out.tobytes() == expected.tobytes()
    for place in (len(out) - 5, 3, len(out), len(out) + 9, 0):
        reader.seek(place)
        block = np.empty((11, 2), np.float32)
        given = reader.read_into(block)
        assert block[:given].tobytes() == expected[place : place + 11].tobytes()


@pytest.mark.parametrize("format_name", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_place_that_a_container_gives_holds_its_samples(format_name: str, subtype: str) -> None:
    file = io.BytesIO()
    sf.write(file, NOISE[:999], 44100, format=format_name, subtype=subtype)
    tag = b"ID3\x03\0\0\0\0\x02\x00" + bytes(256)
    content = tag + file.getvalue()
    found = inspect(io.BytesIO(content), len(content))
    assert found.pcm is not None and found.start_byte == len(tag) and found.truncated is None
    reader = PcmReader(io.BytesIO(content), found.pcm)
    out = np.empty((999, 2), np.float32)
    assert reader.n_frames == found.n_frames == reader.read_into(out) == 999 and reader.sample_rate_hz == 44100
    file.seek(0)
    assert out.tobytes() == sf.read(file, dtype="float32")[0].tobytes()


def test_file_that_shrank_gives_less() -> None:
    reader = PcmReader(io.BytesIO(bytes(1001)), Pcm(0, 2000, 8000, 1, "s16le"))
    assert reader.read_into(np.empty((1000, 1), np.float32)) == 500


def test_runs_of_samples_follow_each_other() -> None:
    data = np.arange(100, dtype="<i2").tobytes()
    reader = PcmReader(io.BytesIO(data), Pcm(0, 20, 8000, 1, "s16le", ((100, 40), (180, 20))))
    out = np.empty((50, 1), np.float32)
    reader.seek(5)
    assert reader.read_into(out) == 35
    assert (out[:35, 0] * 32768).tolist() == [*range(5, 10), *range(50, 70), *range(90, 100)]


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (999, 1), (2_000_000, 1), (8000, 0), (8000, 2000)])
def test_impossible_format_is_refused(rate: int, channels: int) -> None:
    with pytest.raises(DecodeError, match="bad_format"):
        PcmReader(io.BytesIO(), Pcm(0, 0, rate, channels, "u8"))


# Lengths of AIFF, W64, AU and CAF.


SOUND = NOISE[:2000, :1] / 2


def encoded(format_name: str, frames: int = 2000) -> bytearray:
    file = io.BytesIO()
    sf.write(file, SOUND[:frames], 8000, format=format_name, subtype="PCM_16")
    return bytearray(file.getvalue())


def put(content: bytearray, name: bytes, offset: int, kind: str, value: int) -> None:
    struct.pack_into(kind, content, content.index(name) + offset, value)


def look(content: bytes) -> Container:
    return inspect(io.BytesIO(content), len(content))


PIPED = {
    "aiff-0": ("AIFF", b"SSND", 4, ">I", 0), "aiff-8": ("AIFF", b"SSND", 4, ">I", 8), "aiff-sox": ("AIFF", b"SSND", 4, ">I", 0x7F000008),
    "aiff-ones": ("AIFF", b"SSND", 4, ">I", 0xFFFFFFFF), "aiff-2g": ("AIFF", b"SSND", 4, ">I", 0x7FFFFFF0),
    "w64-0": ("W64", b"data", 16, "<Q", 24), "w64-ones": ("W64", b"data", 16, "<Q", 2**64 - 1),
    "w64-ffmpeg": ("W64", b"data", 16, "<Q", 2**63 - 1), "au-ones": ("AU", b".snd", 8, ">I", 0xFFFFFFFF), "au-0": ("AU", b".snd", 8, ">I", 0),
    "au-2g": ("AU", b".snd", 8, ">I", 0x7FFFFFFF), "caf": ("CAF", b"data", 4, ">q", -1),
}  # fmt: skip


@pytest.mark.parametrize(("format_name", "name", "offset", "kind", "value"), PIPED.values(), ids=PIPED.keys())
@pytest.mark.parametrize("frames", ["right", "0", "ones"])
def test_length_from_a_pipe_lasts_to_the_end(
    format_name: str, name: bytes, offset: int, kind: str, value: int, frames: str
) -> None:
    content = encoded(format_name)
    whole = sf.read(io.BytesIO(bytes(content)), dtype="float32", always_2d=True)[0]
    put(content, name, offset, kind, value)
    if format_name == "AIFF" and frames != "right":
        put(content, b"COMM", 10, ">I", {"0": 0, "ones": 0xFFFFFFFF}[frames])
    found = look(bytes(content))
    assert found.truncated is None and not found.empty and found.pcm is not None and not found.remarks
    out = np.empty((2001, 1), np.float32)
    assert PcmReader(io.BytesIO(bytes(content)), found.pcm).read_into(out) == 2000
    assert np.array_equal(out[:2000], whole)


@pytest.mark.parametrize("format_name", ["AIFF", "W64", "AU", "CAF", "WAV", "RF64", "NIST"])
def test_whole_cut_and_empty_files(format_name: str) -> None:
    content = bytes(encoded(format_name))
    assert look(content) == Container(look(content).kind, n_frames=None if format_name == "NIST" else 2000)
    assert look(content[:-100]).truncated
    assert look(bytes(encoded(format_name, 0))).empty


@pytest.mark.parametrize("behind", [b"ANNO\0\0\0\x04text", b"\0ANNO\0\0\0\x04text", b"TAG".ljust(128), bytes(300)])
def test_aiff_header_counts_whatever_stands_behind(behind: bytes) -> None:
    found = look(bytes(encoded("AIFF")) + behind)
    assert found.n_frames == 2000 and found.truncated is None


# Files without a header, through a build.


def raw_source(folder: Path, **more: object) -> dict[str, object]:
    raw = {"sample_rate_hz": 16000, "channels": 1, "encoding": "s16le"}
    return {"name": "ksp", "root": folder, "include": ["**/*.pcm"], "raw": raw, **more}


def test_raw_source_is_built_sample_by_sample(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    samples = (NOISE[:32000, 0] * 20000).astype("<i2")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.PCM").write_bytes(samples.tobytes())
    (tmp_path / "in" / "wav.pcm").write_bytes(b"RIFF" + samples.tobytes()[4:])
    (tmp_path / "in" / "odd.pcm").write_bytes(samples.tobytes()[:-1])
    (tmp_path / "in" / "none.pcm").write_bytes(b"")
    (tmp_path / "in" / "other.wav").write_bytes(b"not looked at")
    commits = build_here(
        make_config(raw_source(tmp_path / "in"), output={"root": str(tmp_path / "out"), "audio_codec": "wav"})
    )
    clips = {clip["recording_id"]: clip for clip in clips_of(tmp_path / "out", commits)}
    assert clips.keys() == {"ksp/a.PCM", "ksp/wav.pcm"}
    stored, rate = sf.read(io.BytesIO(clips["ksp/a.PCM"]["audio"]["bytes"]), dtype="int16")
    assert rate == 16000 and np.array_equal(stored, samples)
    refused = {r["recording_id"]: (r["reason"], r["detail"]) for c in commits for r in c.rejections}
    assert refused["ksp/odd.pcm"] == ("truncated", "63999 bytes are not a whole number of frames of 2 bytes")
    assert refused["ksp/none.pcm"][0] == "empty"
    keeping = make_config(
        raw_source(tmp_path / "in"), audio={"truncated": "keep"}, output={"root": str(tmp_path / "kept")}
    )
    commits = build_here(keeping)
    (clip,) = (c for c in clips_of(tmp_path / "kept", commits) if c["recording_id"] == "ksp/odd.pcm")
    assert clip["n_samples"] == 31999
    remarks = [(r["code"], r["detail"]) for c in commits for r in c.remarks if r["recording_id"] == "ksp/odd.pcm"]
    assert remarks == [("spare_bytes", "63999 bytes are not a whole number of frames of 2 bytes")], (
        "nothing says that more should follow"
    )
    assert "for headerless samples check raw.encoding and raw.channels" in known_reasons()["truncated"].remedy


def test_pattern_without_an_extension_is_refused_for_raw(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    for include in (["**/*"], ["**/*.pcm", "**/*"]):
        with pytest.raises(ConfigError, match=r"include: \[.\*\*/\*\.pcm.\]"):
            load(make_config(raw_source(tmp_path, include=include)))
    assert "sources[].raw" in known_reasons()["not_audio"].remedy


def test_raw_stands_in_keys(tmp_path: Path, make_config: Callable[..., Path]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pcm").write_bytes(bytes(32000))
    keys = set()
    for raw in (None, {"sample_rate_hz": 16000, "encoding": "s16le"}, {"sample_rate_hz": 16000, "encoding": "s16be"}):
        source = {k: v for k, v in raw_source(tmp_path / "in", raw=raw).items() if v is not None}
        keys |= set(make_plan(load(make_config(source)).config).keys)
    assert len(keys) == 3


def test_long_raw_file_is_cut_into_spans_and_gives_the_same_clips(
    tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    (tmp_path / "in").mkdir()
    samples = (NOISE[:, 0] * 20000).astype("<i2")
    (tmp_path / "in" / "a.pcm").write_bytes(samples.tobytes() * 4)  # a few samples over 37.5 s
    found = []
    for seconds in (1800, 10):
        out = tmp_path / f"out{seconds}"
        source = raw_source(tmp_path / "in", segment={"mode": "window", "length_s": 1.5, "tail": "keep"})
        config = make_config(source, output={"root": str(out), "shard_seconds": seconds})
        assert make_plan(load(config).config).table.num_rows == (1 if seconds == 1800 else 4)
        clips = clips_of(out, build_here(config))
        found.append({c["clip_id"]: c["audio"]["bytes"] for c in clips})
        assert shard_hashes(out)
    assert found[0] == found[1] and len(found[0]) == 26
