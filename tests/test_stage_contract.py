"""What holds for every stage of clips: whatever is in a table and wherever it is cut, the same comes out, and nothing undeclared."""

from __future__ import annotations

import dataclasses
import importlib
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmill.pipelines.chain import CHUNK_STAGES, DERIVED_STAGES, chain_of, known_reasons, known_rules
from clipmill.pipelines.config_file import loads
from clipmill.schemas.config import Config
from clipmill.schemas.config.level_config import Level
from clipmill.schemas.errors import ConfigError, StageError
from clipmill.schemas.tables import CLIPS, RESERVED
from clipmill.schemas.thresholds import as_thresholds
from clipmill.stages.canonical import CanonicalPcm
from clipmill.stages.clip_chain import ClipChain, apply_stage
from clipmill.stages.clip_samples import waveforms, with_waveforms
from clipmill.stages.clips.keep import Keep
from clipmill.stages.clips.level import LevelGain
from clipmill.stages.clips.silence import SilenceFilter
from clipmill.stages.exclude_clips import ExcludeClips
from clipmill.stages.lookup import find_stage, known_names
from clipmill.stages.stage import Stage, dropped, rejected, with_column

RATE = 8000
FEATURES = {
    "log_mel": {"n_fft": 256, "hop_length": 128, "n_mels": 8, "center": False},
    "mfcc": {"n_mfcc": 4},
    "spectrogram": {"n_fft": 256, "hop_length": 128, "center": False},
}


def config(**more: Any) -> Config:
    plain = {
        "name": "d",
        "sources": [{"name": "s", "root": "/data"}],
        "output": {"root": "/out", **more.pop("output", {})},
    }
    return Config.model_validate({"audio": {"sample_rate_hz": RATE}, **plain, **more})


class Louder(Stage):
    """Stands for stages that change samples."""

    section = "louder"
    scope = "clip"
    changes_samples = True

    def __call__(self, table: pa.Table) -> pa.Table:
        return with_waveforms(table, {row: y * np.float32(1.5) for row, y in waveforms(table)})


def every_stage() -> list[Stage]:
    chain = chain_of(config(features=FEATURES, output={"images": True, "root": "/out"}), "cpu")
    keep = Keep(as_thresholds({"n_samples": {"min": 200}, "n_channels": {"max": 1}}))
    level = LevelGain(Level(to="rms", target=-12, true_peak_dbtp=-1))
    return [SilenceFilter(-20.0), keep, level, CanonicalPcm(), Louder(), *chain.derived]


def clips(kinds: list[str], as_float: bool = False, seed: int = 0) -> pa.Table:
    """A table of rows: "long" and "short" clips of one and two channels, "quiet" ones, and others that are no clips."""
    random, rows = np.random.default_rng(seed), []
    for i, kind in enumerate(kinds):
        row: dict[str, Any] = {"item_id": "s/a", "source": "s", "recording_id": "s/a", "fields": []}
        if kind in ("account", "dropped", "rejected"):
            rows.append(
                {
                    **row,
                    "status": kind,
                    "n_candidates": 0,
                    "n_annotations": 0,
                    "count": 1,
                    "rule": "tail",
                    "reason": "clip_empty",
                }
            )
            continue
        channels, n = 1 + i % 2, 100 if kind == "short" else 900
        y = (random.standard_normal((n, channels)) * (1e-3 if kind == "quiet" else 0.3)).astype(np.float32)
        pcm = np.clip(np.rint(y * 32768), -32768, 32767).astype("<i2")
        about = {
            "clip_id": f"a-{i}",
            "start_s": 0.0,
            "duration_s": n / RATE,
            "sample_rate_hz": RATE,
            "n_channels": channels,
            "n_samples": n,
        }
        content = {"samples": y.reshape(-1).tolist()} if as_float else {"pcm": pcm.tobytes()}
        rows.append({**row, **about, **content, "status": "clip", "n_clipped": 0})
    table = pa.Table.from_pylist(rows, schema=CLIPS)
    blank = pa.array([r.get("rule") if r["status"] == "dropped" else None for r in rows], pa.string())
    codes = pa.array([r.get("reason") if r["status"] == "rejected" else None for r in rows], pa.string())
    table = table.set_column(table.schema.get_field_index("rule"), "rule", blank)
    return table.set_column(table.schema.get_field_index("reason"), "reason", codes)


