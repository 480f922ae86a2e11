"""Restore, from the records of a committed shard, the rows that tell what else became of its items besides clips."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from clipmill.schemas.account import Account
from clipmill.schemas.errors import DonorError
from clipmill.schemas.records import Commit


class ClosingRows:
    """Rows of `clipmill.schemas.tables.CLIPS` for dropped clips, rejections, remarks and sums of items.

    commit : of the shard
    items : rows of its `clipmill.schemas.tables.RECORDINGS`, in order; they must be asked for in this order
    dropped : the clips that were dropped by what was measured of them, with the rules that apply now; None if there are none
    """

    def __init__(self, commit: Commit, items: list[dict[str, Any]], dropped: pa.Table | None) -> None:
        self._key = commit.key[:12]
        self._rejections = iter(commit.rejections)
        self._dropped: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if dropped is not None:
            if dropped["rule"].null_count:
                raise DonorError(f"shard {self._key} dropped clips that may be kept now")
            for row in dropped.to_pylist():
                self._dropped[row["item_id"]].append(row)
        self._remarks: dict[str, list[dict[str, Any]]] = {}
        used = {item["recording_id"]: item["item_id"] for item in reversed(items) if item["reason"] is None}
        for remark in commit.remarks:
            self._remarks.setdefault(used.get(remark["recording_id"], ""), []).append(remark)

    def account(self, item: dict[str, Any]) -> Account:
        """Return an item's part of the shard's sums. Raises DonorError if the shard is too old to have it."""
        if item.get("account") is None:
            raise DonorError(
                f"shard {self._key} was built by an older version of clipmill, which kept no sums by recording"
            )
        return Account.from_json(item["account"])

    def rows(self, item: dict[str, Any], account: Account) -> Iterator[dict[str, Any]]:
        """Yield the rows of an item behind its clips. The last one ends the item."""
        counts = account.counts
        identity = {
            "item_id": item["item_id"],
            "recording_id": item["recording_id"],
            "source": item["recording_id"].split("/", 1)[0],
        }
        listed = self._dropped[item["item_id"]]
        yield from ({**row, "status": "dropped", "count": 1} for row in listed)
        # The records count by the rules of then, of which those of listed clips are not needed any more.
        rest = Counter(counts.dropped)
        rest.subtract(Counter(row["rule_then"] for row in listed))
        for rule, count in rest.items():
            if count:
                yield {**identity, "status": "dropped", "rule": rule, "count": count}
        n_rejected = (
            counts.recordings_rejected + counts.spans_rejected + counts.annotations_rejected + counts.clips_rejected
        )
        for _ in range(n_rejected):
            row = next(self._rejections)
            yield {**identity, **{k: v for k, v in row.items() if k != "stage"}, "status": "rejected"}
        for remark in self._remarks.get(item["item_id"], ()):
            about = {"code": remark["code"], "detail": remark["detail"]}
            yield {**identity, "source_uri": remark["source_uri"], "status": "remark", "remarks": [about]}
        yield {
            **identity,
            "status": "account",
            "n_candidates": counts.clips_candidates,
            "n_annotations": counts.annotations_used,
            "last": True,
            "decoded_s": account.seconds.decoded_s,
        }
