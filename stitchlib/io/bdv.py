"""BigDataViewer's layout of an HDF5 volume, and the XML beside it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stitchlib.core.boxes import Point
from stitchlib.io.files import replacing

if TYPE_CHECKING:
    import h5py


def cells(channel: int, level: int, timepoint: int = 0) -> str:
    """Return the path of a channel's voxels at a level."""
    return f"t{timepoint:05d}/s{channel:02d}/{level}/cells"


def describe_setup(
    file: h5py.File, channel: int, dtype: np.dtype[Any], levels: Sequence[tuple[Point, Point]]
) -> None:
    """Write what a reader needs to know of one channel.

    Parameters
    ----------
    file : h5py.File
        The volume.
    channel : int
        Number of the view setup.
    dtype : dtype
        Type of the voxels.
    levels : sequence of (factor, chunk)
        Downsampling factor and chunk of every level, x, y, z.
    """
    group = file.create_group(f"s{channel:02d}")
    group.attrs["dataType"] = dtype.name
    group.create_dataset("resolutions", data=np.array([f for f, _ in levels], np.float64))
    group.create_dataset("subdivisions", data=np.array([c for _, c in levels], np.int32))


def write_xml(
    path: Path,
    volume: str,
    *,
    channels: Sequence[str],
    shape: Point,
    voxel_size: Sequence[float],
    origin: Point,
) -> None:
    """Write the XML that opens ``volume``, a file beside it.

    Parameters
    ----------
    path : Path
        The XML file.
    volume : str
        Name of the HDF5 file.
    channels : sequence of str
        Names, in the order of their view setups.
    shape : tuple of int
        Extent x, y, z in voxels.
    voxel_size : sequence of float
        µm along x, y, z.
    origin : tuple of int
        Where voxel (0, 0, 0) lies, voxels.
    """
    root = ET.Element("SpimData", version="0.2")
    _text(root, "BasePath", ".", type="relative")
    sequence = ET.SubElement(root, "SequenceDescription")
    loader = ET.SubElement(sequence, "ImageLoader", format="bdv.hdf5")
    _text(loader, "hdf5", volume, type="relative")
    setups = ET.SubElement(sequence, "ViewSetups")
    for number, name in enumerate(channels):
        setup = ET.SubElement(setups, "ViewSetup")
        _text(setup, "id", number)
        _text(setup, "name", name)
        _text(setup, "size", _numbers(shape))
        voxel = ET.SubElement(setup, "voxelSize")
        _text(voxel, "unit", "µm")
        _text(voxel, "size", _numbers(voxel_size))
        attributes = ET.SubElement(setup, "attributes")
        for kind in ("illumination", "channel", "tile", "angle"):
            _text(attributes, kind, number if kind == "channel" else 0)
    _attributes(setups, {"illumination": ["0"], "channel": channels, "tile": ["0"], "angle": ["0"]})
    times = ET.SubElement(sequence, "Timepoints", type="range")
    _text(times, "first", 0)
    _text(times, "last", 0)
    ET.SubElement(sequence, "MissingViews")
    registrations = ET.SubElement(root, "ViewRegistrations")
    for number in range(len(channels)):
        view = ET.SubElement(registrations, "ViewRegistration", timepoint="0", setup=str(number))
        transform = ET.SubElement(view, "ViewTransform", type="affine")
        _text(transform, "Name", "voxels to µm")
        _text(transform, "affine", _numbers(_affine(voxel_size, origin)))
    ET.indent(root)
    with replacing(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _affine(voxel_size: Sequence[float], origin: Point) -> list[float]:
    matrix = np.zeros((3, 4))
    matrix[:, :3] = np.diag(voxel_size)
    matrix[:, 3] = np.multiply(voxel_size, origin)
    return [float(value) for value in matrix.ravel()]


def _attributes(setups: ET.Element, names: Mapping[str, Sequence[str]]) -> None:
    for kind, members in names.items():
        group = ET.SubElement(setups, "Attributes", name=kind)
        for number, name in enumerate(members):
            member = ET.SubElement(group, kind.capitalize())
            _text(member, "id", number)
            _text(member, "name", name)
            if kind == "tile":
                _text(member, "location", "0 0 0")


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def _text(parent: ET.Element, tag: str, value: object, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = str(value)
