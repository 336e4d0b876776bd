"""The demo and the benchmarks: runnable modules, nothing that the library imports."""
