"""Build the recordings of `odd_audio`: the signal (noise, then one tone per second), cases with their right outcome, and encoders.

Second k of the signal, from 0.5 s on, has 300 + 100 k Hz at about -15 dBFS, so a loss, a shift or a wrong track shows in
the spectrum. The half second of noise before it is for encoders that estimate a bit rate from the beginning.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile as sf

NOISE_S, PEAK = 0.5, 0.25
N_TONES = 42


@dataclass(frozen=True)
class Part:
    """A piece of the signal in the output: from `at_s` on, for `seconds`, the output is the signal from `from_s` on.

    first_tone : of the signal, which begins with 300 + 100 * first_tone Hz
    """

    at_s: float
    seconds: float
    from_s: float = 0.0
    first_tone: int = 0

    def label(self, t: float) -> int:
        """Return the tone at a time of the output, -1 for the noise before it."""
        s = t - self.at_s + self.from_s
        return -1 if s < NOISE_S else int(s - NOISE_S) + self.first_tone


@dataclass(frozen=True)
class Case:
    """One recording and its right outcome.

    name : of the file; kind : of container or of trouble; make : returns its bytes
    outcome : used | rejected | used or rejected | hole told
    what : description of the case
    seconds, tolerance_s : length of the output, if it is used
    parts : where the output has the signal; it is silent elsewhere. Empty: not checked
    reasons : right reasons, if it is rejected
    remarks : at least one of these is required if it is used
    enough : with one of these remarks a partial output is not a silent loss
    shift_s : by how much the signal may be shifted; loose_s : distance from seams and damage within which nothing is checked
    also : other right lengths and parts
    quiet : remarks that would be wrong
    says : text that the detail of a rejection must contain
    n_clips : number of clips
    audio, source : keys of the configuration
    debatable : why others might judge differently
    """

    name: str
    kind: str
    make: Callable[[], bytes]
    outcome: str
    what: str
    seconds: float = 0.0
    tolerance_s: float = 0.05
    parts: tuple[Part, ...] = ()
    reasons: frozenset[str] = frozenset()
    remarks: frozenset[str] = frozenset()
    enough: frozenset[str] = frozenset()
    shift_s: float = 0.045
    loose_s: float = 0.0
    also: tuple[tuple[float, tuple[Part, ...]], ...] = ()
    quiet: frozenset[str] = frozenset()
    says: str = ""
    n_clips: int = 1
    audio: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    debatable: str = ""


class Cases:
    """Collects the cases of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.all: list[Case] = []

    def used(
        self, name: str, make: Callable[[], bytes], seconds: float, what: str, tolerance_s: float = 0.05, **more: Any
    ) -> None:
        """Add a recording that must be used."""
        more.setdefault("parts", (Part(0.0, seconds),))
        more.setdefault("quiet", frozenset({"timeline_gap", "late_start"}) - more.get("remarks", frozenset()))
        self.all.append(Case(name, self.kind, make, "used", what, seconds, tolerance_s, **more))

    def rejected(self, name: str, make: Callable[[], bytes], reasons: str, what: str, **more: Any) -> None:
        """Add a recording that must be rejected. reasons : right codes, separated by spaces"""
        self.all.append(Case(name, self.kind, make, "rejected", what, reasons=frozenset(reasons.split()), **more))

    def either(
        self,
        name: str,
        make: Callable[[], bytes],
        seconds: float,
        reasons: str,
        what: str,
        tolerance_s: float = 0.05,
        **more: Any,
    ) -> None:
        """Add a recording that may be used or rejected. reasons : right codes, separated by spaces"""
        more.setdefault("parts", (Part(0.0, seconds),))
        right = frozenset(reasons.split())
        self.all.append(
            Case(name, self.kind, make, "used or rejected", what, seconds, tolerance_s, reasons=right, **more)
        )

    def hole(
        self,
        name: str,
        make: Callable[[], bytes],
        seconds: float,
        parts: Sequence[Part],
        what: str,
        tolerance_s: float = 0.1,
        **more: Any,
    ) -> None:
        """Add a recording with a hole, which must be reported whether it is used or rejected."""
        more.setdefault("reasons", frozenset({"timeline_gap", "corrupt"}))
        more.setdefault("remarks", frozenset({"timeline_gap"}))
        more.setdefault("loose_s", 0.12)
        self.all.append(
            Case(name, self.kind, make, "hole told", what, seconds, tolerance_s, parts=tuple(parts), **more)
        )


