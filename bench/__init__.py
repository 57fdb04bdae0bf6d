"""The benchmark: `make bench`. What it measures, and what it leaves out, is in docs/performance.md."""
