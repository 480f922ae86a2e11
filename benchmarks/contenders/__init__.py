"""The programs that `benchmarks/bench.py` compares. Each does the work of `benchmarks.work` and runs as a process of its own."""
