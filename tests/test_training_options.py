"""Options of the loader on real datasets: splits, balance, crops, transforms and pictures, in any number of ranks and processes."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tone, write_audio
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from clipmill import (
    AddNoise,
    ClipDataset,
    ClipmillError,
    Crop,
    Mixup,
    RandomGain,
    SpecAugment,
    Transform,
    open_dataset,
    padded,
)
from clipmill.pipelines.config_file import load
from clipmill.pipelines.run.build import build

RATE, HOP = 16000, 160
LABELS = {"often": 12, "seldom": 3, "rare": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.5 s, the last of each recording shorter, of three labels and of none, with pictures of equal width."""
    place = tmp_path_factory.mktemp("options")
    i = 0
    for label, n in LABELS.items():
        for _ in range(n):
            i += 1
            write_audio(place / "in" / label / f"r{i}.wav", tone(1.7 + i % 3 / 10, RATE, hz=60 * i, seed=i), RATE)
    write_audio(place / "more/none.wav", tone(1.0, RATE, hz=700), RATE)
    (place / "c.yaml").write_text(
        f"""
name: options
sources:
  - {{name: s, root: {place}/in, label: {{from: folder}}, segment: {{mode: window, length_s: 0.5, tail: keep}}}}
  - {{name: t, root: {place}/more, segment: {{mode: window, length_s: 0.5}}}}
features: {{log_mel: {{n_fft: 400, hop_length: {HOP}, n_mels: 20}}, mfcc: {{n_fft: 512, hop_length: 320, n_mels: 20, n_mfcc: 5}}}}
split: {{train: 0.7, val: 0.3, by: recording}}
output: {{root: {place}/out, shard_seconds: 6, images: {{width: 24, height: 30}}}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    return place / "out"


@pytest.fixture(scope="module")
def clips(dataset: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in open_dataset(dataset).manifest().to_pylist()}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips with several labels and events."""
    place = tmp_path_factory.mktemp("several")
    rows = ["file,start,end,label"]
    for i in range(10):
        write_audio(place / f"in/r{i}.wav", tone(2.0, RATE, hz=100 * (i + 1), seed=i), RATE)
        rows += [f"r{i},0,2,engine", f"r{i},0.2,0.9,{'dog' if i % 5 else 'cat'}"]
    (place / "in/rows.csv").write_text("\n".join(rows))
    (place / "c.yaml").write_text(
        f"""
name: several
sources:
  - name: s
    root: {place}/in
    annotations: {{table: rows.csv, recording: file, columns: {{start: start, end: end, label: label}}}}
    segment: {{mode: window, length_s: 1}}
    label: {{by_overlap: {{min_s: 0.1}}}}
features: {{log_mel: {{n_fft: 400, hop_length: {HOP}, n_mels: 20}}}}
output: {{root: {place}/out}}
"""
    )
    assert build(load(place / "c.yaml"), quiet=True).status == "published"
    return place / "out"


def loaded(
    dataset: Path,
    split: str | None = "train",
    *,
    n_ranks: int = 1,
    n_workers: int = 0,
    batch_size: int | None = 4,
    epoch: int = 0,
    **options: Any,
) -> list[dict[str, Any]]:
    """Return the samples, or batches, of all ranks and loading processes."""
    found: list[dict[str, Any]] = []
    for rank in range(n_ranks):
        clips = ClipDataset(dataset, split, shuffle=True, buffer_size=10, seed=5, rank=rank, n_ranks=n_ranks, **options)
        clips.set_epoch(epoch)
        mine = list(
            DataLoader(clips, batch_size=batch_size, num_workers=n_workers, collate_fn=padded if batch_size else None)
        )
        assert sum(len(b["clip_id"]) if batch_size else 1 for b in mine) == len(clips)
        found += mine
    return found


def counted(batches: list[dict[str, Any]]) -> Counter[str]:
    return Counter(clip for batch in batches for clip in batch["clip_id"])


def test_several_splits_are_read_as_one(dataset: Path, clips: dict[str, dict[str, Any]]) -> None:
    found = counted(loaded(dataset, None, splits=["val", "train"], columns=("clip_id",), n_ranks=2, n_workers=2))
    assert found == Counter(clips.keys())
    both = ClipDataset(dataset, splits=["train", "val"], columns=("clip_id",))
    parts = [ClipDataset(dataset, split, ("clip_id",)) for split in ("train", "val")]
    assert len(both) == sum(map(len, parts)) == len(clips)
    assert [s["clip_id"] for s in both] == [s["clip_id"] for part in parts for s in part]
    assert "splits=['train', 'val']" in repr(both)
    both.load_state_dict(both.state_dict())
    with pytest.raises(ClipmillError, match=r"split was \['train', 'val'\] when the state was taken and is train now"):
        parts[0].load_state_dict(both.state_dict())
    some = ClipDataset(
        dataset, splits=["train", "val"], columns=("clip_id",), where={"n_samples": {"max": 7999}}, duplicates="first"
    )
    assert {s["clip_id"] for s in some} == {n for n, row in clips.items() if row["n_samples"] < 8000}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"split": None}, "name the split to read"),
        ({"splits": ["val"]}, "split is 'train' and splits ['val']; give one of them"),
        ({"split": None, "splits": "train"}, "splits is 'train'; expected a list"),
        ({"split": None, "splits": []}, "expected a list of different names"),
        ({"split": None, "splits": ["val", "val"]}, "expected a list of different names"),
        ({"split": None, "splits": ["val", "trian"]}, "split 'trian' does not exist"),
        ({"balance": "speaker"}, "balance is 'speaker'"),
        ({"pad": "zero"}, "pad is 'zero', but clips are not cropped; give crop_s as well"),
        ({"crop_at": "start"}, "crop_at is 'start', but clips are not cropped"),
        ({"crop_s": "longest"}, "the length of a crop is 'longest'; expected seconds"),
        ({"crop_s": "shortest", "pad": "zero"}, 'with crop_s="shortest" no clip of a batch is too short'),
        ({"crop_s": 1, "pad": "zeros"}, "pad of a crop is 'zeros'"),
        ({"crop_s": 1, "columns": ["audio", "image"]}, "pictures show whole clips"),
        ({"decode_images": True}, "decode_images needs pictures among the columns: add image"),
        ({"decode_images": 1}, "decode_images is 1; it can be False or True"),
        ({"transform": SpecAugment()}, "SpecAugment masks log_mel"),
        ({"transform": [Mixup()]}, "add labels to columns"),
    ],
)
def test_wrong_arguments_are_told(dataset: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ClipmillError) as told:
        ClipDataset(dataset, **{"split": "train", **wrong})
    assert said in str(told.value)


