"""Say which samples the frames of a feature belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clipmill.schemas.columns import Column
from clipmill.schemas.errors import ClipmillError
from clipmill.schemas.frame_layout import FrameLayout


@dataclass(frozen=True)
class FrameGrid:
    """Where frames begin: frame i at sample i * hop_length, give or take what is the same for all frames.

    hop_length : samples between frames
    n_fft : samples of a frame
    center : the frame is centred on its sample, and the recording was padded at both ends
    layout : of features that are framed in another way than these three tell
    """

    hop_length: int
    n_fft: int
    center: bool
    layout: FrameLayout | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> FrameGrid:
        """Return the grid of a feature by the settings in its description, which have `hop_length` and `n_fft`."""
        center = bool(settings.get("center", True))
        return cls(settings["hop_length"], settings["n_fft"], center, FrameLayout.of(settings))

    @property
    def span(self) -> int:
        """Return how many samples a frame takes."""
        return self.layout.span if self.layout is not None else self.n_fft

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples."""
        about = {"hop_length": self.hop_length, "n_fft": self.n_fft, "center": self.center}
        return (self.layout or FrameLayout.of(about)).n_frames(n_samples)


def grids_of(columns: Iterable[Column], names: Iterable[str]) -> dict[str, FrameGrid | None]:
    """Return the grids of features by name; None for a feature that has one value per clip.

    Raises
    ------
    ClipmillError : a feature has frames, and the snapshot does not tell how far apart they are
    """
    found: dict[str, FrameGrid | None] = {}
    about = {column["name"]: column for column in columns}
    for name in names:
        shape, settings = about[name].get("shape"), about[name].get("settings", {})
        if shape is not None and "n_frames" not in shape:
            found[name] = None
        elif isinstance(settings.get("hop_length"), int) and isinstance(settings.get("n_fft"), int):
            found[name] = FrameGrid.of(settings)
        else:
            raise ClipmillError(
                f"clips with {name} cannot be cropped: the snapshot does not tell the hop_length and n_fft of its frames; leave {name} out of"
                " columns, or publish the dataset again, if an older clipmill has published it"
            )
    return found
