"""Measurements against yardsticks taken in the same run (docs/benchmarks.md). Not shipped, not a test."""
