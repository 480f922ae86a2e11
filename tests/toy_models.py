"""Small models for tests: TorchScript modules, and ONNX graphs that are written as protocol buffers by hand, without the package onnx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

FLOAT, INT64, FLOAT16 = 1, 7, 10
CLASSES = ["dog", "cat", "rain"]


class Pool(torch.nn.Module):
    """Gives three levels of a clip, and how many clips it sees at once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = torch.full([x.shape[0]], float(x.shape[0]))
        return torch.stack([x.abs().mean(1), x.abs().amax(1), x.square().mean(1), n], 1)


class Tokens(torch.nn.Module):
    """Gives 2 codes for each 160 samples: [batch, frames, 2]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level = x.unfold(1, 160, 160).abs().mean(2)
        return torch.stack([(level * 1000).to(torch.int64), (level * 10).to(torch.int64)], 2)


class Lengths(torch.nn.Module):
    """Takes lengths as well, and gives a dictionary."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": (x.abs().sum(1) / lengths)[:, None], "seen": torch.stack([lengths, lengths + 1], 1)}


class Frames(torch.nn.Module):
    """Gives a matrix of a clip, [batch, frames, 4], after an axis of one: [batch, 1, samples]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = x[:, 0].unfold(1, 400, 400)
        return torch.stack([f.mean(2), f.amax(2), f.amin(2), f.std(2)], 2)


class ByClass(torch.nn.Module):
    """Gives 30 scores for each of 5 frames, and takes clips of 2,000 samples only: [batch, 30, 5]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], 5, 400).abs().mean(2)[:, None].expand(x.shape[0], 30, 5)


class Moody(torch.nn.Module):
    """Raises an error for loud clips, gives NaN for silent ones, other shapes for odd ones, and never ends for one of 0.125."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        peak = float(x.abs().max())
        if peak > 0.8:
            raise ValueError("much too loud")
        while abs(peak - 0.125) < 1e-4:
            x = x + 0.0
        return torch.log(x.abs().mean(1, keepdim=True)) if x.shape[1] % 2 == 0 else x


class Writes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "/tmp/never")
        return x.mean(1, keepdim=True)


def save(module: torch.nn.Module, path: Path) -> Path:
    """Write a module as TorchScript."""
    torch.jit.save(torch.jit.script(module), str(path))
    return path


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while True:
        found.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(found)


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Return a message of protocol buffers. fields : number and value, a whole number or bytes"""
    found = b""
    for number, value in fields:
        if isinstance(value, int):
            found += _varint(number << 3) + _varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            found += _varint(number << 3 | 2) + _varint(len(content)) + content
    return found


def tensor(name: str, values: Any, kind: int = FLOAT) -> bytes:
    array = np.asarray(values, {FLOAT: "<f4", INT64: "<i8"}[kind])
    return message(*((1, n) for n in array.shape), (2, kind), (8, name), (9, array.tobytes()))


def value_info(name: str, shape: Sequence[int | str], kind: int = FLOAT) -> bytes:
    sizes = [message((1, message((1, n) if isinstance(n, int) else (2, n)))) for n in shape]
    of_tensor = message((1, kind), (2, b"".join(sizes)))
    return message((1, name), (2, message((1, of_tensor))))


def ints(name: str, values: Sequence[int]) -> bytes:
    """An attribute: several whole numbers."""
    return message((1, name), *((8, v) for v in values), (20, 7))


def integer(name: str, value: int) -> bytes:
    """An attribute: a whole number."""
    return message((1, name), (3, value), (20, 2))


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes, domain: str = "") -> bytes:
    return message(
        *((1, i) for i in inputs), *((2, o) for o in outputs), (4, operator), *((5, a) for a in attributes), (7, domain)
    )


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    initializers: Sequence[bytes] = (),
    functions: Sequence[bytes] = (),
    domains: Sequence[str] = (),
) -> bytes:
    """Return an ONNX file."""
    graph = message(
        *((1, n) for n in nodes), (2, "toy"), *((5, i) for i in initializers), *((11, i) for i in inputs),
        *((12, o) for o in outputs),
    )  # fmt: skip
    opsets = [message((1, d), (2, 17 if not d else 1)) for d in ("", *domains)]
    return message((1, 8), *((8, o) for o in opsets), (7, graph), *((25, f) for f in functions))