@pytest.mark.parametrize("temperature", [math.inf, 2.0])
def test_a_balanced_epoch_is_the_same_for_any_ranks_and_processes(
    dataset: Path, clips: dict[str, dict[str, Any]], temperature: float
) -> None:
    balance: Any = "label" if temperature == math.inf else {"label": temperature}
    labels = {name: row["label"] for name, row in clips.items()}
    sizes = Counter(labels.values())
    assert set(sizes) == {*LABELS, None}
    given: Counter[str] = Counter()
    for epoch in range(3):
        layouts = [(1, 0), (1, 2), (2, 1)] if epoch == 0 else [(1, 0)]
        found = [
            counted(
                loaded(
                    dataset,
                    None,
                    splits=["train", "val"],
                    columns=("clip_id",),
                    balance=balance,
                    n_ranks=n,
                    n_workers=w,
                    epoch=epoch,
                )
            )
            for n, w in layouts
        ]
        assert all(other == found[0] for other in found)
        by_label: Counter[str | None] = Counter()
        for clip, n in found[0].items():
            by_label[labels[clip]] += n
        weights = {label: n ** (1 / temperature) for label, n in sizes.items()}
        for label, weight in weights.items():
            assert abs(by_label[label] - len(labels) * weight / sum(weights.values())) < 1
            copies = [found[0][clip] for clip, own in labels.items() if own == label]
            assert max(copies) - min(copies) <= 1
        assert found[0].total() == len(labels)
        given += found[0]
    for label in sizes:
        copies = [given[clip] for clip, own in labels.items() if own == label]
        assert max(copies) - min(copies) <= 1


