"""Measures and thresholds: what is measured and dropped, what a change of them touches, and what readers see."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import run, shard_hashes, write_audio
from hypothesis import given
from hypothesis import strategies as st

import clipmill
from clipmill.pipelines.config_file import loads
from clipmill.schemas.errors import ConfigError
from clipmill.schemas.seal import unsealed
from clipmill.schemas.thresholds import as_thresholds
from clipmill.stages.clipping import FullScale

RATE = 8000
MEASURE = {"measure": ["clipping", "peak", "dc"]}


def recordings(folder: Path) -> None:
    """Nine recordings of 3 s at levels from -60 dBFS up; the last three are clipped, the first of two channels."""
    random = np.random.default_rng(5)
    for i in range(9):
        y = random.standard_normal((3 * RATE, 2 if i == 0 else 1)) * 10 ** ((-60 + 8 * i) / 20)
        ramp = np.linspace(0.2, 1.5, len(y))[:, None]
        write_audio(folder / f"r{i}.wav", np.clip(y * ramp, -1, 32767 / 32768), RATE, "PCM_16")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    recordings(folder)
    return folder


def configured(corpus: Path, root: Path, clips: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "k",
        "sources": [
            {
                "name": "s",
                "root": str(corpus),
                "segment": {"mode": "window", "length_s": 0.5},
                "label": "a",
                "bytes_per_second": 2 * RATE,
                **more.pop("source", {}),
            }
        ],
        "audio": {"sample_rate_hz": RATE},
        "clips": clips,
        "output": {"root": str(root), "shard_seconds": 6},
        **more,
    }


def built(corpus: Path, root: Path, clips: list[Any], **more: Any) -> clipmill.Report:
    return clipmill.build(configured(corpus, root, clips, **more), quiet=True).raise_for_status()


def records(root: Path) -> dict[str, Any]:
    """What the newest snapshot's records say, without what depends on the day and on how the shards came about."""
    published = clipmill.open_dataset(root)
    told = unsealed(published.snapshot.to_json())
    for name in ("created", "number", "parent", "files"):
        told.pop(name)
    told["config"].pop("output")
    tables = {}
    for commit in published.commits:
        for output in commit.outputs:
            small = output.format in ("recordings", "dropped")
            tables[commit.key, output.format] = (
                pq.read_table(root / output.path).to_pylist() if small else output.sha256
            )
    return {**told, "tables": tables, "manifest": published.manifest().to_pylist()}


