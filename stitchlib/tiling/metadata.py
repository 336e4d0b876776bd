"""What TIFF files say about voxel size and stage position: OME, ImageJ and MetaSeries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from stitchlib.io.planes import is_pattern, plane_files

MICRONS: Mapping[str, float] = {
    "µm": 1, "μm": 1, "um": 1, "micron": 1, "microns": 1, "nm": 1e-3, "mm": 1e3, "cm": 1e4,
    "m": 1e6,
}  # fmt: skip
"""Length of units, µm."""

Lengths = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Stage:
    """What one image says of itself; axes x, y, z, µm, None where it doesn't."""

    voxel_size: Lengths = (None, None, None)
    position: Lengths = (None, None, None)
    channels: tuple[str, ...] = ()
    """Names of its channels."""
    axes: Mapping[str, int] | None = None
    """Extent of its axes, by their letters; None where the file could not be read."""


def stages(path: Path) -> tuple[Stage, ...]:
    """Return what a file says of each of its series; nothing is raised for files that say nothing.

    A file that is no TIFF gives one `Stage` that knows nothing.
    """
    if is_pattern(path):
        path = plane_files(path)[0]
    if path.suffix.lower() not in (".tif", ".tiff"):
        return (Stage(),)
    try:
        with tifffile.TiffFile(path) as file:
            images = _ome_images(file)
            found = []
            for number, series in enumerate(file.series):
                axes = dict(zip(series.axes, series.shape, strict=True))
                if number < len(images):
                    found.append(_ome(images[number], axes))
                else:
                    found.append(Stage(*_others(file), axes=axes))
            return tuple(found)
    except Exception:  # noqa: BLE001 - tifffile raises many kinds; whoever reads the image will say it
        return (Stage(),)


def _ome_images(file: tifffile.TiffFile) -> list[Mapping[str, Any]]:
    if not file.ome_metadata:
        return []
    images = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image", [])
    return images if isinstance(images, list) else [images]


def _ome(image: Mapping[str, Any], axes: Mapping[str, int]) -> Stage:
    pixels = image["Pixels"]
    planes = _listed(pixels.get("Plane"))
    first = planes[0] if planes else {}
    names = [str(c.get("Name", "")) for c in _listed(pixels.get("Channel"))]
    return Stage(
        _lengths(pixels, [f"PhysicalSize{a}" for a in "XYZ"]),
        _lengths(first, [f"Position{a}" for a in "XYZ"]),
        tuple(names),
        axes,
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _lengths(values: Mapping[str, Any], keys: Sequence[str]) -> Lengths:
    """Read lengths with their units; 'reference frame' says none, and writers mean µm by it."""
    x, y, z = (
        float(values[key]) * MICRONS.get(str(values.get(f"{key}Unit", "µm")), 1)
        if key in values
        else None
        for key in keys
    )
    return x, y, z


def _others(file: tifffile.TiffFile) -> tuple[Lengths, Lengths]:
    nothing: Lengths = (None, None, None)
    if file.is_metaseries:
        plane = (file.metaseries_metadata or {}).get("PlaneInfo", {})
        size = (plane.get("spatial-calibration-x"), plane.get("spatial-calibration-y"), None)
        at = (plane.get("stage-position-x"), plane.get("stage-position-y"), plane.get("z-position"))
        return size, at
    if file.is_imagej:
        values = file.imagej_metadata or {}
        unit = MICRONS.get(re.sub(r"\\u00B5", "µ", str(values.get("unit", ""))))
        if unit is None:
            return nothing, nothing
        tags = file.pages.first.tags
        x, y = (
            unit * tags[name].value[1] / tags[name].value[0]
            if name in tags and tags[name].value[0]
            else None
            for name in ("XResolution", "YResolution")
        )
        z = values.get("spacing")
        return (x, y, z if z is None else float(z) * unit), nothing
    return nothing, nothing
