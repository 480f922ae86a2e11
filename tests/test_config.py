"""A configuration is read whole, or refused with messages that name file, line and key."""

from __future__ import annotations

import copy
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipmill.pipelines.config_file import MAX_BYTES, ConfigFile, load, loads
from clipmill.schemas.errors import ConfigError

EXAMPLE = r"""
name: urbansound-dogs
sources:                                # one or more
  - name: dogs
    root: s3://raw/urbansound/data/dog_bark        # any fsspec URL or a folder
    storage_options: {endpoint_url: "${S3_ENDPOINT_URL}"}
    include: ["**/*"]                   # default: every known audio extension
    annotations:
      format: csv
      sidecar: "{stem}.csv"             # beside each recording; or  table: meta/esc50.csv  with  recording: filename
      header: false
      columns: {start: 0, end: 1, salience: 2, label: 3}   # by index or by name
      time_unit: s                      # s | ms | samples
    segment: {mode: window, length_s: 0.5, hop_s: 0.5, tail: pad_noise}   # mode: annotation | window | whole
    label: dog                          # or {from: folder} | {from: annotation} | {from: path, regex: ...}
  - name: others
    root: s3://raw/urbansound/data
    exclude: ["dog_bark/**"]
    segment: {mode: window, length_s: 0.5, hop_s: 0.5, tail: drop, keep_every: 4}
    label: other
audio: {sample_rate_hz: 16000, channels: mono, resampler: soxr_hq, sample_format: int16}
silence: {min_dbfs: -40.0}
features:
  device: auto                          # auto | cpu | cuda
  log_mel: {n_fft: 1024, hop_length: 160, n_mels: 80}
  mfcc: {n_mfcc: 20}
  # spectrogram: {n_fft: 1024, hop_length: 160, output: magnitude_db}
split: {train: 0.8, val: 0.1, test: 0.1, by: recording}      # or  from: fold, map: {1: train, 2: train, 3: val}
output:
  root: ./out
  formats: [parquet, webdataset]
  audio_codec: flac                     # flac | wav
  shard_seconds: 1800
limits: {max_rejected_share: 0.01}
"""
ENVIRON = {"S3_ENDPOINT_URL": "https://store.example:9000"}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


RAW = "include: ['*.pcm']\n    raw: {sample_rate_hz: 16000, encoding: "


def minimal(source: str = "", more: str = "") -> str:
    """A configuration whose line 5 is of the source, and line 7 of the top level."""
    return f"name: test\nsources:\n  - name: s\n    root: /data\n    {source}\noutput: {{root: out}}\n{more}\n"


def refused(text: str, tmp_path: Path, **environ: str) -> ConfigError:
    path = tmp_path / "build.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ)
    message = str(caught.value)
    assert all(line.startswith(f"{path}:") for line in message.split("\n")), message
    return caught.value


def test_the_design_example_loads() -> None:
    config = loads(EXAMPLE, environ=ENVIRON).config
    dogs, others = config.sources
    assert dogs.storage_options == {"endpoint_url": "https://store.example:9000"}
    assert dogs.annotations is not None
    assert dogs.annotations.columns == {"start": 0, "end": 1, "salience": 2, "label": 3}
    assert (dogs.segment.length_s, dogs.segment.tail, others.segment.keep_every) == (0.5, "pad_noise", 4)
    assert config.split.shares == {"train": 0.8, "val": 0.1, "test": 0.1} and config.split.field is None
    assert config.features.names == ["log_mel", "mfcc"]
    assert (config.output.formats, config.output.shard_seconds) == (["parquet", "webdataset"], 1800)


