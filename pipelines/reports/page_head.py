"""The head of a page that people open from anywhere: its style, and what the browser may do, which is to show it."""

from __future__ import annotations

from pathlib import Path

from clipmill.pipelines.reports.markup import Safe, tag

_STYLE = Path(__file__).with_name("report.css")
_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
)
"""What a browser may load: nothing but what is in the file. A script could not run even if one got into it."""


def page_head(title: str, generator: str) -> Safe:
    """Return the head of a page. generator : the command that writes it"""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Safe(_POLICY)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=generator),
        tag("title", title),
        tag("style", Safe(_STYLE.read_text(encoding="utf-8"))),
    )
