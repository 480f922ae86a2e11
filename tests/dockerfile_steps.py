"""Read a Dockerfile, and run its steps in folders instead of a container, as far as that is possible.

It knows the instructions that the project's Dockerfile has. What it leaves out: base images (the Python and the make of this machine take
their place), accounts (`useradd`, `chown`) and USER, and the toolkit that passes a GPU into a container.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass
class Stage:
    """Hold a stage. base : name of its image; steps : instructions in capitals and what follows them, in order"""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        """Return what follows an instruction, for each time that it occurs."""
        return [rest for kind, rest in self.steps if kind == instruction]


def logical_lines(text: str) -> Iterator[str]:
    """Yield instructions in one line each, without comments."""
    waiting = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        waiting += line.rstrip().removesuffix("\\")
        if not line.rstrip().endswith("\\"):
            yield " ".join(waiting.split())
            waiting = ""
    assert not waiting, "the file ends in a backslash"


def read_stages(text: str, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Return the stages of a Dockerfile. arguments : of the build, instead of the defaults of ARG"""
    given = dict(arguments or {})
    common: dict[str, str] = {}
    stages: list[Stage] = []
    values: dict[str, str] = {}
    for line in logical_lines(text):
        instruction, _, rest = line.partition(" ")
        assert instruction.isupper(), line
        if instruction == "ARG":
            name, _, default = rest.partition("=")
            (values if stages else common)[name] = given.get(name, default)
        elif instruction == "FROM":
            base, _, name = filled(rest, common).partition(" AS ")
            stages.append(Stage(name or str(len(stages)), base))
            values = {}
        else:
            stages[-1].steps.append((instruction, filled(rest, values) if instruction == "RUN" else rest))
    return stages


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables filled in; those of the shell stay."""
    return _VARIABLE.sub(lambda m: values.get(m[1] or m[2], m[0]), text)


def copied(rest: str) -> tuple[str | None, list[str], str]:
    """Return the stage, the sources and the destination of COPY."""
    words = rest.split()
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    return stage, words[:-1], words[-1]


def is_ignored(path: str, patterns: str) -> bool:
    """Return whether .dockerignore leaves out a path: the last pattern that fits it, or a folder around it, decides."""
    ignored = False
    places = [str(p) for p in (PurePosixPath(path), *PurePosixPath(path).parents) if str(p) != "."]
    for line in patterns.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").rstrip("/")
        names = [pattern, pattern.removeprefix("**/")] if pattern.startswith("**/") else [pattern]
        parts = [part for place in places for part in ([place, Path(place).name] if len(names) > 1 else [place])]
        if any(
            fnmatch.fnmatch(part, name) and ("*" in name or part.count("/") == name.count("/"))
            for part in parts
            for name in names
        ):
            ignored = not line.startswith("!")
    return ignored


class Folders:
    """Runs the steps of stages, each stage in a folder of its own.

    context : the folder whose files COPY takes
    place : an empty folder
    path : PATH of the base images
    """

    def __init__(self, context: Path, place: Path, ignored: str, path: str) -> None:
        self._context, self._place, self._ignored, self._path = context, place, ignored, path
        self.left_out: list[str] = []

    def root(self, stage: Stage) -> Path:
        """Return the folder that takes the place of a stage's file system."""
        return self._place / stage.name

    def run(self, stages: list[Stage]) -> tuple[list[str], dict[str, str], Path]:
        """Run all stages. Returns the last one's entry point, environment and working folder."""
        for stage in stages:
            root, folder = self.root(stage), "/"
            root.mkdir()
            environment = {"PATH": self._path, "HOME": str(root), **_passed_on()}
            entry: list[str] = []
            for instruction, rest in stage.steps:
                if instruction == "WORKDIR":
                    folder = rest
                    (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
                elif instruction == "COPY":
                    self._copy(stages, root, folder, rest)
                elif instruction == "RUN":
                    self._run(root, folder, rest, environment)
                elif instruction == "ENV":
                    for pair in shlex.split(rest):
                        name, _, value = pair.partition("=")
                        value = filled(value, environment)
                        environment[name] = (
                            self._moved(value, root) if name != "PATH" else self._moved_path(value, root)
                        )
                elif instruction == "ENTRYPOINT":
                    entry = json.loads(rest)
                else:
                    self.left_out.append(f"{instruction} {rest}")
        return entry, environment, root / folder.lstrip("/")

    def _moved(self, text: str, root: Path) -> str:
        """Return a text in which absolute paths of a container lead into the stage's folder."""
        return re.sub(r"(?<![\w./-])/(src|opt|work|tmp)(?=/|\b)", rf"{root}/\1", text)

    def _moved_path(self, value: str, root: Path) -> str:
        return ":".join(part if part in self._path.split(":") else self._moved(part, root) for part in value.split(":"))

    def _copy(self, stages: list[Stage], root: Path, folder: str, rest: str) -> None:
        name, sources, destination = copied(rest)
        target = root / str(PurePosixPath(folder, destination)).lstrip("/")
        base = self._context if name is None else self._place / name
        for source in sources:
            origin = base / source.lstrip("/")
            assert origin.exists(), f"COPY {source}: there is none"
            if name is None and is_ignored(source, self._ignored):
                raise AssertionError(f"COPY {source}: .dockerignore leaves it out")
            if origin.is_dir():
                shutil.copytree(
                    origin, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                into = target / origin.name if destination.endswith("/") else target
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(origin, into)
        if name is not None:  # in containers both stages have the same paths; here they differ
            for script in [*target.glob("bin/*"), target / "pyvenv.cfg"]:
                if script.is_file() and not script.is_symlink() and b"\0" not in script.read_bytes():
                    script.write_text(script.read_text().replace(str(base), str(root)))

    def _run(self, root: Path, folder: str, command: str, environment: dict[str, str]) -> None:
        parts = []
        for part in command.split(" && "):
            if part.split()[0] in ("useradd", "chown"):
                self.left_out.append(part)
            else:
                parts.append(self._moved(part, root))
        done = subprocess.run(
            ["bash", "-ec", " && ".join(parts)],
            cwd=root / folder.lstrip("/"), env=environment, capture_output=True, text=True, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0, f"RUN {command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


def _passed_on() -> dict[str, str]:
    """Return the variables by which a machine says where packages come from."""
    return {
        k: v
        for k, v in os.environ.items()
        if k.startswith("PIP_") or k.lower().endswith("_proxy") or k == "SSL_CERT_FILE"
    }
