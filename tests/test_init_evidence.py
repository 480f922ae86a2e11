"""init: what it makes of tables whose names tell nothing, and what it says of what it does not use."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run
from init_trees import EVENTS, RATE, propose, read_headers_here, recordings

from clipmill.schemas.config.annotation_roles import near_miss, role_elsewhere


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read headers in this process."""
    read_headers_here(monkeypatch)


def in_one_line(text: str) -> str:
    return " ".join(text.replace("#", " ").split())


def write_table(folder: Path, header: str, rows: list[str], encoding: str = "utf-8") -> None:
    (folder / "t.csv").write_text("\n".join([header, *rows]) + "\n", encoding=encoding)


@pytest.mark.parametrize(
    ("start", "second", "label", "role"),
    [
        ("Beginn", "Ende", "Klasse", "end"),
        ("Anfang (s)", "Dauer (s)", "Kategorie", "duration"),
        ("Début", "Durée", "Étiquette", "duration"),
        ("inicio", "fin", "etiqueta", "end"),
        ("Início", "Duração", "rótulo", "duration"),
        ("inizio", "fine", "etichetta", "end"),
        ("begin", "einde", "klasse", "end"),
        ("Początek", "Długość", "etykieta", "duration"),
    ],
)
def test_usual_names_in_other_languages(start: str, second: str, label: str, role: str) -> None:
    assert start == "begin" or role_elsewhere(start) == "start"
    assert (role_elsewhere(second), role_elsewhere(label)) == (role, "label")
    if start != "begin":
        assert near_miss(start, [start]) is None, "a build takes it for a field, as before"


@pytest.mark.parametrize(
    ("unit", "per_s", "role"),
    [("s", 1, "end"), ("ms", 1000, "end"), ("samples", RATE, "duration"), ("s", 1, "duration")],
)
def test_times_are_found_by_what_the_numbers_are(tmp_path: Path, unit: str, per_s: int, role: str) -> None:
    """Beside a count of rows and a score, which rise or lie within recordings too. Commas are decimal signs here."""
    rows = []
    for stem in recordings(tmp_path / "in"):
        for at, (start, end, label) in enumerate(EVENTS):
            numbers = (start * per_s, (end if role == "end" else end - start) * per_s)
            cells = [f"{x:.0f}" if per_s > 1 else f"{x:.2f}".replace(".", ",") for x in numbers]
            rows.append(";".join([f"{stem}.wav", str(at + 1), *cells, label, f"0,{90 + at}"]))
    write_table(tmp_path / "in", "xa;xb;xc;xd;xe;score", rows)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml")
    (source,) = plain["sources"]
    assert source["annotations"]["columns"] == {"start": "xc", role: "xd", "label": "xe"}
    assert source["annotations"].get("time_unit", "s") == unit
    assert source["segment"] == {"mode": "annotation"}
    said = in_one_line(text)
    assert "no name shows the times, but numbers do: 'xc' rises within recordings" in said
    assert "columns with numbers that are not used: 'xb', 'score'" in said


def test_numbers_that_are_no_times_are_named_and_offered(tmp_path: Path) -> None:
    rows = [f"{stem}.wav,{9000 - i},{70 + i % 3},owl{i % 2}" for i, stem in enumerate(recordings(tmp_path / "in"))]
    write_table(tmp_path / "in", "file,xa,xb,species", rows)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml")
    assert plain["sources"][0]["annotations"]["columns"] == {"label": "species"}
    assert "columns with numbers that are not used: 'xa', 'xb'" in text
    assert "# columns: {start: xa, end: xb, label: species}" in text
    assert "# columns: {start: xa, duration: xb, label: species}" in text
    assert "carried as fields of each clip: xa, xb\n" in text, "only those without a role"


def test_rows_without_times_do_not_cut_a_recording_again_and_again(tmp_path: Path) -> None:
    for folder in ("rain", "wind"):
        recordings(tmp_path / "in" / folder, 3, 1.0, 8000)
    rows = [f"{folder}/r{i}.wav,{tag}" for folder in ("rain", "wind") for i in range(3) for tag in ("a", "b", "c")]
    write_table(tmp_path / "in", "file,tag", rows)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml")
    (source,) = plain["sources"]
    assert "annotations" not in source
    assert source["label"] == {"from": "folder"}
    assert "the 18 rows looked at are about 6 recordings, 3.0 on average" in in_one_line(text)
    assert "# annotations: {table: t.csv" in text