@pytest.mark.parametrize(
    "source",
    [
        "label: {from: folder}",
        "label: 3",
        r"label: {from: path, regex: '(?P<label>\d)_(?P<speaker>\w+)_(?P<take>\d+)'}",
        "annotations: {table: meta/t.csv, recording: filename, columns: {label: category}}",
        "annotations: {table: t.csv, recording: ['{fold}-{take}.wav', filename]}",
    ],
)
def test_the_other_ways_of_the_design_load(source: str) -> None:
    loads(minimal(source, "split: {from: fold, map: {1: train, 2: train, 3: val}}"))


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        # unknown keys, with the nearest known one
        (minimal(more="audio: {sample_rate: 8000}"), 7, "audio.sample_rate", "did you mean 'sample_rate_hz'"),
        (minimal(more="audioo: {}"), 7, "audioo", "did you mean 'audio'"),
        (minimal("sgement: {mode: whole}"), 5, "sources[0].sgement", "did you mean 'segment'"),
        (minimal("segment: {mod: whole}"), 5, "sources[0].segment.mod", "did you mean 'mode'"),
        (minimal("label: {frm: folder}"), 5, "sources[0].label.frm", "did you mean 'from'"),
        (minimal(more="features:\n  log_mel:\n    n_ffft: 8"), 9, "features.log_mel.n_ffft", "did you mean 'n_fft'"),
        (minimal(more="limits: {zzzz: 1}"), 7, "limits.zzzz", "max_rejected_share"),
        # wrong types
        (minimal(more="audio: {sample_rate_hz: fast}"), 7, "audio.sample_rate_hz", "whole number"),
        (minimal("include: '*.wav'"), 5, "sources[0].include", "list"),
        (minimal("follow_links: 12"), 5, "sources[0].follow_links", "true or false"),
        (minimal("segment: whole"), 5, "sources[0].segment", "expected a map; known here: mode, length_s"),
        (minimal(more="audio: [1]"), 7, "audio", "expected a map; known here: sample_rate_hz"),
        (minimal(more="limits: {max_rejected_share: 2}"), 7, "limits.max_rejected_share", "1"),
        (minimal(more="silence: {min_dbfs: 3}"), 7, "silence.min_dbfs", "0"),
        (minimal(more="limits: {max_shrink_share: true}"), 7, "limits.max_shrink_share", "number, not true"),
        (minimal("segment: {mode: window, length_s: yes}"), 5, "sources[0].segment.length_s", "number, not true"),
        # missing keys
        ("name: test\nsources:\n  - name: s\noutput: {root: out}\n", 3, "sources[0].root", "missing"),
        ("sources: [{name: s, root: r}]\noutput: {root: out}\n", 1, "name", "missing"),
        ("name: test\nsources: [{name: s, root: r}]\noutput:\n  formats: [parquet]\n", 3, "output.root", "missing"),
        ("name: test\nsources: []\noutput: {root: out}\n", 2, "sources", "at least 1"),
        ("", 1, "", "the file is empty"),
        # wrong enums
        (minimal(more="features: {device: tpu}"), 7, "features.device", "'cuda'"),
        (minimal("segment: {mode: windows}"), 5, "sources[0].segment.mode", "'window'"),
        (
            minimal().replace("{root: out}", "{root: out, formats: [parquet, csv]}"),
            6,
            "output.formats[1]",
            "'webdataset'",
        ),
        # nearly right ones
        (minimal("segment: {mode: Window}"), 5, "sources[0].segment.mode", "did you mean 'window'?"),
        (minimal(f"{RAW}S16LE}}"), 6, "sources[0].raw.encoding", "'s16le', 's16be'"),
        (minimal(f"{RAW}S16LE}}"), 6, "sources[0].raw.encoding", "did you mean 's16le'?"),
        (minimal(more="audio: {channels: lefft}"), 7, "audio.channels", "as in [0, 2]; did you mean 'left'?"),
        (minimal("channels: Keep"), 5, "sources[0].channels", "did you mean 'keep'?"),
        (minimal("track: defualt"), 5, "sources[0].track", "did you mean 'default'?"),
        # maps, and keys that exclude each other
        (minimal("raw: true"), 5, "sources[0].raw", "expected a map, as in {sample_rate_hz: 16000, encoding: s16le}"),
        (minimal("raw: s16le"), 5, "sources[0].raw", "expected a map, as in {sample_rate_hz: 16000, encoding: s16le}"),
        (minimal("storage_options: 3"), 5, "sources[0].storage_options", "expected a map, as in {key: value}"),
        (minimal(f"{RAW}s16le}}\n    track: 0"), 3, "sources[0]", "samples without a header have no tracks"),
        # shares
        (minimal(more="split: {train: 0.8, test: 0.1}"), 7, "split", "0.9"),
        (minimal(more="split: {train: 1.5}"), 7, "split.train", "1"),
        (minimal(more="split: {train: 1.2, test: -0.2}"), 7, "split.train", "1"),
        (minimal(more="split: {by: recording}"), 7, "split", "at least one share"),
        (minimal(more="split: {train: 1, from: fold, map: {1: train}}"), 7, "split", "not both"),
        (minimal(more="split: {from: fold}"), 7, "split", "`map`"),
        # YAML
        (minimal(more="name: again"), 7, "name", "twice"),
        (minimal(more="audio:\n  channels: mono\n  channels: keep"), 9, "audio.channels", "twice"),
        (minimal(more="audio: {channels: mono"), 7, "", "not valid YAML"),
        (minimal(more="\taudio: {}"), 7, "", "not valid YAML"),
        (minimal(more="audio: *nowhere"), 7, "", "not valid YAML"),
        (minimal(more="audio: !!python/name:os.system"), 7, "audio", "a tag"),
        (minimal(more="? [a, b]\n: c"), 7, "", "plain word"),
        ("- a\n- b\n", 1, "", "mapping"),
        (BOMB, None, "", "expands to too many values"),
        ("a: &a [*a]\n", 1, "", "expands to too many values"),
        # environment
        (minimal().replace("/data", "${NO_SUCH}/data"), 4, "sources[0].root", "NO_SUCH"),
        (minimal("include: [x, '${NO_SUCH}']"), 5, "sources[0].include[1]", "NO_SUCH"),
        # roots, sidecars, columns, regexes
        (minimal().replace("root: /data", "root: ''"), 4, "sources[0].root", "empty"),
        (minimal("annotations: {sidecar: '../{stem}.csv'}"), 5, "sources[0].annotations", "'../{stem}.csv'"),
        (minimal("annotations: {sidecar: '/etc/{stem}.csv'}"), 5, "sources[0].annotations", "root"),
        (minimal("annotations: {sidecar: 'a/../../{stem}.csv'}"), 5, "sources[0].annotations", "root"),
        (minimal("annotations: {table: 's3://other/t.csv', recording: f}"), 5, "sources[0].annotations", "root"),
        (minimal("annotations: {sidecar: a, table: b}"), 5, "sources[0].annotations", "either"),
        (minimal("annotations: {table: b}"), 5, "sources[0].annotations", "recording"),
        (minimal("annotations: {sidecar: a, columns: {end: 1}}"), 5, "sources[0].annotations", "start"),
        (
            minimal("annotations: {sidecar: a, header: false, columns: {label: name}}"),
            5,
            "sources[0].annotations",
            "index",
        ),
        (minimal("annotations: {sidecar: a, columns: {label: -1}}"), 5, "sources[0].annotations", "0"),
        (minimal("label: {from: annotation}"), 3, "sources[0]", "annotations"),
        (minimal("fields: '(?P<x'"), 5, "sources[0].fields", "regular expression"),
        (minimal("fields: 'abc'"), 5, "sources[0].fields", "named group"),
        (minimal("segment: {mode: window}"), 5, "sources[0].segment", "length_s"),
        (minimal("segment: {mode: whole, hop_s: 1}"), 5, "sources[0].segment", "window"),
        (minimal(more="features: {mfcc: {n_mfcc: 200}}"), 7, "features", "n_mfcc"),
        (minimal("label: {from: path, regex: '(?P<speaker>x)'}"), 5, "sources[0].label", "(?P<label>...)"),
        (minimal("label: {from: path, regex: '['}"), 5, "sources[0].label", "regular expression"),
        (minimal("label: {from: path}"), 5, "sources[0].label", "regex"),
        (minimal("label: {from: foldr}"), 5, "sources[0].label.from", "'folder'"),
        (minimal("annotations: {table: t, recording: {a: 1}}"), 5, "sources[0].annotations.recording", "expected"),
        (minimal(more="features:\n  mfcc:\n    n_fft: 4"), 9, "features.mfcc.n_fft", "16"),
        (minimal(more="silence: {min_dbfs: -.inf}"), 7, "silence.min_dbfs", "finite"),
        (minimal(more="features: {log_mel: {fmin: .inf}}"), 7, "features.log_mel.fmin", "finite"),
        (minimal(more="features: {mfcc: {lifter: .inf}}"), 7, "features.mfcc.lifter", "finite"),
    ],
    ids=lambda value: "" if "\n" in str(value) else None,
)
def test_a_mistake_gives_one_message_with_file_line_and_key(
    text: str, line: int | None, key: str, words: str, tmp_path: Path
) -> None:
    error = refused(text, tmp_path)
    assert error.key == key
    assert line is None or error.line == line
    assert words in str(error)
    assert f": {key}: " in str(error) if key else True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (minimal().replace("output:", "  - {name: s, root: /other}\noutput:"), "two sources are named 's'"),
        (minimal(more="audio: {sample_format: float32}"), "audio_codec"),
        (minimal(more="audio: {sample_rate_hz: 8000}\nfeatures: {log_mel: {fmax: 4001}}"), "fmax"),
        (minimal(more="features: {log_mel: {fmin: 9000}}"), "fmin"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(text: str, words: str, tmp_path: Path) -> None:
    assert words in str(refused(text, tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(minimal(more="#\x00"), id="control-character"),
        pytest.param("a: " + "[" * 3000, id="deep-flow"),
        pytest.param("".join(" " * i + "a:\n" for i in range(900)), id="deep-blocks"),
        pytest.param(minimal(more="audio: {sample_rate_hz: !!int ''}"), id="empty-int"),
        pytest.param(minimal(more="audio: {sample_rate_hz: !!float ''}"), id="empty-float"),
        pytest.param(minimal(more="audio: !!bool maybe"), id="tagged-bool"),
        pytest.param(minimal(more="audio: !!timestamp never"), id="tagged-timestamp"),
        pytest.param(minimal(more=f"limits: {{max_rejected_share: 1{':0' * 200}.0}}"), id="sexagesimal"),
    ],
)
def test_hostile_yaml_is_a_config_error(text: str, tmp_path: Path) -> None:
    refused(text, tmp_path)


def test_merge_keys_cannot_use_up_memory(tmp_path: Path) -> None:
    text = "{k: 1}"
    for i in range(6):
        text = f"{{<<: [&a{i} {text}{f', *a{i}' * 9}]}}"
    tracemalloc.start()
    try:
        refused(text, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_key_beside_a_merge_overrides_the_merged_one() -> None:
    text = minimal(more="features: {log_mel: &a {n_fft: 512, hop_length: 128}, spectrogram: {<<: *a, n_fft: 1024}}")
    spectrogram = loads(text).config.features.spectrogram
    assert spectrogram is not None and (spectrogram.n_fft, spectrogram.hop_length) == (1024, 128)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (minimal().encode() + b"# caf\xe9\n", "UTF-8"),
        (minimal().encode("utf-16"), "UTF-8"),
        (minimal().encode() + b"#" * MAX_BYTES, str(MAX_BYTES)),
        (None, "cannot read"),
    ],
    ids=["latin-1", "utf-16", "too-large", "absent"],
)
def test_a_file_that_is_no_configuration_is_named(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "build.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "build.yaml"
    path.write_bytes(minimal().encode("utf-8-sig"))
    assert load(path).config.name == "test"


@pytest.mark.parametrize(
    ("root", "environ", "expected"),
    [
        ("${DATA}/x", {"DATA": "/d"}, "/d/x"),
        ("${DATA:-/fallback}/x", {}, "/fallback/x"),
        ("${DATA:-/fallback}/x", {"DATA": "/d"}, "/d/x"),
        ("${DATA:-/fallback}/x", {"DATA": ""}, "/fallback/x"),
        ("a${DATA:-}b", {}, "ab"),
        ("${A}${B}", {"A": "${B}", "B": "2"}, "${B}2"),
        ("$HOME/x", {"HOME": "/h"}, "$HOME/x"),
    ],
)
def test_variables_are_filled_in_once(root: str, environ: dict[str, str], expected: str) -> None:
    file = loads(minimal().replace("/data", f"'{root}'"), environ=environ)
    assert file.config.sources[0].root == expected
    assert file.public["sources"][0]["root"] == root


@pytest.mark.parametrize("root", ["s3://key:hunter2@bucket/x", "s3://${SECRET}@bucket", "https://hunter2@host/data"])
@pytest.mark.parametrize("place", ["/data", "out"])
def test_credentials_in_a_url_are_refused_and_not_repeated(root: str, place: str, tmp_path: Path) -> None:
    error = refused(minimal().replace(f"root: {place}", f"root: '{root}'"), tmp_path, SECRET="hunter2:x")
    assert error.key.endswith(".root") and "credentials" in str(error) and "hunter2" not in str(error)


def test_keys_count_as_they_are_written() -> None:
    written = "{from: speaker, map: {01: test, 1: val, 1.0: val, yes: train, no: train, extra: train, 2020-01-01: val}}"
    file = loads(minimal(more=f"split: {written}"))
    assert list(file.config.split.map or {}) == ["01", "1", "1.0", "yes", "no", "extra", "2020-01-01"]
    json.dumps(file.public, sort_keys=True)
    with pytest.raises(ConfigError, match="the key occurs twice"):
        loads(minimal(more="split: {from: speaker, map: {1: test, '1': train}}"))


@pytest.mark.parametrize("root", ["s3://", "s3:///in"])
def test_a_store_without_a_bucket_is_told_at_once(root: str, tmp_path: Path) -> None:
    error = refused(minimal().replace("root: /data", f"root: '{root}'"), tmp_path)
    assert error.key == "sources[0].root" and "s3://BUCKET/FOLDER" in str(error)


@pytest.mark.parametrize(
    "more",
    [
        "audio: {sample_rate_hz: '${SECRET}'}",
        "features: {device: '${SECRET}'}",
        "audio: '${SECRET}'",
        "name: '${SECRET}'",
    ],
)
def test_a_message_never_shows_a_variables_value(more: str, tmp_path: Path) -> None:
    text = minimal(more=more) if not more.startswith("name") else minimal().replace("name: test", more)
    assert "hunter2" not in str(refused(text, tmp_path, SECRET="hunter2 $"))


def test_what_is_published_holds_no_secret() -> None:
    text = """
name: test
sources:
  - {name: a, root: "${WHERE}", storage_options: &so {key: hunter2, client_kwargs: {token: "${TOKEN}"}}}
  - {name: b, root: "x${WHERE:-y}", storage_options: *so}
output: {root: "${WHERE}", storage_options: {<<: *so}}
"""
    file = loads(text, environ={"WHERE": "/private", "TOKEN": "hunter3"})
    assert file.config.output.storage_options["client_kwargs"] == {"token": "hunter3"}
    published = json.dumps(file.public)
    assert not any(secret in published for secret in ("hunter2", "hunter3", "/private", "storage_options", "TOKEN"))
    assert [s["root"] for s in file.public["sources"]] == ["${WHERE}", "x${WHERE:-y}"]
    assert "hunter" not in repr(file)


def _only_config_error(text: str) -> None:
    try:
        file = loads(text, environ={})
    except ConfigError as error:
        assert str(error).startswith("<text>")
    else:
        assert isinstance(file, ConfigFile)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet="ab:{}[]-?&*!|>'\"%@#, \n\t<~.019_xe=$"))
