"""What each kind of file gives: all of its samples, or a reason. Real recordings, cut ones, and corrupted ones."""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import soundfile as sf
from conftest import CORPORA, tone, write_audio

from clipmill.pipelines.chain import known_reasons
from clipmill.schemas.config import Segment
from clipmill.schemas.tables import PLAN
from clipmill.schemas.units import to_pcm16
from clipmill.stages.arrow_rows import list_values
from clipmill.stages.decode import Decode, DecodeSource
from clipmill.stages.storage.root import Root
from clipmill.stages.storage.versions import version_of

WINDOWS = Segment(mode="window", length_s=2.0, tail="keep")
EVERY = {"fsdd": 50, "esc10": 10}
LOSSLESS = ("pcm", "flac")


@dataclass(frozen=True)
class Decoded:
    """samples : float32 [frames, channels], empty when there is a reason"""

    samples: npt.NDArray[np.float32]
    rate: int | None
    decoder: str | None
    reason: str | None
    detail: str | None


def decode(path: Path, truncated: str = "reject") -> Decoded:
    """Decode all of a file as a build does; the runs that share a cell must agree to the last bit."""
    root = Root(str(path.parent))
    item = dict.fromkeys(PLAN.names) | {
        "item_id": "s/x", "recording_id": "s/x", "source": "s", "path": path.name, "fields": [], "primary": True,
        "version": version_of(root, path.name, "auto"), "span_start_s": 0.0,
    }  # fmt: skip
    runs = pa.concat_tables(
        Decode({"s": DecodeSource(root, WINDOWS)}, 16000, truncated)(pa.Table.from_pylist([item], schema=PLAN))
    )
    rows = runs.drop_columns(["samples"]).to_pylist()
    last = rows[-1]
    assert last["last"] and not any(row["last"] for row in rows[:-1])
    if last["reason"] is not None:
        assert last["reason"] in known_reasons() and last["detail"]
        return Decoded(np.empty((0, 1), np.float32), None, None, last["reason"], last["detail"])
    y = np.full((last["total_frames"], last["n_channels"]), np.nan, np.float32)
    written = np.zeros(len(y), bool)
    for row, flat in zip(rows, list_values(runs["samples"]), strict=True):
        if row["core_frames"]:
            core = flat.reshape(-1, row["n_channels"])[row["lead"] : row["lead"] + row["core_frames"]]
            place = slice(row["start_s"] * row["sample_rate_hz"], row["start_s"] * row["sample_rate_hz"] + len(core))
            assert np.array_equal(y[place][written[place]], core[written[place]], equal_nan=True)
            y[place], written[place] = core, True
    assert written.all()
    return Decoded(y, last["sample_rate_hz"], last["decoder"], None, None)


