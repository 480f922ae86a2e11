"""Recipes for corpora whose annotations have a format of their own, each on a miniature of the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_miniatures import Miniature, lines

pytestmark = pytest.mark.usefixtures("in_process")

ZEROTH = Miniature(
    "zeroth-korean",
    {
        **dict.fromkeys(("train_data_01/003/104/104_003_0019.flac", "train_data_01/003/106/106_003_0000.flac"), 0.3),
        "test_data_01/003/137/137_003_0007.flac": 0.3,
        "train_data_01/003/104/104_003.trans.txt": "104_003_0019 그는 한 고교의 교장이다\n",
        "train_data_01/003/106/106_003.trans.txt": "106_003_0000 인사를 결정하는 과정에서\n",
        "test_data_01/003/137/137_003.trans.txt": "137_003_0007 지난해 삼월\n",
        "AUDIO_INFO": "SPEAKERID|NAME|SEX|SCRIPTID|DATASET\n104|Lee|f|003|train_data_01\n",
    },
    {
        "train_data_01/003/104/104_003_0019.flac": ("train", "104", {"text": "그는 한 고교의 교장이다"}),
        "train_data_01/003/106/106_003_0000.flac": (
            "train",
            "106",
            {"text": "인사를 결정하는 과정에서", "set": "train"},
        ),
        "test_data_01/003/137/137_003_0007.flac": ("test", "137", {"text": "지난해 삼월"}),
    },
)


LIBRISPEECH_TEXTS = {
    "train-clean-100/19/198/19-198-0000": "NORTHANGER ABBEY",
    "train-clean-100/19/198/19-198-0001": "THIS LITTLE WORK WAS FINISHED IN THE YEAR EIGHTEEN O THREE",
    "train-other-500/20/205/20-205-0000": "BUT WHY",
    "dev-other/116/288045/116-288045-0000": "AS I APPROACHED THE CITY I HEARD BELLS RINGING",
}


def test_librispeech_has_its_subsets_for_splits(corpora: Path, tmp_path: Path) -> None:
    """With real transcripts of a chapter."""
    given = (corpora / "annotations/librispeech-trans/1089-134686.trans.txt").read_text()
    spoken = dict(line.split(" ", 1) for line in given.splitlines())
    files: dict[str, float | str] = {f"test-clean/1089/134686/{name}.flac": 0.3 for name in spoken}
    files["test-clean/1089/134686/1089-134686.trans.txt"] = given
    for name, text in LIBRISPEECH_TEXTS.items():
        folder, _, utterance = name.rpartition("/")
        table = f"{folder}/{utterance.rpartition('-')[0]}.trans.txt"
        files[f"{name}.flac"] = 0.3
        files[table] = str(files.get(table, "")) + f"{utterance} {text}\n"
    files |= {"SPEAKERS.TXT": ";ID  |SEX| SUBSET\n", "README.TXT": "LibriSpeech\n"}
    sides = {"train-clean-100": "train", "train-other-500": "train", "dev-other": "val"}
    clips = {
        f"{name}.flac": (sides[name.split("/")[0]], name.split("/")[1], {"text": text, "set": name.split("/")[0]})
        for name, text in LIBRISPEECH_TEXTS.items()
    }
    for name, text in spoken.items():
        more = {"text": text, "set": "test-clean", "speaker": "1089", "chapter": "134686"}
        clips[f"test-clean/1089/134686/{name}.flac"] = ("test", "1089", more)
    Miniature("librispeech", files, clips).check(tmp_path)


def test_zeroth_korean_is_laid_out_like_librispeech(tmp_path: Path) -> None:
    ZEROTH.check(tmp_path)


def test_audioset_has_labels_by_name(tmp_path: Path) -> None:
    """Excerpts under the names that several tools give them; one has no file, and one is a video without a row."""
    head = "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882\n"
    corpus = Miniature(
        "audioset",
        {
            "balanced_train_segments/--PJHxphWEs_30.000_40.000.wav": 0.3,
            "balanced_train_segments/Y--ZhevVpy1s.wav": 0.3,
            "balanced_train_segments/zzzzzzzzzzz.wav": 0.3,
            "eval_segments/-0RWZT-miFs_420000.wav": 0.3,
            "balanced_train_segments.csv": head
            + lines(
                "# YTID, start_seconds, end_seconds, positive_labels",
                '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"',
                '--ZhevVpy1s, 50.000, 60.000, "/m/012xff"',
                '--aE2O5G5WE, 0.000, 10.000, "/m/09x0r"',
            ),
            "eval_segments.csv": head
            + lines("# YTID, start_seconds, end_seconds, positive_labels", '-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"'),
            "class_labels_indices.csv": lines(
                "index,mid,display_name", '0,/m/09x0r,"Speech"', '2,/t/dd00088,"Gush"', '8,/m/012xff,"Toothbrush"', '9,/m/03v3yw,"Keys jangling"',
                '10,/m/0k4j,"Vehicle, car"',
            ),
        },
        {
            "balanced_train_segments/--PJHxphWEs_30.000_40.000.wav": ("train", None, {"labels": ["Gush", "Speech"], "video": "--PJHxphWEs"}),
            "balanced_train_segments/Y--ZhevVpy1s.wav": ("train", None, {"labels": ["Toothbrush"], "duration_s": 0.3}),
            "eval_segments/-0RWZT-miFs_420000.wav": ("test", None, {"labels": ["Keys jangling", "Vehicle, car"], "video_start_s": "420.000"}),
        },
        without=1,
        ignored=1,
    )  # fmt: skip
    corpus.check(tmp_path)


VOXCELEB1_IDENTIFICATION = Miniature(
    "voxceleb1-identification",
    {
        **dict.fromkeys(
            (
                "wav/id10003/na8-QEFmj44/00003.wav",
                "wav/id10003/tCq2LcKO6xY/00002.wav",
                "wav/id10270/5r0dWxy17C8/00001.wav",
                "wav/id10270/x6uYqmx31kE/00001.wav",
                "wav/id10270/not-in-list/00009.wav",
            ),
            0.3,
        ),
        "iden_split.txt": lines(
            "3 id10003/na8-QEFmj44/00003.wav",
            "1 id10003/tCq2LcKO6xY/00002.wav",
            "1 id10270/5r0dWxy17C8/00001.wav",
            "2 id10270/x6uYqmx31kE/00001.wav",
            "1 id10270/x6uYqmx31kE/00007.wav",
        ),
    },
    {
        "wav/id10003/na8-QEFmj44/00003.wav": ("test", "id10003", {"video": "na8-QEFmj44", "utterance": "00003"}),
        "wav/id10003/tCq2LcKO6xY/00002.wav": ("train", "id10003", {"set": "1"}),
        "wav/id10270/5r0dWxy17C8/00001.wav": ("train", "id10270", {}),
        "wav/id10270/x6uYqmx31kE/00001.wav": ("val", "id10270", {}),
    },
    without=1,
    ignored=1,
)


def test_voxceleb1_by_the_list_of_the_identification_task(tmp_path: Path) -> None:
    VOXCELEB1_IDENTIFICATION.check(tmp_path)