def levels(
    batch: int | str = "batch", n_samples: int | str = "samples", kind: int = FLOAT, last: int | str = 2
) -> bytes:
    """Return an ONNX model of samples: mean and maximum of each clip, [batch, 2]."""
    nodes = [
        node("Abs", ["x"], ["a"]),
        node("ReduceMean", ["a"], ["m"], ints("axes", [1]), integer("keepdims", 1)),
        node("ReduceMax", ["a"], ["p"], ints("axes", [1]), integer("keepdims", 1)),
        node("Concat", ["m", "p"], ["embedding"], integer("axis", 1)),
    ]
    return model(nodes, [value_info("x", [batch, n_samples], kind)], [value_info("embedding", [batch, last], kind)])


def classifier(n_bands: int, n_classes: int) -> bytes:
    """Return an ONNX model of a log-mel: scores [batch, n_classes], and the mean of each band."""
    weights = np.random.default_rng(3).standard_normal((n_bands, n_classes))
    nodes = [
        node("ReduceMean", ["mel"], ["bands"], ints("axes", [2]), integer("keepdims", 0)),
        node("MatMul", ["bands", "w"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], integer("axis", 1)),
    ]
    outputs = [value_info("probabilities", ["b", n_classes]), value_info("bands", ["b", n_bands])]
    return model(nodes, [value_info("mel", ["b", n_bands, "t"])], outputs, [tensor("w", weights)])


def one_clip() -> bytes:
    """Return an ONNX model that takes the samples of one clip without a batch, and gives [frames, 2], as YAMNet does."""
    nodes = [
        node("Reshape", ["waveform", "shape"], ["frames"]),
        node("ReduceMean", ["frames"], ["m"], ints("axes", [1]), integer("keepdims", 1)),
        node("ReduceMax", ["frames"], ["p"], ints("axes", [1]), integer("keepdims", 1)),
        node("Concat", ["m", "p"], ["scores"], integer("axis", 1)),
    ]
    inputs, outputs = [value_info("waveform", ["n"])], [value_info("scores", ["t", 2])]
    return model(nodes, inputs, outputs, [tensor("shape", [-1, 100], INT64)])


def axis_lost() -> bytes:
    """Return an ONNX model whose output has one row, however many clips there are."""
    nodes = [node("ReduceMean", ["x"], ["y"], ints("axes", [0]), integer("keepdims", 1))]
    return model(nodes, [value_info("x", ["b", "n"])], [value_info("y", [1, "n"])])


def summed(*names: str) -> bytes:
    """Return an ONNX model with several inputs."""
    nodes = [node("Sum", names, ["sum"])]
    return model(nodes, [value_info(name, ["b", "n"]) for name in names], [value_info("sum", ["b", "n"])])


def whole() -> bytes:
    """Return an ONNX model that gives whole numbers."""
    nodes = [node("Cast", ["x"], ["codes"], integer("to", INT64))]
    return model(nodes, [value_info("x", ["b", "n"])], [value_info("codes", ["b", "n"], INT64)])


def picky() -> bytes:
    """Return an ONNX model that takes only lengths of whole frames of 7 samples."""
    nodes = [node("Reshape", ["x", "shape"], ["y"])]
    io = [value_info("x", ["b", "n"])], [value_info("y", ["b", "t", 7])]
    return model(nodes, *io, [tensor("shape", [0, -1, 7], INT64)])


def write_all(folder: Path) -> Path:
    """Write all toy models into a folder, and the names of three classes; return the folder."""
    modules = {
        "pool": Pool(),
        "codec": Tokens(),
        "lengths": Lengths(),
        "frames": Frames(),
        "moody": Moody(),
    }
    for name, module in modules.items():
        save(module, folder / f"{name}.pt")
    files = {
        "panns": classifier(8, 3),
        "one": levels(batch=1),
        "yamnet": one_clip(),
        "levels": levels(),
    }
    files |= {
        "lost": axis_lost(),
        "three": summed("x", "y", "z"),
        "pair": summed("x", "lengths"),
        "whole": whole(),
        "picky": picky(),
    }
    files |= {
        "second": levels(n_samples=8000),
        "half": levels(kind=FLOAT16),
        "two": levels(batch=2),
    }
    for name, content in files.items():
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n")
    return folder
