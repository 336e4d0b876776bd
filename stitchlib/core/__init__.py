"""Algorithms on arrays and integers: no files, logs, pools, plots or classes from above."""
