"""Algorithms on arrays and integers: no files, logs, pools, plots or classes of the layers above."""