QUIET = {"peak_dbfs": {"min": -40}}
LOUDER = {"peak_dbfs": {"min": -30}}
CHANGES = {
    "stricter": ([MEASURE, {"keep": QUIET}], [MEASURE, {"keep": LOUDER}], True),
    "looser": ([MEASURE, {"keep": LOUDER}], [MEASURE, {"keep": QUIET}], False),
    "another column": ([MEASURE, {"keep": QUIET}], [MEASURE, {"keep": {**QUIET, "clipped_share": {"max": 0.0}}}], True),
    "the columns in another order": (
        [MEASURE, {"keep": {"clipped_share": {"max": 0.0}, **QUIET}}], [MEASURE, {"keep": {**QUIET, "clipped_share": {"max": 0.0}}}], True,
    ),
    "keep is new": ([MEASURE], [MEASURE, {"keep": QUIET}], True),
    "keep goes": ([MEASURE, {"keep": QUIET}], [MEASURE], False),
    "measures and keep are new": ([], [{"measure": ["peak"]}, {"keep": QUIET}], True),
    "silence behind": ([MEASURE, {"keep": QUIET}], [MEASURE, {"keep": QUIET}, {"silence": {"min_dbfs": -30}}], True),
    "looser, without a measure": ([{"keep": {"level_dbfs": {"min": -30}}}], [{"keep": {"level_dbfs": {"min": -45}}}], False),
    "keep without a measure goes": ([{"keep": {"level_dbfs": {"min": -30}}}, {"silence": {"min_dbfs": -25}}], [], False),
    "silence before": (
        [{"silence": {"min_dbfs": -50}}, MEASURE], [{"silence": {"min_dbfs": -50}}, MEASURE, {"keep": QUIET}], True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_gives_what_a_build_from_nothing_gives(name: str, corpus: Path, tmp_path: Path) -> None:
    before, after, from_clips = CHANGES[name]
    more = {"features": {"log_mel": {"n_fft": 256, "n_mels": 8}}}
    built(corpus, tmp_path / "a", before, **more)
    report = built(corpus, tmp_path / "a", after, **more)
    built(corpus, tmp_path / "b", after, **more)
    assert report.shards_built > 1
    if from_clips:
        assert (report.shards_from_clips, report.decoded_s) == (report.shards_built, 0.0)
    else:
        assert 0 < report.shards_from_clips < report.shards_built, "shards that gain no clip are made from clips"
    assert records(tmp_path / "a") == records(tmp_path / "b")
    assert shard_hashes(tmp_path / "b").items() <= shard_hashes(tmp_path / "a").items()
    assert built(corpus, tmp_path / "a", after, **more).status == "unchanged"


def test_another_measure_opens_no_recording(corpus: Path, tmp_path: Path) -> None:
    built(corpus, tmp_path / "a", [{"measure": ["peak"]}, {"keep": QUIET}])
    report = built(corpus, tmp_path / "a", [{"measure": ["peak", "dc"]}, {"keep": QUIET}])
    assert (report.shards_from_clips, report.decoded_s) == (report.shards_built, 0.0)
    built(corpus, tmp_path / "b", [{"measure": ["peak", "dc"]}, {"keep": QUIET}])
    assert shard_hashes(tmp_path / "b").items() <= shard_hashes(tmp_path / "a").items()
    asked = json.loads(run("show", tmp_path / "a", "--keep", "dc_offset: {min: -1}", "--json"))
    assert asked["unknown"] > 0, "of the clips that were dropped before, the new column is not known"
    again = built(corpus, tmp_path / "a", [{"measure": ["peak", "dc"]}, {"keep": {"dc_offset": {"min": -1}, **QUIET}}])
    assert 0 < again.shards_from_clips < again.shards_built, "so these recordings are read again"


def test_what_is_dropped_is_listed_beside_the_commit(corpus: Path, tmp_path: Path) -> None:
    report = built(corpus, tmp_path, [MEASURE, {"keep": QUIET}])
    listed = [row for f in tmp_path.glob("commits/*.dropped.parquet") for row in pq.read_table(f).to_pylist()]
    n = report.snapshot.counts.dropped["peak_dbfs_below_min"]
    assert len(listed) == n > 0 and all(row["peak_dbfs"] < -40 and row["dc_offset"] is not None for row in listed)
    kept = clipmill.open_dataset(tmp_path).manifest().to_pylist()
    assert all(row["peak_dbfs"] >= -40 for row in kept)
    assert not {row["clip_id"] for row in kept} & {row["clip_id"] for row in listed}
    assert report.measured["peak_dbfs"]["known"] == len(kept) + n and report.measured["peak_dbfs"]["dropped"] == n
    assert report.measured["peak_dbfs"]["values"][0] == min(row["peak_dbfs"] for row in listed)


@pytest.mark.parametrize("where", [QUIET, LOUDER, {"peak_dbfs": {"max": -30}}, {"duration_s": {"min": 9}}])
def test_what_a_threshold_would_do_is_what_it_does(where: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    built(corpus, tmp_path / "a", [MEASURE, {"keep": LOUDER}])
    told = json.loads(run("show", tmp_path / "a", "--keep", json.dumps(where), "--json"))
    config = configured(corpus, tmp_path / "b", [MEASURE, {"keep": where}], limits={"min_clips": 0})
    done = clipmill.build(config, quiet=True).snapshot
    assert done is not None
    assert (told["kept"], told["dropped"], told["unknown"]) == (done.counts.clips_kept, done.counts.dropped, 0)
    assert told["kept_s"] == pytest.approx(done.seconds.kept_s)
    assert "these thresholds keep" in run("show", tmp_path / "a", "--keep", json.dumps(where))


def test_the_json_of_a_silent_clip_is_json(tmp_path: Path) -> None:
    write_audio(tmp_path / "in/a.wav", np.zeros((RATE, 1)), RATE, "PCM_16")
    output = {"root": str(tmp_path / "out"), "formats": ["webdataset", "parquet"]}
    built(tmp_path / "in", tmp_path / "out", [MEASURE], output=output)
    (tar,) = tmp_path.glob("out/shards/*/*.tar")
    with tarfile.open(tar) as file:
        contents = [file.extractfile(m).read() for m in file if m.name.endswith(".json")]  # type: ignore[union-attr]
    rows = [json.loads(content, parse_constant=pytest.fail) for content in contents]
    assert [row["peak_dbfs"] for row in rows] == [None, None]
    assert clipmill.open_dataset(tmp_path / "out").manifest()["peak_dbfs"].to_pylist() == [-np.inf, -np.inf]


def test_what_was_dropped_before_it_was_measured_is_unknown(corpus: Path, tmp_path: Path) -> None:
    report = built(corpus, tmp_path, [{"silence": {"min_dbfs": -40}}, MEASURE])
    told = json.loads(run("show", tmp_path, "--keep", "{peak_dbfs: {min: -200}}", "--json"))
    assert told["unknown"] == report.snapshot.counts.dropped["silence"] > 0


def test_readers_and_exports_take_the_same_thresholds(corpus: Path, tmp_path: Path) -> None:
    built(corpus, tmp_path / "d", [MEASURE])
    rows = clipmill.open_dataset(tmp_path / "d").manifest().to_pylist()
    wanted = {row["clip_id"] for row in rows if row["peak_dbfs"] >= -30}
    assert 0 < len(wanted) < len(rows)
    for shuffle in (False, True):
        clips = clipmill.ClipDataset(tmp_path / "d", "train", ["clip_id"], where=LOUDER, shuffle=shuffle)
        assert len(clips) == len(wanted) and sorted(c["clip_id"] for c in clips) == sorted(wanted)
        parts = [
            clipmill.ClipDataset(tmp_path / "d", "train", ["clip_id"], where=LOUDER, rank=r, n_ranks=2) for r in (0, 1)
        ]
        assert sorted(c["clip_id"] for part in parts for c in part) == sorted(wanted)
    for format in ("csv", "kaldi", "nemo"):
        run("export", tmp_path / "d", format, "--where", json.dumps(LOUDER), "--to", tmp_path / format)
    table = (tmp_path / "csv/train.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in table[1:]} == wanted
    assert len((tmp_path / "kaldi/train/wav.scp").read_text().splitlines()) == len(wanted)
    assert "names whole shards" in run("export", tmp_path / "d", "huggingface", "--where", json.dumps(LOUDER), code=2)
    with pytest.raises(ConfigError, match=r"no column 'peak_db'; did you mean 'peak_dbfs'\?"):
        clipmill.ClipDataset(tmp_path / "d", "train", where={"peak_db": {"min": 0}})


def test_a_resumed_epoch_needs_the_same_thresholds(corpus: Path, tmp_path: Path) -> None:
    built(corpus, tmp_path, [MEASURE])
    state = clipmill.ClipDataset(tmp_path, "train", where=LOUDER).state_dict()
    clipmill.ClipDataset(tmp_path, "train", where=LOUDER).load_state_dict(state)
    with pytest.raises(clipmill.ClipmillError):
        clipmill.ClipDataset(tmp_path, "train", where=QUIET).load_state_dict(state)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([{"measure": ["snrr"]}], r"'snrr' is not a measure; did you mean 'snr'\?"),
        ([{"measure": []}], "expected a list of measures"),
        ([{"measure": ["peak", "peak"]}], "names 'peak' twice"),
        ([{"keep": {"peak_dbfs": {"min": 1}}}], r"no column 'peak_dbfs'.*put `- measure: \[peak\]` before it"),
        ([MEASURE, {"keep": {"peak_dbfs": {"mni": 1}}}], "unknown key; did you mean 'min'"),
        ([MEASURE, {"keep": {"peak_dbfs": {}}}], "needs min, max or both"),
        ([MEASURE, {"keep": {"peak_dbfs": 3}}], "expected min, max or both"),
        ([MEASURE, {"keep": {"peak_dbfs": {"min": 3, "max": 2}}}], "min 3 is above max 2"),
        ([MEASURE, {"keep": {"peak_dbfs": {"min": "nan"}}}], "finite|number"),
        ([{"keep": {}}], "expected columns with their bounds"),
        (
            [MEASURE, {"measure": ["peak"]}],
            r"clips\[1\].measure: adds the column 'peak_dbfs', which clips\[0\].measure adds before it",
        ),
    ],
)
def test_mistakes_are_named(clips: list[Any], message: str) -> None:
    import yaml

    from clipmill.pipelines.chain import chain_of

    plain = configured(Path("/in"), Path("/out"), clips)
    with pytest.raises(ConfigError, match=message) as caught:
        chain_of(loads(yaml.safe_dump(plain)).config)
    assert "clips[" in str(caught.value)


NUMBERS = st.one_of(st.none(), st.floats(width=32), st.integers(-3, 3).map(float))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8), st.integers(-2, 2), st.integers(-2, 2))
def test_each_clip_has_the_rule_of_its_first_column_out_of_bounds(
    rows: list[tuple[Any, Any]], low: int, high: int
) -> None:
    import pyarrow as pa

    where = as_thresholds({"a": {"min": low}, "b": {"min": -2, "max": max(high, -2)}})
    table = pa.table(
        {"a": pa.array([r[0] for r in rows], pa.float64()), "b": pa.array([r[1] for r in rows], pa.float64())}
    )

    def rule(a: float | None, b: float | None) -> str | None:
        for name, value, least, most in (("a", a, low, np.inf), ("b", b, -2, max(high, -2))):
            if value is None or value != value:
                return f"{name}_unknown"
            if value < least:
                return f"{name}_below_min"
            if value > most:
                return f"{name}_above_max"
        return None

    assert where.rule_of(table).to_pylist() == [rule(*row) for row in rows]
    assert {r for r in where.rule_of(table).to_pylist() if r} <= where.rules.keys()


