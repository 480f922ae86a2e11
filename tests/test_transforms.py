"""Transforms by themselves: masks and crops lie inside of clips, labels of mixed clips sum up, noise has the ratio that was drawn."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tone, write_audio
from hypothesis import given
from hypothesis import strategies as st

from clipmill import AddNoise, BatchTransform, ClipmillError, Crop, Mixup, RandomGain, SpecAugment, Transform, padded
from clipmill.pipelines.read.frame_grid import FrameGrid
from clipmill.pipelines.read.transforms.add_noise import pink
from clipmill.pipelines.read.transforms.crop import CropToShortest
from clipmill.pipelines.read.transforms.spec_augment import _mask
from clipmill.pipelines.read.transforms.transform import Loaded, Transforms

RATE = 8000


def described(hop: int = 80, n_fft: int = 200, center: bool = True) -> list[dict[str, Any]]:
    settings = {"hop_length": hop, "n_fft": n_fft, "center": center}
    return [
        {"name": "audio", "kind": "audio"},
        {"name": "log_mel", "kind": "feature", "shape": [5, "n_frames"], "settings": settings},
        {"name": "embedding", "kind": "feature", "shape": [7]},
        {"name": "image", "kind": "image"},
        {"name": "foreign", "kind": "feature", "shape": [7, "n_frames"], "settings": {}},
    ]


def loaded(*columns: str, **grid: Any) -> Loaded:
    features = tuple(c for c in columns if c in ("log_mel", "embedding", "foreign"))
    return Loaded("out/x", columns, features, described(**grid))


def sample_of(n: int, grid: FrameGrid) -> dict[str, Any]:
    """Return a sample whose samples and frames say where they are: frame i has the number of its first sample."""
    frames = torch.arange(grid.n_frames(n), dtype=torch.float32) * grid.hop_length
    return {
        "audio": torch.arange(n, dtype=torch.float32)[None],
        "log_mel": frames.expand(5, -1).clone(),
        "n_samples": n,
        "sample_rate_hz": RATE,
        "start_s": 10.0,
        "duration_s": n / RATE,
        "events": [{"label": "x", "onset_s": 0.0, "offset_s": n / RATE}],
    }


GRIDS = st.builds(FrameGrid, st.integers(1, 100), st.integers(1, 64), st.booleans())


@given(
    st.integers(100, 3000),
    st.integers(100, 3000),
    GRIDS,
    st.sampled_from(["random", "start", "center"]),
    st.integers(0, 99),
)
def test_a_crop_lies_inside_of_the_clip_and_features_at_the_same_place(
    n: int, length: int, grid: FrameGrid, at: Any, seed: int
) -> None:
    crop = Crop(length / RATE, at).for_dataset(
        loaded("audio", "log_mel", hop=grid.hop_length, n_fft=grid.n_fft, center=grid.center)
    )
    found = crop(sample_of(n, grid), np.random.default_rng(seed))
    kept = min(n, length)
    audio, mel = found["audio"][0], found["log_mel"][0]
    assert len(audio) == kept == found["n_samples"]
    assert len(mel) == grid.n_frames(kept)
    assert audio[0] == mel[0] and torch.equal(audio, torch.arange(kept) + audio[0])
    assert audio[-1] < n and audio[0] % grid.hop_length == 0
    assert found["start_s"] == pytest.approx(10 + float(audio[0]) / RATE)
    assert found["duration_s"] == pytest.approx(kept / RATE)
    (event,) = found["events"]
    assert (event["onset_s"], event["offset_s"]) == pytest.approx((0, kept / RATE))
    if at == "start":
        assert audio[0] == 0
    if at == "center":
        assert 0 <= (n - kept) / 2 - float(audio[0]) < grid.hop_length + 1


def test_random_crops_reach_every_place() -> None:
    grid = FrameGrid(80, 200, True)
    crop = Crop(0.1).for_dataset(loaded("audio", "log_mel"))
    rng = np.random.default_rng(0)
    starts = {int(crop(sample_of(1600, grid), rng)["audio"][0, 0]) for _ in range(300)}
    assert starts == set(range(0, 801, 80))
    rng = np.random.default_rng(0)
    alone = Crop(0.1).for_dataset(loaded("audio"))
    starts = {int(alone({**sample_of(802, grid)}, rng)["audio"][0, 0]) for _ in range(50)}
    assert starts == {0, 1, 2}


@given(st.integers(1, 400), GRIDS, st.sampled_from(["zero", "repeat"]))
def test_short_clips_are_filled_up(n: int, grid: FrameGrid, pad: Any) -> None:
    length = 500
    about = loaded("audio", "log_mel", hop=grid.hop_length, n_fft=grid.n_fft, center=grid.center)
    sample = sample_of(n, grid)
    if grid.n_frames(n) < 1:
        return
    found = Crop(length / RATE, pad=pad).for_dataset(about)(sample, np.random.default_rng(0))
    audio, mel = found["audio"][0], found["log_mel"][0]
    assert len(audio) == length == found["n_samples"] and len(mel) == grid.n_frames(length)
    if pad == "repeat":
        assert torch.equal(audio, (torch.arange(length) % n).float())
        steps = torch.arange(len(mel)) * grid.hop_length % n
        assert ((steps - mel).abs() < grid.hop_length + grid.n_fft).all() and mel.max() < n
        assert len(found["events"]) == -(-length // n)
        assert all(b["onset_s"] == pytest.approx(a["offset_s"]) for a, b in itertools.pairwise(found["events"]))
    else:
        assert torch.equal(audio[:n], torch.arange(n).float()) and not audio[n:].any()
        batch = padded([found, found])
        assert batch["audio_length"].tolist() == [n, n]
        assert batch["log_mel_length"].tolist() == [grid.n_frames(n)] * 2
        assert len(found["events"]) == 1


def test_what_cannot_be_cropped_is_told() -> None:
    with pytest.raises(ClipmillError, match="pictures show whole clips and cannot be cropped"):
        Crop(1).for_dataset(loaded("audio", "image"))
    with pytest.raises(
        ClipmillError, match="clips with foreign cannot be cropped: the snapshot does not tell the hop_length"
    ):
        Crop(1).for_dataset(loaded("foreign"))
    with pytest.raises(
        ClipmillError, match="a crop of 80 samples has no frame of log_mel, whose frames have 200 samples"
    ):
        Crop(0.01).for_dataset(loaded("log_mel", center=False))(
            sample_of(1000, FrameGrid(80, 200, False)), np.random.default_rng(0)
        )
    whole = {"embedding": torch.ones(7), "n_samples": 900, "sample_rate_hz": RATE}
    assert len(Crop(0.1).for_dataset(loaded("embedding"))(whole, np.random.default_rng(0))["embedding"]) == 7


def applied(steps: list[Any], sample: dict[str, Any], clip: str = "c", epoch: int = 0, **more: Any) -> dict[str, Any]:
    columns = tuple(name for name in sample if name not in ("n_samples", "sample_rate_hz"))
    transforms = Transforms.of(steps, 0, loaded(*columns))
    return transforms.apply(sample, clip, epoch, more.get("copy", 0))


def test_batches_are_cut_to_their_shortest_clip() -> None:
    grid = FrameGrid(80, 200, True)
    samples = [applied([CropToShortest()], sample_of(n, grid), clip=str(n)) for n in (1600, 801, 2400)]
    for sample in samples:
        del sample["n_samples"], sample["sample_rate_hz"]
    batch = padded(samples)
    assert batch["audio"].shape == (3, 1, 801) and batch["log_mel"].shape == (3, 5, 11)
    assert torch.equal(batch["audio"][:, 0, 0], batch["log_mel"][:, 0, 0])
    assert (batch["audio"].diff() == 1).all()
    assert batch["duration_s"].tolist() == [801 / RATE] * 3
    assert "n_samples" not in batch and "batch_steps" not in batch


SPECTRUM = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 120))


@given(SPECTRUM, *[st.integers(0, n) for n in (3, 40, 3, 150)], st.floats(0, 1), st.integers(0, 9999))
def test_masks_are_inside_and_no_wider_than_asked(
    shape: tuple[int, int, int], f_masks: int, f_width: int, t_masks: int, t_width: int, share: float, seed: int
) -> None:
    _, n_bins, n_frames = shape
    mask = SpecAugment(f_masks, f_width, t_masks, t_width, share, fill=0.0)
    values = mask({"log_mel": torch.ones(shape)}, np.random.default_rng(seed))["log_mel"]
    assert all(torch.equal(values[0], channel) for channel in values)
    hidden = values[0] == 0
    bins, frames = hidden.all(1), hidden.all(0)
    assert torch.equal(hidden, bins[:, None] | frames[None])
    assert runs(bins.tolist()) <= f_masks or frames.all()
    assert runs(frames.tolist()) <= t_masks or bins.all()
    if not frames.all():
        assert bins.sum() <= f_masks * min(f_width, n_bins)
    if not bins.all():
        assert frames.sum() <= t_masks * min(t_width, int(share * n_frames))


def runs(hidden: list[bool]) -> int:
    return sum(b and not a for a, b in itertools.pairwise([False, *hidden]))


def test_the_greatest_masks_occur_and_every_place_is_masked() -> None:
    mask = SpecAugment(1, 4, 0, 0, fill=0.0)
    widths, places = set(), set()
    rng = np.random.default_rng(0)
    for _ in range(300):
        hidden = (mask({"log_mel": torch.ones(10, 20)}, rng)["log_mel"] == 0).all(1)
        widths.add(int(hidden.sum()))
        places |= set(hidden.nonzero()[:, 0].tolist())
    assert (widths, places) == (set(range(5)), set(range(10)))


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.integers(1, 200), st.data())
def test_no_mask_is_cut_off_by_the_end_of_the_clip(width: float, place: float, n: int, data: st.DataObject) -> None:
    widest = data.draw(st.integers(0, n))
    first, last = _mask(width, place, widest, n)
    assert last - first == int(width * (widest + 1)) <= widest
    assert 0 <= first <= last <= n


def test_masks_have_the_mean_of_the_clip_and_leave_padding_alone() -> None:
    values = torch.cat([torch.full((8, 10), 3.0), torch.zeros(8, 10)], 1)
    found = SpecAugment(0, 0, 1, 100)({"log_mel": values.clone(), "log_mel_length": 10}, np.random.default_rng(3))
    assert torch.equal(found["log_mel"], values)


@given(st.integers(2, 9), st.floats(0.05, 4), st.floats(0, 1), st.integers(0, 999), st.data())
def test_mixed_labels_sum_up(n: int, alpha: float, probability: float, seed: int, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=n, max_size=n))
    samples = []
    for i, length in enumerate(lengths):
        hot = torch.zeros(n)
        hot[i] = 1
        sample = {"audio": torch.full((1, length), float(2**i)), "labels": hot, "label_id": i}
        samples.append(applied([Mixup(alpha, probability)], sample, clip=f"{seed}-{i}"))
    drawn = [sample["batch_steps"][0][1] for sample in samples]
    batch = padded(samples)
    soft = batch["labels"]
    assert torch.allclose(soft.sum(1), torch.ones(n)) and (soft >= 0).all()
    assert ((soft > 0).sum(1) <= 2).all()
    assert batch["label_id"].tolist() == list(range(n))
    for i, (weight, _) in enumerate(drawn):
        assert soft[i, i] == pytest.approx(weight, abs=1e-6)
        if weight < 1 and len(others := (soft[i] > 0).nonzero()[:, 0].tolist()) == 2:
            partner = next(k for k in others if k != i)
            assert batch["audio_length"][i] == max(lengths[i], lengths[partner])
            expected = sum(float(soft[i, k]) * 2**k for k in others if lengths[k] > 0)
            assert batch["audio"][i, 0, 0] == pytest.approx(expected, rel=1e-5)
    assert padded([applied([Mixup()], {"labels": torch.ones(3)})])["labels"].tolist() == [[1.0] * 3]


def test_pictures_are_mixed_as_levels() -> None:
    samples = [
        {"image": torch.full((2, 3, 1), v, dtype=torch.uint8), "labels": torch.eye(2)[i]}
        for i, v in enumerate((0, 200))
    ]
    batch = padded([applied([Mixup(alpha=1)], s, clip=str(i)) for i, s in enumerate(samples)])
    assert batch["image"].dtype == torch.uint8
    assert torch.allclose(batch["image"][:, 0, 0, 0].float(), batch["labels"][:, 1] * 200, atol=0.51)


def test_gain_is_within_its_range() -> None:
    gains = []
    for i in range(200):
        found = applied([RandomGain((-12, 3))], {"audio": torch.ones(1, 4)}, clip=str(i))
        gains.append(20 * np.log10(float(found["audio"][0, 0])))
    assert -12 <= min(gains) < -11.5 and 2.5 < max(gains) <= 3.0001


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("noises")
    write_audio(place / "a/hum.wav", tone(0.3, 16000, 2, hz=50), 16000)
    write_audio(place / "b.flac", tone(2, RATE, hz=900), RATE)
    (place / "notes.txt").write_text("no audio")
    return place


@pytest.mark.parametrize("noise", ["white", "pink", "folder"])
def test_noise_has_the_ratio_that_was_asked_for(noise: str, folder: Path) -> None:
    clean = tone(1.0, RATE, 2, hz=440).T.astype(np.float32)
    add = AddNoise((7, 7), str(folder) if noise == "folder" else noise)
    results = []
    for clip in ("a", "b", "a"):
        sample = {"audio": torch.from_numpy(clean.copy()), "sample_rate_hz": RATE}
        found = applied([pickle.loads(pickle.dumps(add))], sample, clip=clip)["audio"].numpy()
        added = found - clean
        assert 10 * np.log10(np.mean(clean**2) / np.mean(added**2)) == pytest.approx(7, abs=0.01)
        results.append(found)
    assert np.array_equal(results[0], results[2]) and not np.array_equal(results[0], results[1])
    silent = {"audio": torch.zeros(1, 100), "sample_rate_hz": RATE}
    assert not applied([add], silent)["audio"].any()
    padded_clip = {
        "audio": torch.cat([torch.ones(1, 50), torch.zeros(1, 50)], 1),
        "sample_rate_hz": RATE,
        "audio_length": 50,
    }
    assert not add(padded_clip, np.random.default_rng(0))["audio"][:, 50:].any()
    never = AddNoise(noise=add.noise, probability=0)
    assert torch.equal(never({"audio": torch.ones(1, 9)}, np.random.default_rng(0))["audio"], torch.ones(1, 9))


def test_pink_noise_falls_by_three_decibels_per_octave() -> None:
    y = pink((1, 1 << 16), np.random.default_rng(0))[0]
    assert y.dtype == np.float32
    power = np.abs(np.fft.rfft(y)) ** 2
    octaves = [10 * np.log10(power[2**k : 2 ** (k + 1)].mean()) for k in range(7, 15)]
    assert np.diff(octaves) == pytest.approx([-3.01] * 7, abs=0.6)
    assert pink((2, 1), np.random.default_rng(0)).shape == (2, 1)


def test_noises_that_cannot_be_used_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipmillError, match="has no audio files"):
        AddNoise(noise=tmp_path)
    with pytest.raises(ClipmillError, match="has no audio files"):
        AddNoise(noise=tmp_path / "absent")
    with pytest.raises(ClipmillError, match='it can be "white", "pink", a folder'):
        AddNoise(noise=3)  # type: ignore[arg-type]
    (tmp_path / "bad.wav").write_bytes(b"RIFF no sound")
    with pytest.raises(ClipmillError, match=r"noise of AddNoise: .*bad\.wav"):
        AddNoise(noise=tmp_path)({"audio": torch.ones(1, 9), "sample_rate_hz": RATE}, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Crop(0), "the length of a crop is 0; expected seconds"),
        (lambda: Crop("1"), "the length of a crop is '1'"),
        (lambda: Crop(1, "middle"), "at of a crop is 'middle'; it can be 'random' or 'start' or 'center'"),
        (lambda: Crop(1, pad="reflect"), "pad of a crop is 'reflect'"),
        (lambda: SpecAugment(freq_width=-1), "freq_width of SpecAugment is -1"),
        (lambda: SpecAugment(max_time_share=2), "max_time_share of SpecAugment is 2"),
        (lambda: SpecAugment(fill="zero"), "fill of SpecAugment is 'zero'"),
        (lambda: RandomGain(3), "gain_db of RandomGain is 3; expected two numbers"),
        (lambda: RandomGain((3, -3)), "must not be above the second"),
        (lambda: AddNoise((np.nan, 3)), "snr_db of AddNoise is"),
        (lambda: AddNoise(probability=2), "probability of AddNoise is 2"),
        (lambda: Mixup(0), "alpha of Mixup is 0"),
        (lambda: Mixup(probability=-1), "probability of Mixup is -1"),
        (lambda: applied([SpecAugment], {"log_mel": 0}), "expected transforms such as SpecAugment"),
        (lambda: applied([3], {"log_mel": 0}), "transform has 3"),
        (lambda: applied([SpecAugment()], {"audio": 0}), r"SpecAugment masks log_mel, which is not among the features .*\(none\)"),
        (lambda: applied([RandomGain()], {"log_mel": 0}), "RandomGain changes audio, which is not among the columns"),
        (lambda: applied([RandomGain()], {"audio": 0, "log_mel": 0}), r"not the features that are stored beside it \(log_mel\)"),
        (lambda: applied([Mixup()], {"audio": 0, "label_id": 0}), "add labels to columns"),
        (lambda: applied([Mixup(), Crop(1)], {"labels": 0}), "Crop after Mixup, which works on batches"),
        (lambda: applied([lambda sample: None], {"x": 0}), "the transform <lambda> returned None; it must return the sample"),
        (lambda: padded([applied([Mixup()], {"labels": torch.ones(2)}), {"labels": torch.ones(2)}]), "different transforms"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told(make: Any, said: str) -> None:
    with pytest.raises(ClipmillError, match=said):
        make()


@dataclass(frozen=True)
class Noted(Transform):
    """A transform of a user's own."""

    needs = ("level_dbfs",)

    def __call__(self, sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        sample["drawn"] = rng.random()
        return sample


def test_what_is_drawn_depends_on_the_clip_the_epoch_the_copy_and_the_place() -> None:
    def drawn(*steps: Any, **about: Any) -> float:
        found: float = applied(list(steps), {"x": 0}, **about)["drawn"]
        return found

    numbers = [
        drawn(Noted()),
        drawn(Noted(), clip="d"),
        drawn(Noted(), epoch=1),
        drawn(Noted(), copy=1),
        drawn(Noted(), Noted()),
    ]
    assert len(set(numbers)) == 5
    assert drawn(Noted()) == numbers[0]
    assert Transforms.needed([Noted(), Crop(1), len]) == ["level_dbfs", "n_samples", "sample_rate_hz"]
    assert issubclass(Mixup, BatchTransform)
