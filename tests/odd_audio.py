"""Small recordings of kinds that people reported, each with what is right for it: CASES. Made here, with no other program."""

from __future__ import annotations

from odd_signal import Case

CASES: list[Case] = []
