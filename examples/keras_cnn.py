"""Train a small convolutional network with Keras on the log-mels of a TFRecord export, read by tf.data.

    clipmill export out/fsdd-takes tfrecord --to out/records --option audio=none
    python examples/keras_cnn.py out/records [--feature log_mel] [--epochs 10] [--batch 32] [--frames 100] [--out out/keras.keras]

TensorFlow is not part of clipmill: pip install tensorflow. The export needs labels, the feature, and the splits train, val and test; clips
without a label are left out. A clip's own mean and spread are taken out of its log-mel, so that how loud it was recorded says nothing, and all
are cut or padded to --frames.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SPLITS = ("train", "val", "test")


def description(folder: Path) -> dict[str, Any]:
    """Return what features.json says of an export: its classes, its files by split, and the kind and shape of each feature."""
    found: dict[str, Any] = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    return found


def files_of(folder: Path, about: dict[str, Any], split: str) -> list[str]:
    """Return the paths of a split's files, in their order."""
    if split not in about["splits"]:
        raise SystemExit(f"error: {folder} has no split {split!r}; there are {', '.join(about['splits'])}")
    return [str(folder / file["path"]) for file in about["splits"][split]["files"]]


def clips_of(
    folder: Path, about: dict[str, Any], split: str, feature: str, n_frames: int, shuffle: bool = False
) -> Any:
    """Return a tf.data.Dataset of a split: pairs of a feature [n_frames, bins, channels] as float32, and its label's id."""
    import tensorflow as tf

    spec = {
        feature: tf.io.RaggedFeature(tf.float32),
        f"{feature}_shape": tf.io.RaggedFeature(tf.int64),
        "label_id": tf.io.FixedLenFeature([], tf.int64),
    }

    def parsed(record: Any) -> tuple[Any, Any]:
        clip = tf.io.parse_single_example(record, spec)
        shape = clip[f"{feature}_shape"]  # [bins, frames], or [channels, bins, frames]
        whole = tf.concat([tf.ones(3 - tf.size(shape), tf.int64), shape], 0)
        values = tf.transpose(tf.reshape(clip[feature], whole), [2, 1, 0])[:n_frames]
        values -= tf.reduce_mean(values)
        values /= tf.maximum(tf.math.reduce_std(values), 1e-5)
        padded = tf.pad(values, [[0, n_frames - tf.shape(values)[0]], [0, 0], [0, 0]])
        return tf.ensure_shape(padded, [n_frames, None, None]), clip["label_id"]

    files = tf.data.Dataset.from_tensor_slices(files_of(folder, about, split))
    if shuffle:
        files = files.shuffle(len(files), reshuffle_each_iteration=True)
    records = files.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE)
    clips = records.map(parsed, num_parallel_calls=tf.data.AUTOTUNE).filter(lambda _, label: label >= 0)
    clips = clips.apply(tf.data.experimental.assert_cardinality(about["splits"][split]["labelled"]))
    return clips.shuffle(2048, reshuffle_each_iteration=True) if shuffle else clips


def network(shape: tuple[int, int, int], n_classes: int) -> Any:
    """Return a model of features [batch, *shape] to the logits of classes. shape : frames, bins, channels"""
    import keras

    x = inputs = keras.Input(shape)
    for width in (16, 32, 64):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.3)(x)
    return keras.Model(inputs, keras.layers.Dense(n_classes)(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a TFRecord export")
    parser.add_argument("--feature", default="log_mel")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("out/keras.keras"))
    o = parser.parse_args()
    if not (o.folder / "features.json").is_file():
        raise SystemExit(
            f"error: {o.folder} is no TFRecord export: it has no features.json; clipmill export ROOT tfrecord --to {o.folder}"
        )
    about = description(o.folder)
    if o.feature not in about["features"] or f"{o.feature}_shape" not in about["features"]:
        raise SystemExit(f"error: {o.folder} has no feature {o.feature!r}; build the dataset with it, and export again")
    if not about["classes"]:
        raise SystemExit(f"error: {o.folder}: no clip has a label")
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        raise SystemExit(f"error: {error.name} is not installed: pip install tensorflow") from None

    keras.utils.set_random_seed(0)
    train = clips_of(o.folder, about, "train", o.feature, o.frames, shuffle=True)
    first = next(iter(train.as_numpy_iterator()), None)
    if first is None:
        raise SystemExit(f"error: {o.folder}: no clip of the split train has a label")
    train = train.batch(o.batch).prefetch(tf.data.AUTOTUNE)
    val, test = (clips_of(o.folder, about, split, o.feature, o.frames).batch(o.batch).cache() for split in SPLITS[1:])
    model = network(first[0].shape, len(about["classes"]))
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    model.fit(train, validation_data=val, epochs=o.epochs, callbacks=[stop], verbose=2)
    _, accuracy = model.evaluate(test, verbose=0)
    o.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(o.out)
    print(f"accuracy on test: {accuracy:.3f} of {len(about['classes'])} classes; saved as {o.out}")


if __name__ == "__main__":
    main()
