"""Feed JAX from a dataset: batches of one shape, each process its own clips, each device its part of a batch; and a linear model on them.

    python examples/jax_loader.py out/fsdd-takes [--feature log_mel] [--frames 100] [--epochs 10] [--batch 64] [--split train]

JAX is not part of clipmill: pip install jax. Clips are read by `ClipDataset` and PyTorch's DataLoader, as JAX's own tutorial on loading data
does it. Arrays of another shape would compile a step again, so all clips are cut or padded to the same number of frames, and the last batch
of an epoch, which may be smaller, is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from clipmill import ClipDataset, ClipmillError, Published, open_dataset

Batch = dict[str, np.ndarray]


def of_one_length(values: np.ndarray, n_frames: int) -> np.ndarray:
    """Return a feature [..., frames] with this number of frames: its first ones, or with zeros behind."""
    values = values[..., :n_frames]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, n_frames - values.shape[-1])])


class Batches:
    """The batches of a split for this process, an epoch at a time, as NumPy arrays.

    rank, n_ranks : of this process among all: jax.process_index() and jax.process_count()
    batch : number of clips of this process in a batch
    """

    def __init__(
        self,
        dataset: Published,
        split: str,
        feature: str,
        n_frames: int,
        batch: int,
        rank: int = 0,
        n_ranks: int = 1,
        seed: int = 0,
    ) -> None:
        self._feature, self._n_frames = feature, n_frames
        # Each process has the same number of batches: one that has one more would wait for the others for ever.
        self.clips = ClipDataset(
            dataset,
            split,
            (feature, "label_id"),
            shuffle=True,
            seed=seed,
            rank=rank,
            n_ranks=n_ranks,
            even="drop",
            normalise="bin",
        )
        self._loader = DataLoader(self.clips, batch_size=batch, collate_fn=self._collated, drop_last=True)

    def _collated(self, rows: list[dict[str, Any]]) -> Batch:
        values = [of_one_length(np.asarray(row[self._feature], np.float32), self._n_frames) for row in rows]
        return {"x": np.stack(values), "y": np.array([row["label_id"] for row in rows], np.int32)}

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield batches: x float32 [batch, bins, frames], y int32 [batch], -1 where a clip has no label."""
        self.clips.set_epoch(epoch)
        yield from self._loader


def on_devices(batch: Batch) -> Any:
    """Return a batch as jax.Arrays whose first axis is divided over all devices of all processes."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("clips",)), PartitionSpec("clips"))
    return {name: jax.make_array_from_process_local_data(sharding, values) for name, values in batch.items()}


def train(dataset: Published, split: str, feature: str, n_frames: int, batch: int, epochs: int) -> list[float]:
    """Train a linear model by gradient descent; return the mean loss of each epoch."""
    import jax
    import jax.numpy as jnp

    n_local = jax.local_device_count()
    if batch % n_local:
        raise ClipmillError(f"--batch {batch} cannot be divided by the {n_local} devices of this process")
    batches = Batches(dataset, split, feature, n_frames, batch, jax.process_index(), jax.process_count())
    weights: Any = None

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        logits = x.reshape(x.shape[0], -1) @ weights["w"] + weights["b"]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(y, 0)[:, None], axis=1)[:, 0]
        known = y >= 0
        return -jnp.sum(chosen * known) / jnp.maximum(jnp.sum(known), 1)

    @jax.jit
    def step(weights: Any, x: Any, y: Any) -> Any:
        loss, slopes = jax.value_and_grad(loss_of)(weights, x, y)
        return jax.tree.map(lambda w, slope: w - 0.005 * slope, weights, slopes), loss

    means = []
    for epoch in range(epochs):
        losses = []
        for local in batches.epoch(epoch):
            if weights is None:
                n_inputs, n_classes = int(np.prod(local["x"].shape[1:])), len(dataset.classes)
                weights = {"w": jnp.zeros((n_inputs, n_classes)), "b": jnp.zeros(n_classes)}
            weights, loss = step(weights, **on_devices(local))
            losses.append(loss)
        if not losses:
            raise ClipmillError(f"the split {split} has less than a batch of {batch} clips; give a smaller --batch")
        means.append(float(np.mean(losses)))
        if jax.process_index() == 0:
            print(f"epoch {epoch + 1}: loss {means[-1]:.3f} on {len(jax.devices())} devices", flush=True)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="a dataset: a folder or s3://BUCKET/FOLDER")
    parser.add_argument("--split", default="train")
    parser.add_argument("--feature", default="log_mel")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    o = parser.parse_args()
    try:
        dataset = open_dataset(o.root)
        if o.feature not in dataset.feature_names:
            raise ClipmillError(f"{o.root}: there is no feature {o.feature!r}; add it under `features` and build again")
        if not dataset.classes:
            raise ClipmillError(f"{o.root}: no clip has a label; give `label` in the configuration")
        train(dataset, o.split, o.feature, o.frames, o.batch, o.epochs)
    except ImportError as error:
        raise SystemExit(f"error: {error.name} is not installed: pip install jax") from None
    except (ClipmillError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
