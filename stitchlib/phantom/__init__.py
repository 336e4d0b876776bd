"""Phantom data with known truth, for trying things out, tests and benchmarks."""

from stitchlib.phantom.acquisition import Phantom, position_error, whole
from stitchlib.phantom.files import PhantomFiles, write_phantom

__all__ = ["Phantom", "PhantomFiles", "position_error", "whole", "write_phantom"]
