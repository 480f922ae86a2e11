"""Run an ONNX model in this process, with ONNX Runtime in one thread."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from clipmill.stages.models.unusable import UnusableModelError

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_WHOLE = {"tensor(int32)": "int32", "tensor(int64)": "int64"}
_QUIET = 4


def device_for(wanted: str) -> str:
    """Return cpu or cuda. wanted : cpu | cuda | auto, which is cuda where ONNX Runtime can use one. Raises UnusableModelError."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise UnusableModelError("is ONNX, and onnxruntime is not installed: install clipmill[onnx]")
    if wanted == "cpu":
        return "cpu"
    import onnxruntime

    if _CUDA in onnxruntime.get_available_providers() and _has_nvidia():
        return "cuda"
    if wanted == "cuda":
        raise UnusableModelError(
            "is to run on cuda, and ONNX Runtime finds no GPU, or is built without them: install onnxruntime-gpu, or set features.device"
            " to auto or cpu"
        )
    return "cpu"


def _has_nvidia() -> bool:
    import torch

    return bool(torch.cuda.is_available())


class OnnxRunner:
    """A model that is loaded and ready.

    about : the format and the device; names, types and shapes of inputs and outputs, in which a text is a size that may vary

    Raises
    ------
    UnusableModelError : ONNX Runtime cannot load it
    """

    def __init__(self, content: bytes, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = _QUIET
        # Batches have many shapes; an arena would keep the memory of each.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.load_model_format", "ONNX")
        providers: list[Any] = [_CPU]
        if device == "cuda":
            providers.insert(0, (_CUDA, {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}))
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # noqa: BLE001 - its exceptions derive from Exception alone
            text = " ".join(str(error).split())[:300]
            raise UnusableModelError(f"cannot be loaded by ONNX Runtime {onnxruntime.__version__}: {text}") from None
        if device == "cuda" and _CUDA not in self._session.get_providers():
            raise UnusableModelError(
                f"does not run on cuda: ONNX Runtime {onnxruntime.__version__} could not load its CUDA libraries and would use the CPU;"
                " install onnxruntime-gpu for this version of CUDA, or set features.device: cpu"
            )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._names = [i.name for i in inputs]
        self._length_type = _WHOLE.get(inputs[1].type, "int64") if len(inputs) > 1 else "int64"
        self.about: dict[str, Any] = {
            "format": "onnx",
            "device": device,
            "inputs": self._names,
            "n_needed": len(inputs),
            "input_types": [i.type for i in inputs],
            "input_shapes": [_sizes(i.shape) for i in inputs],
            "outputs": [o.name for o in outputs],
        }

    def run(self, x: np.ndarray, lengths: np.ndarray | None, wanted: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Return the outputs of a batch by name. The parameters are those of `TorchScriptRunner.run`."""
        given = [x] if lengths is None else [x, lengths.astype(self._length_type)]
        names = list(wanted) if wanted is not None else self.about["outputs"]
        found = self._session.run(names, dict(zip(self._names, given, strict=True)))
        return {name: _as_array(name, value) for name, value in zip(names, found, strict=True)}


def _sizes(shape: Sequence[Any] | None) -> list[int | str]:
    return [size if isinstance(size, int) and size > 0 else str(size or "?") for size in shape or ()]


def _as_array(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        what = str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"its output {name} is {what}, and an output must be a tensor of numbers")
    return np.ascontiguousarray(value, np.float32 if value.dtype.kind == "f" else np.int64)
