"""What the README's figures come from. Each module is a command: `python -m benchmarks.<name> --help`."""

import os

# Before numpy is loaded: as many threads as a worker of a build has.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
