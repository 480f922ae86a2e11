"""README.md and docs/: their size, links and anchors, and the commands and configurations that they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clipmill.pipelines.cli.main import main
from clipmill.pipelines.config_file import load
from clipmill.stages.annotations import registered

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]


def prose(page: Path) -> str:
    """Return the page's text without blocks of code, in which [a](b) and # mean something else."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.M):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        base = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        n = 0
        while (name := f"{base}-{n}" if n else base) in found:
            n += 1
        found.add(name)
    return found


def broken(page: Path) -> list[str]:
    """Return the page's links to files and headings that do not exist."""
    text = re.sub(r"`[^`\n]*`(?!\])", "", prose(page))
    bad = []
    for target in re.findall(r"\]\(([^)\s]*)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            bad.append(target)
    return bad


def test_every_annotation_format_is_in_the_table_of_formats() -> None:
    page = (TOP / "docs/annotations.md").read_text()
    rows = re.findall(r"^\| `([a-z]+)` \| (.*) \|$", page, re.M)
    formats = {name: registered.find_format(name).about.replace("|", r"\|") for name in registered.MODULES}
    assert dict(rows) == formats
    assert len(rows) == len(formats)


def test_the_readme_is_short() -> None:
    assert (TOP / "README.md").stat().st_size <= 10_000


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_anchors_exist(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `thing`, and more\n## Two\n## Two\n[a](#one-thing-and-more) [b](#two-1) [`c`](#two-2) [d](gone.md) "
        "[e](page.md#three) [f](https://x.y/z)\n```\n# three\n[g](no.md)\n```\n"
    )
    assert broken(page) == ["#two-2", "gone.md", "page.md#three"]


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (TOP / "README.md").read_text()
    assert [p.name for p in PAGES[1:] if f"(docs/{p.name})" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_exist(page: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose(page))
    used = [m[1] for line in lines if (m := re.match(r"(?:[A-Z]+=\S+ )*(?:\S*bin/)?clipmill ([a-z]+)\b", line))]
    assert set(used) <= set(main.commands)
    if page.name == "commands.md":
        assert set(used) == set(main.commands)


def test_the_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (TOP / "README.md").read_text(), re.S)
    path = tmp_path / "dogs.yaml"
    path.write_text(block)
    assert load(path).config.name == "dogs"
