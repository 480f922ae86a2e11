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
    layout : of features that are framed in another way
    pad_value : what silence is in the feature: a number, or the name of the column that has the clip's own
    """

    hop_length: int
    n_fft: int
    center: bool
    layout: FrameLayout | None = None
    pad_value: float | str = 0.0

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any]) -> FrameGrid:
        """Return the grid of a feature by the settings in its description, which have `hop_length` and `n_fft`."""
        pad = settings.get("pad_value", 0.0)
        return cls(
            settings["hop_length"],
            settings["n_fft"],
            bool(settings.get("center", True)),
            FrameLayout.of(settings),
            f"{name}_pad" if pad == "floor" else float(pad),
        )

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples."""
        if self.layout is not None:
            return self.layout.n_frames(n_samples)
        if self.center:
            return 1 + n_samples // self.hop_length
        return max(0, 1 + (n_samples - self.n_fft) // self.hop_length)


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
            found[name] = FrameGrid.of(name, settings)
        else:
            raise ClipmillError(
                f"clips with {name} cannot be cropped: the snapshot does not tell the hop_length and n_fft of its frames; leave {name} out of"
                " columns, or publish the dataset again, if an older clipmill has published it"
            )
    return found