def signal(
    seconds: float, rate: int, channels: int = 1, from_s: float = 0.0, first_tone: int = 0
) -> npt.NDArray[np.float32]:
    """Return the signal from `from_s` on, float32 [frames, channels]."""
    n = round((from_s + seconds) * rate)
    t = np.arange(n) / rate
    hz = 300 + 100 * (np.maximum(np.floor(t - NOISE_S), 0) + first_tone)
    y = PEAK * np.sin(2 * np.pi * hz * t)
    head = t < NOISE_S
    y[head] = 0.22 * np.random.default_rng(5).standard_normal(int(head.sum()))
    return np.repeat(y[round(from_s * rate) :, None], channels, 1).astype(np.float32)


def pcm16(y: npt.NDArray[np.float32]) -> bytes:
    return np.rint(y * 32767).clip(-32768, 32767).astype("<i2").tobytes()


def pcm24(y: npt.NDArray[np.float32]) -> bytes:
    wide = np.rint(y.reshape(-1) * 8388607).astype("<i4")
    return wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def pcm8(y: npt.NDArray[np.float32]) -> bytes:
    return (np.rint(y * 127) + 128).clip(0, 255).astype(np.uint8).tobytes()


def soundfile(y: npt.NDArray[np.float32], rate: int, kind: str, subtype: str | None = None, **more: Any) -> bytes:
    """Encode with libsndfile, in blocks, since its Vorbis encoder crashes on one long write."""
    sink = io.BytesIO()
    with sf.SoundFile(sink, "w", rate, y.shape[1], format=kind, subtype=subtype, **more) as file:
        for k in range(0, len(y), 16384):
            file.write(y[k : k + 16384])
    return sink.getvalue()


@dataclass(frozen=True)
class Track:
    """An audio track to mux.

    y : float32 [frames, channels]
    start_s : time of its first sample in the container
    drop : ranges in seconds; packets that start in them are left out
    """

    codec: str
    y: npt.NDArray[np.float32]
    rate: int
    start_s: float = 0.0
    drop: tuple[tuple[float, float], ...] = ()
    bit_rate: int | None = None
    language: str = ""
    default: bool | None = None
    options: Mapping[str, str] = field(default_factory=dict)


LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def mux(
    kind: str,
    tracks: Sequence[Track] | Track,
    options: Mapping[str, str] | None = None,
    video_s: float = 0.0,
    video_codec: str = "mpeg4",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode tracks with FFmpeg into one container. With `video_s` the first track is a grey picture of that length."""
    tracks = [tracks] if isinstance(tracks, Track) else tracks
    sink = io.BytesIO()
    with av.open(sink, "w", format=kind, options=dict(options or {})) as container:
        container.metadata.update(metadata or {})
        packets: list[tuple[float, Any]] = []
        streams: list[Any] = []
        if video_s:
            picture: Any = container.add_stream(video_codec, rate=5)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
            streams.append(picture)
        for track in tracks:
            stream: Any = container.add_stream(
                track.codec, rate=track.rate, layout=LAYOUTS[track.y.shape[1]], options=dict(track.options)
            )
            if track.bit_rate:
                stream.bit_rate = track.bit_rate
            if track.language:
                stream.metadata["language"] = track.language
            if track.default is not None:
                stream.disposition = av.stream.Disposition.default if track.default else av.stream.Disposition(0)
            streams.append(stream)
        if video_s:
            picture = streams[0]
            for i in range(round(video_s * 5)):
                frame = av.VideoFrame.from_ndarray(np.full((96, 64), 100, np.uint8), format="yuv420p")
                frame.pts, frame.time_base = i, Fraction(1, 5)
                packets += [(_at(p), p) for p in picture.encode(frame)]
            packets += [(_at(p), p) for p in picture.encode(None)]
        for track, stream in zip(tracks, streams[1 if video_s else 0 :], strict=True):
            for packet in encode_track(stream, track):
                at = _at(packet)
                if not any(a <= at < b for a, b in track.drop):
                    packets.append((at, packet))
        for _, packet in sorted(packets, key=lambda p: p[0]):
            container.mux(packet)
    return sink.getvalue()


def _at(packet: Any) -> float:
    when = packet.dts if packet.dts is not None else packet.pts or 0
    return float(when * packet.time_base)


def encode_track(stream: Any, track: Track) -> list[Any]:
    """Return the packets of a track."""
    packets = []
    step = 4096 * 4
    for k in range(0, len(track.y), step):
        block = track.y[k : k + step]
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block.reshape(1, -1)), format="flt", layout=LAYOUTS[track.y.shape[1]]
        )
        frame.sample_rate, frame.pts = track.rate, k + round(track.start_s * track.rate)
        frame.time_base = Fraction(1, track.rate)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]
