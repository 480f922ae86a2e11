"""Run a TorchScript model in this process. Only the process of a model imports this: it changes settings of torch."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from clipmill.stages.models.unusable import UnusableModelError

_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def device_for(wanted: str) -> str:
    """Return cpu or cuda. wanted : cpu | cuda | auto, which is cuda where there is a device. Raises UnusableModelError."""
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise UnusableModelError(
            "is to run on cuda, and torch finds no GPU on this machine: set features.device to auto or cpu"
        )
    return "cpu"


class TorchScriptRunner:
    """A model that is loaded and ready.

    about : the format and the device, and the names of its inputs, of which the first `n_needed` have no default

    Raises
    ------
    UnusableModelError : torch cannot load it
    """

    def __init__(self, content: bytes, device: str) -> None:
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        # Kernels are not chosen by trying them out, nor put together in other ways after the first calls.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch._C._jit_set_profiling_executor(False)
        self._device = device
        try:
            module: Any = torch.jit.load(io.BytesIO(content), map_location=device)  # type: ignore[no-untyped-call]
            self._module = module.eval()
            arguments = module.forward.schema.arguments[1:]
        except (RuntimeError, AttributeError, ValueError, OSError) as error:
            raise UnusableModelError(f"cannot be loaded by torch {torch.__version__}: {_one_line(error)}") from None
        self.about: dict[str, Any] = {
            "format": "torchscript",
            "device": device,
            "inputs": [a.name for a in arguments],
            "n_needed": sum(not a.has_default_value() for a in arguments),
        }

    def run(self, x: np.ndarray, lengths: np.ndarray | None, wanted: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Return the outputs of a batch by name, or by number where they have none.

        Parameters
        ----------
        x : float32
        lengths : int64 [batch], for a model that takes them
        wanted : names of outputs; None: all
        """
        inputs = [torch.from_numpy(a).to(self._device) for a in (x, lengths) if a is not None]
        torch.manual_seed(0)  # for models that draw random numbers
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            found = self._module(*inputs)
            named = _by_name(found)
            return {name: _as_array(name, t) for name, t in named.items() if wanted is None or name in wanted}


def _by_name(found: Any) -> dict[str, Any]:
    if isinstance(found, torch.Tensor):
        return {"0": found}
    if isinstance(found, dict):
        return {str(name): value for name, value in found.items()}
    if isinstance(found, tuple | list):
        return {str(i): value for i, value in enumerate(found)}
    return {"0": found}


def _as_array(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, torch.Tensor) or value.dtype not in (*_WHOLE, *_FLOATS) or value.layout != torch.strided:
        what = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(f"its output {name} is {what}, and an output must be a tensor of numbers")
    kind = torch.int64 if value.dtype in _WHOLE else torch.float32
    return np.ascontiguousarray(value.detach().to("cpu", kind).numpy())


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__
