"""Codec: encode and decode copies, so that they sound as files and calls do."""

from __future__ import annotations

import io
from typing import NamedTuple, cast

import av
import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.augment_config import Codec
from clipmill.stages.effects.effect import Drawn, Effect, Noises, uniform
from clipmill.stages.effects.speed import resampled


class _Kind(NamedTuple):
    """Describe a codec: FFmpeg's name, the container, sample rates, and the delay in samples that the container does not know."""

    encoder: str
    container: str
    rates_hz: tuple[int, ...]
    has_bit_rate: bool = True
    channels: int = 2
    bit_rate: int = 0
    delay: int = 0


_KINDS = {
    "mp3": _Kind("libmp3lame", "mp3", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "opus": _Kind("libopus", "ogg", (48000,)),
    "aac": _Kind("aac", "mp4", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "mulaw": _Kind("pcm_mulaw", "wav", (8000,), False),
    "alaw": _Kind("pcm_alaw", "wav", (8000,), False),
    "amr": _Kind("libopencore_amrnb", "amr", (8000,), False, 1, 12_200, 40),
}
_LAYOUTS = {1: "mono", 2: "stereo"}


def draw(rng: np.random.Generator, settings: Codec, noises: Noises) -> Drawn:
    """Draw the codec, and the bit rate where there is a choice."""
    name = settings.name[int(rng.integers(len(settings.name)))]
    rate = round(uniform(rng, settings.bit_rate_kbps))
    return {"name": name, **({"bit_rate_kbps": rate} if _KINDS[name].has_bit_rate else {})}


def apply(y: npt.NDArray[np.float32], sample_rate_hz: int, drawn: Drawn, noises: Noises) -> npt.NDArray[np.float32]:
    """Return what is decoded of the encoded samples, aligned with them and of their length. Channels are coded in pairs."""
    kind = _KINDS[drawn["name"]]
    rate_hz = min(kind.rates_hz, key=lambda rate: (rate < sample_rate_hz, abs(rate - sample_rate_hz)))
    x = (
        y
        if rate_hz == sample_rate_hz
        else resampled(y, sample_rate_hz / rate_hz, max(1, round(y.shape[1] * rate_hz / sample_rate_hz)))
    )
    bit_rate = drawn.get("bit_rate_kbps", 0) * 1000 or kind.bit_rate
    parts = [_coded(x[i : i + kind.channels], rate_hz, kind, bit_rate) for i in range(0, x.shape[0], kind.channels)]
    out = np.concatenate(parts)
    return out if rate_hz == sample_rate_hz else resampled(out, rate_hz / sample_rate_hz, y.shape[1])


def _coded(x: npt.NDArray[np.float32], rate_hz: int, kind: _Kind, bit_rate: int) -> npt.NDArray[np.float32]:
    """Return what is decoded of one or two channels: float32 [channels, samples]."""
    content = io.BytesIO()
    with av.open(content, "w", format=kind.container) as file:
        stream = cast(av.AudioStream, file.add_stream(kind.encoder, rate=rate_hz))
        context = stream.codec_context
        context.layout, context.thread_count = _LAYOUTS[x.shape[0]], 1
        if bit_rate:
            context.bit_rate = bit_rate
        context.open()
        resampler = av.AudioResampler(context.format, context.layout, rate_hz, context.frame_size or None)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.clip(x, -1, 1)), format="fltp", layout=_LAYOUTS[x.shape[0]]
        )
        frame.sample_rate, frame.pts = rate_hz, 0
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    content.seek(0)
    decoded: list[npt.NDArray[np.float32]] = []
    with av.open(content, "r") as file:
        stream = file.streams.audio[0]
        stream.codec_context.thread_count = 1
        back = av.AudioResampler("fltp", _LAYOUTS[x.shape[0]], rate_hz)
        for frame in file.decode(stream):
            frame.pts = None
            decoded += [part.to_ndarray().astype(np.float32, copy=False) for part in back.resample(frame)]
        decoded += [part.to_ndarray().astype(np.float32, copy=False) for part in back.resample(None)]
    out = np.concatenate([np.zeros((x.shape[0], 0), np.float32), *decoded], axis=1)[
        :, kind.delay : kind.delay + x.shape[1]
    ]
    return np.pad(out, ((0, 0), (0, x.shape[1] - out.shape[1])))


EFFECT = Effect("codec", draw, apply, libraries=("av", "soxr"))
