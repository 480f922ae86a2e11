"""Find out what a model takes and gives, by what its file says and by trying it, and check that this is what the configuration asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from clipmill.schemas.config.model_settings import Axis, Kind, ModelFile, ModelOutput
from clipmill.schemas.plural import counted
from clipmill.stages.models.model_process import Arrays, ModelProcess
from clipmill.stages.models.unusable import ModelDiedError, ModelRaisedError, UnusableModelError

N_FRAMES = "n_frames"
"""Name of a size that differs from clip to clip, as other features have it."""
_PROBES_S = ((1.0, 2.0), (10.0, 20.0))
_FRAMES_PROBED = ((100, 200), (1000, 2000))
_ROWS_PROBED = 2


@dataclass(frozen=True)
class KnownOutput:
    """One column that is made of an output.

    source : the model's name of the output
    dims : shape of a clip's value as stored; a text is a size that differs from clip to clip
    left_out : axes of size 1 of what the model gives for a clip, which are not stored
    labels : names of classes; None: none
    """

    column: str
    kind: Kind
    source: str
    dims: tuple[int | str, ...]
    left_out: tuple[int, ...] = ()
    labels: tuple[str, ...] | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model.

    url : of its file
    sha256 : of the file's content
    format : torchscript | onnx
    device : cpu | cuda, where it runs
    axes : of its input
    sizes : of the axes that the model fixes
    batch : clips that it takes at a time, at most
    is_filled : whether it takes exactly so many
    outputs : in the order of the columns
    """

    url: str
    sha256: str
    format: str
    device: str
    axes: tuple[Axis, ...]
    sizes: dict[str, int]
    batch: int
    is_filled: bool
    outputs: tuple[KnownOutput, ...] = ()


@dataclass(frozen=True)
class Fed:
    """What models are fed with.

    sample_rate_hz : of clips
    n_samples : length of all clips, one for each source; None for a source whose clips have several lengths
    n_bands : of the log-mel, if that is the input
    n_frames : of clips of the lengths in `n_samples`
    """

    sample_rate_hz: int
    n_samples: Sequence[int | None] = ()
    n_bands: int = 0
    n_frames: Sequence[int | None] = ()
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def place(self) -> tuple[Any, ...]:
        """All of it as a value by which something can be kept."""
        sizes = (self.sample_rate_hz, tuple(self.n_samples), self.n_bands, tuple(self.n_frames))
        return (*sizes, tuple(sorted(self.labels.items())))


def know(model: ModelFile, process: ModelProcess, fed: Fed) -> KnownModel:
    """Return what is known of a model that runs.

    Raises
    ------
    UnusableModelError : it does not fit the configuration, or gives what cannot be stored
    """
    about = process.about
    _check_inputs(model, about)
    axes, sizes = _axes_of(model, about, fed)
    n_clips = sizes.get("batch", model.batch if axes[0] == "batch" else 1)
    known = KnownModel(
        model.file,
        about["sha256"],
        about["format"],
        about["device"],
        axes,
        sizes,
        n_clips,
        n_clips > 1 and "batch" in sizes,
    )
    _check_length(known, model, fed)
    tried = _try(known, model, process, fed)
    outputs = tuple(_output(model, one, known, tried, about, fed) for one in model.all_outputs)
    return KnownModel(**{**vars(known), "outputs": outputs})


def _check_inputs(model: ModelFile, about: dict[str, Any]) -> None:
    names, n_needed, given = about["inputs"], about["n_needed"], 2 if model.lengths else 1
    if n_needed > given or len(names) < given:
        takes = f"takes {counted(n_needed, 'input')} ({', '.join(names) or 'none'})"
        if given == 1 and n_needed == 2:
            raise UnusableModelError(f"{takes}, and clips are one: set lengths: true if {names[1]} takes their lengths")
        if given == 2 and len(names) == 1:
            raise UnusableModelError(f"{takes}: leave lengths out")
        raise UnusableModelError(f"{takes}; a model of clips takes one, or two with lengths: true: export it so")
    types = about.get("input_types", ["tensor(float)"])
    if types[0] != "tensor(float)":
        raise UnusableModelError(f"takes {types[0]} as {names[0]}; expected float32: export it so")
    if given == 2 and len(types) > 1 and types[1] not in ("tensor(int64)", "tensor(int32)"):
        raise UnusableModelError(f"takes {types[1]} as {names[1]}, and lengths are int64 or int32: export it so")


