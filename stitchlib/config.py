"""The configuration of a run: one YAML file, checked against its schema, frozen."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import yaml

from stitchlib.core.boxes import AXES
from stitchlib.errors import InputError
from stitchlib.schemas import NAME_RULE, schema, suggestion

if TYPE_CHECKING:
    import jsonschema

Overlap = float | int | tuple[float, float]
"""Float: fraction of the tile; int: voxels; pair: the range that is searched."""


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """How neighbours are aligned."""

    method: Literal["auto", "exact", "mip"]
    """Where candidates come from."""
    measure: str
    """'ncc' or 'ssd'."""
    overlap: Mapping[str, Overlap]
    """Overlap of neighbours by grid axis; empty where the sheet gives positions."""
    max_shift: tuple[int, int, int] | None
    """± voxels around the nominal displacement along x, y, z; None where not given."""
    clip: tuple[float | None, float | None]
    """Intensities below and above are moved to these for the alignment; None = no bound."""
    min_overlap: int | None
    """Least overlap along the tiling axis in voxels; None = a quarter of the nominal one."""
    background: float | Literal["auto"] | None
    """Voxels below are background; 'auto': images of nothing but noise are; None: nothing is."""
    pairs_per_job: int | None
    """Pairs of one job; None = as many as are work enough."""
    preset: Path | None
    """A pairs.tsv to use instead of aligning."""


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """How tiles are placed."""

    method: str
    """'optimization', 'tree' or 'given'."""
    positions: Path | None
    """With method 'given': a positions.tsv."""
    corrections: Path | None
    """A corrections.tsv, a person's last word."""
    min_confidence: float
    """Links below are not used."""


@dataclass(frozen=True, slots=True)
class StitchOptions:
    """How the voxels of overlapping tiles become one."""

    blending: str
    """'interpolation', 'max', 'min' or 'mean'."""
    fill: float
    """Value of voxels that no tile covers."""
    region: tuple[tuple[int, int] | None, ...] | None
    """Half-open range along x, y, z, voxels in the sheet's frame; None = all there is."""


FLAT_CHUNK = 256
"""What `output.chunk` should be for single planes: its default makes chunks of a few KB of them,
and every chunk costs some tens of µs however small it is."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How the volume is written."""

    chunk: tuple[int, int, int]
    """Chunk in voxels along x, y, z, before it is clipped to the extent."""
    shard: tuple[int, int, int] | None
    """Voxels of one stitch job along x, y, z, whole chunks; None = as many as are work enough."""
    levels: int | None
    """Pyramid levels including the full one; None = until no axis is over 256 voxels."""
    compression: str
    """'gzip' or 'none'."""
    assembly: str
    """'copy' or 'virtual'."""
    keep_old: bool
    """Whether tables and shards that nothing names any more are kept."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole, checked configuration."""

    tiles: Path
    """The tile sheet, as given."""
    results: Path
    """Folder of all results, as given."""
    dataset: str
    """Name of the dataset where the sheet names none."""
    voxel_size: tuple[float, float, float]
    """µm along x, y, z."""
    reference_channel: str | None
    """Channel that is aligned; None = the first of the sheet."""
    align: AlignOptions
    place: PlaceOptions
    stitch: StitchOptions
    output: OutputOptions
    mem_mb: int | None
    """Most memory one job may use; None = no limit."""
    raw: Mapping[str, Any]
    """All keys with their defaults filled in, as plain values (for the provenance)."""


# Keys of the contract that are not built yet: (path, values that are, what to write instead).
_PENDING: tuple[tuple[tuple[str, ...], tuple[Any, ...], str], ...] = (
    (("output", "formats"), (["bdv"],), "use [bdv]"),
)


