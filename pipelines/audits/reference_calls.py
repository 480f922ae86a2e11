"""Ask other packages, so that what one of them refuses costs one comparison and not the audit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_MOST_TEXT = 120


class NoReferenceError(Exception):
    """A reference cannot express settings, or refuses a clip; the text says which."""


@contextlib.contextmanager
def asking(package: str) -> Iterator[None]:
    """Turn what a package raises about a signal into NoReferenceError. A package that is missing stays an ImportError.

    These are librosa's ParameterError, torch's RuntimeError, torchaudio's AssertionError, the ValueError and IndexError of numpy and
    transformers, and the OSError of a library that cannot be loaded.
    """
    import librosa

    try:
        yield
    except (
        librosa.LibrosaError,
        ValueError,
        RuntimeError,
        AssertionError,
        IndexError,
        ArithmeticError,
        OSError,
    ) as error:
        told = " ".join(str(error).split())[:_MOST_TEXT] or type(error).__name__
        raise NoReferenceError(f"{package} cannot compute it: {told}") from None
