"""Files of models: which are taken, and which are refused before a library reads them."""

from __future__ import annotations

import contextlib
import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import toy_models as toys
from hypothesis import given
from hypothesis import strategies as st

from clipmill.stages.models.model_format import checked_format
from clipmill.stages.models.unusable import UnusableModelError

CLASSIFIER = toys.classifier(8, 3)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return toys.save(toys.Pool(), tmp_path_factory.mktemp("models") / "pool.pt").read_bytes()


def saved(value: object, **options: object) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink, **options)  # type: ignore[arg-type]
    return sink.getvalue()


def rewritten(archive: bytes, changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive with other contents. changes : by the end of an entry's name"""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(sink, "w", compression) as after:
        for name in before.namelist():
            after.writestr(name, next((c for end, c in changes.items() if name.endswith(end)), before.read(name)))
    return sink.getvalue()


def refusal(content: bytes) -> str:
    with pytest.raises(UnusableModelError) as caught:
        checked_format(content)
    return str(caught.value)


def test_both_formats_are_told_by_content(script: bytes) -> None:
    assert checked_format(script) == "torchscript"
    assert checked_format(CLASSIFIER) == "onnx"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
        (pickle.dumps({"a": 1}), "pickle of Python objects, which is never read"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "neither ONNX nor TorchScript"),
        (b"PK\x03\x04 and no more", "damaged archive"),
        (CLASSIFIER[:-3], "neither ONNX nor TorchScript, or is damaged"),
    ],
)
def test_what_is_no_model_is_named(content: bytes, says: str) -> None:
    assert says in refusal(content)


def test_what_torch_save_wrote_is_never_read(script: bytes) -> None:
    assert "pickle of Python objects" in refusal(saved(toys.Pool().state_dict()))
    assert "pickle of Python objects" in refusal(saved(toys.Pool()))
    assert "never read" in refusal(saved(toys.Pool(), _use_new_zipfile_serialization=False))


def test_python_objects_in_an_archive_are_refused(script: bytes) -> None:
    by_name = b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00idtR."
    assert "holds a Python object of 'posix'" in refusal(rewritten(script, {"/data.pkl": by_name}))
    by_stack = pickle.dumps(print, protocol=4)
    assert "STACK_GLOBAL" in refusal(rewritten(script, {"/constants.pkl": by_stack}))
    assert "damaged archive" in refusal(rewritten(script, {"/data.pkl": b"\x80\x02\xff"}))


def test_a_program_that_writes_files_or_needs_other_operators_is_refused(tmp_path: Path, script: bytes) -> None:
    content = toys.save(toys.Writes(), tmp_path / "writes.pt").read_bytes()
    assert "reads or writes files itself (torch.save)" in refusal(content)
    text = b"class Pool(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    return ops.mine.evil(x)\n"
    assert "mine::evil" in refusal(rewritten(script, {"toy_models.py": text}))


def test_archives_that_grow_when_read_are_refused(script: bytes) -> None:
    assert "compressed weights" in refusal(rewritten(script, {}, zipfile.ZIP_DEFLATED))
    assert "more than 64 MiB" in refusal(rewritten(script, {"toy_models.py": b" " * (65 << 20)}))


def test_weights_in_other_files_are_not_read() -> None:
    weights = toys.message(
        (1, 2), (2, toys.FLOAT), (8, "w"), (13, toys.message((1, "location"), (2, "../secret"))), (14, 1)
    )
    nodes = [toys.node("Mul", ["x", "w"], ["y"])]
    io_ = [toys.value_info("x", ["b", 2])], [toys.value_info("y", ["b", 2])]
    assert "weights in another file" in refusal(toys.model(nodes, *io_, [weights]))
    constant = toys.node("Constant", [], ["w"], toys.message((1, "value"), (5, weights), (20, 4)))
    assert "weights in another file" in refusal(toys.model([constant, *nodes], *io_))
    inner = toys.message((1, constant), (2, "then"))
    branch = toys.node("If", ["c"], ["w"], toys.message((1, "then_branch"), (6, inner), (20, 5)))
    assert "weights in another file" in refusal(toys.model([branch, *nodes], *io_))


def test_operators_of_other_libraries_and_random_ones_are_refused() -> None:
    io_ = [toys.value_info("x", ["b", 2])], [toys.value_info("y", ["b", 2])]
    strange = [toys.node("Trick", ["x"], ["y"], domain="my.lib")]
    assert "operator 'Trick' of 'my.lib'" in refusal(toys.model(strange, *io_, domains=["my.lib"]))
    function = toys.message((1, "Trick"), (4, "x"), (5, "y"), (7, toys.node("Abs", ["x"], ["y"])), (10, "my.lib"))
    assert checked_format(toys.model(strange, *io_, functions=[function], domains=["my.lib"])) == "onnx"
    noise = [toys.node("RandomNormalLike", ["x"], ["y"])]
    assert "results differ each time" in refusal(toys.model(noise, *io_))


def test_graphs_nested_without_end_are_refused() -> None:
    inner = toys.message((1, toys.node("Abs", ["x"], ["y"])))
    for _ in range(100):
        inner = toys.message((1, toys.node("If", ["c"], ["y"], toys.message((1, "then_branch"), (6, inner), (20, 5)))))
    assert "nested" in refusal(toys.message((1, 8), (7, inner)))


@given(st.binary(max_size=200) | st.integers(0, len(CLASSIFIER) - 1).map(lambda n: CLASSIFIER[:n]))
def test_any_bytes_are_a_model_or_are_refused(content: bytes) -> None:
    with contextlib.suppress(UnusableModelError):
        checked_format(content)


def test_the_check_imports_no_library_that_runs_models() -> None:
    code = "import sys; import clipmill.stages.models.model_format; sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_that_the_package_onnx_makes_are_read() -> None:
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
    onnx.checker.check_model(onnx.load_model_from_string(CLASSIFIER))
    onnx.checker.check_model(onnx.load_model_from_string(toys.levels()))