@pytest.mark.parametrize("n_workers", [0, 2])
def test_an_interrupted_balanced_epoch_goes_on_with_what_is_left(dataset: Path, n_workers: int) -> None:
    def loader(**options: Any) -> StatefulDataLoader:
        more = {"balance": "label", "crop_s": 0.2, "transform": RandomGain(), **options}
        clips = ClipDataset(dataset, "train", ("clip_id", "audio"), shuffle=True, buffer_size=9, seed=1, **more)
        clips.set_epoch(2)
        return StatefulDataLoader(clips, batch_size=4, num_workers=n_workers, collate_fn=padded)

    whole = list(loader())
    for stop in (1, 3, len(whole) - 1):
        first = iter(under_way := loader())
        before = [next(first) for _ in range(stop)]
        state = under_way.state_dict()
        again = loader()
        again.load_state_dict(state)
        rest = list(again)
        assert [b["clip_id"] for b in before + rest] == [b["clip_id"] for b in whole]
        assert all(torch.equal(a["audio"], b["audio"]) for a, b in zip(before + rest, whole, strict=True))
    if not n_workers:
        other = loader(balance={"label": 2})
        other.load_state_dict(state)
        with pytest.raises(ClipmillError, match=r"balance was inf when the state was taken and is 2\.0 now"):
            list(other)


def test_balance_of_clips_with_several_labels_goes_by_the_rarest(labelled: Path) -> None:
    rows = {row["clip_id"]: row["labels"] for row in open_dataset(labelled).manifest().to_pylist()}
    found = counted(loaded(labelled, columns=("clip_id",), balance="label"))
    by_label: Counter[str] = Counter()
    for clip, n in found.items():
        by_label["cat" if "cat" in rows[clip] else "dog" if "dog" in rows[clip] else "engine"] += n
    assert sum(by_label.values()) == len(rows) == 20
    assert max(by_label.values()) - min(by_label.values()) <= 1


