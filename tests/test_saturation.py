"""How much of the clips is at full scale is counted before they are rounded, told by source, and can be limited."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import build_here, shard_hashes, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from old_format import unseal

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.dataset.records_io import read_snapshot
from clipmill.pipelines.run.limits import find_exceeded_limits
from clipmill.schemas.config import Segment
from clipmill.schemas.config.limits_config import Limits
from clipmill.schemas.records import Commit
from clipmill.schemas.statistics import Saturation, Statistics, sum_saturation
from clipmill.schemas.tables import CHUNKS
from clipmill.stages.arrow_rows import RowBuffer
from clipmill.stages.segment import Segment as Cut
from clipmill.stages.segment import SegmentSource
from clipmill.stages.storage.root import Root

pytestmark = pytest.mark.usefixtures("in_process")
RATE = 16000  # that of the build, so that resampling changes nothing
BELOW, FULL = 32766 / 32768, 32767 / 32768


def sine(seconds: float, peak: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return peak * np.sin(2 * np.pi * 220 * t)[:, None]


def clipped(seconds: float, gain: float) -> np.ndarray:
    """A recording that was clipped on purpose: both ends of the scale of 16 bit."""
    return np.clip(np.round(sine(seconds, gain) * 32768), -32768, 32767) / 32768


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def two_sources(tmp_path: Path) -> list[dict[str, Any]]:
    write_audio(tmp_path / "loud/a.wav", clipped(2.0, 3.0), RATE, "PCM_16")
    write_audio(tmp_path / "loud/b.wav", sine(2.0, 0.3), RATE, "PCM_16")
    write_audio(tmp_path / "fine/c.wav", sine(2.0, 0.9), RATE, "PCM_16")
    # Of a dropped clip nothing counts, even where it clicks.
    click = np.zeros((RATE, 1))
    click[100] = -1
    write_audio(tmp_path / "fine/silent.wav", click, RATE, "PCM_16")
    segment = {"mode": "window", "length_s": 0.5}
    return [{"name": n, "root": tmp_path / n, "segment": dict(segment)} for n in ("loud", "fine")]


def test_a_clipped_source_is_told_and_held_back(
    two_sources: list[dict[str, Any]], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    truth = int(np.count_nonzero(np.abs(clipped(2.0, 3.0)) >= FULL))
    assert truth > 0.7 * 2 * RATE
    sums = {"clips": 8, "n_samples": 4 * RATE, "n_saturated": truth, "share": truth / (4 * RATE)}
    more = {"silence": {"min_dbfs": -50}, "limits": {"max_saturated_share": 0.01}}
    config = make_config(two_sources, **more)
    held = run("build", config)
    assert held.exit_code == 3, held.output
    share = truth / (4 * RATE)
    line = f"saturated    loud: {share:.2%} of the samples are at full scale"
    assert line in held.output
    assert "saturated    fine" not in held.output
    assert f"not published: source 'loud': {share:.3%} of the samples are at full scale" in held.output
    assert "limits.max_saturated_share allows 1.000%" in held.output
    machine = json.loads(run("build", config, "--json").output)
    assert [(e["limit"], e["found"], e["allowed"]) for e in machine["limits"]] == [("max_saturated_share", share, 0.01)]
    assert machine["saturation"]["sources"]["loud"] == sums
    assert machine["saturation"]["sources"]["fine"] == {
        "clips": 4 + 1,
        "n_samples": 5 * RATE // 2,
        "n_saturated": 1,
        "share": 2 / 5 / RATE,
    }
    assert machine["saturation"]["clips_unknown"] == 0
    accepted = run("build", config, "--accept")
    assert accepted.exit_code == 0
    assert "accepted: source 'loud'" in accepted.output
    shown = run("show", tmp_path / "out")
    assert line in shown.output
    assert json.loads(run("show", tmp_path / "out", "--json").output)["saturation"] == machine["saturation"]
    more["limits"] = {"max_saturated_share": 1.0}
    assert run("build", make_config(two_sources, **more)).exit_code == 0


def test_sums_are_those_of_the_donor(
    two_sources: list[dict[str, Any]], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    root = Root(str(tmp_path / "out"))
    assert run("build", make_config(two_sources)).exit_code == 0
    first = read_snapshot(root)
    again = json.loads(run("build", make_config(two_sources, features={"log_mel": {}}), "--json").output)
    assert again["shards_from_clips"] == again["shards_built"] > 0
    second = read_snapshot(root)
    assert second.number == 2
    assert second.saturation == first.saturation
    assert second.saturation["loud"].n_saturated > 0


def test_records_without_it_are_unknown_and_stay_as_they_are(
    two_sources: list[dict[str, Any]], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    commits = build_here(make_config(two_sources))
    files = shard_hashes(tmp_path / "out")
    for commit in commits:
        plain = unseal(tmp_path / f"out/commits/{commit.key}.json")
        assert plain["statistics"].pop("saturation")
        unseal(tmp_path / f"out/commits/{commit.key}.json", statistics=plain["statistics"])
        old = Commit.from_json(json.dumps(plain).encode(), "old")
        assert old.statistics.saturation == {}
        assert "saturation" not in json.loads(old.to_json())["statistics"]
    (tmp_path / "out/dataset.json").write_text('{"format_version": 1, "name": "test", "clip_id_bits": 128}')
    done = run("build", make_config(two_sources, limits={"max_saturated_share": 0.0}))
    assert done.exit_code == 0, done.output
    assert "0 built" in done.output
    assert shard_hashes(tmp_path / "out") == files
    unknown = "saturated    unknown for 14 clips, whose shards were built before it was counted"
    advice = "limits.max_saturated_share does not apply to them"
    assert f"{unknown}; {advice}" in done.output
    unchanged = run("build", make_config(two_sources, limits={"max_saturated_share": 0.0}))
    assert "unchanged    nothing to do" in unchanged.output and "saturated" not in unchanged.output
    assert unknown in run("show", tmp_path / "out").output
    told = json.loads(run("show", tmp_path / "out", "--json").output)["saturation"]
    assert told == {"sources": {}, "clips_unknown": 14}


_EDGES = [0.0, 0.5, BELOW, 32766.6 / 32768, FULL, 1.0, 1.5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([s * v for v in _EDGES for s in (1, -1)]), min_size=1, max_size=60),
    st.sampled_from(["int16", "float32"]),
    st.integers(1, 3),
)
def test_it_is_the_exact_count_whatever_the_format(values: list[float], sample_format: str, channels: int) -> None:
    """Also of what is rounded up to full scale and is not there, and of windows that overlap; padding is silent."""
    y = np.repeat(np.array(values, np.float32)[:, None], channels, axis=1)
    spec = Segment(mode="window", length_s=8 / RATE, hop_s=4 / RATE, tail="pad_noise", tail_noise_dbfs=0)
    buffer = RowBuffer(CHUNKS, values_column="samples")
    buffer.add(
        {
            "item_id": "s/r.wav", "recording_id": "s/r.wav", "source": "s", "path": "r.wav", "primary": True, "sample_rate_hz": RATE,
            "n_channels": channels, "start_s": 0, "lead": 0, "core_frames": len(y), "total_frames": len(y), "last": True,
            "cuts": [{"annotation": -1, "first": 0, "last": 100}], "annotations": [], "samples": y.reshape(-1),
        }
    )  # fmt: skip
    clips = [
        row for table in Cut({"s": SegmentSource(spec)}, sample_format)(buffer.table()) for row in table.to_pylist()
    ]
    for row in clips:
        if row["status"] == "clip":
            start = round(row["start_s"] * RATE)
            expected = np.count_nonzero(np.abs(y[start : start + 8].astype(np.float64)) >= FULL)
            assert row["saturated_samples"] == expected
    assert any(row["status"] == "clip" for row in clips)


sums_of_sources = st.dictionaries(
    st.sampled_from("abc"), st.builds(Saturation, st.integers(1, 9), st.integers(1, 99), st.integers(0, 99))
)


@given(st.lists(sums_of_sources, max_size=4))
def test_sums_add_up_in_any_order(parts: list[dict[str, Saturation]]) -> None:
    statistics = [Statistics(saturation=part) for part in parts]
    found = sum_saturation(statistics)
    assert found == sum_saturation(reversed(statistics)) == sum(statistics, Statistics()).saturation
    for source, sums in found.items():
        assert sums.n_saturated == sum(p[source].n_saturated for p in parts if source in p)


def test_only_what_is_over_the_limit_is_an_excess(
    two_sources: list[dict[str, Any]], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    assert run("build", make_config(two_sources)).exit_code == 0
    snapshot = read_snapshot(Root(str(tmp_path / "out")))
    share = snapshot.saturation["loud"].share
    for allowed, expected in ((share, 0), (share - 1e-9, 1), (0.0, 2), (None, 0)):
        assert (
            len(find_exceeded_limits(Limits(max_rejected_share=1, max_saturated_share=allowed), snapshot, None))
            == expected
        )
