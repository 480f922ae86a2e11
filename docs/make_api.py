"""Write docs/api.md from the docstrings of what `import clipmill` offers: `python docs/make_api.py`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clipmill

PAGE = Path(__file__).parent / "api.md"
TRANSFORMS = ("SpecAugment", "Crop", "RandomGain", "AddNoise", "Mixup", "Transform", "BatchTransform")
FIRST = (
    "load_config",
    "plan",
    "build",
    "open_dataset",
    "ClipDataset",
    "padded",
    "inverse",
    *TRANSFORMS,
    "Stage",
    "ClipmillError",
)
HEAD = """# The Python API

Generated from the docstrings by `python docs/make_api.py`. Import everything from `clipmill`; the modules below it can move.
"""
_SECTION = re.compile(r"^([A-Z][a-z]+)\n-{3,}\n", re.M)
_ENTRY = re.compile(r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*) : (.*)$")


def page() -> str:
    """Return the text of docs/api.md."""
    names = [*FIRST, *(name for name in clipmill.__all__ if name not in FIRST)]
    return HEAD + "".join(_entry(name, getattr(clipmill, name)) for name in names)


def _entry(name: str, value: Any) -> str:
    lines = [f"\n## {name}\n"]
    if inspect.isclass(value):
        is_record = (dataclasses.is_dataclass(value) and name not in TRANSFORMS) or issubclass(value, BaseException)
        if not is_record and not inspect.isabstract(value):
            lines.append(_code(f"{name}{_signature(value)}"))
        lines.append(_text(value))
        lines += [_member(f"{name}.{member}", found) for member, found in _members(value)]
    else:
        lines += [_code(f"{name}{_signature(value)}"), _text(value)]
    return "\n".join(lines)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class itself defines, with docstrings, in their order."""
    for name, value in vars(kind).items():
        function = (
            value.fget if isinstance(value, property) else getattr(value, "func", getattr(value, "__func__", value))
        )
        shown = name == "__call__" or not name.startswith("_")
        if shown and inspect.isfunction(function) and function.__doc__:
            yield name, value


def _member(name: str, value: Any) -> str:
    if isinstance(value, property | functools.cached_property):
        function = value.fget if isinstance(value, property) else value.func
        return f"### {name}\n\n{_text(function)}"
    function = getattr(value, "__func__", value)
    return f"### {name}\n\n{_code(name + _signature(function))}\n{_text(function)}"


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _signature(value: Any) -> str:
    signature = inspect.signature(value)
    parts: list[str] = []
    for p in signature.parameters.values():
        if p.name in ("self", "cls"):
            continue
        if p.kind is p.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = (
            "" if p.default is p.empty else f" = {p.default!r}" if p.annotation is not p.empty else f"={p.default!r}"
        )
        parts.append(stars + p.name + ("" if p.annotation is p.empty else f": {_type(p.annotation)}") + default)
    returned = signature.return_annotation
    end = ")" if returned in (signature.empty, None, "None") else f") -> {_type(returned)}"
    text = f"({', '.join(parts)}{end}"
    return text if len(text) <= 100 else "(\n" + "".join(f"    {part},\n" for part in parts) + end


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _text(value: Any) -> str:
    """Return a docstring as Markdown: sections in bold, entries as lists."""
    lines: list[str] = []
    text = _SECTION.sub(lambda m: f"**{m[1]}**\n\n", inspect.getdoc(value) or "")
    for line in text.split("\n"):
        if match := _ENTRY.match(line):
            if lines and not lines[-1].startswith(("- ", "  ")) and lines[-1]:
                lines.append("")
            lines.append("- " + ", ".join(f"`{n}`" for n in match[1].split(", ")) + f": {match[2]}")
        elif lines and lines[-1].startswith(("- ", "  ")) and line.startswith("    "):
            lines.append("  " + line.strip())
        else:
            lines.append(line)
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