@dataclass(frozen=True)
class Told(Transform):
    """Keep what was drawn, and what was read for it alone."""

    needs = ("level_dbfs",)

    def __call__(self, sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {**sample, "drawn": rng.random(), "level": sample["level_dbfs"]}


def test_crops_and_transforms_are_the_same_for_any_ranks_processes_and_batches(
    dataset: Path, clips: dict[str, dict[str, Any]]
) -> None:
    columns = ("clip_id", "audio", "log_mel", "mfcc", "start_s")
    options: dict[str, Any] = {"columns": columns, "crop_s": 0.2, "transform": [SpecAugment(1, 4, 1, 5), Told()]}

    def by_clip(samples: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        assert len(samples) == len({s["clip_id"] for s in samples})
        return {s["clip_id"]: s for s in samples}

    first = by_clip(loaded(dataset, batch_size=None, **options))
    for layout in ({"n_workers": 2}, {"n_ranks": 3}, {"n_ranks": 2, "n_workers": 1}):
        again = by_clip(loaded(dataset, batch_size=None, **layout, **options))
        assert again.keys() == first.keys()
        for name, sample in first.items():
            assert sample.keys() == again[name].keys() == {*columns, "drawn", "level"}
            assert all(torch.equal(sample[c], again[name][c]) for c in ("audio", "log_mel", "mfcc"))
            assert (sample["drawn"], sample["start_s"]) == (again[name]["drawn"], again[name]["start_s"])
    for batch in loaded(dataset, batch_size=7, **options):
        for i, name in enumerate(batch["clip_id"]):
            assert torch.equal(batch["audio"][i, ..., : batch["audio_length"][i]], first[name]["audio"])
    other = by_clip(loaded(dataset, batch_size=None, epoch=1, **options))
    assert sum(other[name]["drawn"] != s["drawn"] for name, s in first.items()) == len(first)
    assert sum(other[name]["start_s"] != s["start_s"] for name, s in first.items()) > len(first) / 2
    assert all(s["level"] == clips[name]["level_dbfs"] for name, s in first.items())


@pytest.mark.parametrize("at", ["random", "start", "center"])
def test_audio_and_features_are_cut_at_one_place(dataset: Path, at: Any) -> None:
    columns = ("audio", "log_mel", "mfcc", "start_s", "n_samples", "duration_s")
    whole = ClipDataset(dataset, "train", ("clip_id", *columns))
    cropped = {s["clip_id"]: s for s in ClipDataset(dataset, "train", ("clip_id", *columns), crop_s=0.3, crop_at=at)}
    alone = {s["clip_id"]: s for s in ClipDataset(dataset, "train", ("clip_id", "log_mel"), crop_s=0.3, crop_at=at)}
    starts = set()
    for sample in whole:
        found = cropped[sample["clip_id"]]
        n = min(sample["n_samples"], round(0.3 * RATE))
        start = round((found["start_s"] - sample["start_s"]) * RATE)
        starts.add(start)
        assert found["n_samples"] == n and found["duration_s"] == n / RATE
        assert start % 320 == 0 and start + n <= sample["n_samples"]
        assert torch.equal(found["audio"], sample["audio"][..., start : start + n])
        for name, hop in (("log_mel", HOP), ("mfcc", 320)):
            assert torch.equal(found[name], sample[name][..., start // hop : start // hop + 1 + n // hop])
        assert set(alone[sample["clip_id"]]) == {"clip_id", "log_mel"}
        assert alone[sample["clip_id"]]["log_mel"].shape == found["log_mel"].shape
    assert len(starts) > 3 if at == "random" else starts == {0} if at == "start" else 1600 - 320 <= max(starts) <= 1600


def test_crops_are_random_with_shuffle_and_in_the_middle_without(dataset: Path) -> None:
    def starts(**options: Any) -> list[float]:
        crops = ClipDataset(dataset, "train", ("clip_id", "start_s"), crop_s=0.1, **options)
        return [s["start_s"] for s in sorted(crops, key=lambda s: s["clip_id"])]

    assert starts() == starts(crop_at="center") != starts(shuffle=True) == starts(shuffle=True, crop_at="random")


@pytest.mark.parametrize("pad", ["zero", "repeat"])
def test_with_pad_all_clips_have_one_length(dataset: Path, clips: dict[str, dict[str, Any]], pad: Any) -> None:
    n = 8000
    batches = loaded(
        dataset, columns=("clip_id", "audio", "log_mel", "label_id"), crop_s=n / RATE, pad=pad, n_workers=2
    )
    short = 0
    for batch in batches:
        assert batch["audio"].shape[1:] == (1, n) and batch["log_mel"].shape[1:] == (20, 1 + n // HOP)
        for i, name in enumerate(batch["clip_id"]):
            there = min(n, clips[name]["n_samples"])
            short += there < n
            expected = [n, 1 + n // HOP] if pad == "repeat" else [there, 1 + there // HOP]
            assert [int(batch["audio_length"][i]), int(batch["log_mel_length"][i])] == expected
            if there < n:
                end = batch["audio"][i, 0, there : 2 * there]
                assert torch.equal(end, batch["audio"][i, 0, : len(end)]) if pad == "repeat" else not end.any()
    assert short > 3


def test_batches_are_cut_to_their_shortest_clip(dataset: Path, clips: dict[str, dict[str, Any]]) -> None:
    lengths = set()
    for batch in loaded(dataset, columns=("clip_id", "audio", "log_mel"), crop_s="shortest", n_workers=1):
        shortest = min(clips[name]["n_samples"] for name in batch["clip_id"])
        assert batch["audio"].shape[-1] == shortest and batch["log_mel"].shape[-1] == 1 + shortest // HOP
        assert batch.keys() == {"clip_id", "audio", "audio_length", "log_mel", "log_mel_length"}
        lengths.add(shortest)
    assert len(lengths) > 1


def test_events_are_those_of_the_crop(labelled: Path) -> None:
    whole = {s["clip_id"]: s for s in ClipDataset(labelled, "train", ("clip_id", "events", "start_s"))}
    heard = 0
    for sample in ClipDataset(labelled, "train", ("clip_id", "events", "start_s"), crop_s=0.25, crop_at="random"):
        before = whole[sample["clip_id"]]
        shift = sample["start_s"] - before["start_s"]
        times = [(e["label"], max(0, e["onset_s"] - shift), min(0.25, e["offset_s"] - shift)) for e in before["events"]]
        times = [e for e in times if e[1] < e[2]]
        assert [(e["label"], e["onset_s"], e["offset_s"]) for e in sample["events"]] == [
            pytest.approx(e) for e in times
        ]
        heard += len(times) > 1
    assert heard > 2


@pytest.mark.parametrize("kind", ["one label", "several labels"])
def test_mixed_clips_have_soft_labels(dataset: Path, labelled: Path, kind: str) -> None:
    root = dataset if kind == "one label" else labelled
    options: dict[str, Any] = {"columns": ("clip_id", "log_mel", "labels"), "transform": Mixup(alpha=0.5)}
    mixed = 0
    hot = {s["clip_id"]: s["labels"] for s in ClipDataset(root, "train", ("clip_id", "labels"))}
    for batch in loaded(root, n_workers=1, **options):
        sums = torch.stack([hot[name] for name in batch["clip_id"]]).sum(1)
        assert (batch["labels"].sum(1) <= sums.max() + 1e-6).all() and (
            batch["labels"].sum(1) >= sums.min() - 1e-6
        ).all()
        mixed += int(((batch["labels"] > 0) & (batch["labels"] < 1)).any())
    assert mixed > 1
    first, again = (loaded(root, n_workers=n, **options) for n in (0, 1))
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(first, again, strict=True))


def test_pictures_are_decoded_on_request(dataset: Path) -> None:
    import io

    from PIL import Image

    columns = ("clip_id", "image", "label_id")
    stored = {s["clip_id"]: s["image"] for s in ClipDataset(dataset, "train", columns)}
    for batch in loaded(dataset, columns=columns, decode_images=True):
        assert batch["image"].dtype == torch.uint8 and batch["image"].shape[1:] == (30, 24, 3)
        assert batch["image_length"].tolist() == [24] * len(batch["clip_id"])
        for i, name in enumerate(batch["clip_id"]):
            assert np.array_equal(
                batch["image"][i].numpy(), np.asarray(Image.open(io.BytesIO(stored[name])).convert("RGB"))
            )


def test_noise_of_a_dataset(dataset: Path, labelled: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "columns": ("clip_id", "audio"),
        "transform": AddNoise((3, 9), labelled),
        "batch_size": None,
    }
    clean = {s["clip_id"]: s["audio"] for s in ClipDataset(dataset, "train", ("clip_id", "audio"))}
    first = {s["clip_id"]: s["audio"] for s in loaded(dataset, **options)}
    again = {s["clip_id"]: s["audio"] for s in loaded(dataset, n_workers=2, n_ranks=2, **options)}
    for name, audio in clean.items():
        assert torch.equal(first[name], again[name])
        added = first[name] - audio
        assert 2.9 < 10 * math.log10(audio.square().mean() / added.square().mean()) < 9.1
    write_audio(tmp_path / "in/r.wav", tone(1, 8000), 8000)
    (tmp_path / "c.yaml").write_text(
        f"name: slow\nsources: [{{name: s, root: {tmp_path}/in, segment: {{mode: whole}}}}]\n"
        f"audio: {{sample_rate_hz: 8000}}\noutput: {{root: {tmp_path}/out}}\n"
    )
    build(load(tmp_path / "c.yaml"), quiet=True)
    with pytest.raises(
        ClipmillError,
        match=r"have 8000 Hz, and those of the dataset 16000 Hz; build the noises with audio\.sample_rate_hz: 16000",
    ):
        loaded(dataset, **{**options, "transform": AddNoise(noise=open_dataset(tmp_path / "out"))})


def test_the_examples_of_the_page_run(dataset: Path, labelled: Path) -> None:
    section = (Path(__file__).parents[1] / "docs/training.md").read_text().split("\n## Transforms")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    known: dict[str, Any] = {}
    exec(blocks[0].replace('"out/dogs"', repr(str(dataset))).replace('"out/musan"', repr(str(labelled))), known)
    for clips in (known["spectra"], known["waveforms"]):
        (batch,) = DataLoader(clips, batch_size=100, collate_fn=padded)
        assert len(next(iter(batch.values()))) == len(clips)
    assert known["spectra"].columns == ("log_mel", "labels") and batch["audio"].shape[-1] <= 2 * RATE
    exec(blocks[1], known)
    columns = ("clip_id", "audio")
    plain = {s["clip_id"]: s["audio"] for s in ClipDataset(dataset, "train", columns)}
    changed = {s["clip_id"]: s["audio"] for s in ClipDataset(dataset, "train", columns, transform=known["Reverse"]())}
    turned = sum(not torch.equal(plain[name], audio) for name, audio in changed.items())
    assert 0 < turned < len(plain)
    assert all(torch.equal(plain[n], a) or torch.equal(plain[n].flip(-1), a) for n, a in changed.items())


def test_a_transform_that_fails_is_no_damage(dataset: Path) -> None:
    def fails(sample: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("of the user's own")

    with pytest.raises(ValueError, match="of the user's own"):
        list(ClipDataset(dataset, "train", ("clip_id",), transform=fails))
    assert not list(dataset.glob("damage*"))
    doubled = ClipDataset(dataset, "train", ("clip_id",), transform=[lambda s: {"twice": s["clip_id"] * 2}, Crop(0.1)])
    with pytest.raises(KeyError):  # the function lost what the crop needs
        list(doubled)