def _axes_of(model: ModelFile, about: dict[str, Any], fed: Fed) -> tuple[tuple[Axis, ...], dict[str, int]]:
    """Return the axes of the input, and the sizes of those that the model fixes."""
    shape = (about.get("input_shapes") or [[]])[0]
    axes = model.input_axes or model.default_axes()
    if model.input_axes is None and len(shape) == 1 and model.input == "audio":
        axes = ("samples",)
    if not shape:
        return axes, {}
    told = f"takes {about['inputs'][0]} of shape [{', '.join(map(str, shape))}]"
    if len(shape) != len(axes):
        raise UnusableModelError(
            f"{told}, and the axes are [{', '.join(map(str, axes))}]: say in axes what its axes are, as in"
            f" [batch, 1, {', '.join(str(a) for a in model.default_axes()[1:])}]"
        )
    sizes: dict[str, int] = {}
    for axis, size in zip(axes, shape, strict=True):
        if isinstance(size, int) and (axis == 1 or axis == "bands") and size != (1 if axis == 1 else fed.n_bands):
            expected = "1" if axis == 1 else f"the {fed.n_bands} bands of log_mel"
            raise UnusableModelError(
                f"{told}, where the axis {axis} is {size} and not {expected}: correct axes or log_mel"
            )
        if isinstance(size, int) and isinstance(axis, str):
            sizes[axis] = size
    return axes, sizes


def _check_length(known: KnownModel, model: ModelFile, fed: Fed) -> None:
    """Check that clips whose length the configuration fixes have the one that the model fixes."""
    wanted = known.sizes.get("samples")
    if wanted is None:
        return
    for n in fed.n_samples:
        if n is not None and n != wanted:
            rate = fed.sample_rate_hz
            raise UnusableModelError(
                f"takes clips of {wanted:,} samples ({wanted / rate:g} s at {rate} Hz), and segment cuts clips of {n:,} ({n / rate:g} s): set"
                " segment.length_s, or export the model with an axis of samples that can vary"
            )


def _try(known: KnownModel, model: ModelFile, process: ModelProcess, fed: Fed) -> list[Arrays]:
    """Return what the model gives for two clips of noise of one length, and of another one where lengths may vary."""
    axis = "samples" if model.input == "audio" else "frames"
    given = fed.n_samples if axis == "samples" else fed.n_frames
    own = sorted({n for n in given if n})
    probes: Sequence[tuple[int, ...]]
    if axis in known.sizes:
        probes = [(known.sizes[axis],)]
    elif axis == "samples":
        probes = [tuple(round(s * fed.sample_rate_hz) for s in pair) for pair in _PROBES_S]
    else:
        probes = _FRAMES_PROBED
    if axis not in known.sizes and own and None not in given:
        probes = [(own[0],), *probes]
    failure = ""
    for lengths in probes:
        found: list[Arrays] = []
        for n in lengths:
            try:
                found.append(_run_noise(known, model, process, fed, n))
            except ModelRaisedError as error:
                failure = failure or f"{n:,} {axis}: {error}"
            except ModelDiedError as error:
                raise UnusableModelError(f"does not work on {n:,} {axis} of noise: {error}") from None
        if found:
            return found
    raise UnusableModelError(f"raises an error for a batch of {failure}")


def _run_noise(known: KnownModel, model: ModelFile, process: ModelProcess, fed: Fed, n: int) -> Arrays:
    rows = known.batch if known.is_filled else min(_ROWS_PROBED, known.batch)
    sizes = {"batch": rows, "samples": n, "frames": n, "channels": 1, "bands": fed.n_bands, **known.sizes}
    shape = [1 if axis == 1 else sizes[axis] for axis in known.axes]
    noise: npt.NDArray[np.float32] = np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(0.1)
    return process.run(noise, [n] * rows if model.lengths else None)


