"""Stages of other packages: how they are found, what of them stands in keys, and what becomes of a build when one fails."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import tone, write_audio

from clipmill.pipelines import chain
from clipmill.pipelines.chain import chain_of, same_chain
from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.schemas.errors import StageError
from clipmill.stages import lookup

RATE = 8000
AWAY = "stage 'odd' did not return from the 12 clips from c-ID to a-ID: "
MODULE = """
import os, time
from dataclasses import dataclass
from clipmill.schemas.config.model import Frozen
from clipmill.stages.stage import Stage
from clipmill.stages.clip_samples import waveforms

class Settings(Frozen):
    on: str = ""
    what: str = "nothing"

@dataclass(frozen=True)
class Odd(Stage):
    spec: Settings
    section = "odd"
    scope = "clip"
    settings = Settings
    def __call__(self, table):
        ids = table["clip_id"].to_pylist()
        if any(ids[i].startswith(self.spec.on) for i, _ in waveforms(table)):
            if self.spec.what == "raise":
                raise OverflowError("too much")
            if self.spec.what == "crash":
                os.abort()
            if self.spec.what == "exit":
                os._exit(0)
            if self.spec.what == "memory":
                self.all = bytearray(1 << 40)
            if self.spec.what == "sleep":
                time.sleep(600)
        return table
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where Python finds modules."""
    found = tmp_path / "path"
    found.mkdir()
    monkeypatch.syspath_prepend(found)
    forget()
    yield found
    forget()


def forget() -> None:
    lookup.find_stage.cache_clear()
    lookup.origin_of.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("odd_stage", "odd_package")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, Any]:
    for name in ("a", "b", "c"):
        write_audio(tmp_path / f"in/{name}.wav", tone(1.0, RATE), RATE)
    return {"root": tmp_path / "in", "segment": {"mode": "window", "length_s": 0.25}}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise", "stage 'odd' failed on clip b-ID: OverflowError: too much"),
        ("crash", f"{AWAY}the decoding process was killed by SIGABRT"),
        ("exit", f"{AWAY}the decoding process exited with code 0"),
        ("memory", f"{AWAY}it needs more than 4000 MB"),
        ("sleep", f"{AWAY}it returned nothing for 3 s"),
    ],
)
def test_a_stage_that_fails_ends_the_build_and_blames_no_recording(
    what: str, words: str, folder: Path, corpus: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    (folder / "odd_stage.py").write_text(MODULE)
    step = {"odd_stage:Odd": {"on": "b", "what": what}}
    config = make_config(corpus, audio={"sample_rate_hz": RATE}, clips=[step], limits={"decoder_timeout_s": 3})
    done = CliRunner().invoke(main, ["build", str(config)])
    assert done.exit_code == 1, done.output
    assert words in re.sub(r"-[0-9a-f]{12,32}-\d+", "-ID", done.output) and "Traceback" not in done.output
    assert "rejected" not in done.output and not list((tmp_path / "out").glob("commits/*.json"))


def packed(folder: Path, version: str) -> None:
    """Install a package by hand, with an entry point."""
    (folder / "odd_package.py").write_text(MODULE)
    about = folder / f"odd_package-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: odd-package\nVersion: {version}\n")
    (about / "entry_points.txt").write_text("[clipmill.stages]\nodd = odd_package:Odd\n")
    (about / "top_level.txt").write_text("odd_package\n")
    (about / "RECORD").write_text("odd_package.py,,\n")


def test_an_installed_stage_has_its_package_s_version_in_the_key(
    folder: Path, corpus: dict[str, Any], make_config: Callable[..., Path], in_process: None
) -> None:
    packed(folder, "1.2")
    config = make_config(corpus, audio={"sample_rate_hz": RATE}, clips=["odd"])
    made = chain_of(load(config).config)
    assert made.origins == {"clips[0].odd": "odd-package 1.2"} and made.sources == {}
    assert made.versions["odd-package"] == "1.2"
    assert CliRunner().invoke(main, ["build", str(config)]).exit_code == 0
    assert "unchanged" in CliRunner().invoke(main, ["build", str(config)]).output
    (folder / "odd_package-1.2.dist-info").rename(folder / "odd_package-1.3.dist-info")
    metadata = folder / "odd_package-1.3.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "1.3"))
    forget()
    again = CliRunner().invoke(main, ["build", str(config)])
    assert "1 built" in again.output, again.output
    with pytest.raises(StageError, match=r"is odd-package 1\.3 on a worker and odd-package 1\.2 where") as raised:
        same_chain(load(config).config, made.origins, made.sources)
    assert raised.value.code == "stage.other_version"


def test_entry_points_of_all_kinds_leave_failures_alone_and_a_snapshot_keeps_their_words(
    folder: Path, corpus: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path], in_process: None
) -> None:
    packed(folder, "1.2")
    module = folder / "odd_package.py"
    work = "        from clipmill.stages.stage import dropped\n        return dropped(table, [True] * table.num_rows, 'odd_rule')\n"
    dropping = MODULE.replace("        return table\n", work)
    dropping = dropping.replace(
        "    settings = Settings\n", "    settings = Settings\n    drops = {'odd_rule': 'it is odd'}\n"
    )
    module.write_text(dropping + "\nclass Computed(Odd):\n    section = 'computed'\n    scope = 'derived'\n")
    entries = folder / "odd_package-1.2.dist-info/entry_points.txt"
    entries.write_text(entries.read_text() + "computed = odd_package:Computed\n")
    config = make_config(
        corpus, audio={"sample_rate_hz": RATE}, clips=["odd"], limits={"min_clips": 0, "allow_empty_splits": True}
    )
    chain.known_rules.cache_clear()
    chain.known_reasons.cache_clear()
    done = CliRunner().invoke(main, ["build", str(config), "--accept"])
    assert done.exit_code == 0, done.output
    for name in ("odd_package-1.2.dist-info", "odd_package.py"):
        (folder / name).rename(tmp_path / name)  # the machine that reads has no such package
    forget()
    told = CliRunner().invoke(main, ["failures", str(tmp_path / "out")])
    assert told.exit_code == 0 and "12  odd_rule: it is odd" in told.output, told.output


def test_a_package_that_is_not_installed_is_known_by_all_of_its_modules(
    folder: Path, corpus: dict[str, Any], make_config: Callable[..., Path]
) -> None:
    (folder / "odd_package").mkdir()
    (folder / "odd_package/__init__.py").write_text("")
    (folder / "odd_package/stage.py").write_text(f"from odd_package import threshold\n{MODULE}")
    (folder / "odd_package/threshold.py").write_text("LOW = 1\n")
    config = make_config(corpus, clips=["odd_package.stage:Odd"])
    origins = []
    for text in ("LOW = 1\n", "LOW = 2\n"):
        (folder / "odd_package/threshold.py").write_text(text)
        forget()
        origins.append(chain_of(load(config).config).origins)
    assert origins[0] != origins[1]


def test_a_library_that_is_not_installed_is_told_with_its_stage(
    folder: Path, corpus: dict[str, Any], make_config: Callable[..., Path], in_process: None
) -> None:
    text = MODULE.replace("    settings = Settings\n", '    settings = Settings\n    libraries = ("not-there",)\n')
    (folder / "odd_stage.py").write_text(text)
    done = CliRunner().invoke(main, ["build", str(make_config(corpus, clips=["odd_stage:Odd"]))])
    assert done.exit_code == 1 and "Traceback" not in done.output
    assert "stage 'odd' declares the library 'not-there', and no package of this name is installed" in done.output


def test_a_stage_in_a_file_has_the_file_s_digest_in_the_key(
    folder: Path, corpus: dict[str, Any], make_config: Callable[..., Path]
) -> None:
    module = folder / "odd_stage.py"
    module.write_text(MODULE)
    config = make_config(corpus, audio={"sample_rate_hz": RATE}, clips=["odd_stage:Odd"])
    made = chain_of(load(config).config)
    (before,) = made.origins.values()
    assert before.startswith("sha256 ") and made.sources == {"odd_stage.py": MODULE}
    module.write_text(MODULE + "\n# another comment\n")
    forget()
    (after,) = chain_of(load(config).config).origins.values()
    assert after != before


def test_a_stage_s_column_and_a_field_of_one_name_are_an_error_that_names_both(
    folder: Path, corpus: dict[str, Any], tmp_path: Path, make_config: Callable[..., Path]
) -> None:
    more = 'columns = (column("loudness", pa.float64(), "how loud it is"),)'
    text = MODULE.replace("    settings = Settings\n", f"    settings = Settings\n    {more}\n")
    (folder / "odd_stage.py").write_text("import pyarrow as pa\nfrom clipmill.schemas.columns import column\n" + text)
    with_field = {**corpus, "fields": r"(?P<loudness>\w)\.wav"}
    done = CliRunner().invoke(main, ["plan", str(make_config(with_field, clips=["odd_stage:Odd"]))])
    assert done.exit_code == 2, done.output
    assert (
        "clips[0].odd_stage:Odd: the corpus has a field 'loudness', which is a column of the stage 'odd'" in done.output
    )
    plain = CliRunner().invoke(main, ["plan", str(make_config(with_field))])
    assert plain.exit_code == 0, "the name is only taken where the chain has it"
