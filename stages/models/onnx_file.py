"""Check an ONNX file before a library reads it: that it is a whole graph of known operators that gives the same result each time.

The file is walked as protocol buffers, so no package is needed: https://protobuf.dev/programming-guides/encoding and onnx.proto of
https://github.com/onnx/onnx, from which the numbers of fields are.
"""

from __future__ import annotations

from collections.abc import Iterator

from clipmill.stages.models.unusable import UnusableModelError

_BUILT_IN = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains of operators that ONNX Runtime has without libraries of others."""
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_MAX_DEPTH = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1  # TensorProto.DataLocation
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_FUNCTIONS = 1, 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10
_SPARSE_PARTS = (1, 2)


class _NotOnnxError(ValueError):
    """The bytes are not those of an ONNX model."""


def check_onnx(content: bytes) -> None:
    """Check the file of a model.

    Raises
    ------
    UnusableModelError : it is not ONNX, has data in other files, needs operators of other libraries, or draws random numbers
    """
    try:
        model = list(_fields(memoryview(content)))
        graphs = [value for number, value in model if number == _MODEL_GRAPH]
        is_model = any(number == _MODEL_IR_VERSION and isinstance(value, int) for number, value in model)
        if len(graphs) != 1 or not is_model:
            raise _NotOnnxError
        functions = [_as_bytes(value) for number, value in model if number == _MODEL_FUNCTIONS]
        own = {(_text(f, _FUNCTION_DOMAIN), _text(f, _FUNCTION_NAME)) for f in functions}
        _check_graph(_as_bytes(graphs[0]), own, 0)
        for function in functions:
            _check_nodes(function, _FUNCTION_NODE, own, 0)
    except (_NotOnnxError, UnicodeDecodeError):
        raise UnusableModelError(
            "is neither ONNX nor TorchScript, or is damaged: export it with torch.onnx.export or torch.jit.save"
        ) from None


def _check_graph(graph: memoryview, own: set[tuple[str, str]], depth: int) -> None:
    _check_nodes(graph, _GRAPH_NODE, own, depth)
    for number, value in _fields(graph):
        if number == _GRAPH_INITIALIZER:
            _check_tensor(_as_bytes(value))
        elif number == _GRAPH_SPARSE:
            _check_sparse(_as_bytes(value))


def _check_nodes(parent: memoryview, number_of_nodes: int, own: set[tuple[str, str]], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise UnusableModelError(f"its graphs are nested more than {_MAX_DEPTH} deep")
    for number, value in _fields(parent):
        if number != number_of_nodes:
            continue
        node = _as_bytes(value)
        domain, operator = _text(node, _NODE_DOMAIN), _text(node, _NODE_OP)
        if (domain, operator) not in own:
            if domain not in _BUILT_IN:
                raise UnusableModelError(
                    f"needs the operator {operator!r} of {domain!r}, which ONNX Runtime does not have by itself: export it with"
                    " standard operators"
                )
            if operator in _RANDOM:
                raise UnusableModelError(
                    f"has the operator {operator!r}, which draws random numbers, so its results differ each time: export it without"
                )
        for attribute_number, attribute in _fields(node):
            if attribute_number == _NODE_ATTRIBUTE:
                _check_attribute(_as_bytes(attribute), own, depth)


def _check_attribute(attribute: memoryview, own: set[tuple[str, str]], depth: int) -> None:
    for number, value in _fields(attribute):
        if number in _ATTRIBUTE_TENSORS:
            _check_tensor(_as_bytes(value))
        elif number in _ATTRIBUTE_GRAPHS:
            _check_graph(_as_bytes(value), own, depth + 1)
        elif number in _ATTRIBUTE_SPARSE:
            _check_sparse(_as_bytes(value))


def _check_sparse(sparse: memoryview) -> None:
    for number, value in _fields(sparse):
        if number in _SPARSE_PARTS:
            _check_tensor(_as_bytes(value))


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value == _EXTERNAL):
            raise UnusableModelError(
                "has its weights in another file, which is not read: make it one file with torch.onnx.export(..., external_data=False),"
                " or onnx.save_model(onnx.load(path), path)"
            )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: a view of its bytes, or a whole number."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _NotOnnxError
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise _NotOnnxError
        if size > len(message) - at:
            raise _NotOnnxError
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise _NotOnnxError


def _as_bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _NotOnnxError
    return value


def _text(message: memoryview, wanted: int) -> str:
    """Return the last text field of a number; empty where there is none."""
    found = [_as_bytes(value) for number, value in _fields(message) if number == wanted]
    return bytes(found[-1]).decode() if found else ""
