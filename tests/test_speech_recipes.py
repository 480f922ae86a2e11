"""Recipes for speech, each on a miniature of the corpus, against truth written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile as sf
from conftest import run, tone
from corpus_miniatures import ANY, Miniature, built, lines, recording

from clipmill.stages.write.encode import decode_clip

pytestmark = pytest.mark.usefixtures("in_process")

SPEECH_COMMANDS = Miniature(
    "speech-commands",
    {
        **dict.fromkeys(
            (
                "yes/004ae714_nohash_0.wav", "yes/0137b3f4_nohash_3.wav", "no/01648c51_nohash_1.wav", "no/0132a06d_nohash_4.wav",
                "bed/00f0204f_nohash_0.wav",
            ),
            0.5,
        ),
        "_background_noise_/white_noise.wav": 1.0,
        "_background_noise_/README.md": "noise\n",
        "testing_list.txt": lines("yes/0137b3f4_nohash_3.wav", "no/0132a06d_nohash_4.wav"),
        "validation_list.txt": lines("no/01648c51_nohash_1.wav"),
        "LICENSE": "CC BY 4.0\n",
    },
    {
        "yes/004ae714_nohash_0.wav": ("train", "yes", {"speaker": "004ae714", "take": "0"}),
        "yes/0137b3f4_nohash_3.wav": ("test", "yes", {"speaker": "0137b3f4", "take": "3"}),
        "no/01648c51_nohash_1.wav": ("val", "no", {}),
        "no/0132a06d_nohash_4.wav": ("test", "no", {}),
        "bed/00f0204f_nohash_0.wav": ("train", "bed", {}),
    },
)  # fmt: skip
VOXCELEB1 = Miniature(
    "voxceleb1",
    {
        **dict.fromkeys(
            ("dev/wav/id10001/1zcIwhmdeo4/00001.wav", "dev/wav/id10001/1zcIwhmdeo4/00002.wav", "dev/wav/id11251/5-6lI5JQtb8/00001.wav"), 0.3
        ),
        **dict.fromkeys(("test/wav/id10270/5r0dWxy17C8/00001.wav", "test/wav/id10309/0b1inHMAr6o/00003.wav"), 0.3),
        "vox1_meta.csv": "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tA.J._Buckley\tm\tIreland\tdev\n",
    },
    {
        "dev/wav/id10001/1zcIwhmdeo4/00001.wav": ("train", "id10001", {"video": "1zcIwhmdeo4", "utterance": "00001"}),
        "dev/wav/id10001/1zcIwhmdeo4/00002.wav": ("train", "id10001", {"utterance": "00002"}),
        "dev/wav/id11251/5-6lI5JQtb8/00001.wav": ("train", "id11251", {"video": "5-6lI5JQtb8"}),
        "test/wav/id10270/5r0dWxy17C8/00001.wav": ("test", "id10270", {}),
        "test/wav/id10309/0b1inHMAr6o/00003.wav": ("test", "id10309", {"video": "0b1inHMAr6o", "utterance": "00003"}),
    },
)  # fmt: skip
_CV_HEADER = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment"
COMMON_VOICE = Miniature(
    "common-voice",
    {
        **{f"clips/common_voice_eu_1811{n}.mp3": (0.5, 32000) for n in range(5)},
        "train.tsv": lines(
            _CV_HEADER,
            'aa01\tcommon_voice_eu_18110.mp3\ts1\tHau "proba bat da.\t\t2\t0\ttwenties\tfemale_feminine\t\t\teu\t',
            "aa01\tcommon_voice_eu_18111.mp3\ts2\tBai, noski; hori da.\t\t2\t1\t\t\t\t\teu\t",
        ),
        "dev.tsv": lines(_CV_HEADER, "bb02\tcommon_voice_eu_18112.mp3\ts3\tEgun on!\t\t3\t0\t\t\tmendebalekoa\t\teu\t"),
        "test.tsv": lines(_CV_HEADER, "cc03\tcommon_voice_eu_18113.mp3\ts4\tGabon.\t\t3\t0\t\t\t\t\teu\t"),
        "validated.tsv": lines(_CV_HEADER, "aa01\tcommon_voice_eu_18110.mp3\ts1\tHau\t\t2\t0\t\t\t\t\teu\t"),
        "clip_durations.tsv": "clip\tduration[ms]\ncommon_voice_eu_18110.mp3\t500\n",
    },
    {
        "clips/common_voice_eu_18110.mp3": ("train", None, {"text": 'Hau "proba bat da.', "speaker": "aa01", "age": "twenties"}),
        "clips/common_voice_eu_18111.mp3": ("train", None, {"text": "Bai, noski; hori da.", "down_votes": "1"}),
        "clips/common_voice_eu_18112.mp3": ("val", None, {"text": "Egun on!", "accents": "mendebalekoa"}),
        "clips/common_voice_eu_18113.mp3": ("test", None, {"text": "Gabon.", "speaker": "cc03"}),
    },
    without=3 + 4 + 4,
)  # fmt: skip
MLS = Miniature(
    "mls",
    {
        "train/audio/1734/1093/1734_1093_000000.flac": 0.4,
        "train/audio/1734/1093/1734_1093_000001.flac": 0.4,
        "dev/audio/10148/10119/10148_10119_000000.flac": 0.4,
        "test/audio/4650/7892/4650_7892_000003.flac": 0.4,
        "train/transcripts.txt": "1734_1093_000000\tich mein' es ist \"gut\"\n1734_1093_000001\tdas\n",
        "dev/transcripts.txt": "10148_10119_000000\tnoch ein satz\n",
        "test/transcripts.txt": "4650_7892_000003\tder letzte\n",
        "train/segments.txt": "1734_1093_000000\thttp://www.archive.org/download/x.mp3\t402.12\t416.2\n",
        "train/limited_supervision/9hr/handles.txt": "1734_1093_000000\n",
        "metainfo.txt": "SPEAKER | GENDER\n",
    },
    {
        "train/audio/1734/1093/1734_1093_000000.flac": ("train", None, {"text": "ich mein' es ist \"gut\"", "speaker": "1734"}),
        "train/audio/1734/1093/1734_1093_000001.flac": ("train", None, {"text": "das", "book": "1093"}),
        "dev/audio/10148/10119/10148_10119_000000.flac": ("val", None, {"text": "noch ein satz", "speaker": "10148"}),
        "test/audio/4650/7892/4650_7892_000003.flac": ("test", None, {"text": "der letzte"}),
    },
)  # fmt: skip
_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
RAVDESS = Miniature(
    "ravdess",
    {
        **{f"Actor_{actor:02d}/03-01-{e}-01-02-01-{actor:02d}.wav": (0.3, 48000) for actor in range(1, 9) for e in ("03", f"{actor:02d}")},
        "audio_speech_actors_01-24/Actor_01/03-01-03-01-02-01-01.wav": (0.3, 48000),
    },
    {
        f"Actor_{actor:02d}/03-01-{e}-01-02-01-{actor:02d}.wav": (ANY, _EMOTIONS[e], {"actor": f"{actor:02d}", "statement": "02"})
        for actor in range(1, 9)
        for e in ("03", f"{actor:02d}")
    },
    sizes={"train": 12 - 1, "val": 2, "test": 2},
    apart="actor",
)  # fmt: skip
EMODB = Miniature(
    "emodb",
    {
        **dict.fromkeys(("wav/03a01Fa.wav", "wav/03a01Wa.wav", "wav/08b09Nc.wav", "wav/09a05Ea.wav", "wav/10b10Lb.wav", "wav/11a02Ab.wav"), 0.3),
        "wav/12a07Ta.wav": 0.3,
        "erklaerung.txt": "speakers\n",
    },
    {
        "wav/03a01Fa.wav": (ANY, "happiness", {"speaker": "03", "sentence": "a01", "take": "a"}),
        "wav/03a01Wa.wav": (ANY, "anger", {}),
        "wav/08b09Nc.wav": (ANY, "neutral", {"speaker": "08", "sentence": "b09", "take": "c"}),
        "wav/09a05Ea.wav": (ANY, "disgust", {}),
        "wav/10b10Lb.wav": (ANY, "boredom", {}),
        "wav/11a02Ab.wav": (ANY, "fear", {}),
        "wav/12a07Ta.wav": (ANY, "sadness", {}),
    },
    apart="speaker",
)  # fmt: skip
CREMA_D = Miniature(
    "crema-d",
    {
        **dict.fromkeys(("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_IEO_HAP_HI.wav", "AudioWAV/1091_WSI_NEU_XX.wav"), 0.3),
        "AudioWAV/1064_IEO_DIS_MD.wav": 1.0,
        "AudioWAV/1030_TAI_SAD_XX.wav": 0.3,
        "AudioMP3/1001_DFA_ANG_XX.mp3": 0.3,
        "VideoDemographics.csv": "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n",
    },
    {
        "AudioWAV/1001_DFA_ANG_XX.wav": (ANY, "anger", {"actor": "1001", "sentence": "DFA", "intensity": "XX"}),
        "AudioWAV/1001_IEO_HAP_HI.wav": (ANY, "happiness", {"sentence": "IEO", "intensity": "HI"}),
        "AudioWAV/1030_TAI_SAD_XX.wav": (ANY, "sadness", {}),
        "AudioWAV/1091_WSI_NEU_XX.wav": (ANY, "neutral", {"actor": "1091"}),
    },
    apart="actor",
)  # fmt: skip
KSS = Miniature(
    "kss",
    {
        **dict.fromkeys(("1/1_0000.wav", "1/1_0001.wav", "4/4_5659.wav"), (0.4, 44100)),
        "transcript.v.1.4.txt": lines(
            "1/1_0000.wav|그는 괜찮은 척하려고 애쓰는 것 같았다.|그는 괜찮은 척하려고 애쓰는 것 같았다.|그는|3.5|He seemed okay.",
            "1/1_0001.wav|25일에 와.|이십오 일에 와.|이십오|1.2|Come on the 25th.",
            '4/4_5659.wav|"네"라고 했다.|"네"라고 했다.|"네"|2.0|He said "yes".',
        ),
    },
    {
        "1/1_0000.wav": (ANY, None, {"text": "그는 괜찮은 척하려고 애쓰는 것 같았다.", "part": "1"}),
        "1/1_0001.wav": (ANY, None, {"text": "이십오 일에 와.", "raw_text": "25일에 와.", "translation": "Come on the 25th."}),
        "4/4_5659.wav": (ANY, None, {"text": '"네"라고 했다.', "part": "4"}),
    },
    sizes={"train": 1, "val": 1, "test": 1},
)  # fmt: skip


def _korean(text: str) -> bytes:
    return f"{text}\n".encode("cp949")


_KS = "KsponSpeech_train/KsponSpeech_01/KsponSpeech_0001/KsponSpeech_000001"
_KS_DEV = "KsponSpeech_train/KsponSpeech_05/KsponSpeech_0623/KsponSpeech_622545"
_KS_EVAL = "KsponSpeech_eval/eval_clean/KsponSpeech_E00001"
KSPONSPEECH = Miniature(
    "ksponspeech",
    {
        f"{_KS}.pcm": 0.5,
        f"{_KS}.txt": _korean("b/ 아/ 몬 소리야, 그건 또. b/ (70%)/(칠 십 퍼센트) 확률+ n/"),
        f"{_KS_DEV}.pcm": recording("pcm", 0.4, 16000, 1) + b"\0",
        f"{_KS_DEV}.txt": _korean("너 뭐 강남 자주 가?"),
        f"{_KS_EVAL}.pcm": 0.5,
        f"{_KS_EVAL}.txt": "l/ 그*렇지\n",  # UTF-8
        "KsponSpeech_scripts/train.trn": "KsponSpeech_01/KsponSpeech_0001/KsponSpeech_000001.pcm :: b/ 아/ 몬\n",
    },
    {
        f"{_KS}.pcm": (
            "train",
            None,
            {"text": "아 몬 소리야, 그건 또. 70% 확률", "text_raw": "b/ 아/ 몬 소리야, 그건 또. b/ (70%)/(칠 십 퍼센트) 확률+ n/", "duration_s": 0.5},
        ),
        f"{_KS_DEV}.pcm": ("val", None, {"text": "너 뭐 강남 자주 가?", "set": "KsponSpeech_0623", "duration_s": 0.4}),
        f"{_KS_EVAL}.pcm": ("test", None, {"text": "그렇지", "set": "eval_clean"}),
    },
)  # fmt: skip
KOREAN_PCM = Miniature(
    "korean-pcm",
    {
        **{f"data/spk{n}/utt_{n}.{x}": 0.4 for n, x in enumerate(("pcm", "raw", "pcm"))},
        **{f"data/spk{n}/utt_{n}.txt": _korean(f"문장 {n}, 입니다") for n in range(3)},
    },
    {
        f"data/spk{n}/utt_{n}.{x}": (ANY, None, {"text": f"문장 {n}, 입니다", "speaker": f"spk{n}"})
        for n, x in enumerate(("pcm", "raw", "pcm"))
    },
    sizes={"train": 1, "val": 1, "test": 1},
)
VCTK = Miniature(
    "vctk",
    {
        **{
            f"wav48_silence_trimmed/p{n}/p{n}_00{k}_mic{m}.flac": (0.3, 48000)
            for n in (225, 226, 376)
            for k in (1, 2)
            for m in (1, 2)
        },
        "wav48_silence_trimmed/p315/p315_001_mic1.flac": (0.3, 48000),
        "wav48_silence_trimmed/s5/s5_001_mic1.flac": (0.3, 48000),
        **{f"txt/p{n}/p{n}_00{k}.txt": f"Please call Stella {n}, {k}.\n" for n in (225, 226, 376) for k in (1, 2)},
        "txt/s5/s5_001.txt": "Please call Stella.",
        "speaker-info.txt": "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English    Southern  England\n",
    },
    {
        f"wav48_silence_trimmed/p{n}/p{n}_00{k}_mic1.flac": (
            ANY,
            None,
            {"text": f"Please call Stella {n}, {k}.", "speaker": f"p{n}"},
        )
        for n in (225, 226, 376)
        for k in (1, 2)
    }
    | {
        "wav48_silence_trimmed/s5/s5_001_mic1.flac": (
            ANY,
            None,
            {"text": "Please call Stella.", "speaker": "s5", "sentence": "001"},
        )
    },
    apart="speaker",
    without=1,
)
VCTK_080 = Miniature(
    "vctk-080",
    {
        **{f"wav48/p{n}/p{n}_001.wav": (0.3, 48000) for n in (225, 226, 315)},
        **{f"txt/p{n}/p{n}_001.txt": f"Please call Stella, {n}.\n" for n in (225, 226)},
        "speaker-info.txt": "ID  AGE  GENDER  ACCENTS  REGION\n225  23  F    English    Southern  England\n",
    },
    {
        f"wav48/p{n}/p{n}_001.wav": (ANY, None, {"text": f"Please call Stella, {n}.", "speaker": f"p{n}"})
        for n in (225, 226)
    },
    without=1,
)
MINIATURES = [
    VCTK_080,
    VCTK,
    SPEECH_COMMANDS, VOXCELEB1, COMMON_VOICE, MLS, RAVDESS, EMODB, CREMA_D, KSS, KSPONSPEECH, KOREAN_PCM,
]  # fmt: skip


@pytest.mark.parametrize("miniature", MINIATURES, ids=lambda one: one.recipe)
def test_a_miniature_gives_what_the_authors_say(miniature: Miniature, tmp_path: Path) -> None:
    miniature.check(tmp_path)


def test_samples_of_raw_recordings_are_the_files_bytes(tmp_path: Path) -> None:
    rows = KSPONSPEECH.check(tmp_path)
    for row in rows:
        pcm, rate = decode_clip(row["audio"]["bytes"])
        content = Path(row["source_uri"]).read_bytes()
        assert rate == 16000
        assert (pcm[:, 0] == np.frombuffer(content[: len(content) // 2 * 2], "<i2")).all()


def test_spoken_wikipedia_is_cut_at_silences(tmp_path: Path) -> None:
    """Tones with silence between them; a folder per article."""
    loud, quiet = tone(2.0, 16000), np.zeros((16000, 1))
    for i, article in enumerate(("Anarchism", "A_Tale_of_a_Tub", "Zürich")):
        place = tmp_path / "in" / article
        place.mkdir(parents=True)
        sf.write(place / ("audio.ogg" if i else "audio1.ogg"), np.concatenate([loud, quiet] * (i + 1)), 16000)
        (place / "info.json").write_text(json.dumps({"title": article}))
        (place / "aligned.swc").write_text("<article/>")
    rows = built("spoken-wikipedia", tmp_path / "in", tmp_path / "out")
    assert [row["article"] for row in rows] == ["A_Tale_of_a_Tub"] * 2 + ["Anarchism"] + ["Zürich"] * 3
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert all(row["duration_s"] == pytest.approx(2.1, abs=0.15) for row in rows)


def test_ljspeech_for_synthesis_is_trimmed_and_even(corpora: Path, tmp_path: Path) -> None:
    """Real sentences, ready for a trainer: WAV files, mels and filelists."""
    corpus = corpora / "coqui-tts/tests/data/ljspeech"
    spoken = {
        name: text
        for name, _, text in (x.split("|") for x in (corpus / "metadata.csv").read_text("utf-8").splitlines())
    }
    rows = built("ljspeech-tts", corpus, tmp_path / "out")
    assert len(rows) > 5
    for row in rows:
        pcm, rate = decode_clip(row["audio"]["bytes"])
        frames = 1 + len(pcm) // 256
        assert (rate, row["log_mel_shape"], row["text"]) == (22050, [80, frames], spoken[Path(row["source_uri"]).stem])
        assert row["level_note"] in (None, "missed_target", "limited_gain")
    meter = pyloudnorm.Meter(22050)
    loudness = [meter.integrated_loudness(decode_clip(row["audio"]["bytes"])[0][:, 0] / 32768) for row in rows]
    assert loudness == pytest.approx([-23.0] * len(rows), abs=0.6)
    run("export", tmp_path / "out", "tts", "--to", tmp_path / "tts")
    listed = [x for p in (tmp_path / "tts").glob("t*.txt") for x in p.read_text("utf-8").splitlines()]
    assert len(listed) >= len(rows) - 2
    for line in listed:
        wav, text = line.split("|")
        assert (tmp_path / "tts" / wav).exists() and text in {" ".join(t.split()) for t in spoken.values()}


def test_kss_for_synthesis(tmp_path: Path) -> None:
    replace(
        KSS,
        recipe="kss-tts",
        clips={path: (split, label, {"text": more["text"]}) for path, (split, label, more) in KSS.clips.items()},
    ).check(tmp_path)
