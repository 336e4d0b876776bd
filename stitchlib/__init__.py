"""Stitching of overlapping 2-D and 3-D microscopy tiles."""

from stitchlib._version import __version__

__all__ = ["__version__"]
