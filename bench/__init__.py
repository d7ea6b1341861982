"""Benchmarks: each prints what it measures against a peer or a limit, and last one JSON line."""
