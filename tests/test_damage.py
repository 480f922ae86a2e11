"""Damage is told whatever the configuration keeps, and wherever in a container it is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import tone
from odd_mpeg import mp3
from odd_signal import Track, mux, signal
from test_readers import decode

from clipmill.stages.decode.containers import inspect
from clipmill.stages.decode.containers.matroska import _element
from clipmill.stages.decode.containers.structure import Window


def written(kind: str, subtype: str | None = None) -> bytes:
    sink = io.BytesIO()
    noisy = tone(6.0, 16000) + 0.05 * np.random.default_rng(3).standard_normal((96000, 1))
    with sf.SoundFile(sink, "w", 16000, 1, format=kind, subtype=subtype) as file:
        for block in np.array_split(noisy, 12):
            file.write(block)
    return sink.getvalue()


def zeroed(content: bytes, share: float = 0.5, n: int = 4000) -> bytes:
    at = round(len(content) * share)
    return content[:at] + bytes(n) + content[at + n :]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.flac", lambda: written("FLAC")),
        ("a.mp3", lambda: mp3(6)),
        ("a.wma", lambda: mux("asf", Track("wmav2", signal(6, 44100), 44100, bit_rate=64000))),
        ("a.m4a", lambda: mux("ipod", Track("aac", signal(6, 44100), 44100))),
        ("a.mka", lambda: mux("matroska", Track("flac", signal(6, 44100), 44100))),
        ("a.wv", lambda: mux("wv", Track("wavpack", signal(6, 16000), 16000))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_keeping_what_is_truncated_hides_no_damage(name: str, make: object, tmp_path: Path) -> None:
    content = make()  # type: ignore[operator]
    (tmp_path / name).write_bytes(content)
    assert decode(tmp_path / name, truncated="keep").reason is None
    (tmp_path / name).write_bytes(zeroed(content))
    strict, lenient = decode(tmp_path / name), decode(tmp_path / name, truncated="keep")
    if strict.reason is None:  # a clock says where the hole is, and silence stands in it
        assert len(lenient.samples) == len(strict.samples)
    else:
        assert lenient.reason == strict.reason == "corrupt"


@pytest.fixture(scope="module", params=[{}, {"live": "1"}], ids=["sizes", "live"])
def matroska(request: pytest.FixtureRequest) -> bytes:
    """A file whose clusters have sizes, and one as it is written to a stream, with sizes and duration left open."""
    return mux("matroska", Track("flac", signal(5, 16000), 16000), {"cluster_time_limit": "1000", **request.param}, 5.0)


def headers(content: bytes) -> list[int]:
    """Return where the elements begin, down to the blocks."""
    window, position, found = Window(io.BytesIO(content), len(content)), 0, []
    while position < len(content):
        element = _element(window, position)
        assert element is not None
        name, start, length = element
        found.append(position)
        position = start if name in (0x18538067, 0x1F43B675) or length is None else start + length
    return found


def test_a_whole_matroska_file_is_told_of_nothing(matroska: bytes) -> None:
    found = inspect(io.BytesIO(matroska), len(matroska))
    assert (found.kind, found.fault, found.truncated, found.remarks) == ("matroska", None, None, ())


def test_no_element_goes_without_a_word(matroska: bytes) -> None:
    places = headers(matroska)
    assert len(places) > 20
    for at in places[1:]:  # the first is that by which the kind is known
        broken = matroska[:at] + b"\0" * 2 + matroska[at + 2 :]
        found = inspect(io.BytesIO(broken), len(broken))
        assert found.fault or found.truncated or found.remarks, at
