"""init: what it makes of folders as people have them, and that it builds."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run, tone, write_audio
from init_trees import EVENTS, RATE, headers_here, propose, read_headers_here, recordings, text_grid

from clipmill.pipelines.config_file import load, loads
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.proposals.commented_yaml import Part, write
from clipmill.pipelines.proposals.drafting_config import Way, draft
from clipmill.pipelines.proposals.findings_of_folder import look_at
from clipmill.pipelines.run.header_process import read_headers
from clipmill.stages.storage.root import Root


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read headers in this process. tests/test_init_corpora.py reads them in another one, as users do."""
    read_headers_here(monkeypatch)


def built(config: Path) -> Any:
    """Build a configuration as it was written; return the manifest as a table."""
    run("build", config)
    return open_dataset(load(config).config.output.root).manifest()


def test_semicolons_and_milliseconds(tmp_path: Path, in_process: None) -> None:
    """Sidecars that begin with a header, in milliseconds, which only the lengths of the recordings show."""
    folder = tmp_path / "field"
    for stem in recordings(folder):
        rows = [f"{start * 1000:.0f};{end * 1000:.0f};{label}" for start, end, label in EVENTS]
        (folder / f"{stem}.csv").write_text("\n".join(["begin;until;what", *rows]) + "\n")
    plain, text = propose(folder, tmp_path / "made.yaml")
    (source,) = plain["sources"]
    assert source["annotations"] == {
        "sidecar": "{stem}.csv",
        "delimiter": ";",
        "time_unit": "ms",
        "columns": {"start": "begin", "end": "until", "label": "what"},
    }
    assert "the largest end, 3,900, is in a recording of 4 s" in " ".join(text.replace("#", " ").split())
    assert "seconds and " in text or "in milliseconds" in text
    manifest = built(tmp_path / "made.yaml")
    assert Counter(manifest["label"].to_pylist()) == {"dog": 12, "cat": 6}
    assert sorted({round(v, 3) for v in manifest["duration_s"].to_pylist()}) == [0.75, 1.0, 1.4]


def test_labels_of_audacity_in_a_tree_of_their_own(tmp_path: Path) -> None:
    for part in ("a", "b"):
        for stem in recordings(tmp_path / "corpus/audio" / part, 3):
            place = tmp_path / "corpus/labels" / part / f"{stem}.txt"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("".join(f"{start}\t{end}\t{label}\n" for start, end, label in EVENTS))
    plain, _ = propose(tmp_path / "corpus", tmp_path / "made.yaml")
    (source,) = plain["sources"]
    assert source["root"] == str(tmp_path / "corpus/audio")
    assert source["annotations"] == {
        "root": str(tmp_path / "corpus/labels"), "sidecar": "{stem}.txt", "format": "audacity",
    }  # fmt: skip
    assert source["segment"] == {"mode": "annotation"}


def test_one_of_several_tiers_is_chosen_and_the_others_are_lines_to_uncomment(tmp_path: Path) -> None:
    folder = tmp_path / "speech"
    words = [(i / 4, i / 4 + 0.25, f"w{i}") for i in range(12)]
    for stem in recordings(folder):
        tiers = {"words": words, "sentence": [(0.0, 4.0, " ".join(word for _, _, word in words))]}
        (folder / f"{stem}.TextGrid").write_text(text_grid(tiers, 4.0))
    plain, text = propose(folder, tmp_path / "made.yaml", "--for", "asr")
    annotations = plain["sources"][0]["annotations"]
    assert annotations == {"sidecar": "{stem}.TextGrid", "format": "textgrid", "tier": "sentence"}
    assert "# tier: words" in text
    assert "'sentence' has the longest texts" in " ".join(text.replace("#", " ").split())
    plain, text = propose(folder, tmp_path / "made.yaml")
    assert plain["sources"][0]["annotations"]["tier"] == "words", "of labels, the tier with most rows"
    assert "# tier: sentence" in text


