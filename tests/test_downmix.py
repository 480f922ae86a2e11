"""Mixes of channels, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_segment import chunk_of

from clipmill.stages.downmix import Downmix, mono


@pytest.mark.parametrize("channels", [2, 3, 25])
def test_a_run_is_mixed_as_a_whole_to_the_last_bit(channels: int) -> None:
    y = np.random.default_rng(0).uniform(-1, 1, (150_000, channels)).astype(np.float32)
    mixed = Downmix()(chunk_of(y, n_channels=channels, lead=882, core_frames=140_000))
    assert (mixed["samples"].chunk(0).values.to_numpy() == mono(y)).all()


def test_a_mix_of_some_is_the_mix_of_a_file_of_these() -> None:
    y = np.random.default_rng(0).uniform(-1, 1, (200_001, 6)).astype(np.float32)
    some = Downmix([1, 4, 5])(chunk_of(y, n_channels=6, lead=882, core_frames=190_000))
    these = Downmix()(chunk_of(np.ascontiguousarray(y[:, [1, 4, 5]]), n_channels=3, lead=882, core_frames=190_000))
    assert some.equals(these) and some["n_channels"].to_pylist() == [1]
    assert math.isclose(float(some["samples"][0].as_py()[7]), float(y[7, [1, 4, 5]].mean()), rel_tol=1e-6)