def ready_for(stage: Stage, table: pa.Table) -> pa.Table:
    """Add what the stage works on: pictures are of the log-mel."""
    if stage.section == "images":
        (features,) = [s for s in every_stage() if s.section == "features"]
        return pa.concat_tables(apply_stage(features, table))
    return table


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["long", "short", "quiet", "account", "dropped", "rejected"]), max_size=7),
    st.sets(st.integers(1, 6)),
    st.booleans(),
)
def test_a_table_can_be_cut_anywhere(kinds: list[str], cuts: set[int], as_float: bool) -> None:
    whole = clips(kinds, as_float)
    edges = sorted({0, *(c for c in cuts if c < len(kinds)), len(kinds)})
    parts = [whole.slice(a, b - a) for a, b in pairwise(edges)] or [whole]
    for stage in every_stage():
        if as_float and stage.scope == "derived":
            continue  # these are behind the canonical PCM
        at_once = pa.concat_tables(apply_stage(stage, ready_for(stage, whole)))
        apart = pa.concat_tables([made for part in parts for made in apply_stage(stage, ready_for(stage, part))])
        assert at_once.schema == apart.schema and at_once.to_pylist() == apart.to_pylist(), stage.section
        assert at_once.num_rows == whole.num_rows
        before = ready_for(stage, whole).column_names
        assert [n for n in at_once.column_names if n not in before] == [f.name for f in stage.fields]
        still = pc.equal(whole["status"], "clip")
        others = at_once.filter(pc.invert(still)).select(CLIPS.names).to_pylist()
        assert others == whole.filter(pc.invert(still)).to_pylist(), "what is no clip passes as it is"


def test_what_stages_declare_is_known_and_does_not_clash() -> None:
    of_lists = (find_stage(n, "clip").kind for n in known_names("clip"))
    kinds = [*CHUNK_STAGES, CanonicalPcm, ExcludeClips, *DERIVED_STAGES, *of_lists]
    sections = [kind.section for kind in kinds]
    assert len(set(sections)) == len(sections)
    codes = [reason.code for kind in kinds for reason in kind.rejects]
    assert len(set(codes)) == len(codes) and set(codes) <= known_reasons().keys()
    assert {rule for kind in kinds for rule in kind.drops} == known_rules().keys()
    for kind in kinds:
        assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
        assert kind.__doc__ and all(reason.meaning and reason.remedy for reason in kind.rejects)
        assert not {f.name for f in kind.columns} & RESERVED or kind.section in ("features", "images")


@dataclasses.dataclass(frozen=True)
class Odd(Stage):
    """Does what it does not declare."""

    what: str

    section = "odd"
    scope = "clip"

    def __call__(self, table: pa.Table) -> pa.Table:
        if self.what == "column":
            return with_column(table, pa.field("extra", pa.int64()), {})
        if self.what == "takes away":
            return table.drop_columns(["level_dbfs"])
        if self.what == "rule":
            return dropped(table, [True] * table.num_rows, "a rule")
        if self.what == "reason":
            return rejected(table, dict.fromkeys(range(table.num_rows), "it is so"), "a reason")
        if self.what == "samples":
            return with_waveforms(table, dict(waveforms(table)))
        if self.what == "shape":
            return with_waveforms(table, {row: y[0] for row, y in waveforms(table)})
        raise KeyError("nothing")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("column", "adds 'extra', but declares no columns"),
        ("takes away", "removes the column 'level_dbfs'"),
        ("rule", "drops clips by the rule 'a rule', which is not in its `drops`"),
        ("reason", "rejects clips for the reason 'a reason', which is not in its `rejects`"),
        ("samples", "changes samples without declaring"),
        ("shape", "failed on clip a-0: ValueError: samples have the shape"),
        ("raise", "failed on clip a-0: KeyError: 'nothing'"),
    ],
)
def test_what_is_not_declared_ends_the_build(what: str, message: str) -> None:
    with pytest.raises(StageError, match=r"^stage 'odd' ") as raised:
        list(ClipChain({"s": [Odd(what)]})(clips(["long", "quiet"])))
    assert message in str(raised.value)


def test_silence_judges_a_clip_as_it_would_be_stored() -> None:
    """Noise under half a step of 16 bits is -100 dBFS or so as float32, and digital silence when it is stored."""
    table = clips(["long"], as_float=True)
    y = np.full(900, 1e-5, np.float32)
    at = table.schema.get_field_index("samples")
    table = table.set_column(at, "samples", pa.array([y.tolist()], table.schema.field(at).type))
    assert SilenceFilter(-120.0)(table)["status"].to_pylist() == ["dropped"]
    assert SilenceFilter(-120.0, "float32")(table)["status"].to_pylist() == ["clip"]


