"""Benchmarks: timings live here, never in tests. Each prints a table and one JSON line."""
