"""Containers of tracks and times: MP4, QuickTime, Matroska, MPEG-TS, ASF; edit lists, late starts, holes, several tracks."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import numpy as np
from odd_mpeg import zeroed
from odd_signal import Cases, Part, Track, mux, signal, soundfile

BOXES = Cases("boxes")
TIME = Cases("time")
TRACKS = Cases("tracks")


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the top-level boxes of an MP4: name, and bytes with the header."""
    result, at = [], 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        if size == 1:
            size = struct.unpack_from(">Q", content, at + 8)[0]
        size = size or len(content) - at
        result.append((kind, content[at : at + size]))
        at += size
    return result


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def in_order(content: bytes, order: str) -> bytes:
    """Return an MP4 with its top-level boxes in the given order. Others are left out; `free` and `wide` boxes are added.

    order : names of boxes, separated by spaces
    """
    originals = dict(boxes(content))
    old = content.find(originals[b"mdat"])
    fillers = {b"free": box(b"free", b"\0" * 24), b"wide": box(b"wide")}
    names = [name.encode() for name in order.split()]
    parts = [originals.get(name) or fillers[name] for name in names]
    new = sum(len(p) for p in parts[: names.index(b"mdat")])
    if b"moov" in names:
        parts[names.index(b"moov")] = _shift_offsets(originals[b"moov"], new - old)
    return b"".join(parts)


def _shift_offsets(moov: bytes, by: int) -> bytes:
    """Return a moov box whose offsets of samples are increased."""
    result, at = bytearray(moov), moov.find(b"stco")
    while at >= 0:
        n = struct.unpack_from(">I", moov, at + 8)[0]
        for k in range(n):
            place = at + 12 + 4 * k
            struct.pack_into(">I", result, place, struct.unpack_from(">I", moov, place)[0] + by)
        at = moov.find(b"stco", at + 4)
    return bytes(result)


@lru_cache(64)
def one(kind: str, codec: str, seconds: float = 4, rate: int = 44100, channels: int = 1, video_s: float = 0, start_s: float = 0,
        drop: tuple[tuple[float, float], ...] = (), options: tuple[tuple[str, str], ...] = ()) -> bytes:  # fmt: skip
    track = Track(
        codec,
        signal(seconds, rate, channels),
        rate,
        start_s,
        drop,
        64000 if codec in ("aac", "libmp3lame", "mp2", "wmav2") else None,
    )
    return mux(kind, track, dict(options), video_s)


def two(kind: str, codec: str, first: Mapping[str, object] | None = None, second: Mapping[str, object] | None = None, rate: int = 16000,
        video_s: float = 0) -> Callable[[], bytes]:  # fmt: skip
    """Return a function that makes a file of two tracks: the first begins with 300 Hz, the second with 800 Hz."""

    def make() -> bytes:
        tracks = [
            Track(codec, signal(4, rate, first_tone=n), rate, **more)  # type: ignore[arg-type]
            for n, more in ((0, first or {}), (5, second or {}))
        ]
        return mux(kind, tracks, video_s=video_s)

    return make


def flac_in_mka(start_s: float = 0.0, drop: tuple[tuple[float, float], ...] = (), seconds: float = 6) -> bytes:
    return one("matroska", "flac", seconds, 16000, start_s=start_s, drop=drop)


def _fragmented(seconds: float) -> bytes:
    flags = "frag_keyframe+empty_moov+default_base_moof"
    return one("mp4", "aac", seconds, options=(("movflags", flags), ("frag_duration", "500000")))


