"""Train a small network on the features of a dataset, test it, and prove that the test can fail.

    python examples/train.py out/fsdd-takes --hold-out speaker [--feature mfcc] [--epochs 30] [--out out/trained] [--seed 0]

The dataset needs labels, log_mel or mfcc, and the splits train, val and test. Two or three runs: its own splits; with --hold-out, one value
of a field kept out of training altogether, and tested; and the own splits with the training labels shuffled, which must end at chance. Each
stops when the validation loss has not become smaller for five epochs, keeps the best epoch in best.pt, and draws its confusion matrix.
Prints a line a run, writes results.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from clipmill import ClipDataset, ClipmillError, Published, open_dataset, padded

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PATIENCE = 5
SPLITS = ["train", "val", "test"]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Network(nn.Module):
    """Four convolutions over a feature [batch, bins, frames], then the mean over the frames that there are."""

    def __init__(self, n_bins: int, n_classes: int) -> None:
        super().__init__()
        widths = [1, 24, 32, 48, 64]
        blocks = []
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            stride = (2, 2) if i < 2 else (2, 1)
            blocks += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.convolutions = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * -(-n_bins // 16), n_classes))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        # A clip's own mean and spread go, so that how loud it was recorded says nothing.
        there = (torch.arange(x.shape[-1])[None] < lengths[:, None])[:, None]
        n_values = x.shape[1] * lengths[:, None, None]
        x = (x - (x * there).sum((1, 2), keepdim=True) / n_values) * there
        x = x / (x.square().sum((1, 2), keepdim=True) / n_values).sqrt().clamp_min(1e-5)
        y = self.convolutions(x[:, None])  # [batch, 64, bins / 16, frames / 4]
        there = torch.arange(y.shape[-1], device=y.device)[None] < (lengths[:, None] + 3) // 4
        y = (y * there[:, None, None]).sum(-1) / there.sum(-1)[:, None, None]
        return self.last(y.flatten(1))


class Clips:
    """Batches of splits.

    group : a field and a value; only clips that have it (`held`), or only clips that have not
    labels : what stands in for the true ones, by clip
    """

    def __init__(
        self,
        dataset: Published,
        feature: str,
        splits: list[str],
        seed: int,
        group: tuple[str, str] | None = None,
        held: bool = False,
        labels: dict[str, int] | None = None,
    ) -> None:
        self._feature, self._group, self._held, self._labels = feature, group, held, labels
        columns = (feature, "label_id", "clip_id", *(group[:1] if group else ()))
        # The training split's statistics know the group that is to be held out.
        scale: Literal["bin"] | None = None if group else "bin"
        self._sets = [ClipDataset(dataset, s, columns, shuffle=True, seed=seed, normalise=scale) for s in splits]

    def epoch(self, epoch: int) -> Iterator[Batch]:
        for clips in self._sets:
            clips.set_epoch(epoch)
            for batch in DataLoader(clips, batch_size=32, collate_fn=padded):
                labels = batch["label_id"]
                if self._labels is not None:
                    labels = torch.tensor([self._labels[clip] for clip in batch["clip_id"]])
                chosen = labels >= 0  # the others have no label
                if self._group is not None:
                    field, value = self._group
                    chosen &= torch.tensor([(str(v) == value) == self._held for v in batch[field]])
                if chosen.any():
                    yield batch[self._feature][chosen], batch[f"{self._feature}_length"][chosen], labels[chosen]


def evaluated(network: Network, clips: Clips, n_classes: int) -> tuple[float, np.ndarray]:
    """Return the mean loss and the confusion matrix, [true, found]."""
    network.eval()
    confusion, losses = np.zeros((n_classes, n_classes), int), []
    with torch.no_grad():
        for x, lengths, labels in clips.epoch(0):
            out = network(x, lengths)
            losses.append(nn.functional.cross_entropy(out, labels, reduction="none"))
            np.add.at(confusion, (labels.numpy(), out.argmax(1).numpy()), 1)
    return float(torch.cat(losses).mean()) if losses else float("nan"), confusion


def trained(network: Network, train: Clips, val: Clips, n_classes: int, epochs: int, best: Path) -> tuple[Network, int]:
    """Train until the validation loss stands still; return the best epoch's network and its number."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    best.unlink(missing_ok=True)  # of a run before
    lowest, at = float("inf"), 0
    for epoch in range(1, epochs + 1):
        network.train()
        for x, lengths, labels in train.epoch(epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x, lengths), labels).backward()
            optimiser.step()
        loss, confusion = evaluated(network, val, n_classes)
        print(f"  epoch {epoch:>2}: validation loss {loss:.3f}, accuracy {accuracy(confusion):.3f}", flush=True)
        if loss < lowest:
            lowest, at = loss, epoch
            torch.save(network.state_dict(), best)
        elif epoch - at >= PATIENCE:
            break
    if not best.exists():
        raise ClipmillError(
            "the validation loss was no number in any epoch: are there clips in val, and are their features finite?"
        )
    network.load_state_dict(torch.load(best, weights_only=True))
    return network, at


def accuracy(confusion: np.ndarray) -> float:
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(confusion: np.ndarray) -> float:
    """The mean over classes of 2 TP / (2 TP + FP + FN)."""
    right = np.diag(confusion)
    return float(np.mean(2 * right / np.maximum(confusion.sum(0) + confusion.sum(1), 1)))


