"""WebDataset: lists of the tar shards. No audio is repeated."""

from __future__ import annotations

import json

from clipmill.pipelines.exports import Export
from clipmill.pipelines.exports.addresses import beside, note_cut
from clipmill.pipelines.exports.export_format import Format

FORMAT = Format("the addresses of the tar shards, one list per split", whole_shards=True)


def check(asked: Export) -> None:
    """Raise a ClipmillError where there are no tar shards."""
    for split in asked.splits:
        asked.published.shards(split, "webdataset")


def export(asked: Export) -> list[str]:
    """Write <split>.txt, a tar a line, and index.json with the number of clips in each.

    In a folder of the dataset's root tars are named from that folder on, else by their addresses.
    """
    written, index = [], {}
    note_cut(asked, asked.published.root)
    for split in asked.splits:
        files = asked.published.shards(split, "webdataset")
        uris = [beside(asked, f.path) for f in files]
        written.append(asked.write(f"{split}.txt", uris))
        index[split] = [
            {"url": uri, "nsamples": f.rows, "filesize": f.size_bytes} for uri, f in zip(uris, files, strict=True)
        ]
    return [*written, asked.write("index.json", [json.dumps(index, indent=1)])]