def load_config(path: Path) -> Config:
    """Read and check a configuration file."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such configuration file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}") from error
    try:
        return parse_config({} if value is None else value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_config(value: Mapping[str, Any]) -> Config:
    """Check a configuration and fill in the defaults.

    Raises
    ------
    InputError
        One line for each thing that is wrong, naming the key, its value and what is allowed.
    """
    problems = list(_problems(value))
    if not problems:
        raw = _with_defaults(value, schema("config"))
        problems = list(_pending(raw)) + list(_contradictions(raw))
    if problems:
        raise InputError("\n".join(f"configuration: {problem}" for problem in problems))
    return _freeze(raw)


def _problems(value: Any) -> Iterator[str]:
    import jsonschema  # noqa: PLC0415 - jobs read what was checked when their run was planned

    validator = jsonschema.Draft202012Validator(schema("config"))
    for error in sorted(validator.iter_errors(value), key=lambda e: [str(p) for p in e.path]):
        yield _describe(error)


def _describe(error: jsonschema.ValidationError) -> str:
    key = ".".join(str(part) for part in error.path)
    if error.validator == "additionalProperties":
        known = list(_schema_of(error)["properties"])
        unknown = [str(name) for name in cast("Any", error.instance) if name not in known]
        name = ".".join(filter(None, [key, unknown[0]]))
        return f"unknown key {name!r}; {suggestion(unknown[0], known)}"
    where = f"{key} = {error.instance!r}" if key else repr(error.instance)
    if error.validator == "oneOf":
        what = _schema_of(error).get("description", "see config/README.md")
        return f"{where} is not allowed ({what})"
    return f"{where}: {_wanted(error, key)}"


_TYPES = {
    "object": "keys with values, as {key: value}",
    "array": "a list, as [a, b]",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}
_LIMITS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}


def _wanted(error: jsonschema.ValidationError, key: str) -> str:
    """Say what a value must be."""
    rule, limit = str(error.validator), cast("Any", error.validator_value)
    if rule == "type":
        types = [limit] if isinstance(limit, str) else limit
        return f"must be {' or '.join(_TYPES[name] for name in types)}"
    if rule == "enum":
        return f"must be one of {', '.join(limit)}"
    if rule in _LIMITS:
        return f"must be {_LIMITS[rule]} {limit}"
    return NAME_RULE if (key, rule) == ("dataset", "pattern") else error.message


def _schema_of(error: jsonschema.ValidationError) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", error.schema)


def _with_defaults(value: Any, node: Mapping[str, Any]) -> Any:
    if not isinstance(value, Mapping) or "properties" not in node:
        return copy.deepcopy(value)
    filled = {}
    for name, child in node["properties"].items():
        if name in value:
            filled[name] = _with_defaults(value[name], child)
        elif "default" in child:
            filled[name] = _with_defaults(child["default"], child)
    return filled


def _pending(raw: Mapping[str, Any]) -> Iterator[str]:
    for path, supported, instead in _PENDING:
        value: Any = raw
        for part in path:
            value = value[part]
        if value not in supported:
            yield f"{'.'.join(path)} = {value!r} is not supported yet; {instead}"


def _contradictions(raw: Mapping[str, Any]) -> Iterator[str]:
    for axis, overlap in (raw["align"]["overlap"] or {}).items():
        yield from _overlap_problems(axis, overlap)
    for axis, (lower, upper) in (raw["stitch"]["region"] or {}).items():
        if lower >= upper:
            yield (
                f"stitch.region.{axis} = {[lower, upper]!r}: holds no voxel; "
                "write [first, last + 1]"
            )
    yield from _placement_problems(raw)
    yield from _number_problems(raw)
    chunk, shard = (_triple(raw["output"][key]) for key in ("chunk", "shard"))
    if shard and chunk and any(s % c for s, c in zip(shard, chunk, strict=True)):
        yield (
            f"output.shard = {raw['output']['shard']!r}: must be whole chunks "
            f"(output.chunk = {raw['output']['chunk']!r})"
        )


def _placement_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    place = raw["place"]
    if place["method"] == "given" and place["positions"] is None:
        yield "place.positions is missing; place.method = 'given' takes the positions from there"
    if place["method"] != "given" and place["positions"] is not None:
        yield (
            f"place.positions = {place['positions']!r} has no effect with place.method = "
            f"{place['method']!r}; write method: given, or remove it"
        )
    if place["method"] == "given" and raw["align"]["preset"] is not None:
        yield (
            f"align.preset = {raw['align']['preset']!r} has no effect with place.method = 'given', "
            "which uses no links; remove one of the two"
        )


def _overlap_problems(axis: str, overlap: Any) -> Iterator[str]:
    pair = overlap if isinstance(overlap, list) else [overlap]
    key = f"align.overlap.{axis} = {overlap!r}"
    if any(isinstance(o, float) and not o < 1 for o in pair):
        yield f"{key}: a fraction must be below 1.0; whole voxels are written without a point"
    if len({type(o) for o in pair}) > 1:
        yield f"{key}: write both ends as fractions or both as voxels"
    elif pair[0] > pair[-1]:
        yield f"{key}: the smaller overlap comes first"


def _number_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    bounds = [bound for bound in _clip(raw["align"]["clip"]) if bound is not None]
    if not all(map(math.isfinite, bounds)):
        yield f"align.clip = {raw['align']['clip']!r}: must be finite numbers"
    elif bounds != sorted(bounds):
        yield f"align.clip = {raw['align']['clip']!r}: the smaller bound comes first"
    sizes = [f"voxel_size.{axis}" for axis in AXES]
    for key in (*sizes, "place.min_confidence", "stitch.fill"):
        stage, _, name = key.partition(".")
        if not math.isfinite(raw[stage][name]):
            yield f"{key} = {raw[stage][name]!r}: must be a finite number"


def _triple(value: Any) -> tuple[int, int, int] | None:
    if value in (None, "auto"):
        return None
    if isinstance(value, Mapping):
        return (int(value["x"]), int(value["y"]), int(value["z"]))
    return (int(value),) * 3


def _clip(value: Any) -> tuple[float | None, float | None]:
    return (value[0], value[1]) if isinstance(value, list) else (None, value)


def _auto(value: Any) -> int | None:
    # The schema's integers may be written 64.0.
    return None if value == "auto" else int(value)


def _region(value: Mapping[str, list[int]] | None) -> tuple[tuple[int, int] | None, ...] | None:
    if not value:
        return None
    return tuple((value[axis][0], value[axis][1]) if axis in value else None for axis in AXES)


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _freeze(raw: Mapping[str, Any]) -> Config:
    align, place, stitch, output = (raw[key] for key in ("align", "place", "stitch", "output"))
    chunk = _triple(output["chunk"])
    assert chunk is not None  # noqa: S101 - the schema gives a default
    overlap = {
        axis: tuple(value) if isinstance(value, list) else value
        for axis, value in (align["overlap"] or {}).items()
    }
    return Config(
        tiles=Path(raw["tiles"]),
        results=Path(raw["results"]),
        dataset=raw["dataset"],
        voxel_size=tuple(float(raw["voxel_size"][axis]) for axis in AXES),  # type: ignore[arg-type]
        reference_channel=raw["reference_channel"],
        align=AlignOptions(
            method=align["method"],
            measure=align["measure"],
            overlap=overlap,
            max_shift=_triple(align["max_shift"]),
            clip=_clip(align["clip"]),
            min_overlap=_auto(align["min_overlap"]),
            background=align["background"],
            pairs_per_job=_auto(align["pairs_per_job"]),
            preset=_path(align["preset"]),
        ),
        place=PlaceOptions(
            method=place["method"],
            positions=_path(place["positions"]),
            corrections=_path(place["corrections"]),
            min_confidence=float(place["min_confidence"]),
        ),
        stitch=StitchOptions(
            blending=stitch["blending"],
            fill=stitch["fill"],
            region=_region(stitch["region"]),
        ),
        output=OutputOptions(
            chunk=chunk,
            shard=_triple(output["shard"]),
            levels=_auto(output["levels"]),
            compression=output["compression"],
            assembly=output["assembly"],
            keep_old=output["keep_old"],
        ),
        mem_mb=_auto(raw["resources"]["mem_mb"]),
        raw=raw,
    )