def test_a_table_without_a_header(tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    rows = [f"{stem}.wav,{start},{end},{label}" for stem in recordings(folder) for start, end, label in EVENTS]
    (folder / "events.txt").write_text("\n".join(rows) + "\n")
    (source,) = propose(folder, tmp_path / "made.yaml")[0]["sources"]
    assert source["annotations"] == {
        "table": "events.txt", "recording": 0, "header": False, "columns": {"start": 1, "end": 2, "label": 3},
    }  # fmt: skip
    assert source["label"] == {"from": "annotation"}


def test_start_and_duration_in_samples(tmp_path: Path) -> None:
    """A duration is recognised by being less than a start, and samples by the lengths of the recordings."""
    folder = tmp_path / "calls"
    stems = recordings(folder)
    rows = [
        f"{stem}\t{start * RATE:.0f}\t{(end - start) * RATE:.0f}\t{label}"
        for stem in stems
        for start, end, label in EVENTS
    ]
    (folder / "calls.tsv").write_text("\n".join(rows) + "\n")
    (source,) = propose(folder, tmp_path / "made.yaml")[0]["sources"]
    assert source["annotations"] == {
        "table": "calls.tsv", "recording": 0, "header": False, "delimiter": "tab", "time_unit": "samples",
        "columns": {"start": 1, "duration": 2, "label": 3},
    }  # fmt: skip


def test_times_that_fit_no_recording_are_not_used_as_times(tmp_path: Path) -> None:
    """As in UrbanSound8K, where start and end are those in a longer recording."""
    folder = tmp_path / "slices"
    rows = [f"{stem}.wav,{200.5 + i},{204.5 + i},dog" for i, stem in enumerate(recordings(folder))]
    (folder / "meta.csv").write_text("\n".join(["file,start,end,class", *rows]) + "\n")
    plain, text = propose(folder, tmp_path / "made.yaml")
    (source,) = plain["sources"]
    assert source["annotations"]["columns"] == {"label": "class"}
    assert source["segment"] == {"mode": "whole"}
    assert "fit the recordings in no unit" in " ".join(text.replace("#", " ").split())


def test_rows_without_their_recordings_are_left_out_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "part"
    names = [f"{stem}.wav" for stem in recordings(folder)] + [f"gone{i}.wav" for i in range(6)]
    (folder / "labels.csv").write_text(
        "filename,species,fold\n" + "".join(f"{n},owl{i % 2},{i % 3 + 1}\n" for i, n in enumerate(names))
    )
    plain, text = propose(folder, tmp_path / "made.yaml", "--for", "birds")
    assert plain["sources"][0]["annotations"] == {
        "table": "labels.csv", "recording": "filename", "missing_recordings": "ignore", "columns": {"label": "species"},
    }  # fmt: skip
    assert "6 rows of 12 looked at name recordings that are not here" in text
    assert plain["split"] == {"from": "fold", "map": {"1": "train", "2": "val", "3": "test"}}
    assert plain["audio"]["sample_rate_hz"] == RATE, (
        "no recording is resampled upwards, though birds usually have 32 kHz"
    )


def test_names_of_a_known_corpus(tmp_path: Path, in_process: None) -> None:
    """Names as in RAVDESS: labels and actors are those of the recipe, and no actor is on two sides."""
    folder = tmp_path / "emotions"
    for actor in range(1, 7):
        for emotion in range(1, 5):
            name = f"03-01-{emotion:02}-01-01-01-{actor:02}.wav"
            write_audio(folder / f"Actor_{actor:02}" / name, tone(0.5, 8000, seed=actor), 8000)
    plain, text = propose(folder, tmp_path / "made.yaml", "--for", "emotion")
    assert "`clipmill recipes ravdess` is made for this" in text
    assert plain["split"]["by"] in ("actor", "speaker")
    manifest = built(tmp_path / "made.yaml")
    assert set(manifest["label"].to_pylist()) == {"neutral", "calm", "happy", "sad"}
    sides: dict[str, set[str]] = {}
    for uri, split in zip(manifest["source_uri"].to_pylist(), manifest["split"].to_pylist(), strict=True):
        sides.setdefault(uri.split("/")[-2], set()).add(split)
    assert len(sides) == 6
    assert all(len(each) == 1 for each in sides.values())


def test_folders_as_labels_and_as_splits(tmp_path: Path) -> None:
    for side in ("train", "test"):
        for label in ("rain", "wind"):
            recordings(tmp_path / "scenes" / side / label, 3, 1.0, 8000)
    plain, _ = propose(tmp_path / "scenes", tmp_path / "made.yaml")
    assert plain["sources"][0]["label"] == {"from": "folder"}
    assert plain["sources"][0]["fields"] == "^(?P<set>test|train)/"
    assert plain["split"] == {"from": "set", "map": {"test": "test", "train": "train"}}


def test_lists_of_splits(tmp_path: Path) -> None:
    folder = tmp_path / "words"
    for label in ("yes", "no"):
        recordings(folder / label, 5, 1.0, 8000)
    (folder / "testing_list.txt").write_text("yes/r0.wav\nno/r0.wav\n")
    (folder / "validation_list.txt").write_text("yes/r1.wav\nno/r1.wav\n")
    plain, _ = propose(folder, tmp_path / "made.yaml")
    assert plain["split"] == {
        "from_files": {"test": "testing_list.txt", "val": "validation_list.txt"}, "default": "train",
    }  # fmt: skip
    assert plain["sources"][0]["label"] == {"from": "folder"}


def test_tables_of_splits_are_read_as_one(tmp_path: Path) -> None:
    """As in FSDnoisy18k and DCASE: a table for each side. Another one beside them is of something else."""
    folder = tmp_path / "sides"
    stems = recordings(folder / "audio", 9, 1.0, 8000)
    (folder / "meta").mkdir()
    for side, part in (("train", stems[:6]), ("test", stems[6:])):
        rows = [f"{stem}.wav,owl{i % 2}" for i, stem in enumerate(part)]
        (folder / f"meta/{side}.csv").write_text("\n".join(["fname,species", *rows]) + "\n")
    (folder / "meta/vocabulary.csv").write_text("owl0,1\nowl1,2\n")
    plain, _ = propose(folder, tmp_path / "made.yaml")
    assert plain["sources"][0]["annotations"] == {
        "table": "meta/t*.csv", "recording": "fname", "columns": {"label": "species"},
    }  # fmt: skip
    lists = {side: {"file": f"meta/{side}.csv", "column": "fname"} for side in ("train", "test")}
    assert plain["split"] == {"from_files": lists}


def test_annotations_of_a_few_recordings_do_not_leave_out_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "few"
    stems = recordings(folder, 12, 1.0)
    (folder / f"{stems[0]}.txt").write_text("0.1\t0.5\tdog\n")
    (folder / f"{stems[1]}.raw").write_bytes(b"\x00\x01" * 50)
    plain, text = propose(folder, tmp_path / "made.yaml")
    assert "annotations" not in plain["sources"][0]
    assert "it is about only 1 of 12 recordings" in " ".join(text.replace("#", " ").split())


def test_every_alternative_can_take_the_place_of_its_key(tmp_path: Path) -> None:
    """Each line to uncomment is a configuration that loads, with nothing else changed."""
    folder = tmp_path / "many"
    rows = [
        f"{stem}.wav\t{i % 2}.5\t{i % 2 + 2}\towl{i % 2}\tyes\tann{i % 3}"
        for i, stem in enumerate(recordings(folder, 12))
    ]
    (folder / "t.tsv").write_text("\n".join(["file\tonset\toffset\tspecies\tclass\tspeaker", *rows]) + "\n")
    (folder / "u.tsv").write_text("file\tclass\n" + "".join(f"r{i}.wav\tx{i % 2}\n" for i in range(12)))
    for purpose in ("asr", "tts", "sound-events", "emotion", "birds", "pictures"):
        seen = look_at(str(folder), purpose, headers_here, {})
        n = 0
        for changed in alternatives(draft(seen, Way(), "out")):
            loads(write(changed), environ={})
            n += 1
        assert n > 2


def alternatives(parts: list[Part]) -> Iterator[list[Part]]:
    """Yield parts in which one key has one of its alternatives."""
    for at, part in enumerate(parts):
        for other in part.instead:
            yield [*parts[:at], Part(part.key, other.value), *parts[at + 1 :]]
        if isinstance(part.value, list) and part.value and isinstance(part.value[0], Part):
            for inner in alternatives(part.value):
                yield [*parts[:at], replace(part, value=inner), *parts[at + 1 :]]
        elif isinstance(part.value, list) and part.value and isinstance(part.value[0], list) and part.key == "sources":
            for inner in alternatives(part.value[0]):
                yield [*parts[:at], replace(part, value=[inner]), *parts[at + 1 :]]


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    folder = tmp_path / "tags"
    cells = ["dog,rain", "rain", "dog,wind", "wind,rain", "dog", "wind"]
    rows = [f'{stem}.wav,"{cell}"' for stem, cell in zip(recordings(folder), cells, strict=True)]
    (folder / "tags.csv").write_text("\n".join(["fname,labels", *rows]) + "\n")
    plain, _ = propose(folder, tmp_path / "made.yaml")
    assert plain["sources"][0]["label"] == {"from": "annotation", "several": True}


def test_transcripts_beside_recordings(tmp_path: Path) -> None:
    folder = tmp_path / "read"
    for stem in recordings(folder):
        (folder / f"{stem}.txt").write_text(f"this is, or was, {stem}\n")
    plain, _ = propose(folder, tmp_path / "made.yaml", "--for", "tts")
    assert plain["sources"][0]["annotations"]["fields"] == {"text": 0}
    assert plain["sources"][0]["segment"] == {"mode": "whole"}
    assert [next(iter(step)) for step in plain["clips"]] == ["trim", "level"]


def test_long_recordings_are_cut_as_the_purpose_wants_it(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    recordings(folder, 2, 65.0, 8000)
    assert propose(folder, tmp_path / "made.yaml")[0]["sources"][0]["segment"]["mode"] == "window"
    assert propose(folder, tmp_path / "made.yaml", "--for", "asr")[0]["sources"][0]["segment"]["mode"] == "speech"
    plain, _ = propose(folder, tmp_path / "made.yaml", "--for", "pictures")
    assert plain["output"]["images"] == {"height": 224, "width": 224}


def test_files_that_cannot_be_read_are_counted_and_do_not_hold_the_build_back(tmp_path: Path, in_process: None) -> None:
    folder = tmp_path / "mixed"
    recordings(folder, 8, 1.0, 8000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    plain, text = propose(folder, tmp_path / "made.yaml")
    assert "1 header of 9 could not be read: 'broken.wav'" in text
    assert 0.11 < plain["limits"]["max_rejected_share"] < 0.5
    assert built(tmp_path / "made.yaml").num_rows == 8


def test_annotations_that_a_build_would_reject_are_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "ended"
    for stem in recordings(folder, 6, 1.0):
        (folder / f"{stem}.TextGrid").write_text(text_grid({"words": [(5.0, 6.0, "late")]}, 6.0))
    plain, text = propose(folder, tmp_path / "made.yaml")
    assert "annotations" not in plain["sources"][0]
    assert "is not used: 100% of its rows end after their recordings do" in " ".join(text.replace("#", " ").split())


def test_folders_without_audio_and_files_that_exist(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("a")
    file = tmp_path / "c.yaml"
    assert "no audio under" in run("init", tmp_path / "texts", "--output", file, code=2)
    assert not file.exists()
    assert "does not exist" in run("init", tmp_path / "nowhere", "--output", file, code=1)
    recordings(tmp_path / "in", 2, 1.0, 8000)
    file.write_text("mine")
    error = json.loads(run("init", tmp_path / "in", "--output", file, "--json", code=2))
    assert error["code"] == "usage"
    assert "--force" in error["error"]
    assert file.read_text() == "mine"
    run("init", tmp_path / "in", "--output", file, "--force")
    assert yaml.safe_load(file.read_text())["name"] == "in"
    assert run("init", tmp_path / "in", "--output", "-").startswith("# yaml-language-server: $schema=")


def test_the_first_line_names_a_schema_that_accepts_the_file(tmp_path: Path) -> None:
    import jsonschema

    recordings(tmp_path / "in", 2, 1.0, 8000)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml")
    first = text.partition("\n")[0]
    address = first.removeprefix("# yaml-language-server: $schema=file://")
    jsonschema.Draft7Validator(json.loads(Path(address).read_text())).validate(plain)


def test_a_dataset_is_never_inside_what_it_is_made_of(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    recordings(folder, 2, 1.0, 8000)
    plain, _ = propose(folder, folder / "c.yaml")
    assert plain["output"]["root"] == str(tmp_path / "in-dataset")
    (tmp_path / "in-dataset").write_text("something else")
    assert propose(folder, tmp_path / "made.yaml")[0]["output"]["root"] == str(tmp_path / "in-dataset-2")


@pytest.mark.parametrize(
    "name", ["a: b #c", 'it\'s "quoted"', "${HOME} and ${x", "line\nbreak\u2028", "日本語 – ü", "- [x] {y}", "'", "~"]
)
def test_names_can_be_anything(tmp_path: Path, name: str) -> None:
    """Names of folders and files, which are labels and tables too."""
    folder = tmp_path / name
    for label in (name, "other"):
        recordings(folder / label, 3, 0.5, 8000)
    table = "".join(f"other/r{i}.wav,{i}\n" for i in range(3))
    (folder / f"{name}.csv").write_text(table)
    propose(folder, tmp_path / "made.yaml")
    config = load(tmp_path / "made.yaml").config
    assert config.sources[0].root == str(folder)
    assert json.loads(run("plan", tmp_path / "made.yaml", "--no-sample", "--json"))["recordings_listed"] == 6
    shutil.rmtree(folder)


def test_a_folder_in_a_store(tmp_path: Path, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's address and keys are those of the environment. A table and recordings are read from it."""
    monkeypatch.setattr("clipmill.pipelines.run.header_process.read_headers", read_headers)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    folder = tmp_path / "mine"
    rows = [f"{stem}.wav,{start},{end},{label}" for stem in recordings(folder, 3) for start, end, label in EVENTS]
    (folder / "events.csv").write_text("\n".join(["file,start,end,label", *rows]) + "\n")
    store = Root(f"s3://{bucket}/mine", {"endpoint_url": endpoint})
    for path in folder.iterdir():
        store.write_bytes(path.name, path.read_bytes())
    run("init", f"s3://{bucket}/mine", "--output", tmp_path / "made.yaml")
    plain = yaml.safe_load((tmp_path / "made.yaml").read_text())
    assert plain["sources"][0]["root"] == f"s3://{bucket}/mine"
    assert plain["sources"][0]["annotations"]["columns"] == {"start": "start", "end": "end", "label": "label"}
    assert plain["output"]["root"] == str(tmp_path / "mine-dataset")
