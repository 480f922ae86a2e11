"""Store what each item adds to its shard's sums, so that an item can be taken out without reading the recordings again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from clipmill.schemas.records import Counts, Seconds
from clipmill.schemas.statistics import Saturation


@dataclass(frozen=True)
class Account:
    """Hold an item's part of a commit's sums. Remarks are not part of it: the commit lists them by recording.

    saturation : of the item's clips
    saturated_clips : samples at full scale by clip, of clips that have any
    """

    counts: Counts = field(default_factory=Counts)
    seconds: Seconds = field(default_factory=Seconds)
    saturation: Saturation = field(default_factory=Saturation)
    saturated_clips: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one line of JSON, without zeros and empty parts."""
        parts = {name: {k: v for k, v in part.items() if v} for name, part in asdict(self).items()}
        return json.dumps(
            {k: v for k, v in parts.items() if v}, sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> Account:
        """Read an account. Raises ValueError when the text is not one."""
        try:
            plain = json.loads(text)
            return cls(
                Counts(**plain.get("counts", {})),
                Seconds(**plain.get("seconds", {})),
                Saturation(**plain.get("saturation", {})),
                dict(plain.get("saturated_clips", {})),
            )
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not an account of an item: {error}") from None
