"""The versions of Python that clipmill supports.

Checked before anything else is imported, and by `make` before anything is installed: even Python 2 must be able to run this file.
"""

import os
import sys

FIRST, LAST = (3, 11), (3, 13)
SUPPORTED = FIRST <= sys.version_info[:2] <= LAST
PROBLEM = "clipmill needs Python {0[0]}.{0[1]} to {1[0]}.{1[1]}, but {2} is Python {3[0]}.{3[1]}.{3[2]}".format(
    FIRST, LAST, sys.executable or "this", sys.version_info
)
AS_COMMAND = os.path.basename(sys.argv[0] if sys.argv else "") in ("clipmill", "-m")

if __name__ == "__main__":
    # python clipmill/python_version.py [VENV]: can this Python make, or use, that virtual environment?
    if not SUPPORTED:
        sys.exit("error: " + PROBLEM + "; name another one with PYTHON=/path/to/python")
    settings = os.path.join(sys.argv[1], "pyvenv.cfg") if sys.argv[1:] else ""
    if os.path.exists(settings):
        with open(settings) as file:
            pairs = [[part.strip() for part in line.split("=", 1)] for line in file if "=" in line]
        made_with = dict(pairs).get("version", "")
        if made_with.split(".")[:2] != [str(part) for part in sys.version_info[:2]]:
            sys.exit(
                "error: {0} was made with Python {1}, not {2[0]}.{2[1]}; remove it with `make clean`, or name another folder with VENV=FOLDER".format(
                    sys.argv[1], made_with or "of an unknown version", sys.version_info
                )
            )