def _wma_zeroed() -> bytes:
    content = one("asf", "wmav2", 8)
    return zeroed(content, len(content) // 2, 9000)


def cut_by_edit(content: bytes, by_s: float) -> bytes:
    """Return an MP4 whose edit list leaves out the beginning. Its times are in ms of the movie and in samples of the track (44.1 kHz)."""
    result, at = bytearray(content), content.find(b"elst") + 12
    duration, media = struct.unpack_from(">Ii", content, at)
    struct.pack_into(">Ii", result, at, duration - round(by_s * 1000), media + round(by_s * 44100))
    return bytes(result)


def mdat_first(make: Callable[[], bytes], order: str) -> Callable[[], bytes]:
    return lambda: in_order(make(), order)


def without_packets(content: bytes, first: float, last: float) -> bytes:
    """Return an MPEG-TS without the packets between two shares of it, 0 to 1."""
    n = len(content) // 188
    return content[: int(n * first) * 188] + content[int(n * last) * 188 :]


M4A, MOV = partial(one, "mp4", "aac"), partial(one, "mov", "pcm_s16le", rate=16000)
_CUT = "truncated corrupt undecodable"
_AAC = {"tolerance_s": 0.06, "shift_s": 0.07}

BOXES.used("edit_list.m4a", M4A, 4, "AAC with an edit list that cuts off the priming", 0.03)
BOXES.used("edit_cut.m4a", lambda: cut_by_edit(M4A(), 1.0), 3, "an edit list that leaves out the first second", 0.06, shift_s=0.07,
           parts=(Part(0, 3, 1),), also=((4.0, (Part(0, 4),)),), debatable="players differ on what an edit list leaves out")  # fmt: skip
BOXES.used("alac.m4a", partial(one, "ipod", "alac"), 4, "ALAC", 0.0005)
BOXES.used("opus.mp4", partial(one, "mp4", "libopus", rate=48000), 4, "Opus in MP4", 0.03)
BOXES.used("book.m4b", partial(one, "ipod", "aac"), 4, "an audio book", 0.03)
BOXES.used("phone.3gp", partial(one, "3gp", "aac"), 4, "AAC in 3GP", **_AAC)
BOXES.used("fragmented.mp4", lambda: _fragmented(4), 4, "fragmented MP4, as DASH has it", **_AAC)  # fmt: skip
BOXES.rejected("fragmented_cut.mp4", lambda: _fragmented(8)[:30_000], _CUT,
               "fragmented MP4, cut", debatable="between fragments nothing says that more should follow")  # fmt: skip
BOXES.used("moov_first.m4a", mdat_first(M4A, "ftyp moov mdat"), 4, "MP4 with its index first", 0.03)
BOXES.used("free_between.m4a", mdat_first(M4A, "ftyp free moov free mdat"), 4, "MP4 with free boxes", 0.03)
for _order in ("wide mdat moov", "free mdat moov", "mdat moov", "moov mdat", "free moov mdat", "moov wide mdat"):
    BOXES.used(
        f"{_order.replace(' ', '_')}.mov", mdat_first(MOV, _order), 4, f"QuickTime without ftyp: {_order}", 0.0005
    )
BOXES.rejected("no_moov.mov", mdat_first(MOV, "wide mdat"), _CUT, "QuickTime whose index is missing")
BOXES.rejected(
    "no_moov.m4a", mdat_first(M4A, "ftyp free mdat"), _CUT, "MP4 whose index is missing: recording broke off"
)
BOXES.rejected("cut.m4a", lambda: in_order(M4A(), "ftyp moov mdat")[:-9000], _CUT, "MP4 with its index first, cut")
BOXES.rejected("cut_index.m4a", lambda: M4A()[:-300], _CUT, "MP4 cut in its index")
BOXES.used("free_behind.m4a", lambda: M4A() + box(b"free", b"\0" * 5000), 4, "a free box behind", 0.03)
BOXES.used("zeros_behind.m4a", lambda: M4A() + b"\0" * 5000, 4, "zeros behind MP4", 0.03)
BOXES.either("zeroed.m4a", lambda: zeroed(M4A(10), 30_000, 16_000), 10, "corrupt timeline_gap", "16 kB zeroed in mdat", 0.06,
             parts=(Part(0, 3.4), Part(6.2, 3.8, 6.2)), loose_s=0.6, enough=frozenset({"timeline_gap"}),
             debatable="the index tells the time of each packet, so silence in place is right too")  # fmt: skip
BOXES.used("music.mka", partial(one, "matroska", "libmp3lame"), 4, "MP3 in Matroska: times are rounded to ms", 0.08)
BOXES.used("opus.webm", partial(one, "webm", "libopus", rate=48000), 4, "Opus in WebM", 0.03)
BOXES.rejected("cut.mka", lambda: flac_in_mka()[:40_000], _CUT, "Matroska, cut")
BOXES.used(
    "live.webm",
    partial(one, "webm", "libopus", rate=48000, options=(("live", "1"),)),
    4,
    "WebM from a pipe: sizes unknown",
    0.03,
)
BOXES.used("audio.ts", partial(one, "mpegts", "mp2"), 4, "MPEG-TS with MP2", 0.15, shift_s=0.08)
BOXES.used("aac.ts", partial(one, "mpegts", "aac"), 4, "MPEG-TS with AAC", 0.15, shift_s=0.08)
BOXES.used("video.ts", lambda: mux("mpegts", Track("mp2", signal(4, 44100), 44100, bit_rate=64000), video_s=4, video_codec="mpeg2video"), 4,
           "MPEG-TS with a picture", 0.15, shift_s=0.08)  # fmt: skip
BOXES.hole("lost.ts", lambda: without_packets(one("mpegts", "mp2", 8), 0.4, 0.6), 8, (Part(0, 3.1), Part(4.9, 3.1, 4.9)), "MPEG-TS, a fifth lost",
           0.15, loose_s=0.25, shift_s=0.08)  # fmt: skip
BOXES.used("wma.wma", partial(one, "asf", "wmav2"), 4, "WMA", 0.15, shift_s=0.1)
BOXES.either("wma_zeroed.wma", _wma_zeroed, 8, "corrupt timeline_gap truncated undecodable",
             "9 kB zeroed in WMA", 0.15, parts=(Part(0, 3.5),), loose_s=9, enough=frozenset({"timeline_gap"}))  # fmt: skip
BOXES.rejected("cut.wma", lambda: one("asf", "wmav2", 8)[:60_000], "truncated corrupt", "WMA, cut")
BOXES.used("avi.avi", partial(one, "avi", "libmp3lame", video_s=4), 4, "MP3 in AVI", 0.1, shift_s=0.08)
BOXES.either("flash.flv", partial(one, "flv", "libmp3lame"), 4, "unsupported_format", "FLV", 0.1, shift_s=0.08)

# Time: late starts and holes.

_LATE = {"parts": (Part(1.5, 4),), "remarks": frozenset({"late_start"}), "shift_s": 0.08, "loose_s": 0.08}
_HOLE = (Part(0, 2), Part(3, 3, 3))
for _kind, _codec in (("matroska", "flac"), ("matroska", "aac"), ("mp4", "aac"), ("mov", "pcm_s16le")):
    TIME.used(f"late_{_codec}.{ {'matroska': 'mkv'}.get(_kind, _kind)}", partial(one, _kind, _codec, video_s=6, start_s=1.5), 5.5,
              f"audio begins 1.5 s after the picture: {_codec} in {_kind}", 0.1, **_LATE)  # fmt: skip
TIME.either("late.avi", partial(one, "avi", "libmp3lame", video_s=6, start_s=1.5), 5.5, "unsupported_format", "late audio in AVI", 0.1,
            parts=(Part(1.5, 4),), shift_s=0.08, loose_s=0.08, also=((4.0, (Part(0, 4),)),), debatable="AVI has no times")  # fmt: skip
TIME.used("late_default.mka", two("matroska", "flac", {"start_s": 1.5, "default": True}, {"default": False}), 5.5,
          "the default track begins 1.5 s after the other", 0.1, **_LATE)  # fmt: skip
TIME.used("late_ignored.mkv", partial(one, "matroska", "flac", video_s=6, start_s=1.5), 4, "late audio, audio.gaps: ignore", 0.05,
          audio={"gaps": "ignore"}, quiet=frozenset())  # fmt: skip
TIME.used(
    "slightly_late.mkv",
    partial(one, "matroska", "flac", video_s=5, start_s=0.06),
    4,
    "60 ms late is not late",
    0.08,
    shift_s=0.1,
)
TIME.used(
    "early.mkv",
    lambda: mux("matroska", [Track("flac", signal(4, 16000), 16000)], video_s=4),
    4,
    "audio and picture begin together",
    0.02,
)
TIME.used("alone.mka", lambda: flac_in_mka(start_s=2.0, seconds=4), 4, "audio alone that begins at 2 s: nothing is earlier", 0.05,
          also=((6.0, (Part(2, 4),)),), quiet=frozenset(), debatable="the container's clock begins at 0, its earliest stream at 2 s")  # fmt: skip
TIME.hole(
    "hole.mka",
    lambda: flac_in_mka(drop=((2, 3),)),
    6,
    _HOLE,
    "FLAC in Matroska, 1 s of packets missing",
    0.3,
    loose_s=0.35,
)
TIME.hole("hole_aac.mkv", lambda: one("matroska", "aac", 6, video_s=6, drop=((2, 3),)), 6, _HOLE, "AAC in Matroska beside a picture, 1 s missing",
          shift_s=0.08)  # fmt: skip
TIME.hole("hole.webm", lambda: one("webm", "libopus", 6, 48000, drop=((2, 3),)), 6, _HOLE, "Opus in WebM, 1 s missing", loose_s=0.15,
          debatable="Opus DTX leaves packets out as well; silence in its place is right for both")  # fmt: skip
TIME.hole("hole.mp4", lambda: one("mp4", "aac", 6, drop=((2, 3),)), 6, _HOLE, "AAC in MP4, 1 s missing", shift_s=0.08)
TIME.hole(
    "hole_mp3.mka",
    lambda: one("matroska", "libmp3lame", 6, drop=((2, 3),)),
    6,
    _HOLE,
    "MP3 in Matroska, 1 s missing",
    shift_s=0.08,
)
TIME.hole("two_holes.mka", lambda: one("matroska", "aac", 8, drop=((1, 2), (5, 5.5))), 8, (Part(0, 1), Part(2, 3, 2), Part(5.5, 2.5, 5.5)),
          "two holes", shift_s=0.08)  # fmt: skip
TIME.hole("hole_late.mkv", lambda: one("matroska", "aac", 6, video_s=8, start_s=1.5, drop=((3.5, 4.5),)), 7.5, (Part(1.5, 2), Part(4.5, 3, 3)),
          "late and with a hole", shift_s=0.08)  # fmt: skip
TIME.rejected("hole_refused.mka", lambda: one("matroska", "aac", 6, drop=((2, 3),)), "timeline_gap", "a hole, audio.gaps: reject",
              audio={"gaps": "reject"})  # fmt: skip
TIME.rejected(
    "hole_refused.ogg",
    lambda: _lost_ogg(),
    "timeline_gap",
    "a hole in Ogg, audio.gaps: reject",
    audio={"gaps": "reject"},
)
TIME.used("hole_ignored.mka", lambda: one("matroska", "aac", 6, drop=((2, 3),)), 5, "a hole, audio.gaps: ignore", 0.1, shift_s=0.08, loose_s=0.12,
          parts=(Part(0, 2), Part(2, 3, 3)), audio={"gaps": "ignore"}, quiet=frozenset())  # fmt: skip
TIME.used("small_gap.mka", lambda: one("matroska", "aac", 6, drop=((2, 2.02),)), 6, "one packet missing: 23 ms", 0.1, shift_s=0.08, loose_s=0.1,
          quiet=frozenset())  # fmt: skip
TIME.used(
    "rounded.mka", lambda: one("matroska", "aac", 20, 22050), 20, "times rounded to ms: no holes", 0.1, shift_s=0.1
)


def _lost_ogg() -> bytes:
    from odd_ogg import V8, without

    return without(V8, 6, 10)


# Tracks and channels.

_SECOND = {"parts": (Part(0, 4, first_tone=5),), "shift_s": 0.08}
_TOLD = {"tolerance_s": 0.1, "remarks": frozenset({"several_tracks"})}
NO, YES = {"default": False}, {"default": True}
GER, ENG = {"language": "ger"}, {"language": "eng"}

TRACKS.used(
    "second_default.mka", two("matroska", "flac", NO, YES), 4, "the second track is the default", **_TOLD, **_SECOND
)
TRACKS.used(
    "second_default.mkv",
    two("matroska", "aac", NO, YES, video_s=4),
    4,
    "the second track is the default, with a picture",
    **_TOLD,
    **_SECOND,
)
TRACKS.used(
    "second_default.mp4",
    two("mp4", "aac", NO, YES, 44100),
    4,
    "MP4: the second track is enabled, the first is not",
    **_TOLD,
    **_SECOND,
)
TRACKS.used("first_default.mka", two("matroska", "flac", YES, NO), 4, "the first track is the default", **_TOLD)
TRACKS.used("no_default.mka", two("matroska", "flac", NO, NO), 4, "no track is the default: the first", **_TOLD)
TRACKS.used("take_first.mka", two("matroska", "flac", NO, YES), 4, "track: first", **_TOLD, audio={"track": "first"})
TRACKS.used(
    "take_first_source.mka",
    two("matroska", "flac", NO, YES),
    4,
    "sources[].track: first",
    **_TOLD,
    source={"track": "first"},
)
TRACKS.used("take_english.mka", two("matroska", "flac", {**GER, **YES}, {**ENG, **NO}), 4, "track by language", **_TOLD, **_SECOND,
            audio={"track": {"language": "eng"}})  # fmt: skip
TRACKS.used(
    "take_german.mp4",
    two("mp4", "aac", ENG, GER, 44100),
    4,
    "track by language in MP4",
    **_TOLD,
    **_SECOND,
    audio={"track": {"language": "ger"}},
)
TRACKS.rejected(
    "no_french.mka",
    two("matroska", "flac", GER, ENG),
    "track_missing",
    "a language that no track has",
    audio={"track": {"language": "fre"}},
)


for _kind, _codec, _name in (
    ("matroska", "libopus", "eight.mka"),
    ("ipod", "aac", "eight.m4a"),
    ("wv", "wavpack", "eight.wv"),
):
    TRACKS.used(_name, lambda kind=_kind, codec=_codec: mux(kind, Track(codec, np.repeat(signal(3, 48000), 8, 1), 48000)), 3,
                "eight channels", 0.05)  # fmt: skip


def _pause() -> Track:
    """Return Opus whose encoder announces silence from 2.5 to 4.5 s, and that has no packets from 3 to 4.3 s."""
    y = signal(7, 48000)
    y[round(2.5 * 48000) : round(4.5 * 48000)] = 0
    return Track("libopus", y, 48000, bit_rate=24000, options={"dtx": "1", "application": "voip"}, drop=((3.0, 4.3),))


for _gaps in ("fill", "reject"):
    TIME.used(f"dtx_{_gaps}.mka", lambda: mux("matroska", _pause()), 7, "Opus DTX without packets is silence, not damage", 0.05,
              parts=(Part(0, 2.5), Part(4.5, 2.5, 4.5)), loose_s=0.15, audio={"gaps": _gaps})  # fmt: skip


TRACKS.rejected(
    "no_ninth.mka", two("matroska", "flac"), "track_missing", "a track that is not there", audio={"track": 9}
)
TRACKS.used("rates.mka", lambda: mux("matroska", [Track("flac", signal(4, 16000), 16000),
            Track("flac", signal(4, 44100, 2, first_tone=5), 44100, default=False)]), 4,
            "a second track that has more channels; neither is marked: ffmpeg takes that one", parts=(Part(0, 4, first_tone=5),),
            **_TOLD)  # fmt: skip


def _stereo(kind: str = "WAV") -> bytes:
    left, right = signal(4, 16000), signal(4, 16000, first_tone=5)
    return soundfile(np.concatenate([left, right], 1), 16000, kind)


def _antiphase() -> bytes:
    y = signal(4, 16000)
    return soundfile(np.concatenate([y, -y], 1), 16000, "WAV")


TRACKS.used("left.wav", _stereo, 4, "channels: left", 0.0005, audio={"channels": "left"})
TRACKS.used(
    "right.wav", _stereo, 4, "channels: right", 0.0005, audio={"channels": "right"}, parts=(Part(0, 4, first_tone=5),)
)
TRACKS.used("right_source.flac", partial(_stereo, "FLAC"), 4, "sources[].channels: right", 0.0005, source={"channels": "right"},
            parts=(Part(0, 4, first_tone=5),))  # fmt: skip
TRACKS.used("each.wav", _stereo, 4, "channels: each", 0.0005, audio={"channels": "each"}, n_clips=2)
TRACKS.rejected("no_right.wav", lambda: soundfile(signal(4, 16000), 16000, "WAV"), "channel_missing", "right of a mono recording",
                audio={"channels": "right"}, debatable="mono may stand for both")  # fmt: skip
TRACKS.used("antiphase.wav", _antiphase, 4, "the mix is silent", 0.0005, parts=(), remarks=frozenset({"antiphase"}))