@pytest.mark.parametrize("purpose", ["birds", "asr"])
def test_labels_of_selection_tables_are_in_the_column_that_people_added(tmp_path: Path, purpose: str) -> None:
    names = ["Selection", "View", "Begin Time (s)", "End Time (s)", "Species", "Behaviour"]
    for stem in recordings(tmp_path / "in"):
        rows = [
            [str(i), "Waveform 1", str(start), str(end), f"owl{i % 2}", ("song", "call", "song")[i]]
            for i, (start, end, _) in enumerate(EVENTS)
        ]
        text = "\n".join("\t".join(row) for row in [names, *rows]) + "\n"
        (tmp_path / "in" / f"{stem}.Table.1.selections.txt").write_text(text)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml", "--for", purpose)
    (source,) = plain["sources"]
    assert source["annotations"].get("columns") == ({"label": "Species"} if purpose == "birds" else None)
    assert "label" not in source
    assert "# columns: {label: Behaviour}" in text
    assert "View" not in text
    assert ("# columns: {label: Species}" in text) == (purpose == "asr")


@pytest.mark.parametrize(("seconds", "tail"), [(20.004, "drop"), (25.0, "pad_zero")])
def test_remainders_that_hold_nearly_nothing_are_dropped(tmp_path: Path, seconds: float, tail: str) -> None:
    recordings(tmp_path / "in", 3, seconds, 8000)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml", "--for", "sound-events")
    assert plain["sources"][0]["segment"] == {"mode": "window", "length_s": 10.0, "tail": tail}
    said = in_one_line(text)
    assert "3 of 3 recordings looked at have more than 15 s, the longest" in said
    assert ("fills less than 10% of one, such as 0.004 s, so remainders are dropped" in said) == (tail == "drop")
    assert ("# segment: {mode: window, length_s: 10.0, tail: pad_zero}" in text) == (tail == "drop")


def test_a_column_with_one_value_is_no_label(tmp_path: Path) -> None:
    rows = [f"{stem}.wav,twenties,{'fm'[i % 2]}" for i, stem in enumerate(recordings(tmp_path / "in", 6, 1.0, 8000))]
    write_table(tmp_path / "in", "path,age,gender", rows)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml")
    assert plain["sources"][0]["annotations"]["columns"] == {"label": "gender"}
    assert "# columns: {label: age}" in text


def test_transcripts_have_no_label_unless_it_is_asked_for(tmp_path: Path) -> None:
    stems = recordings(tmp_path / "in", 6, 1.0, 8000)
    rows = [f"{stem}.wav,this is {stem},{'fm'[i % 2]}" for i, stem in enumerate(stems)]
    write_table(tmp_path / "in", "path,sentence,gender", rows)
    plain, text = propose(tmp_path / "in", tmp_path / "made.yaml", "--for", "asr")
    assert "columns" not in plain["sources"][0]["annotations"]
    assert plain["sources"][0]["text"] == {"from": "text"}
    assert "# columns: {label: gender}" in text


def test_a_folder_of_broken_files_is_told_what_is_wrong_with_each(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, content in {"a.wav": b"RIFF", "b.flac": b"", "c.mp3": b"not audio " * 40, "d.wav": b"x"}.items():
        (tmp_path / "in" / name).write_bytes(content)
    error = run("init", tmp_path / "in", "--output", tmp_path / "made.yaml", code=2)
    assert "'a.wav' ends after 4 bytes, 'RIFF'; 'b.flac' is empty; 'c.mp3' begins with 'not audio no'" in error
    assert "; and 1 more" in error
    assert "'d.wav'" not in error


def test_what_a_purpose_needs_and_nobody_found_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    recordings(folder)
    (folder / "t.csv").write_text("file,label\n" + "".join(f"r{i}.wav,{'dog' if i % 2 else 'cat'}\n" for i in range(6)))
    told = "no transcripts were found, which asr needs"
    assert told in run("init", folder, "--output", tmp_path / "a.yaml", "--for", "asr")
    assert told not in run("init", folder, "--output", tmp_path / "b.yaml")
    (folder / "t.csv").write_text(
        "file,text\n" + "".join(f"r{i}.wav,this is what speaker {i} said\n" for i in range(6))
    )
    assert told not in run("init", folder, "--output", tmp_path / "c.yaml", "--for", "asr")
