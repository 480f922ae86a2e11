"""Train a small network on the log-mels of a dataset with Lightning, on one device or several.

    python examples/lightning_train.py out/dogs [--epochs 10] [--devices 2] [--workers 2] [--crop 1.0] [--out out/lightning]

The dataset needs labels, one or several for a clip, log_mel, and the splits train and val. Labels are balanced, crops of equal length are drawn,
masked and mixed. Prints the loss and the accuracy on val: the share of clips whose greatest output is one of their labels.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from clipmill import ClipDataset, ClipmillError, Mixup, Published, SpecAugment, open_dataset, padded

Batch = dict[str, Any]


class Clips(lightning.LightningDataModule):
    """Batches of train and val. Each rank reads its share: the dataset finds out its rank when it is first read."""

    def __init__(self, dataset: Published, crop_s: float, workers: int) -> None:
        super().__init__()
        self._workers = workers
        columns = ("clip_id", "log_mel", "labels")
        common: dict[str, Any] = {
            "columns": columns,
            "batch_size": 32,
            "normalise": "bin",
            "crop_s": crop_s,
            "pad": "repeat",
        }
        augment = [SpecAugment(freq_width=10, time_width=20), Mixup(alpha=0.3)]
        # even="drop": all ranks make as many steps, which they must, since they wait for each other after each.
        self.train = ClipDataset(
            dataset, "train", shuffle=True, balance="label", transform=augment, even="drop", **common
        )
        self.val = ClipDataset(dataset, "val", **common)

    def _loader(self, clips: ClipDataset) -> DataLoader[Batch]:
        return DataLoader(clips, batch_size=32, num_workers=self._workers, collate_fn=padded)

    def train_dataloader(self) -> DataLoader[Batch]:
        if self.trainer is not None:
            self.train.set_epoch(self.trainer.current_epoch)  # which is not 0 when a checkpoint is continued
        return self._loader(self.train)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val)


class Network(lightning.LightningModule):
    """Three convolutions over a log-mel [batch, bins, frames], and the mean over what they give."""

    def __init__(self, n_classes: int, several: bool) -> None:
        super().__init__()
        widths = [1, 16, 32, 64]
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise(widths)
        ]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))
        # Mixed clips have shares of labels. Both losses take them.
        self.loss: nn.Module = nn.BCEWithLogitsLoss() if several else nn.CrossEntropyLoss()
        # Means over the clips of all ranks. Numbers that `log` itself averages over ranks are weighted wrongly if these have unequally many.
        self.means = nn.ModuleDict({"val_loss": MeanMetric(), "val_accuracy": MeanMetric()})

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        return self.layers(log_mel[:, None])

    def on_train_epoch_start(self) -> None:
        self.trainer.datamodule.train.set_epoch(self.current_epoch)  # type: ignore[attr-defined]

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        return self.loss(self(batch["log_mel"]), batch["labels"])

    def validation_step(self, batch: Batch, _: int) -> None:
        out, labels = self(batch["log_mel"]), batch["labels"]
        found = {
            "val_loss": self.loss(out, labels),
            "val_accuracy": labels.gather(1, out.argmax(1, keepdim=True)).mean(),
        }
        for name, value in found.items():
            self.means[name].update(value, len(labels))
            self.log(name, self.means[name])  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="a dataset: a folder or s3://BUCKET/FOLDER")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--crop", type=float, default=1.0, help="length of crops in seconds")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--out", type=Path, default=Path("out/lightning"))
    o = parser.parse_args()
    lightning.seed_everything(0, verbose=False)
    try:
        dataset = open_dataset(o.root)
        clips = Clips(dataset, o.crop, o.workers)
    except ClipmillError as error:
        raise SystemExit(f"error: {error}") from None
    network = Network(len(dataset.classes), bool(dataset.snapshot.label_lists))
    trainer = lightning.Trainer(
        accelerator=o.accelerator, devices=o.devices, strategy="ddp" if o.devices > 1 else "auto", max_epochs=o.epochs,
        default_root_dir=o.out, logger=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(network, datamodule=clips)
    if trainer.is_global_zero:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        print(
            f"epochs {trainer.current_epoch}, steps {trainer.global_step}, validation loss {metrics['val_loss']:.3f},"
            f" accuracy {metrics['val_accuracy']:.3f}"
        )


if __name__ == "__main__":
    main()
