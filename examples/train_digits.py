"""Train a small network on the log-mels of a dataset, test it, and prove that the test can fail.

    python examples/train_digits.py out/fsdd-takes [--epochs 30] [--out out/digits] [--seed 0]

Three runs: the dataset's own splits (train, val, test); one speaker held out of training altogether; and the own splits with the training
labels shuffled, which must end at chance. Each stops when the validation loss has not become smaller for five epochs, keeps the best epoch
in best.pt, and draws its confusion matrix. Prints a line a run, writes results.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from pipelines.training import ClipDataset, padded

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PATIENCE = 5
COLUMNS = ("log_mel", "label_id", "speaker", "clip_id")
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Network(nn.Module):
    """Four convolutions over log-mels [batch, bins, frames], then the mean over the frames that there are."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        widths = [1, 24, 32, 48, 64]
        blocks = []
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            stride = (2, 2) if i < 2 else (2, 1)
            blocks += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.convolutions = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * 3, n_classes))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        # A clip's own mean goes, so that how loud a speaker was recorded says nothing.
        there = (torch.arange(x.shape[-1])[None] < lengths[:, None])[:, None]
        x = (x - (x * there).sum((1, 2), keepdim=True) / (x.shape[1] * lengths[:, None, None])) * there
        y = self.convolutions(x[:, None])  # [batch, 64, 3, frames / 4]
        there = torch.arange(y.shape[-1], device=y.device)[None] < (lengths[:, None] + 3) // 4
        y = (y * there[:, None, None]).sum(-1) / there.sum(-1)[:, None, None]
        return self.last(y.flatten(1))


class Clips:
    """Batches of a split, or of the speakers of all splits but or only one.

    labels : what stands in for the true ones, by clip
    """

    def __init__(
        self, root: str, splits: list[str], speakers: set[str] | None, labels: dict[str, int] | None, seed: int
    ) -> None:
        self._sets = [ClipDataset(root, s, COLUMNS, shuffle=True, seed=seed, normalise="bin") for s in splits]
        self._speakers, self._labels = speakers, labels

    def epoch(self, epoch: int) -> Iterator[Batch]:
        for clips in self._sets:
            clips.set_epoch(epoch)
            for batch in DataLoader(clips, batch_size=32, collate_fn=padded):
                labels = batch["label_id"]
                if self._labels is not None:
                    labels = torch.tensor([self._labels[clip] for clip in batch["clip_id"]])
                chosen = torch.tensor([self._speakers is None or s in self._speakers for s in batch["speaker"]])
                if chosen.any():
                    yield batch["log_mel"][chosen], batch["log_mel_length"][chosen], labels[chosen]


def evaluated(network: Network, clips: Clips, n_classes: int) -> tuple[float, np.ndarray]:
    """Return the mean loss and the confusion matrix, [true, found]."""
    network.eval()
    confusion, losses = np.zeros((n_classes, n_classes), int), []
    with torch.no_grad():
        for x, lengths, labels in clips.epoch(0):
            out = network(x, lengths)
            losses.append(nn.functional.cross_entropy(out, labels, reduction="none"))
            np.add.at(confusion, (labels.numpy(), out.argmax(1).numpy()), 1)
    return float(torch.cat(losses).mean()), confusion


def trained(train: Clips, val: Clips, n_classes: int, epochs: int, best: Path) -> tuple[Network, int]:
    """Train until the validation loss stands still; return the best epoch's network and its number."""
    network = Network(n_classes)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
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
    network.load_state_dict(torch.load(best, weights_only=True))
    return network, at


def accuracy(confusion: np.ndarray) -> float:
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(confusion: np.ndarray) -> float:
    """The mean over classes of 2 TP / (2 TP + FP + FN)."""
    right = np.diag(confusion)
    return float(np.mean(2 * right / np.maximum(confusion.sum(0) + confusion.sum(1), 1)))


def draw(confusion: np.ndarray, classes: list[str], title: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5, 4.5), layout="constrained")
    axes.imshow(confusion, cmap="Blues")
    for (i, j), n in np.ndenumerate(confusion):
        if n:
            axes.text(
                j, i, n, ha="center", va="center", fontsize=8, color="white" if n > confusion.max() / 2 else "black"
            )
    axes.set(xticks=range(len(classes)), yticks=range(len(classes)), xticklabels=classes, yticklabels=classes)
    axes.set(xlabel="found", ylabel="true", title=title)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "root", help="a dataset with log_mel, labels, the field speaker, and splits train, val and test"
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("out/digits"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold-out", help="a speaker; default: the last by name")
    o = parser.parse_args()
    rows = [
        row
        for split in ("train", "val", "test")
        for row in ClipDataset(o.root, split, ("speaker", "clip_id", "label_id"))
    ]
    classes = ClipDataset(o.root, "train").classes
    speakers = sorted({row["speaker"] for row in rows})
    held_out = o.hold_out or speakers[-1]
    others = set(speakers) - {held_out}
    labels = [row["label_id"] for row in rows]
    random.Random(o.seed).shuffle(labels)
    shuffled = {row["clip_id"]: label for row, label in zip(rows, labels, strict=True)}

    def clips(splits: list[str], who: set[str] | None = None, wrong: dict[str, int] | None = None) -> Clips:
        return Clips(o.root, splits, who, wrong, o.seed)

    runs = {
        "own split": (clips(["train"]), clips(["val"]), clips(["test"])),
        f"without {held_out}": (
            clips(["train"], others),
            clips(["val"], others),
            clips(["train", "val", "test"], {held_out}),
        ),
        "labels shuffled": (clips(["train"], None, shuffled), clips(["val"], None, shuffled), clips(["test"])),
    }
    results: dict[str, Any] = {}
    for name, (train, val, test) in runs.items():
        torch.manual_seed(o.seed)
        place = o.out / name.replace(" ", "-")
        place.mkdir(parents=True, exist_ok=True)
        print(name)
        network, epoch = trained(train, val, len(classes), o.epochs, place / "best.pt")
        _, confusion = evaluated(network, test, len(classes))
        results[name] = {
            "accuracy": accuracy(confusion),
            "macro_f1": macro_f1(confusion),
            "clips": int(confusion.sum()),
            "best_epoch": epoch,
            "confusion": confusion.tolist(),
        }
        draw(confusion, classes, f"{name}: accuracy {accuracy(confusion):.3f}", place / "confusion.png")
    (o.out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"{'':<24}{'accuracy':>10}{'macro F1':>10}{'clips':>8}{'epoch':>7}")
    for name, r in results.items():
        print(f"{name:<24}{r['accuracy']:>10.3f}{r['macro_f1']:>10.3f}{r['clips']:>8}{r['best_epoch']:>7}")


if __name__ == "__main__":
    main()