def test_both_spellings_of_silence_are_one_and_giving_both_is_an_error() -> None:
    from clipmill.pipelines.plan.fingerprints import clips_fingerprint

    short, long = config(silence={"min_dbfs": -40}), config(clips=[{"silence": {"min_dbfs": -40}}])
    assert clips_fingerprint(chain_of(short), []) == clips_fingerprint(chain_of(long), [])
    assert clips_fingerprint(chain_of(config()), []) == clips_fingerprint(chain_of(config(clips=[])), [])
    assert clips_fingerprint(chain_of(config(clips=["silence"])), []) == clips_fingerprint(chain_of(config()), [])
    with pytest.raises(ValueError, match="is short for `clips"):
        config(silence={"min_dbfs": -40}, clips=[])


@pytest.mark.parametrize(
    ("clips", "key", "message"),
    [
        ([{"silense": {}}], "clips[0].silense", "did you mean 'silence'"),
        ([{"silence": {"min_db": -40}}], "clips[0].silence.min_db", "known here: min_dbfs"),
        ([{"silence": {"min_dbfs": 3}}], "clips[0].silence.min_dbfs", "less than or equal to 0"),
        ([{"nowhere.at:All": {}}], "clips[0].nowhere.at:All", "No module named 'nowhere'"),
        ([{"clipmill.stages.stage:dropped": {}}], "clips[0].clipmill.stages.stage:dropped", "is not a stage"),
        (
            [{"clipmill.stages.features:Features": {}}],
            "clips[0].clipmill.stages.features:Features",
            "belongs under `features`",
        ),
    ],
)
def test_a_step_that_is_wrong_is_told_with_its_key(clips: Any, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        chain_of(config(clips=clips))
    (problem,) = raised.value.problems
    assert problem.key == key and message in problem.message


def test_wrong_stages_are_told_with_all_else_that_is_wrong() -> None:
    text = """name: t
sources:
  - {name: s, root: /in, clips: [{silence: {min_db: -40}}]}
  - {name: s2, rot: /in}
clips:
  - silence: {min_dbfs: -40}
  - silense
output: {root: /out}
features:
  log_mel: {}
  chromium: {bins: 12}
"""
    with pytest.raises(ConfigError) as raised:
        loads(text, file="c.yaml")
    places = [(p.line, p.key, p.code) for p in raised.value.problems]
    assert places == [
        (3, "sources[0].clips[0].silence.min_db", "config.unknown_key"),
        (4, "sources[1].rot", "config.unknown_key"),
        (7, "clips[1].silense", "stage.unknown"),
        (11, "features.chromium", "stage.unknown"),
    ]


def test_sources_can_have_a_list_of_their_own() -> None:
    from clipmill.pipelines.plan.fingerprints import clips_fingerprint, source_fingerprint

    def two(own: Any) -> Config:
        sources = [
            {"name": "a", "root": "/a"},
            {"name": "b", "root": "/b", **({"clips": own} if own is not None else {})},
        ]
        return Config.model_validate(
            {"name": "d", "sources": sources, "clips": [{"silence": {"min_dbfs": -40}}], "output": {"root": "/out"}}
        )

    plain, gated, ungated = two(None), two([{"silence": {"min_dbfs": -40}}]), two([])
    prints = {
        c: [source_fingerprint(chain_of(x), s) for s in x.sources]
        for c, x in (("plain", plain), ("gated", gated), ("ungated", ungated))
    }
    assert prints["plain"] == prints["gated"], "the same list is no other choice"
    assert prints["ungated"][0] == prints["plain"][0] and prints["ungated"][1] != prints["plain"][1]
    assert len({str(clips_fingerprint(chain_of(c), [])) for c in (plain, gated, ungated)}) == 1
    table = clips(["quiet", "long"])
    sources = table.schema.get_field_index("source")
    table = pa.concat_tables([table, table]).set_column(sources, "source", pa.array(["a", "a", "b", "b"]))
    (chain,) = [s for s in chain_of(ungated).to_clips if isinstance(s, ClipChain)]
    done = pa.concat_tables(chain(table))
    assert done["status"].to_pylist() == ["dropped", "clip", "clip", "clip"]


def test_packages_of_stages_can_be_imported_alone() -> None:
    for name in known_names("clip"):
        assert importlib.import_module(f"clipmill.stages.clips.{name}")
