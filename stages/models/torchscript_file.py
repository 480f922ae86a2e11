"""Check a TorchScript file before torch reads it.

`torch.jit.load` reads such an archive in C++: it compiles the source texts in `code/`, and reads `data.pkl` and `constants.pkl` with an
unpickler that knows TorchScript's own types and some of torch, and calls nothing of Python. What is checked here is that the file is such
an archive and no pickle of Python objects; that its pickles name nothing else, which is what torch's reader would find out itself; and that
its texts name no operator that reads or writes files.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile

from clipmill.stages.models.unusable import UnusableModelError

_MAX_ENTRIES = 200_000
_MAX_TEXT_BYTES = 64 << 20
_PICKLES = ("data.pkl", "constants.pkl")
_SAFE_MODULES = frozenset({"torch", "torch._utils", "torch._tensor", "torch.jit._pickle", "collections"})
"""Modules whose names stand for kinds of values in torch's reader; those of the model's own classes begin with __torch__."""
_REFUSED_OPCODES = frozenset({"INST", "OBJ", "EXT1", "EXT2", "EXT4", "STACK_GLOBAL", "NEWOBJ_EX", "PERSID"})
_OF_FILES = re.compile(r"\b(?:torch\.(save|from_file)|ops\.aten\.(save|from_file))\(")
_OPERATOR = re.compile(r"\bops\.([A-Za-z_]\w*)\.(\w+)")
_BUILT_IN = frozenset({"aten", "prim", "quantized", "_quantized"})


def check_torchscript(content: bytes) -> None:
    """Check the file of a model.

    Raises
    ------
    UnusableModelError : it is not a TorchScript archive, is damaged, holds Python objects, or uses files or operators of other libraries
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check(archive)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError, UnicodeDecodeError) as error:
        raise UnusableModelError(f"is a damaged archive ({error}): save it again with torch.jit.save") from None


def _check(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(entries) > _MAX_ENTRIES or len(set(names)) < len(names):
        raise UnusableModelError(
            "is an archive with too many entries, or with two of one name: save it with torch.jit.save"
        )
    top = {name.split("/", 1)[0] for name in names}
    inside = {name.split("/", 1)[1] for name in names if "/" in name}
    texts = [entry for entry in entries if "/code/" in entry.filename]
    if len(top) != 1 or not texts or not {*_PICKLES} <= inside:
        if "data.pkl" in inside:
            raise UnusableModelError(
                "was written by torch.save: a pickle of Python objects, which is never read: save the model with"
                " torch.jit.save(torch.jit.script(model), path)"
            )
        raise UnusableModelError(
            "is an archive without TorchScript: save the model with torch.jit.save(torch.jit.script(model), path)"
        )
    folder = next(iter(top))
    pickles = [archive.getinfo(f"{folder}/{name}") for name in _PICKLES]
    rest = [entry for entry in entries if entry not in texts]
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in rest):
        raise UnusableModelError(
            "has compressed weights, as torch never writes them: save it again with torch.jit.save"
        )
    if sum(entry.file_size for entry in (*texts, *pickles)) > _MAX_TEXT_BYTES:
        raise UnusableModelError(f"has more than {_MAX_TEXT_BYTES >> 20} MiB of program text, the most that is read")
    for entry in pickles:
        _check_pickle(archive.read(entry))
    for entry in texts:
        if entry.filename.endswith(".py"):
            _check_program(archive.read(entry).decode())


def _check_pickle(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _REFUSED_OPCODES:
            raise UnusableModelError(f"holds Python objects (the opcode {opcode.name}): save it with torch.jit.save")
        if opcode.name == "GLOBAL":
            module = str(argument).split(" ")[0]
            if module not in _SAFE_MODULES and module.split(".")[0] != "__torch__":
                raise UnusableModelError(f"holds a Python object of {module!r}: save it with torch.jit.save")


def _check_program(text: str) -> None:
    if (match := _OF_FILES.search(text)) is not None:
        raise UnusableModelError(
            f"reads or writes files itself (torch.{match[1] or match[2]}), which models may not do"
        )
    for match in _OPERATOR.finditer(text):
        if match[1] not in _BUILT_IN:
            raise UnusableModelError(
                f"needs the operator {match[1]}::{match[2]}, which is not one of torch's own: export it without"
            )
