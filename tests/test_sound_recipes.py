"""Recipes for sounds and music, each on a slice of the corpus or a miniature of it, against truth written by hand."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from conftest import tone, write_audio
from corpus_miniatures import ANY, Miniature, built, lines

pytestmark = pytest.mark.usefixtures("in_process")

_GENRES = "blues classical country disco hiphop jazz metal pop reggae rock".split()
URBANSOUND8K = Miniature(
    "urbansound8k",
    {
        "audio/fold1/101415-3-0-2.wav": (0.3, 44100),
        "audio/fold5/100032-3-0-0.wav": (0.3, 22050),
        "audio/fold9/100652-3-0-0.wav": (0.3, 48000),
        "audio/fold10/100648-1-0-0.wav": (0.3, 44100),
        "metadata/UrbanSound8K.csv": lines(
            "slice_file_name,fsID,start,end,salience,fold,classID,class",
            "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark",
            "101415-3-0-2.wav,101415,58.5,62.5,1,1,3,dog_bark",
            "100652-3-0-0.wav,100652,0.0,4.0,1,9,3,dog_bark",
            "100648-1-0-0.wav,100648,4.823402,5.471927,2,10,1,car_horn",
        ),
        "UrbanSound8K_README.txt": "UrbanSound8K\n",
    },
    {
        "audio/fold1/101415-3-0-2.wav": ("train", "dog_bark", {"fold": "1", "fsID": "101415", "start_s": 0.0}),
        "audio/fold5/100032-3-0-0.wav": ("train", "dog_bark", {"fold": "5", "original_end": "0.317551"}),
        "audio/fold9/100652-3-0-0.wav": ("val", "dog_bark", {"fold": "9", "duration_s": 0.3}),
        "audio/fold10/100648-1-0-0.wav": (
            "test",
            "car_horn",
            {"fold": "10", "original_start": "4.823402", "salience": "2"},
        ),
    },
)
GTZAN = Miniature(
    "gtzan",
    {f"{g}/{g}.{n:05d}.{x}": (0.2, 22050) for x, g in [("au", "blues"), ("wav", "rock")] for n in range(5)}
    | {"jazz/jazz.00054.wav": b"RIFF damaged", **{f"jazz/jazz.{n:05d}.wav": (0.2, 22050) for n in range(50, 54)}},
    {
        f"{g}/{g}.{n:05d}.{x}": (ANY, g, {"track": f"{n:05d}"})
        for x, g in [("au", "blues"), ("wav", "rock")]
        for n in range(5)
    }
    | {f"jazz/jazz.{n:05d}.wav": (ANY, "jazz", {}) for n in range(50, 54)},
    sizes={"train": 8, "val": 3, "test": 3},
)
GTZAN_FILTERED = Miniature(
    "gtzan-filtered",
    {
        **{f"blues/blues.{n:05d}.wav": (0.2, 22050) for n in (29, 30, 31, 0)},
        **{f"pop/pop.{n:05d}.au": (0.2, 22050) for n in (1, 2)},
        "train_filtered.txt": "blues/blues.00029.wav\npop/pop.00001.wav\n",
        "valid_filtered.txt": "blues/blues.00030.wav\npop/pop.00002.wav",
        "test_filtered.txt": "blues/blues.00031.wav\n",
    },
    {
        "blues/blues.00029.wav": ("train", "blues", {}),
        "pop/pop.00001.au": ("train", "pop", {"track": "00001"}),
        "blues/blues.00030.wav": ("val", "blues", {}),
        "pop/pop.00002.au": ("val", "pop", {}),
        "blues/blues.00031.wav": ("test", "blues", {}),
    },
    without=1,
)
_NSYNTH = {
    "nsynth-train/audio/bass_synthetic_033-022-050.wav": ("train", "bass", "bass_synthetic_033", "synthetic", "022", "050"),
    "nsynth-train/audio/synth_lead_synthetic_004-060-127.wav": ("train", "synth_lead", "synth_lead_synthetic_004", "synthetic", "060", "127"),
    "nsynth-valid/audio/guitar_acoustic_014-093-100.wav": ("val", "guitar", "guitar_acoustic_014", "acoustic", "093", "100"),
    "nsynth-test/audio/vocal_electronic_000-057-025.wav": ("test", "vocal", "vocal_electronic_000", "electronic", "057", "025"),
}  # fmt: skip
NSYNTH = Miniature(
    "nsynth",
    {**dict.fromkeys(_NSYNTH, 0.2), **{f"nsynth-{s}/examples.json": "{}" for s in ("train", "valid", "test")}},
    {
        path: (split, label, {"instrument": instrument, "kind": kind, "pitch": pitch, "velocity": velocity})
        for path, (split, label, instrument, kind, pitch, velocity) in _NSYNTH.items()
    },
)
BIRDCLEF = Miniature(
    "birdclef",
    {
        "train_audio/abethr1/XC128013.ogg": (7.0, 32000),
        "train_audio/abethr1/XC363501.ogg": (1.0, 32000),
        "train_audio/zebdov1/XC58278.ogg": (5.0, 32000),
        "train_metadata.csv": lines(
            "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,license,rating,url,filename",
            "abethr1,[],['song'],4.3906,38.2788,Turdus tephronotus,African Bare-eyed Thrush,Rolf A. de By,"
            "Creative Commons Attribution-NonCommercial-ShareAlike 3.0,4.0,https://www.xeno-canto.org/128013,abethr1/XC128013.ogg",
            "abethr1,\"['rindov', 'combul2']\",['call'],-2.9524,38.2921,Turdus tephronotus,African Bare-eyed Thrush,James Bradley,"
            "Creative Commons Attribution-NonCommercial-ShareAlike 4.0,3.5,https://www.xeno-canto.org/363501,abethr1/XC363501.ogg",
            "zebdov1,[],[''],,,Geopelia striata,Zebra Dove,Somebody,CC,0.0,https://www.xeno-canto.org/58278,zebdov1/XC58278.ogg",
        ),
        "sample_submission.csv": "row_id,abethr1\n",
        "test_soundscapes/soundscape_29201.ogg": (1.0, 32000),
    },
    {
        "train_audio/abethr1/XC128013.ogg": [
            (ANY, "abethr1", {"duration_s": 5.0, "start_s": 0.0, "latitude": "4.3906"}),
            (ANY, "abethr1", {"duration_s": 5.0, "start_s": 5.0}),
        ],
        "train_audio/abethr1/XC363501.ogg": (ANY, "abethr1", {"secondary_labels": "['rindov', 'combul2']", "duration_s": 5.0}),
        "train_audio/zebdov1/XC58278.ogg": (ANY, "zebdov1", {"author": "Somebody", "rating": "0.0"}),
    },
    apart="source_uri",
)  # fmt: skip
MILLION_SONG = Miniature(
    "million-song",
    {
        **{f"audio/A/A/{t}.mp3": (0.5, 22050) for t in ("TRAAAAK128F9318786", "TRAAAAW128F429D538", "TRAAABD128F429CF47")},
        "audio/Z/TRZZZZZ128F4200000.mp3": (0.5, 22050),
        "msd_tagtraum_cd2c.cls": lines(
            "# MSD Genre Annotations", "#", "TRAAAAK128F9318786\tRock", "TRAAAAW128F429D538\tRap", "TRAAABD128F429CF47\tRock",
            "TRAAADZ128F9348C2E\tLatin",
        ),
    },
    {
        "audio/A/A/TRAAAAK128F9318786.mp3": (ANY, "Rock", {"track": "TRAAAAK128F9318786"}),
        "audio/A/A/TRAAAAW128F429D538.mp3": (ANY, "Rap", {}),
        "audio/A/A/TRAAABD128F429CF47.mp3": (ANY, "Rock", {}),
    },
    without=1,
    ignored=1,
)  # fmt: skip
DCASE_SCENES = Miniature(
    "dcase-scenes",
    {
        **dict.fromkeys(
            (
                "audio/airport-barcelona-0-0-a.wav", "audio/metro_station-lyon-1139-42250-b.wav", "audio/park-lisbon-1099-43566-s1.wav",
                "audio/tram-vienna-161-4926-c.wav",
            ),
            (0.3, 44100),
        ),
        "meta.csv": lines(
            "filename\tscene_label\tidentifier\tsource_label",
            "audio/airport-barcelona-0-0-a.wav\tairport\tbarcelona-0\ta",
            "audio/metro_station-lyon-1139-42250-b.wav\tmetro_station\tlyon-1139\tb",
            "audio/park-lisbon-1099-43566-s1.wav\tpark\tlisbon-1099\ts1",
            "audio/tram-vienna-161-4926-c.wav\ttram\tvienna-161\tc",
        ),
        "evaluation_setup/fold1_train.csv": lines(
            "filename\tscene_label", "audio/airport-barcelona-0-0-a.wav\tairport", "audio/metro_station-lyon-1139-42250-b.wav\tmetro_station"
        ),
        "evaluation_setup/fold1_test.csv": lines("filename", "audio/park-lisbon-1099-43566-s1.wav"),
        "evaluation_setup/fold1_evaluate.csv": lines("filename\tscene_label", "audio/park-lisbon-1099-43566-s1.wav\tpark"),
    },
    {
        "audio/airport-barcelona-0-0-a.wav": ("train", "airport", {"city": "barcelona", "location": "0", "device": "a"}),
        "audio/metro_station-lyon-1139-42250-b.wav": ("train", "metro_station", {"city": "lyon", "segment": "42250"}),
        "audio/park-lisbon-1099-43566-s1.wav": ("test", "park", {"device": "s1"}),
    },
    without=2 + 3,
)  # fmt: skip
_DESED_VALIDATION = "audio/validation/validation"
DESED = Miniature(
    "desed",
    {
        "audio/train/synthetic21_train/soundscapes/0.wav": (4.0, 16000),
        "audio/train/synthetic21_train/soundscapes/1.wav": (4.0, 16000),
        "audio/train/synthetic21_train/soundscapes/0.jams": "{}",
        "audio/train/weak/Y-1nilez17Dg_30.000_40.000.wav": 0.5,
        f"{_DESED_VALIDATION}/Y00pbt6aJV8Y_350.000_360.000.wav": (10.0, 16000),
        "metadata/train/weak.tsv": "filename\tevent_labels\nY-1nilez17Dg_30.000_40.000.wav\tSpeech\n",
        "metadata/train/synthetic21_train/soundscapes.tsv": lines(
            "filename\tonset\toffset\tevent_label", "0.wav\t0.5\t1.25\tAlarm_bell_ringing", "0.wav\t2.0\t3.5\tSpeech", "1.wav\t0.0\t4.0\tFrying"
        ),
        "metadata/validation/validation.tsv": lines(
            "filename\tonset\toffset\tevent_label",
            "Y00pbt6aJV8Y_350.000_360.000.wav\t0.000\t9.971\tVacuum_cleaner",
            "Y00pK0GMmE9s_70.000_80.000.wav\t0.000\t10.000\tVacuum_cleaner",
        ),
    },
    {
        "audio/train/synthetic21_train/soundscapes/0.wav": [
            ("train", "Alarm_bell_ringing", {"start_s": 0.5, "duration_s": 0.75}),
            ("train", "Speech", {"start_s": 2.0, "duration_s": 1.5}),
        ],
        "audio/train/synthetic21_train/soundscapes/1.wav": ("train", "Frying", {"duration_s": 4.0}),
        f"{_DESED_VALIDATION}/Y00pbt6aJV8Y_350.000_360.000.wav": ("test", "Vacuum_cleaner", {"duration_s": 9.971}),
    },
    ignored=1,
)  # fmt: skip
_FMA_HEADER = lines(
    ",".join(["", *["album"] * 13, *["artist"] * 17, *["set"] * 2, *["track"] * 20]),
    ","
    "comments,date_created,date_released,engineer,favorites,id,information,listens,producer,tags,title,tracks,type,"
    "active_year_begin,active_year_end,associated_labels,bio,comments,date_created,favorites,id,latitude,location,longitude,members,name,"
    "related_projects,tags,website,wikipedia_page,split,subset,"
    "bit_rate,comments,composer,date_created,date_recorded,duration,favorites,genre_top,genres,genres_all,information,interest,"
    "language_code,license,listens,lyricist,number,publisher,tags,title",
    "track_id" + "," * 52,
)


def _fma_row(track: int, split: str, genre: str, artist: int, title: str, subset: str = "small") -> str:
    cells = [str(track), *[""] * 52]
    cells[7], cells[17] = '"<p>Two lines,\nand a comma</p>"', '"<p>Their bio</p>\n\n<p>with ""quotes""</p>"'
    cells[21], cells[31], cells[32], cells[40], cells[52] = str(artist), split, subset, genre, f'"{title}"'
    return ",".join(cells)


FMA = Miniature(
    "fma",
    {
        "fma_small/000/000002.mp3": (0.6, 44100),
        "fma_small/000/000140.mp3": (0.6, 44100),
        "fma_small/154/154308.mp3": (0.6, 44100),
        "fma_small/checksums": "0123  000/000002.mp3\n",
        "fma_metadata/tracks.csv": _FMA_HEADER
        + lines(
            _fma_row(2, "training", "Hip-Hop", 1, "Food"),
            _fma_row(3, "training", "Hip-Hop", 1, "Electric Ave", "medium"),
            _fma_row(140, "validation", "Folk", 54, "Queen Of The Wires, again"),
            _fma_row(99134, "training", "Pop", 7, "Of another subset", "large"),
            _fma_row(154308, "test", "Rock", 99, "Last"),
        ),
    },
    {
        "fma_small/000/000002.mp3": (
            "train",
            "Hip-Hop",
            {"set": "training", "subset": "small", "artist_id": "1", "title": "Food"},
        ),
        "fma_small/000/000140.mp3": ("val", "Folk", {"title": "Queen Of The Wires, again"}),
        "fma_small/154/154308.mp3": ("test", "Rock", {"artist_id": "99"}),
    },
    ignored=3 + 2,
)
URBANSOUND_EVENTS = Miniature(
    "urbansound-events",
    {
        "dog_bark/344.wav": (4.0, 22050),
        "dog_bark/344.csv": "0.5,1.25,1,dog_bark\n2.0,3.5,2,dog_bark\n",
        "dog_bark/344.json": '{"id": 344}',
        "siren/157648.mp3": (2.0, 44100),
        "siren/157648.csv": "0.000000,1.500000,1,siren\n",
        "drilling/14772.flac": (1.0, 44100),
        "drilling/14772.csv": "0.1,0.9,2,drilling",
    },
    {
        "dog_bark/344.wav": [
            (ANY, "dog_bark", {"start_s": 0.5, "duration_s": 0.75, "salience": "1", "folder": "dog_bark"}),
            (ANY, "dog_bark", {"start_s": 2.0, "duration_s": 1.5, "salience": "2"}),
        ],
        "siren/157648.mp3": (ANY, "siren", {"duration_s": 1.5}),
        "drilling/14772.flac": (ANY, "drilling", {"salience": "2"}),
    },
    apart="source_uri",
)
MINIATURES = [
    URBANSOUND_EVENTS,
    FMA,
    URBANSOUND8K,
    GTZAN,
    GTZAN_FILTERED,
    NSYNTH,
    BIRDCLEF,
    MILLION_SONG,
    DCASE_SCENES,
    DESED,
]


@pytest.mark.parametrize("miniature", MINIATURES, ids=lambda one: one.recipe)
def test_a_miniature_gives_what_the_authors_say(miniature: Miniature, tmp_path: Path) -> None:
    miniature.check(tmp_path)


def test_urbansound8k_with_rows_of_its_own_table(corpora: Path, tmp_path: Path) -> None:
    """Every row of a real excerpt of the table: names, folds and classes."""
    table = corpora / "annotations/urbansound8k-csv/UrbanSound8K.excerpt.csv"
    rows = list(csv.DictReader(table.open()))
    for i, row in enumerate(rows):
        place = tmp_path / f"in/audio/fold{row['fold']}/{row['slice_file_name']}"
        write_audio(place, tone(0.1, 8000, seed=i), 8000)
    (tmp_path / "in/metadata").mkdir()
    shutil.copy(table, tmp_path / "in/metadata/UrbanSound8K.csv")
    clips = {Path(c["source_uri"]).name: c for c in built("urbansound8k", tmp_path / "in", tmp_path / "out")}
    assert len(clips) == len(rows)
    for row in rows:
        clip = clips[row["slice_file_name"]]
        assert (clip["label"], clip["fsID"], clip["salience"]) == (row["class"], row["fsID"], row["salience"])
        assert clip["split"] == {"9": "val", "10": "test"}.get(row["fold"], "train")


def test_urban_sed_as_it_is_given_out(corpora: Path, tmp_path: Path) -> None:
    """The real annotations; the recording beside them has been cut to 1 s, so one of the original length takes its place."""
    name = "soundscape_train_uniform1736"
    annotations = corpora / "soundata/tests/resources/sound_datasets/urbansed/annotations"
    corpus = tmp_path / "in"
    shutil.copytree(annotations, corpus / "annotations")
    write_audio(corpus / f"audio/train/{name}.wav", tone(10.0, 44100), 44100)
    events = [x.split("\t") for x in (annotations / f"train/{name}.txt").read_text().splitlines()]
    clips = built("urban-sed", corpus, tmp_path / "out")
    found = sorted((c["start_s"], c["duration_s"], c["label"], c["split"]) for c in clips)
    wanted = sorted((float(a), float(b) - float(a), label, "train") for a, b, label in events)
    assert [f[2:] for f in found] == [w[2:] for w in wanted]
    for f, w in zip(found, wanted, strict=True):
        assert f[:2] == pytest.approx(w[:2], abs=1e-3)


def test_tut_sound_events_as_they_are_given_out(corpora: Path, tmp_path: Path) -> None:
    """With a second recording, which is in the test list of the first fold; the real one is in that of the fourth."""
    given = corpora / "soundata/tests/resources/sound_datasets/tut2017se/TUT-sound-events-2017-development"
    corpus = tmp_path / "in"
    shutil.copytree(given, corpus)
    rows = [x.split("\t") for x in (given / "meta/street/a001.ann").read_text().splitlines()]
    write_audio(corpus / "audio/street/b099.wav", tone(3.0, 16000), 16000)
    (corpus / "meta/street/b099.ann").write_text("audio/street/b099.wav\tstreet\t0.5\t2.0\tcar\tmixture\tb099\r\n")
    clips = built("tut-sed", corpus, tmp_path / "out")
    length = max(c["start_s"] + c["duration_s"] for c in clips)
    wanted = sorted((float(r[2]), r[4]) for r in rows if float(r[3]) <= length + 0.1)
    train = sorted((c["start_s"], c["label"]) for c in clips if c["split"] == "train")
    assert [label for _, label in train] == [label for _, label in wanted]
    assert [c["label"] for c in clips if c["split"] == "test"] == ["car"]
    assert {c["scene"] for c in clips} == {"street"}


def test_fsd50k_has_lists_of_labels(corpora: Path, tmp_path: Path) -> None:
    """Real rows and recordings, one of each of the authors' splits."""
    clips = built("fsd50k", corpora / "soundata/tests/resources/sound_datasets/fsd50k", tmp_path / "out")
    found = {Path(c["source_uri"]).stem: (c["split"], set(c["labels"])) for c in clips}
    guitar = {"Electric_guitar", "Guitar", "Plucked_string_instrument", "Musical_instrument", "Music"}
    assert found["64760"] == ("train", guitar)
    assert found["21914"] == ("val", {"Crushing"})
    assert found["99"][0] == "test"
    assert len(found["99"][1]) == 14
    assert {c["set"] for c in clips} == {"train", "val", "eval"}
