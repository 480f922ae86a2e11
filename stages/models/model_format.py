"""Tell what kind of model a file is by its content."""

from __future__ import annotations

from typing import Literal

from clipmill.stages.models.onnx_file import check_onnx
from clipmill.stages.models.torchscript_file import check_torchscript
from clipmill.stages.models.unusable import UnusableModelError

Format = Literal["torchscript", "onnx"]
_LFS = b"version https://git-lfs"
_PICKLE = b"\x80"
_START_BYTES = 512


def checked_format(content: bytes) -> Format:
    """Return the format of a model's file, whose content was checked.

    Raises
    ------
    UnusableModelError : it is neither TorchScript nor ONNX, or may not be run
    """
    start = content[:_START_BYTES].lstrip()
    if not content:
        raise UnusableModelError("is empty; it was probably not copied to its end")
    if start.startswith(_LFS):
        raise UnusableModelError("is a pointer of Git LFS, not the file itself: run git lfs pull")
    if start[:1] == b"<":
        raise UnusableModelError("is a web page or XML, not a model: download the file itself")
    if content.startswith(b"PK\x03\x04"):
        check_torchscript(content)
        return "torchscript"
    if content.startswith(_PICKLE):
        raise UnusableModelError(
            "is a pickle of Python objects, which is never read: save the model with torch.jit.save(torch.jit.script(model), path),"
            " or export it to ONNX"
        )
    check_onnx(content)
    return "onnx"
