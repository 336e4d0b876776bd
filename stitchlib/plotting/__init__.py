"""Pictures of tiles at their places; matplotlib is imported when something is drawn."""

from stitchlib.plotting.figures import before_and_after, draw_slice

__all__ = ["before_and_after", "draw_slice"]
