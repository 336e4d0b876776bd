"""A tile sheet from files: `stitchlib tiles`."""