def ffmpeg_frames(path: Path) -> int:
    with av.open(str(path), metadata_errors="ignore") as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def listed() -> list[dict[str, str]]:
    """Return the manifest's audio rows; of the folders in EVERY only some."""
    if not (CORPORA / "MANIFEST.csv").exists():
        return []
    seen: dict[str, int] = {}
    rows = []
    with (CORPORA / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "audio":
                folder = row["path"].split("/")[0]
                seen[folder] = seen.get(folder, -1) + 1
                if seen[folder] % EVERY.get(folder, 1) == 0:
                    rows.append(row)
    return rows


ROWS = {row["path"]: row for row in listed()}
FLAC_FOLDER = "flac-test-files"
# The manifest counts what an FFmpeg command made of these two; there is more in them.
MISCOUNTED = {
    f"{FLAC_FOLDER}/faulty/01 - wrong max blocksize.flac": 101_999,
    f"{FLAC_FOLDER}/uncommon/05 - 32bps audio.flac": 515_577,
}
READABLE = [path for path, row in ROWS.items() if row["seconds_ffmpeg"] != "0" and path not in MISCOUNTED]
REFUSED = [path for path, row in ROWS.items() if row["seconds_ffmpeg"] == "0" and path not in MISCOUNTED]


@pytest.mark.parametrize("path", READABLE)
def test_recording_has_the_length_rate_and_channels_of_the_manifest(corpora: Path, path: str) -> None:
    row = ROWS[path]
    found = decode(corpora / path)
    assert found.reason is None, found.detail
    assert found.samples.shape[1] == int(row["channels"])
    # Opus is 48 kHz to FFmpeg; libsndfile gives the rate that was encoded.
    assert found.rate == int(row["sr"]) or "opus" in row["format"]
    seconds = len(found.samples) / found.rate
    if any(name in row["format"] for name in LOSSLESS):
        if "adpcm" in row["format"]:  # `fact` has the count, which FFmpeg does not look at: its last block is filled up
            assert 0 <= ffmpeg_frames(corpora / path) - len(found.samples) < 1024
            return
        # Of the one VOC file libsndfile gives two frames behind the block's end.
        assert len(found.samples) == ffmpeg_frames(corpora / path) or row["format"].startswith("voc")
        assert seconds == pytest.approx(float(row["seconds_ffmpeg"]), abs=0.00051)
    else:
        assert seconds == pytest.approx(float(row["seconds_ffmpeg"]), abs=0.03)
    assert np.isfinite(found.samples).all()


@pytest.mark.parametrize("path", REFUSED)
def test_file_without_audio_is_refused_with_a_reason(corpora: Path, path: str) -> None:
    expected = {"undecoded/-": "not_audio", "wav/-": "unsupported_format"}.get(ROWS[path]["format"], "empty")
    assert decode(corpora / path).reason == expected


@pytest.mark.parametrize("path", MISCOUNTED)
def test_flac_that_one_decoder_fails_on_is_read_by_the_other(corpora: Path, path: str) -> None:
    assert len(decode(corpora / path).samples) == MISCOUNTED[path]


@pytest.mark.parametrize("path", [p for p, row in ROWS.items() if row["format"] == "flac/flac" and "32b" not in p])
def test_flac_samples_have_the_checksum_in_their_header(corpora: Path, path: str) -> None:
    info = (corpora / path).read_bytes()[8:42]
    bits = (int.from_bytes(info[12:14], "big") >> 4 & 31) + 1
    checksum = info[18:34]
    assert any(checksum)
    width = (bits + 7) // 8
    whole = np.rint(decode(corpora / path).samples.astype(np.float64) * 2.0 ** (bits - 1)).astype("<i4")
    packed = whole.reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    assert hashlib.md5(packed).digest() == checksum


TRAPS = [
    ("flac-test-files/faulty/05 - wrong total number of samples.flac", 109_487, 1, "ffmpeg"),
    ("flac-test-files/subset/45 - no total number of samples set.flac", 336_410, 2, "ffmpeg"),
    ("flac-test-files/faulty/01 - wrong max blocksize.flac", 101_999, 1, "libsndfile"),
    ("flac-test-files/subset/22 - 12 bit per sample.flac", 218_666, 2, "ffmpeg"),
    ("pydub/test/data/bach.ogg", 133_632, 1, "ffmpeg"),
    ("pydub/test/data/test5.webm", 71_040, 2, "ffmpeg"),
    ("lhotse/test/fixtures/big_buck_bunny_small.mp4", 254_976, 6, "ffmpeg"),
    ("soundata/tests/resources/sound_datasets/eigenscape/Beach.1.wav", 48_000, 25, "libsndfile"),
]


@pytest.mark.parametrize(("path", "frames", "channels", "decoder"), TRAPS)
def test_odd_container_is_read_to_its_end(corpora: Path, path: str, frames: int, channels: int, decoder: str) -> None:
    found = decode(corpora / path)
    assert (found.samples.shape, found.decoder) == ((frames, channels), decoder)


def test_content_decides_and_not_the_extension(corpora: Path, tmp_path: Path) -> None:
    data = corpora / "pydub/test/data"
    assert np.array_equal(decode(data / "wrong_extension.aac").samples, decode(data / "format_test.m4a").samples)
    (tmp_path / "a.mp3").write_bytes((data / "test1.wav").read_bytes())
    assert np.array_equal(decode(tmp_path / "a.mp3").samples, decode(data / "test1.wav").samples)


def test_wav_and_flac_of_one_sentence_are_equal(corpora: Path) -> None:
    stem = corpora / "coqui-tts/tests/data/ljspeech/wavs/LJ001-0002"
    assert np.array_equal(decode(stem.with_suffix(".wav")).samples, decode(stem.with_suffix(".flac")).samples)


def test_samples_beyond_full_scale_survive_until_they_are_clipped(corpora: Path) -> None:
    y = decode(corpora / "wavefile/test/files/64bit-48kHz-noBext-mono-overflow.wav").samples
    pcm, clipped_samples = to_pcm16(y)
    assert 1.9 < np.abs(y).max() < 2.0
    assert clipped_samples == np.count_nonzero(np.abs(y) > 32768 / 32768)
    assert (np.sign(pcm[np.abs(y) > 1]) == np.sign(y[np.abs(y) > 1])).all()


@pytest.mark.parametrize(
    "name", ["[a][b].wav", "a b.wav", "a#1?.wav", "a.b.c.wav", "Käfer 鳥.flac", "-x.ogg", "%41.wav", "a\nb.wav"]
)
def test_any_file_name_is_read(tmp_path: Path, name: str) -> None:
    write_audio(tmp_path / name, tone(0.5, 16000), 16000)
    assert decode(tmp_path / name).samples.shape == (8000, 1)


# Files that were cut off.

SYNTHETIC = [
    "a.wav",
    "float.wav",
    "a.rf64",
    "adpcm.wav",
    "a.flac",
    "a.aiff",
    "a.au",
    "a.ogg",
    "a.opus",
    "xing.mp3",
    "a.w64",
    "a.caf",
]
SUBTYPES = {"float.wav": "FLOAT", "adpcm.wav": "MS_ADPCM"}
REAL = {
    "aac.m4a": "pydub/test/data/format_test.m4a",
    "flac.ogg": "pydub/test/data/bach.ogg",
    "opus.webm": "pydub/test/data/test5.webm",
    "nist.sph": "lhotse/test/fixtures/stereo.sph",
    "lame.mp3": "coqui-tts/tests/data/ljspeech/wavs/LJ001-0002.mp3",
    "real.wav": "pydub/test/data/test-dc_offset.wav",
    "real.flac": "auditok/tests/data/DTMF_tones_44.1KHZ_stereo.flac",
    "no-total.flac": "flac-test-files/subset/45 - no total number of samples set.flac",
    "real.aiff": "cpython-audiodata/audiodata/pluck-pcm24.aiff",
    "real.au": "cpython-audiodata/audiotest.au",
    "real.ogg": "auditok/tests/data/DTMF_tones_16KHZ_mono.ogg",
}


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A whole file of each kind that libsndfile writes: 4 s of stereo noise."""
    folder = tmp_path_factory.mktemp("synthetic")
    y = 0.1 * np.random.default_rng(0).standard_normal((64000, 2))
    found = {}
    for name in SYNTHETIC:
        if name.endswith(".opus"):
            sf.write(folder / name, y, 16000, format="OGG", subtype="OPUS")
        else:
            write_audio(folder / name, y, 16000, SUBTYPES.get(name))
        found[name] = (folder / name).read_bytes()
    return found


def whole_file(request: pytest.FixtureRequest, name: str) -> bytes:
    if name in REAL:
        return bytes((request.getfixturevalue("corpora") / REAL[name]).read_bytes())
    return bytes(request.getfixturevalue("synthetic")[name])


@pytest.mark.parametrize("percent", [10, 50, 90, 99])
@pytest.mark.parametrize("name", [*SYNTHETIC, *REAL])
def test_cut_file_is_never_accepted(request: pytest.FixtureRequest, tmp_path: Path, name: str, percent: int) -> None:
    content = whole_file(request, name)
    path = tmp_path / name
    path.write_bytes(content)
    assert decode(path).reason is None
    path.write_bytes(content[: len(content) * percent // 100])
    assert decode(path).reason in ("truncated", "corrupt", "undecodable")


@pytest.mark.parametrize("name", ["a.wav", "adpcm.wav", "a.flac", "a.aiff", "a.au", "a.ogg", "xing.mp3", "aac.m4a"])
def test_file_that_lacks_its_last_byte_is_not_accepted(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(whole_file(request, name)[:-1])
    assert decode(tmp_path / name).reason in ("truncated", "corrupt", "undecodable")


@pytest.mark.parametrize("percent", [50, 99])
def test_mp3_without_a_length_header_may_be_cut(corpora: Path, tmp_path: Path, percent: int) -> None:
    # Nothing in such a file says how long it is: what is there is taken, and no more than that.
    content = (corpora / "pydub/test/data/party.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[: len(content) * percent // 100])
    found, whole = decode(tmp_path / "a.mp3"), decode(corpora / "pydub/test/data/party.mp3")
    assert found.reason is None
    assert len(found.samples) / len(whole.samples) == pytest.approx(percent / 100, abs=0.02)


@pytest.mark.parametrize("percent", [50, 99])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.ogg", "xing.mp3"])
def test_cut_file_is_read_as_far_as_it_goes_when_truncated_is_keep(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, percent: int
) -> None:
    content = whole_file(request, name)
    (tmp_path / name).write_bytes(content)
    whole = decode(tmp_path / name).samples
    (tmp_path / name).write_bytes(content[: len(content) * percent // 100])
    found = decode(tmp_path / name, truncated="keep")
    assert found.reason is None, found.detail
    n = len(found.samples)
    assert 0.5 * percent < 100 * n / len(whole) < percent + 1  # Ogg's pages last up to a second
    assert np.abs(found.samples[: n - 4608] - whole[: n - 4608]).max() < 1e-6


# WAV headers that lie.


def wav(declared: int, body: bytes, rate: int = 8000, channels: int = 1) -> bytes:
    head = b"RIFF" + struct.pack("<I", min(36 + declared, 0xFFFFFFFF)) + b"WAVEfmt " + struct.pack("<I", 16)
    head += struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels & 0xFFFFFFFF, 2 * channels, 16)
    return head + b"data" + struct.pack("<I", declared) + body


BODY = (3000 * np.sin(np.arange(4000) / 5)).astype("<i2").tobytes()


@pytest.mark.parametrize("declared", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, len(BODY)])
@pytest.mark.parametrize("truncated", ["reject", "keep"])
def test_wav_written_to_a_pipe_lasts_until_the_file_ends(tmp_path: Path, declared: int, truncated: str) -> None:
    (tmp_path / "a.wav").write_bytes(wav(declared, BODY))
    found = decode(tmp_path / "a.wav", truncated)
    assert found.reason is None
    assert np.array_equal(found.samples[:, 0] * 32768, np.frombuffer(BODY, "<i2"))


@pytest.mark.parametrize("declared", [5 * 3600 * 16000, 0x70000000, len(BODY) + 2])
def test_wav_that_claims_more_than_is_there_is_truncated(tmp_path: Path, declared: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(declared, BODY))
    assert decode(tmp_path / "a.wav").reason == "truncated"
    assert len(decode(tmp_path / "a.wav", "keep").samples) == len(BODY) // 2


def test_rf64_that_claims_hours_over_a_few_kilobytes_is_truncated(tmp_path: Path) -> None:
    size = 10 * 3600 * 16000
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, size + 72, size, size // 2, 0)
    plain = wav(0xFFFFFFFF, BODY)
    (tmp_path / "a.rf64").write_bytes(b"RF64" + plain[4:12] + ds64 + plain[12:])
    assert decode(tmp_path / "a.rf64").reason == "truncated"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (wav(0, b""), "empty"),
        (wav(len(BODY), BODY, rate=0), "undecodable"),
        (wav(len(BODY), BODY, rate=999), "bad_format"),
        (wav(len(BODY), BODY, rate=2_000_000), "bad_format"),
        (wav(len(BODY), BODY, channels=0), "undecodable"),
        (wav(len(BODY), BODY, channels=2000), "undecodable"),
        (wav(0, b"")[:36], "truncated"),
        (b"RIFF", "not_audio"),
        (b"\0" * 10_000, "not_audio"),
        ("Nothing to hear. ".encode("utf-16") * 99, "not_audio"),
    ],
    ids=[
        "no-samples",
        "rate-0",
        "rate-999",
        "rate-2M",
        "channels-0",
        "channels-2000",
        "no-data",
        "riff",
        "zeros",
        "utf-16",
    ],
)
def test_impossible_header_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert decode(tmp_path / "a.wav").reason == reason


@pytest.mark.parametrize("name", ["list.m3u8", "list.wav", "list.mp3", "list.mp4", "list.flac"])
@pytest.mark.parametrize("target", ["beside.wav", "/etc/passwd"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "{}\n",
        "<asx version='3.0'><entry><ref href='{}'/></entry></asx>\n",
    ],
    ids=["hls", "ffconcat", "m3u", "asx"],
)
def test_playlist_is_never_followed(tmp_path: Path, name: str, target: str, text: str) -> None:
    write_audio(tmp_path / "beside.wav", tone(1, 8000), 8000)
    (tmp_path / name).write_text(text.format(target))
    assert decode(tmp_path / name).reason == "not_audio"


# Corrupted files.


@pytest.mark.parametrize("seed", range(6))
def test_flac_with_a_changed_byte_is_refused_or_equal(synthetic: dict[str, bytes], tmp_path: Path, seed: int) -> None:
    content = bytearray(synthetic["a.flac"])
    content[np.random.default_rng(seed).integers(200, len(content))] ^= 0x55
    (tmp_path / "a.flac").write_bytes(content)
    found = decode(tmp_path / "a.flac")
    whole, _ = sf.read(io.BytesIO(synthetic["a.flac"]), dtype="float32")
    assert found.reason == "corrupt" or np.array_equal(found.samples, whole)


def test_chunk_size_that_leads_before_the_file_is_refused(synthetic: dict[str, bytes], tmp_path: Path) -> None:
    content = bytearray(synthetic["a.w64"])
    content[45], content[61] = 91, 82
    (tmp_path / "a.w64").write_bytes(content)
    assert decode(tmp_path / "a.w64").reason in ("undecodable", "truncated", "corrupt")


@pytest.fixture(scope="module")
def other_process() -> Iterator[Pool]:
    """A decoder that crashes or hangs must not take the tests with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


def decode_corrupted(content: bytes, name: str, seed: int, cases: int, folder: str) -> list[str | None]:
    """Decode copies of a file in which some bytes are changed, near the head or anywhere; return the reasons."""
    rng = np.random.default_rng(seed)
    reasons = []
    for case in range(cases):
        broken = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, len(broken) if case % 2 else min(len(broken), 200), rng.integers(1, 16))
        broken[places] = rng.integers(0, 256, len(places))
        path = Path(folder) / name
        path.write_bytes(broken.tobytes())
        reasons.append(decode(path).reason)
        path.unlink()
    return reasons


@pytest.mark.parametrize("name", [*SYNTHETIC, *REAL])
def test_corrupted_bytes_end_in_samples_or_a_reason(
    request: pytest.FixtureRequest, other_process: Pool, tmp_path: Path, name: str
) -> None:
    content = whole_file(request, name)
    reasons = other_process.apply_async(decode_corrupted, (content, name, 7, 12, str(tmp_path))).get(timeout=240)
    assert len(reasons) == 12
