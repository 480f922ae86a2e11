"""Keys of every recipe over a listing that never changes. Published datasets are found by them: they move on purpose or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill.pipelines.config_file import load, loads
from clipmill.pipelines.plan.planning import Plan, make_plan
from clipmill.schemas.config import AUDIO_EXTENSIONS
from clipmill.schemas.config.model import Frozen, fingerprint, later
from clipmill.schemas.keys import digest
from clipmill.stages.annotations.rows import HINT
from clipmill.stages.decode.families import decode_version

ROOT = Path(__file__).parents[1]
RECIPES = ["esc10", "esc50", "fsdd", "ljspeech", "urbansound"]
_ESC50 = "filename,fold,target,category,esc10\n" + "".join(
    f"{i % 5 + 1}-{i}-A-{i % 10}.wav,{i % 5 + 1},{i % 10},{'dog cat rain sea_waves crow'.split()[i % 5]},True\n"
    for i in range(20)
)
LISTINGS: dict[str, dict[str, bytes]] = {
    "esc10": {f"{i % 5 + 1}-{i}-A.ogg": b"x" * (1000 + i) for i in range(20)},
    "esc50": {f"audio/{i % 5 + 1}-{i}-A-{i % 10}.wav": b"x" * (1000 + i) for i in range(20)},
    "fsdd": {f"{i % 10}_{'theo lucas jackson'.split()[i % 3]}_{i}.wav": b"x" * (900 + i) for i in range(30)},
    "ljspeech": {f"wavs/LJ{i % 3 + 1:03d}-{i:04d}.wav": b"x" * (2000 + i) for i in range(12)},
    "urbansound": {
        f"{('dog_bark', 'siren')[i % 2]}/{i}.{'wav flac ogg mp3'.split()[i % 4]}": b"x" * (5000 + i) for i in range(16)
    },
    "everything": {f"{'ab'[i % 2]}/r{i}.{'wav flac mp3 ogg m4a'.split()[i % 5]}": b"x" * (3000 + i) for i in range(20)},
}
LISTINGS["esc50"]["meta/esc50.csv"] = _ESC50.encode()
LISTINGS["esc10"]["esc50.rows.csv"] = (
    b"filename,fold,target,category,esc10,src_file,take\n"
    + "".join(
        f"{i % 5 + 1}-{i}-A-{i % 10}.wav,{i % 5 + 1},{i % 10},{'dog cat rain sea_waves crow'.split()[i % 5]},True,{i},A\n"
        for i in range(20)
    ).encode()
)
LISTINGS["ljspeech"]["metadata.csv"] = "".join(
    f"LJ{i % 3 + 1:03d}-{i:04d}|Text {i}|text {i}\n" for i in range(12)
).encode()
LISTINGS["urbansound"] |= {f"dog_bark/{i}.csv": f"0,{i + 1},1,dog_bark\n".encode() for i in range(0, 16, 2)}
EVERYTHING = """
name: everything
sources:
  - {name: a, root: "${CORPUS}/a", version: sha256, segment: {mode: window, length_s: 1, hop_s: 0.5, keep_every: 2}}
  - {name: b, root: "${CORPUS}/b", segment: {mode: whole, max_clip_s: 20}, label: other, bytes_per_second: 100}
audio: {sample_rate_hz: 22050, channels: keep, resampler: soxr_vhq, sample_format: float32, truncated: keep}
silence: {min_dbfs: -50}
features: {dtype: float16, log_mel: {n_mels: 40}, mfcc: {n_mfcc: 13}}
split: {train: 0.6, test: 0.4, by: recording}
output: {root: ./out, formats: [webdataset, parquet], audio_codec: wav, shard_seconds: 10}
"""


@pytest.fixture
def corpora_in_memory() -> Iterator[str]:
    """The corpora's names with sizes and times that never change."""
    fs = fsspec.filesystem("memory")
    for corpus, files in LISTINGS.items():
        for i, (name, content) in enumerate(sorted(files.items())):
            path = f"/golden-recipes/{corpus}/{name}"
            fs.pipe(path, content)
            fs.store[path].created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=i)
    yield "memory://golden-recipes"
    fs.rm("/golden-recipes", recursive=True)


def planned(name: str, top: str) -> Plan:
    environ = {"CORPUS": f"{top}/{name}"}
    if name == "everything":
        return make_plan(loads(EVERYTHING, environ=environ).config)
    return make_plan(load(ROOT / "recipes" / f"{name}.yaml", environ=environ).config)


GOLDEN: dict[str, tuple[int, str, str, str]] = {
    # shards, digest of the keys, of the clips' keys, of the items' digests
    "esc10": (3, "a3c2a1cf3c12ac65", "9775accd1414defb", "2ddc4c16096b4722"),
    "esc50": (3, "e2448c5815e70c6f", "9098682af6f6f7d9", "9622080f4ac1063c"),
    "fsdd": (3, "6d177da66151653f", "7f4ba3f8146ff5a2", "d3fab67286356cf2"),
    "ljspeech": (2, "7d62c8be0c089ede", "9f7e26a88ee6b2bb", "4a0ef417e1c4f449"),
    "urbansound": (3, "916495eb9d749337", "074c71aa978f0950", "4187033962a54b6a"),
    "everything": (18, "70376f03f0eb3bde", "b1201c32960b7e35", "2a16307276335ef9"),
}


@pytest.mark.parametrize("name", [*RECIPES, "everything"])
def test_keys_of_a_recipe_stay_what_they_are(name: str, corpora_in_memory: str) -> None:
    plan = planned(name, corpora_in_memory)
    columns = [sorted(plan.table[column].to_pylist()) for column in ("key", "clips_key", "item_digest")]
    found = (len(plan.keys), *(digest(column)[:16] for column in columns))
    assert len(plan.keys) > 1
    assert found == GOLDEN[name]


