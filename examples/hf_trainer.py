"""Train a small network on a dataset with the Trainer of transformers, on log-mels or on pictures.

    python examples/hf_trainer.py out/dogs [--pictures] [--epochs 10] [--crop 1.0] [--out out/hf]
    accelerate launch --num_processes 2 examples/hf_trainer.py out/dogs

The dataset needs labels, one or several for a clip, log_mel or pictures (`output.images`), and the splits train and val. Prints the loss and the
accuracy on val: the share of clips whose greatest output is one of their labels.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EvalPrediction, Trainer, TrainingArguments

from clipmill import ClipDataset, ClipmillError, Mixup, Published, SpecAugment, open_dataset, padded


class Network(nn.Module):
    """Three convolutions over a log-mel [batch, bins, frames] or a picture [batch, height, width, channels], and the mean over what they give."""

    def __init__(self, n_channels: int, n_classes: int, several: bool) -> None:
        super().__init__()
        widths = [n_channels, 16, 32, 64]
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise(widths)
        ]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))
        # Mixed clips have shares of labels. Both losses take them.
        self.loss: nn.Module = nn.BCEWithLogitsLoss() if several else nn.CrossEntropyLoss()

    def forward(
        self, labels: torch.Tensor, log_mel: torch.Tensor | None = None, image: torch.Tensor | None = None, **_: Any
    ) -> dict[str, torch.Tensor]:
        """Return the loss and the outputs, as the Trainer expects them. The lengths in a batch are not needed: all crops are equally long."""
        if log_mel is not None:
            x = log_mel[:, None]
        elif image is not None:
            x = image.permute(0, 3, 1, 2) / 255
        else:
            raise TypeError("the batch has neither log_mel nor image")
        logits = self.layers(x)
        return {"loss": self.loss(logits, labels), "logits": logits}


def clips_of(dataset: Published, pictures: bool, crop_s: float) -> tuple[ClipDataset, ClipDataset]:
    """Return the clips to train on and to evaluate on. Every process reads all of them, and accelerate divides them."""
    if pictures:
        common: dict[str, Any] = {"columns": ("image", "labels"), "decode_images": True}
        augment: list[Any] = [Mixup(alpha=0.3)]
    else:
        common = {"columns": ("log_mel", "labels"), "normalise": "bin", "crop_s": crop_s, "pad": "repeat"}
        augment = [SpecAugment(freq_width=10, time_width=20), Mixup(alpha=0.3)]
    train = ClipDataset(dataset, "train", shuffle=True, balance="label", transform=augment, **common)
    return train, ClipDataset(dataset, "val", **common)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    best = np.asarray(prediction.predictions).argmax(1)[:, None]
    return {"accuracy": float(np.take_along_axis(np.asarray(prediction.label_ids), best, 1).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="a dataset: a folder or s3://BUCKET/FOLDER")
    parser.add_argument(
        "--pictures", action="store_true", help="train on pictures, all of one size, instead of log-mels"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--crop", type=float, default=1.0, help="length of crops in seconds")
    parser.add_argument("--out", type=Path, default=Path("out/hf"))
    o = parser.parse_args()
    try:
        dataset = open_dataset(o.root)
        train, val = clips_of(dataset, o.pictures, o.crop)
        first = next(iter(ClipDataset(dataset, "val", train.columns, decode_images=o.pictures, group="none")))
    except (ClipmillError, StopIteration) as error:
        raise SystemExit(f"error: {error or 'the split val has no clips'}") from None
    n_channels = first["image"].shape[-1] if o.pictures else 1
    arguments = TrainingArguments(
        output_dir=str(o.out), num_train_epochs=o.epochs, per_device_train_batch_size=32, per_device_eval_batch_size=32,
        learning_rate=2e-3, lr_scheduler_type="constant", dataloader_num_workers=o.workers, remove_unused_columns=False,
        eval_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no", seed=0,
    )  # fmt: skip
    trainer = Trainer(
        model=Network(n_channels, len(dataset.classes), bool(dataset.snapshot.label_lists)),
        args=arguments, train_dataset=train, eval_dataset=val, data_collator=padded, compute_metrics=accuracy,
    )  # fmt: skip
    done = trainer.train()
    found = trainer.evaluate()
    if trainer.is_world_process_zero():
        print(
            f"epochs {found['epoch']:.0f}, steps {done.global_step}, validation loss {found['eval_loss']:.3f},"
            f" accuracy {found['eval_accuracy']:.3f}"
        )


if __name__ == "__main__":
    main()
