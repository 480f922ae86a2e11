"""WebDataset: the addresses of the tar shards, as `webdataset.WebDataset` takes them. No audio is repeated."""

from __future__ import annotations

import json

from pipelines.exports import Export


def check(asked: Export) -> None:
    """Raise a ClipmillError where there are no tar shards."""
    for split in asked.splits:
        asked.published.shards(split, "webdataset")


def export(asked: Export) -> list[str]:
    """Write <split>.txt, an address a line, and index.json with the number of clips in each shard."""
    written, index = [], {}
    for split in asked.splits:
        files = asked.published.shards(split, "webdataset")
        uris = [asked.published.root.uri(f.path) for f in files]
        written.append(asked.write(f"{split}.txt", uris))
        index[split] = [
            {"url": uri, "nsamples": f.rows, "filesize": f.size_bytes} for uri, f in zip(uris, files, strict=True)
        ]
    return [*written, asked.write("index.json", [json.dumps(index, indent=1)])]