@example("a: ${")
@example("\ufeff")
def test_no_text_raises_anything_but_config_error(text: str) -> None:
    _only_config_error(text)


_PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Co"]), max_size=10)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | _PRINTABLE | st.dates() | st.binary(max_size=4)
_WORDS = st.sampled_from(
    ["name", "root", "from", "regex", "mode", "table", "columns", "label", "map", "by", "end", "n_fft"]
)
_VALUES = st.recursive(
    _SCALARS | _WORDS,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(_WORDS | _PRINTABLE, v, max_size=4),
    max_leaves=8,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [p for k, v in parts for p in _places(v, (*path, k))]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_value_in_any_place_raises_anything_but_config_error(data: st.DataObject) -> None:
    plain = copy.deepcopy(yaml.safe_load(EXAMPLE))
    place = data.draw(st.sampled_from(_places(plain)))
    value = data.draw(_VALUES)
    if not place:
        plain = value
    else:
        parent = plain
        for part in place[:-1]:
            parent = parent[part]
        if isinstance(parent, dict) and data.draw(st.booleans()):
            parent[data.draw(_WORDS | _PRINTABLE)] = value
        else:
            parent[place[-1]] = value
    _only_config_error(yaml.safe_dump(plain, allow_unicode=True))


@pytest.mark.parametrize(
    "change, key, text",
    [
        ({"features": {"log_mel": {"n_mels": 40, "fmax": 30000}}}, "features.log_mel.fmax", "half the sample rate"),
        ({"audio": {"sample_format": "float32"}}, "audio.sample_format", "FLAC holds whole numbers only"),
        ({"sources": [{"name": "a", "root": "x"}, {"name": "a", "root": "y"}]}, "sources[1].name", "named 'a'"),
        (
            {"sources": [{"name": "a", "root": "x", "segment": {"mode": "window", "length_s": 0.5, "hop_s": 1e-8}}]},
            "sources[0].segment",
            "at least one sample",
        ),
        (
            {"sources": [{"name": "a", "root": "x", "annotations": {"sidecar": "{Stem}.csv"}}]},
            "sources[0].annotations",
            "only the placeholders {stem} and {name}",
        ),
    ],
)
def test_a_mistake_between_sections_names_its_own_line(change: dict[str, Any], key: str, text: str) -> None:
    plain = {"name": "x", "sources": [{"name": "a", "root": "r"}], "output": {"root": "o"}, **change}
    document = yaml.safe_dump(plain, sort_keys=False)
    with pytest.raises(ConfigError) as caught:
        loads(document, file="c.yaml")
    assert caught.value.key == key
    assert text in str(caught.value)
    last = key.rsplit(".", 1)[-1]
    nth = 2 if key == "sources[1].name" else 1
    lines = [i for i, line in enumerate(document.splitlines(), 1) if line.strip(" -").startswith(f"{last}:")]
    assert caught.value.line == (lines[nth] if key == "sources[1].name" else lines[0])
