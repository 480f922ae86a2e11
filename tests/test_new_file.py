"""Files that commands make: whole or not at all, and never over another one unless that is asked for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from clipmill.pipelines.cli.new_file import write_new_file
from clipmill.schemas.errors import ClipmillError, ConfigError


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_cannot_be_finished_is_not_there(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    if force:
        path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClipmillError, match=r"cannot write .*c\.yaml: No space left on device"):
        write_new_file(path, "new", force)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == ([("c.yaml", "old")] if force else [])


def test_what_is_there_stays_unless_force_is_given(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    write_new_file(path, "é\n", False)
    with pytest.raises(ConfigError, match="exists and is not replaced; give another file, or --force"):
        write_new_file(path, "other", False)
    assert path.read_bytes() == "é\n".encode()
    write_new_file(path, "other", True)
    assert path.read_text() == "other" and [*tmp_path.iterdir()] == [path]


def test_folders_are_not_created_by_mistake(tmp_path: Path) -> None:
    with pytest.raises(ClipmillError, match=r"cannot write .*: there is no folder .*/no"):
        write_new_file(tmp_path / "no/c.yaml", "text", True)
    assert not [*tmp_path.iterdir()]