def _output(
    model: ModelFile, output: ModelOutput, known: KnownModel, tried: list[Arrays], about: dict[str, Any], fed: Fed
) -> KnownOutput:
    names = about.get("outputs") or list(tried[0])
    source = _source(output, names)
    shapes, column = [], model.column_of(output)
    for arrays in tried:
        array = arrays.get(source)
        if array is None:
            raise UnusableModelError(f"does not always give the output {source!r}")
        _check_type(output.kind, source, array)
        rows = known.batch if known.is_filled else min(_ROWS_PROBED, known.batch)
        if known.axes[0] == "batch":
            if array.ndim == 0 or array.shape[0] != rows:
                raise UnusableModelError(
                    f"gives {source} of shape {list(array.shape)} for {counted(rows, 'clip')}, and its first axis must be that of clips:"
                    " export it so, or set batch: 1 and axes without batch if it takes one clip without such an axis"
                )
            shapes.append(array.shape[1:])
        else:
            shapes.append(array.shape)
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        raise UnusableModelError(
            f"gives {source} with {' or '.join(map(str, sorted(ranks)))} axes, depending on the length of clips"
        )
    left_out = () if output.kind == "tokens" else _ones(shapes)
    labels = _labels(output, fed)
    stored = [tuple(n for i, n in enumerate(s) if i not in left_out) for s in shapes]
    dims = _dims(stored, output.kind, len(labels) if labels is not None else None)
    if output.kind == "labels" and (len(dims) != 1 or not isinstance(dims[0], int)):
        raise UnusableModelError(
            f"gives {source} of shape {list(dims)} for a clip, and labels need one score a class: store scores"
        )
    if labels is not None and len(labels) not in dims:
        n_names = f"{len(labels):,} {'class' if len(labels) == 1 else 'classes'}"
        raise UnusableModelError(
            f"gives {' x '.join(map(str, dims))} scores in {source}, and labels names {n_names}: give one name a class, in their order; a"
            " file has one on each line, without a header line"
        )
    return KnownOutput(column, output.kind, source, dims, left_out, labels, output.threshold)


def _source(output: ModelOutput, names: list[str]) -> str:
    """Return the model's name of an output."""
    there = f"has {counted(len(names), 'output')}: {', '.join(names)}"
    wanted = output.from_
    if wanted is None:
        if len(names) == 1:
            return names[0]
        if output.kind in names:
            return output.kind
        raise UnusableModelError(
            f"{there}; say with from which of them is {output.kind}, as in {{kind: {output.kind}, from: {names[0]}}}"
        )
    if str(wanted) in names:
        return str(wanted)
    if (isinstance(wanted, int) or re.fullmatch(r"\d{1,4}", wanted)) and int(wanted) < len(names):
        return names[int(wanted)]
    raise UnusableModelError(f"{there}; there is no {wanted!r}")


def _check_type(kind: Kind, source: str, array: npt.NDArray[Any]) -> None:
    is_whole = array.dtype.kind == "i"
    if kind == "tokens" and not is_whole:
        raise UnusableModelError(f"gives {source} as floats, and tokens are whole numbers: store embedding or scores")
    if kind != "tokens" and is_whole:
        raise UnusableModelError(f"gives {source} as whole numbers, and {kind} needs floats: store tokens")


def _ones(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the axes that are 1 in all shapes; one stays if all are."""
    ones = [i for i, sizes in enumerate(zip(*shapes, strict=True)) if set(sizes) == {1}]
    return tuple(ones[:-1] if shapes and len(ones) == len(shapes[0]) else ones)


def _dims(shapes: list[tuple[int, ...]], kind: Kind, n_classes: int | None) -> tuple[int | str, ...]:
    """Return the sizes of a clip's value.

    Of a matrix one axis is that of time: where none varies with the length of clips, the longest is taken for it, but not the one of
    classes.
    """
    dims: list[int | str] = [sizes[0] if len(set(sizes)) == 1 else N_FRAMES for sizes in zip_longest(*shapes)]
    if not dims:
        return (1,)
    if N_FRAMES not in dims and (len(dims) > 1 or kind == "tokens"):
        of_classes = shapes[0].index(n_classes) if n_classes in shapes[0] and len(dims) > 1 else None
        dims[max((i for i in range(len(dims)) if i != of_classes), key=lambda i: shapes[0][i])] = N_FRAMES
    return tuple(dims)


def _labels(output: ModelOutput, fed: Fed) -> tuple[str, ...] | None:
    if output.labels is None:
        return None
    return fed.labels[output.labels] if isinstance(output.labels, str) else tuple(output.labels)
