"""The parts of the benchmark, in the order of the report."""
