"""The command that proposes a configuration for a folder: init."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipmill.pipelines.cli.command_line import json_option, reported
from clipmill.pipelines.cli.new_file import write_new_file
from clipmill.pipelines.cli.terminal import say, say_json
from clipmill.schemas.errors import ClipmillError, ConfigError
from clipmill.schemas.plural import counted

if TYPE_CHECKING:
    from clipmill.pipelines.proposals.findings_of_folder import Findings
    from clipmill.pipelines.proposals.proposing import Proposal
    from clipmill.pipelines.run.preview import Preview

_PURPOSES = ("asr", "tts", "sound-events", "emotion", "birds", "pictures")
_STDOUT = "-"
_MOST_DATASETS = 100


@click.command(name="init")
@click.argument("folder")
@click.option("--output", "target", metavar="FILE", required=True, help="The YAML file to write; - prints it.")
@click.option(
    "--for", "purpose", type=click.Choice(_PURPOSES), help="What the dataset is for: decides rate, cuts, features."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@reported
def init(folder: str, target: str, purpose: str | None, force: bool, as_json: bool) -> None:
    """Look at FOLDER and write a configuration for it.

    It lists the folder, reads the headers of at most 200 recordings and the beginnings of annotation files, and writes what that shows
    as a configuration that builds as it is. The evidence is above each key, and other readings are lines to uncomment. Nothing is
    written if the folder has no audio, or if no configuration of it can be planned.
    """
    from clipmill.pipelines.cli.recipe_heads import read_recipe, recipe_names
    from clipmill.pipelines.proposals.findings_of_folder import look_at
    from clipmill.pipelines.proposals.proposing import propose
    from clipmill.pipelines.run.header_process import read_headers
    from clipmill.pipelines.run.preview import preview_of

    address = _address(folder)
    if target == _STDOUT and as_json:
        raise ConfigError("--json and --output - both print to stdout; give a file", code="usage")
    if target != _STDOUT and not force and os.path.lexists(target):
        raise ConfigError(f"{target} exists; --force replaces it", code="usage")
    recipes = {name: read_recipe(name).text for name in recipe_names()}
    seen = look_at(address, purpose or "general", read_headers, recipes)
    root = _dataset(seen.tree.name, target, address)
    proposal = propose(seen, root, _above(seen, target), lambda file: _Foreseen(preview_of(file, seen.headers.again)))
    if target == _STDOUT:
        click.echo(proposal.text, nl=False)
        return
    write_new_file(Path(target), proposal.text, force)
    if as_json:
        say_json(_found(seen, proposal, target, root))
    else:
        say(*_summary(seen, proposal, target, root))


@dataclass(frozen=True)
class _Foreseen:
    """What `clipmill plan` says; see `clipmill.pipelines.proposals.proposing.Foreseen`."""

    preview: Preview

    @property
    def rejected_share(self) -> float:
        plan = self.preview.plan
        of_rows = self._rows_rejected() / max(1, plan.annotations_read)
        return max(of_rows, plan.recordings_rejected / max(1, plan.recordings_listed))

    @property
    def reasons(self) -> str:
        shown = self.preview.to_dict()
        texts = []
        for reason, n in shown["rejected"].items():
            example = shown["rejected_examples"].get(reason, {})
            texts.append(f"{n:,} for {reason} ({example.get('detail') or example.get('source_uri')})")
        return "; ".join(texts) or "no recording gives a clip"

    @property
    def empty_splits(self) -> list[str]:
        return [split for split, n in self.preview.split.splits.items() if not n]

    @property
    def clips(self) -> int:
        return self.preview.estimate.clips

    def _rows_rejected(self) -> int:
        from clipmill.pipelines.plan.estimates import annotations_rejected

        return annotations_rejected(self.preview.plan)


def _address(folder: str) -> str:
    """Return the address of a folder, absolute: a configuration is also read from elsewhere."""
    from clipmill.schemas.config import check_address

    try:
        folder.encode()
        check_address(folder)
    except UnicodeEncodeError:
        raise ConfigError(
            "FOLDER: its name is not valid UTF-8, which a configuration cannot hold; rename it", code="usage"
        ) from None
    except ValueError as error:
        raise ConfigError(f"FOLDER {error}", code="usage") from None
    if "://" in folder:
        return folder.rstrip("/")
    return os.path.abspath(os.path.expanduser(folder))


def _dataset(name: str, target: str, folder: str) -> str:
    """Return where the dataset goes: beside FILE, unless that is in FOLDER, whose next build would read its clips; then beside FOLDER."""
    beside = os.getcwd() if target == _STDOUT else os.path.dirname(os.path.abspath(target))
    inside = os.path.realpath(beside) + os.sep
    real = os.path.realpath(folder)
    if "://" not in folder and inside.startswith(real.rstrip(os.sep) + os.sep):
        beside = os.path.dirname(real)
    first = os.path.join(beside, f"{name}-dataset")
    return next(
        (path for path in (first, *(f"{first}-{n}" for n in range(2, _MOST_DATASETS))) if _is_free(path, name)), first
    )


def _is_free(path: str, name: str) -> bool:
    """Return whether a dataset of this name can be at a path."""
    from clipmill.pipelines.dataset.identity import identity_for
    from clipmill.schemas.keys import CLIP_ID_BITS
    from clipmill.stages.storage.root import Root

    if os.path.lexists(path) and not os.path.isdir(path):
        return False
    try:
        identity_for(Root(path), name, CLIP_ID_BITS)
    except ClipmillError:
        return False
    return True


def _above(seen: Findings, target: str) -> list[str]:
    """Return the comment with which the file begins. Editors want the schema in the first line."""
    from clipmill import __version__
    from clipmill.pipelines.config_schema import SCHEMA_FILE

    shown = target if target != _STDOUT else "FILE"
    purpose = "" if seen.purpose.name == "general" else f" --for {seen.purpose.name}"
    lines = [
        f"yaml-language-server: $schema={SCHEMA_FILE.resolve().as_uri()}",
        f"Proposed by `clipmill init {shlex.quote(seen.tree.address)}{purpose}` (clipmill {__version__}) from what the folder shows. The evidence is",
        "above each key; lines that begin with `# or` have other readings: uncomment the line below them in place of the key.",
        "All keys: docs/configuration.md. See what a build would do, hear some clips, then build:",
        f"  clipmill plan {shlex.quote(shown)}",
        f"  clipmill sample {shlex.quote(shown)}",
        f"  clipmill build {shlex.quote(shown)}",
    ]
    if seen.recipe is not None:
        lines.append(
            f"This looks like a corpus for which there is a recipe: `clipmill recipes {seen.recipe.name}` is made for this"
            f" ({seen.recipe.because})."
        )
    return lines


def _summary(seen: Findings, proposal: Proposal[_Foreseen], target: str, root: str) -> list[str]:
    """Return what is printed: what was found, what a build would give, and the next commands."""
    preview = proposal.foreseen.preview
    estimate = preview.estimate
    splits = ", ".join(f"{split} {n:,}" for split, n in preview.split.splits.items())
    lines = [f"found        {line}" for line in (*seen.tree.text(), *seen.headers.text())]
    lines += [
        f"annotations  {one.key} {one.where}: {', '.join(one.because.get(one.key, []))}"
        for one in ([proposal.used] if proposal.used is not None else [])
    ]
    lines += [f"recipe       clipmill recipes {seen.recipe.name} is made for this"] if seen.recipe is not None else []
    lines += [f"note         {note}" for note in proposal.notes]
    file = shlex.quote(target)
    return [
        *lines,
        f"plan         about {counted(estimate.clips, 'clip')}, recordings by split: {splits}",
        f"written      {target}; the dataset will be {root}",
        f"next         clipmill plan {file}     # what a build would do",
        f"             clipmill sample {file}   # a dozen clips to see and hear",
        f"             clipmill build {file}",
        f"             clipmill report {file}",
    ]


def _found(seen: Findings, proposal: Proposal[_Foreseen], target: str, root: str) -> dict[str, Any]:
    """Return what is printed with --json."""
    headers, preview = seen.headers, proposal.foreseen.preview
    return {
        "written": target,
        "root": root,
        "purpose": seen.purpose.name,
        "recordings": len(seen.tree.paths),
        "extensions": dict(seen.tree.by_extension),
        "other_files": len(seen.tree.others),
        "headers": {
            "read": headers.n_read,
            "unreadable": len(headers.unread),
            "rates_hz": {str(rate): n for rate, n in headers.rates_hz.items()},
            "channels": {str(k): n for k, n in headers.channels.items()},
            "shortest_s": headers.seconds[0],
            "median_s": headers.quantile_s(0.5),
            "longest_s": headers.seconds[-1],
        },
        "annotations": [{**one.plain, "rows": one.trial.n_rows, "used": one is proposal.used} for one in seen.found],
        "recipe": seen.recipe.name if seen.recipe is not None else None,
        "notes": list(proposal.notes),
        "clips": preview.estimate.clips,
        "splits": preview.split.splits,
        "config": proposal.file.public,
    }