@pytest.mark.parametrize("channels", ["mono", "left", "keep", "each"])
@pytest.mark.parametrize("rate", [RATE, 16000])
def test_clipping_is_counted_before_mixing_and_resampling(channels: str, rate: int, tmp_path: Path) -> None:
    y = np.zeros((2 * RATE, 2))
    y[1000:1100, 0] = 32767 / 32768  # in the first clip, on the left
    y[RATE + 10 : RATE + 30, 1] = -1.0  # in the third, on the right
    y[RATE - 5 : RATE, :] = 32766 / 32768  # not quite
    write_audio(tmp_path / "in/a.wav", y, RATE, "PCM_16")
    built(
        tmp_path / "in", tmp_path / "out", [{"measure": ["clipping"]}],
        audio={"sample_rate_hz": rate, "channels": channels}, output={"root": str(tmp_path / "out")},
    )  # fmt: skip
    rows = clipmill.open_dataset(tmp_path / "out").manifest().to_pylist()
    found = {(row["start_s"], row.get("channel")): row["clipped_share"] for row in rows}
    n = RATE // 2
    if channels in ("mono", "keep"):
        expected = {(0.0, None): 100 / (2 * n), (0.5, None): 0, (1.0, None): 20 / (2 * n), (1.5, None): 0}
    elif channels == "left":
        expected = {(0.0, None): 100 / n, (0.5, None): 0, (1.0, None): 0, (1.5, None): 0}
    else:
        expected = {(t, c): 0.0 for t in (0.0, 0.5, 1.0, 1.5) for c in (0, 1)} | {(0.0, 0): 100 / n, (1.0, 1): 20 / n}
    assert found == pytest.approx(expected)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 30), st.integers(1, 30))
def test_the_share_is_that_of_the_range(flags: list[bool], start: int, length: int) -> None:
    whole = FullScale(np.flatnonzero(flags), 1, 10, 0)
    stop = min(start + length, len(flags))
    part = flags[start:stop]
    if part:
        assert whole.share(start / 10, stop / 10, None) == pytest.approx(sum(part) / len(part))
