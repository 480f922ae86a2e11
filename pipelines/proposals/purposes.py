"""What is usual for a purpose: sample rate, length of windows, features and stages."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipelines.proposals.commented_yaml import Instead, Part
from clipmill.pipelines.proposals.header_facts import Headers, seconds_text
from clipmill.schemas.plural import counted

GENERAL = "general"
_FEW = 0.1
_LEAST_FILLED, _MANY_THIN = 0.1, 0.5
"""Share of a window that what remains of a recording should fill; and share of thinner remainders from which on all are dropped."""
_STANDARD_HZ = (48000, 44100, 32000, 24000, 22050, 16000, 11025, 8000)


@dataclass(frozen=True)
class Purpose:
    """What is usual for a purpose.

    rate_hz : sample rate
    frame_s, hop_s, n_mels : of the log-mel
    longest_s : recordings that are longer are cut, into windows of `window_s`, or by `cut`
    wants_text : whether transcripts count, rather than labels
    more : further keys of log_mel
    """

    name: str
    about: str
    rate_hz: int
    frame_s: float
    hop_s: float
    n_mels: int
    longest_s: float
    cut: dict[str, Any]
    wants_text: bool = False
    has_mfcc: bool = False
    has_images: bool = False
    more: dict[str, Any] = field(default_factory=dict)


_SPEECH = {"mode": "speech", "min_s": 1.0, "max_s": 20.0}
PURPOSES = {
    one.name: one
    for one in (
        Purpose(GENERAL, "no purpose was given", 16000, 0.064, 0.010, 80, 15, {"mode": "window", "length_s": 5.0}, has_mfcc=True),
        Purpose("asr", "recognition of speech", 16000, 0.025, 0.010, 80, 30, _SPEECH, wants_text=True),
        Purpose(
            "tts", "synthesis of speech", 22050, 0.04644, 0.01161, 80, 20, {"mode": "speech", "min_s": 1.0, "max_s": 12.0},
            wants_text=True, more={"fmin": 0.0, "power": 1, "top_db": None},
        ),
        Purpose(
            "sound-events", "detection of sounds", 32000, 0.032, 0.010, 64, 15, {"mode": "window", "length_s": 10.0, "tail": "pad_zero"},
        ),
        Purpose("emotion", "recognition of emotions in speech", 16000, 0.025, 0.010, 80, 20, _SPEECH, has_mfcc=True),
        Purpose(
            "birds", "recognition of animals", 32000, 0.064, 0.016, 128, 5, {"mode": "window", "length_s": 5.0, "tail": "pad_zero"},
        ),
        Purpose(
            "pictures", "pictures for image models", 22050, 0.0929, 0.0232, 128, 10,
            {"mode": "window", "length_s": 5.0, "tail": "pad_zero"}, has_images=True,
        ),
    )
}  # fmt: skip


def choose_rate(purpose: Purpose, headers: Headers) -> int:
    """Return the sample rate: what is usual for the purpose, or the next lower standard rate that nearly all recordings reach."""
    rates = headers.rates_hz
    total = sum(rates.values())
    if not total:
        return purpose.rate_hz

    def below(rate_hz: int) -> float:
        return sum(n for rate, n in rates.items() if rate < rate_hz) / total

    common = rates.most_common(1)[0][0]
    fitting = [
        rate for rate in (purpose.rate_hz, common, *_STANDARD_HZ) if rate <= purpose.rate_hz and below(rate) <= _FEW
    ]
    return max(fitting) if fitting else max(1000, min(rates))


def audio_part(purpose: Purpose, headers: Headers, rate_hz: int) -> Part:
    """Return the section `audio` with what speaks for it."""
    rates = headers.rates_hz
    total = sum(rates.values())
    lower = sum(n for rate, n in rates.items() if rate < rate_hz)
    aim = "" if purpose.name == "general" else f" for {purpose.name}"
    because = [
        f"{rate_hz:,} Hz is usual{aim}" if rate_hz == purpose.rate_hz
        else f"{purpose.rate_hz:,} Hz would be usual{aim}, but more than a tenth of the recordings have less; {rate_hz:,} Hz"
        " invents nothing for most of them"
    ]  # fmt: skip
    if lower:
        because.append(
            f"{lower:,} of {total:,} recordings have less and are resampled upwards: their upper frequencies stay empty"
        )
    instead = []
    common = rates.most_common(1)[0][0] if rates else rate_hz
    if common > rate_hz:
        instead.append(
            Instead(
                f"or, to keep all that most recordings have, {common:,} Hz",
                {"sample_rate_hz": common, "channels": "mono"},
            )
        )
    if any(n > 1 for n in headers.channels):
        because.append("several channels are mixed to one")
        instead.append(Instead("or a clip for each channel", {"sample_rate_hz": rate_hz, "channels": "each"}))
    return Part("audio", {"sample_rate_hz": rate_hz, "channels": "mono"}, because, instead)


def features_part(purpose: Purpose, rate_hz: int) -> Part:
    """Return the section `features`: frames of the purpose's lengths, and as many bands as the frames can tell apart."""
    n_fft = _power_of_two(purpose.frame_s * rate_hz) if purpose.frame_s > 0.03 else round(purpose.frame_s * rate_hz)
    n_fft = max(64, n_fft)
    hop = max(16, round(purpose.hop_s * rate_hz))
    mel: dict[str, Any] = {
        "n_fft": n_fft,
        "hop_length": hop,
        "n_mels": max(8, min(purpose.n_mels, n_fft // 5)),
        **purpose.more,
    }
    if purpose.name == "tts":
        mel["fmax"] = min(8000.0, rate_hz / 2)
    features: dict[str, Any] = {"log_mel": mel}
    if purpose.has_mfcc:
        features["mfcc"] = {"n_mfcc": min(20, mel["n_mels"])}
    because = [
        f"log-mel for {purpose.name} ({purpose.about}): frames of {n_fft / rate_hz * 1000:.0f} ms every {hop / rate_hz * 1000:.1f} ms; see"
        " docs/features.md"
    ]
    more = {**features, "mfcc": {"n_mfcc": 20}} if not purpose.has_mfcc else {"log_mel": mel}
    why = "or with MFCC as well" if not purpose.has_mfcc else "or without MFCC"
    return Part("features", features, because, [Instead(why, more)])


def segment_part(purpose: Purpose, headers: Headers, rows_cut: bool, has_text: bool, longest_row_s: float) -> Part:
    """Return how recordings are cut.

    rows_cut : whether annotation rows have times; has_text : whether clips have transcripts, which cannot be cut
    """
    longest = headers.seconds[-1] if headers.lengths else 0.0
    usual = headers.quantile_s(0.9)
    windows = dict(purpose.cut)
    if rows_cut:
        value: dict[str, Any] = {"mode": "annotation"}
        because = ["each annotated range is a clip"]
        if longest_row_s > 600:
            value["max_clip_s"] = min(3600.0, float(round(longest_row_s + 1)))
            because.append(f"the longest range looked at has {seconds_text(longest_row_s)}")
        return Part("segment", value, because, [])
    whole: dict[str, Any] = {"mode": "whole"}
    if usual <= purpose.longest_s or has_text:
        because = [f"nine of ten recordings have at most {seconds_text(usual)}, so each is a clip"]
        if has_text:
            because = ["a transcript is of a whole recording, so each is a clip"]
        if longest > 600:
            whole["max_clip_s"] = min(3600.0, float(round(longest * 1.1 + 1)))
            because.append(
                f"the longest recording looked at has {seconds_text(longest)}; longer ones than max_clip_s are rejected"
            )
        fixed = {"mode": "fixed", "length_s": max(0.5, round(usual, 1)), "pad": "zero"}
        others = [
            Instead("or clips of one length, which most models want", fixed),
            Instead("or pieces of recordings", windows),
        ]
        return Part("segment", whole, because, [] if has_text else others)
    n_longer = sum(seconds > purpose.longest_s for seconds in headers.seconds)
    because = [
        f"{n_longer:,} of {counted(len(headers.seconds), 'recording')} looked at {'has' if n_longer == 1 else 'have'} more than"
        f" {seconds_text(purpose.longest_s)}, the longest {seconds_text(longest)}, so they are cut"
        + (" around speech" if windows["mode"] == "speech" else " into windows")
    ]
    instead = [Instead("or whole recordings, as far as they fit into memory", {"mode": "whole", "max_clip_s": 3600.0})]
    if windows["mode"] == "window":
        instead = [*_set_tail(windows, headers, because), *instead]
    return Part("segment", windows, because, instead)


def _set_tail(windows: dict[str, Any], headers: Headers, because: list[str]) -> list[Instead]:
    """Set what becomes of remainders shorter than a window, and return alternatives: padded they would be nearly all silence."""
    length_s = float(windows["length_s"])
    can_drop = headers.quantile_s(0.02) >= length_s
    windows.setdefault("tail", "drop" if can_drop else "pad_zero")
    if windows["tail"] == "drop":
        return []
    rests_s = [seconds % length_s for seconds in headers.seconds if seconds >= length_s]
    thin_s = sorted(rest_s for rest_s in rests_s if 0 < rest_s < _LEAST_FILLED * length_s)
    if len(thin_s) < max(1, _MANY_THIN * sum(rest_s > 0 for rest_s in rests_s)):
        return []
    told = (
        f"in {counted(len(thin_s), 'recording')} of {len(rests_s):,} what remains after the last whole window fills less than"
        f" {_LEAST_FILLED:.0%} of one, such as {seconds_text(thin_s[len(thin_s) // 2])}"
    )
    padded = dict(windows)
    if can_drop:
        windows["tail"] = "drop"
        because.append(f"{told}, so remainders are dropped")
        return [Instead("or remainders as clips that are padded with silence", padded)]
    because.append(f"{told}; remainders are kept for the recordings that are shorter than a window")
    return [Instead("or without remainders, and without recordings shorter than a window", {**windows, "tail": "drop"})]


def _power_of_two(value: float) -> int:
    return int(2 ** max(6, round(math.log2(value))))