def draw(confusion: np.ndarray, classes: list[str], title: str, path: Path) -> None:
    size = max(4.5, 0.45 * len(classes))
    figure, axes = plt.subplots(figsize=(size + 0.5, size), layout="constrained")
    axes.imshow(confusion, cmap="Blues")
    for (i, j), n in np.ndenumerate(confusion):
        if n:
            axes.text(
                j, i, n, ha="center", va="center", fontsize=8, color="white" if n > confusion.max() / 2 else "black"
            )
    axes.set(xticks=range(len(classes)), yticks=range(len(classes)), xticklabels=classes, yticklabels=classes)
    if max(map(len, classes)) > 2:
        axes.tick_params("x", rotation=90)
    axes.set(xlabel="found", ylabel="true", title=title)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def held_out(dataset: Published, wanted: str) -> tuple[str, str]:
    """Return the field and the value that --hold-out names: FIELD=VALUE, or FIELD, of which the last value is taken."""
    field, given, value = wanted.partition("=")
    known = ["label", "recording_id", "source", *dataset.snapshot.fields]
    if field not in known:
        raise ClipmillError(f"there is no field {field!r} to hold out by; there are {', '.join(known)}")
    if given and not value:
        raise ClipmillError(f"--hold-out {wanted} names no value; write FIELD=VALUE, or FIELD")
    values = {str(row[field]) for split in SPLITS for row in ClipDataset(dataset, split, (field,))}
    if value and value not in values:
        raise ClipmillError(f"no clip has {value!r} in the field {field!r}; there are {', '.join(sorted(values)[:20])}")
    if len(values) < 2:
        raise ClipmillError(f"all clips have {min(values)!r} in the field {field!r}: nothing would be left to train on")
    return field, value or max(values)


def experiment(
    dataset: Published, feature: str, hold_out: str | None, epochs: int, seed: int, out: Path
) -> dict[str, dict[str, Any]]:
    """Run all, and return what each reached, by name."""
    if missing := set(SPLITS) - set(dataset.splits):
        raise ClipmillError(
            f"{dataset.root.url}: there is no split {min(missing)!r}; there are {', '.join(dataset.splits)}; give `split`"
            " in the configuration train, val and test"
        )
    if feature not in dataset.feature_names:
        raise ClipmillError(
            f"{dataset.root.url}: there is no feature {feature!r}; add it under `features` and build again"
        )
    if not dataset.classes:
        raise ClipmillError(f"{dataset.root.url}: no clip has a label; give `label` in the configuration")
    rows = [row for split in SPLITS for row in ClipDataset(dataset, split, ("clip_id", "label_id"))]
    labels = [row["label_id"] for row in rows]
    random.Random(seed).shuffle(labels)
    wrong = {row["clip_id"]: label for row, label in zip(rows, labels, strict=True)}
    a_clip = next(iter(ClipDataset(dataset, "train", (feature,))))

    clips = partial(Clips, dataset, feature, seed=seed)
    runs = {"own split": (clips(["train"]), clips(["val"]), clips(["test"]))}
    if hold_out is not None:
        group = held_out(dataset, hold_out)
        without = (clips(["train"], group=group), clips(["val"], group=group), clips(SPLITS, group=group, held=True))
        runs[f"without {group[1]}"] = without
    runs["labels shuffled"] = (clips(["train"], labels=wrong), clips(["val"], labels=wrong), clips(["test"]))

    results: dict[str, dict[str, Any]] = {}
    for i, (name, (train, val, test)) in enumerate(runs.items()):
        torch.manual_seed(seed)
        place = out / ("own-split", "held-out", "labels-shuffled")[i if hold_out is not None else 2 * i]
        place.mkdir(parents=True, exist_ok=True)
        print(name)
        network = Network(a_clip[feature].shape[-2], len(dataset.classes))
        network, epoch = trained(network, train, val, len(dataset.classes), epochs, place / "best.pt")
        _, confusion = evaluated(network, test, len(dataset.classes))
        results[name] = {
            "accuracy": accuracy(confusion),
            "macro_f1": macro_f1(confusion),
            "commonest": float(confusion.sum(1).max() / confusion.sum()),
            "clips": int(confusion.sum()),
            "best_epoch": epoch,
            "confusion": confusion.tolist(),
        }
        draw(confusion, dataset.classes, f"{name}: accuracy {accuracy(confusion):.3f}", place / "confusion.png")
    return results


def at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
        return int(text)

    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="a dataset: a folder or s3://BUCKET/FOLDER")
    parser.add_argument("--feature", choices=("log_mel", "mfcc"), default="log_mel")
    parser.add_argument("--hold-out", metavar="FIELD[=VALUE]", help="a field, and the value to keep out of training")
    parser.add_argument("--epochs", type=at_least(1), default=30)
    parser.add_argument("--out", type=Path, default=Path("out/trained"))
    parser.add_argument("--seed", type=at_least(0), default=0)
    o = parser.parse_args()
    try:
        results = experiment(open_dataset(o.root), o.feature, o.hold_out, o.epochs, o.seed, o.out)
        (o.out / "results.json").write_text(json.dumps(results, indent=1))
    except (ClipmillError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{'':<24}{'accuracy':>10}{'macro F1':>10}{'clips':>8}{'epoch':>7}{'commonest label':>18}")
    for name, r in results.items():
        line = f"{name:<24}{r['accuracy']:>10.3f}{r['macro_f1']:>10.3f}{r['clips']:>8}{r['best_epoch']:>7}"
        print(f"{line}{r['commonest']:>18.3f}")


if __name__ == "__main__":
    main()
