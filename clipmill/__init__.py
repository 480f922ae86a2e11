"""Make training sets out of raw audio corpora."""

import os
import sys

from clipmill.python_version import AS_COMMAND, PROBLEM, SUPPORTED

if not SUPPORTED:
    if not AS_COMMAND:
        raise ImportError(PROBLEM)
    print(f"error: {PROBLEM}", file=sys.stderr)
    sys.exit(2)

if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and os.path.realpath(sys.path[0]) != os.path.realpath(f"{__path__[0]}/..")
):
    # `python -m clipmill`: Python searches the current folder first, and a user's file called `json.py` is no library.
    del sys.path[0]
