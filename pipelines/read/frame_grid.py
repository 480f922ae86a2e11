"""Say which samples the frames of a feature belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clipmill.schemas.columns import Column
from clipmill.schemas.errors import ClipmillError


@dataclass(frozen=True)
class FrameGrid:
    """Where frames begin: frame i at sample i * hop_length.

    hop_length : samples between frames
    n_fft : samples of a frame
    center : the frame is centred on its sample, and the recording was padded at both ends
    """

    hop_length: int
    n_fft: int
    center: bool

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of so many samples."""
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
            found[name] = FrameGrid(settings["hop_length"], settings["n_fft"], bool(settings.get("center", True)))
        else:
            raise ClipmillError(
                f"clips with {name} cannot be cropped: the snapshot does not tell the hop_length and n_fft of its frames; leave {name} out of"
                " columns, or publish the dataset again, if an older clipmill has published it"
            )
    return found