BY_INTERVALS = {
    "fsdd": (3, "3edb95424aa08940", "7e56ed6a627ca4c0", "d3fab67286356cf2"),
    "ljspeech": (2, "4716a5a400a53102", "cd16a6822587fcde", "4a0ef417e1c4f449"),
    "urbansound": (3, "af550c4d811f2b40", "d74ac707921c9d6d", "4187033962a54b6a"),
}
"""As these were before their split's method was `rendezvous`: what a configuration without `method` has."""


@pytest.mark.parametrize("name", BY_INTERVALS)
def test_keys_of_a_split_without_a_method_stay_what_they_are(name: str, corpora_in_memory: str) -> None:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text()
    assert ", method: rendezvous}" in text
    for written in ("", ", method: intervals, balance: false"):
        given = text.replace(", method: rendezvous}", f"{written}}}")
        plan = make_plan(loads(given, environ={"CORPUS": f"{corpora_in_memory}/{name}"}).config)
        columns = [sorted(plan.table[column].to_pylist()) for column in ("key", "clips_key", "item_digest")]
        assert (len(plan.keys), *(digest(column)[:16] for column in columns)) == BY_INTERVALS[name]


WAV_AND_FLAC = {"esc50": "9622080f4ac1063c", "fsdd": "d3fab67286356cf2", "ljspeech": "4a0ef417e1c4f449"}
"""Digests of items as they were before decoding had versions by family."""


@pytest.mark.parametrize("name", WAV_AND_FLAC)
def test_what_changed_for_other_containers_moves_no_wav(name: str) -> None:
    assert GOLDEN[name][3] == WAV_AND_FLAC[name]


def test_version_of_decoding_goes_by_the_family_of_a_name(corpora_in_memory: str) -> None:
    assert {e for e in AUDIO_EXTENSIONS if decode_version(e) == 1} >= {"wav", "flac", "aiff", "au", "w64", "caf"}
    assert all(decode_version(e) == 2 for e in ("mp3", "ogg", "opus", "m4a", "webm", "aac", "unheard-of", ""))
    table = planned("everything", corpora_in_memory).table
    old = {"wav": 0, "flac": 0, "mp3": 0, "ogg": 0, "m4a": 0}
    for path in table["path"].to_pylist():
        old[path.rpartition(".")[2]] += 1
    assert all(old.values())


class _Old(Frozen):
    rate_hz: int = 16000
    mode: str = "a"


class _New(_Old):
    gaps: str = later("fill")
    extra: dict[str, int] = later({})


class _Holder(Frozen):
    old: _Old = _Old()


class _NewHolder(Frozen):
    old: _New = _New()
    track: int | None = later(None)


@given(rate_hz=st.integers(1, 10**6), mode=st.text(max_size=5))
def test_later_keys_at_their_default_are_in_no_fingerprint(rate_hz: int, mode: str) -> None:
    before, after = _Old(rate_hz=rate_hz, mode=mode), _New(rate_hz=rate_hz, mode=mode)
    assert fingerprint(after) == fingerprint(before) == before.model_dump()
    assert fingerprint(_NewHolder(old=after)) == fingerprint(_Holder(old=before))
    # Written out at its default it is not there either; at another value it is.
    assert fingerprint(_New(rate_hz=rate_hz, mode=mode, gaps="fill", extra={})) == fingerprint(before)
    assert fingerprint(_New(rate_hz=rate_hz, mode=mode, gaps="reject")) == {**before.model_dump(), "gaps": "reject"}
    assert fingerprint(_NewHolder(old=after, track=0))["track"] == 0


BAD_ROWS = """file,start,end,label,channel
a.wav,0,0.1,,1
a.wav,x,1,dog,1
a.wav,0.2,0.1,dog,1
a.wav,-5,0.1,dog,1
a.wav,0,0.1,bird,1
a.wav,0,1e17,dog,1
a.wav,0,0.1,dog,zero
a.wav,"1,5","2,5",dog,1
a.wav,1:99,2:00,dog,1
a.wav,0,0.1
"""
BAD_DETAILS = [
    ("label_missing", "it is empty, and neither label.map nor classes knows that"),
    ("annotation_not_a_number", "start is 'x'"),
    ("annotation_end_before_start", "start 0.2, end 0.1"),
    ("annotation_negative", "start is -5"),
    ("label_not_mapped", "'bird'"),
    ("annotation_out_of_range", "start 0, end 1e+17: no recording is so long"),
    ("annotation_not_a_channel", "channel is 'zero'"),
    ("annotation_not_a_number", "start is '1,5', and the decimal sign is '.' here"),
    ("annotation_not_a_number", "start is '1:99'"),
    ("annotation_missing_column", "no column 'channel': the row has 3 cells"),
]


def test_the_details_of_rejected_rows_do_not_change(tmp_path: Path) -> None:
    """They are part of item digests, and so of keys: a nicer sentence would build shards again."""
    write_audio(tmp_path / "in/a.wav", tone(1.0, 8000), 8000)
    (tmp_path / "in/t.csv").write_text(BAD_ROWS)
    text = f"""
name: t
sources:
  - name: s
    root: {tmp_path}/in
    label: {{from: annotation, map: {{dog: dog}}}}
    annotations: {{table: t.csv, recording: file, columns: {{start: start, end: end, label: label, channel: channel}}}}
output: {{root: {tmp_path}/out}}
"""
    plan = make_plan(loads(text).config)
    rows = [row for rows in plan.table["annotations"].to_pylist() for row in rows]
    by_line = sorted(rows, key=lambda row: row["line"])
    assert [(row["reason"], row["detail"].partition(HINT)[0]) for row in by_line] == BAD_DETAILS
