"""Files: one module a format, behind one small protocol (`stitchlib.io.images`)."""
