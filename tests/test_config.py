from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from stitchlib.config import load_config, parse_config
from stitchlib.errors import InputError
from stitchlib.schemas import schema

ROOT = Path(__file__).parents[1]

CONTRACT = """
tiles: config/tiles.tsv
results: results
dataset: brain
voxel_size: {x: 1.6, y: 1.6, z: 5.0}     # µm; default 1
reference_channel: c0                      # aligned on this one, applied to all; default: the first
align:
  method: auto                  # auto | exact | mip
  measure: ncc                  # ncc | ssd
  overlap: {x: 0.15, y: 0.15}   # per grid axis
  max_shift: {x: 20, y: 20, z: 8}          # voxels, ± around nominal
  min_overlap: auto             # voxels along the tiling axis, or auto
  clip: null                    # number or [lo, hi]
  background: auto              # auto | number | null
  pairs_per_job: auto           # auto | int
  preset: null                  # a pairs.tsv to use instead of aligning
place:
  method: optimization          # optimization | tree | given
  min_confidence: 0.99          # links below are not ok, and not used
  positions: null               # with given: a positions.tsv
  corrections: null             # a corrections.tsv
stitch:
  blending: interpolation       # interpolation | max | min | mean
  fill: 0
  region: null                  # {x: [lo, hi], …}: only this part, in layout voxels
output:
  chunk: 64                     # int | {x, y, z}; clipped to the extent
  shard: auto                   # auto | int | {x, y, z}: voxels, whole chunks
  levels: auto                  # auto | int (level 0 counts)
  compression: gzip             # gzip | none
  assembly: copy                # copy | virtual
  formats: [bdv]                # bdv | ims | ome-zarr | ome-tiff | tiff
  keep_old: false               # keep tables and shards that nothing names any more
resources: {mem_mb: auto}       # most that one job may use
"""

# "The values shown are the defaults, but for these", and for the first channel as the reference.
OTHER_DEFAULTS = {
    ("dataset",): "stitch",
    ("voxel_size",): {"x": 1, "y": 1, "z": 1},
    ("reference_channel",): None,
    ("align", "overlap"): None,
    ("align", "max_shift"): None,
}

# Every value that the contract names for a key.
CHOICES = {
    "align.method": ["auto", "exact", "mip"],
    "align.measure": ["ncc", "ssd"],
    "align.overlap": [{"x": 0.15}, {"x": 20}, {"x": [10, 30]}, {"x": [0.1, 0.2], "z": 3}],
    "align.min_overlap": ["auto", 5],
    "align.clip": [None, 300, [None, 300], [10, 300.5]],
    "align.background": ["auto", 100, 0.5, None],
    "align.pairs_per_job": ["auto", 3],
    "align.preset": [None, "pairs.tsv"],
    "place.method": ["optimization", "tree", "given"],
    "place.positions": [None, "positions.tsv"],
    "place.corrections": [None, "corrections.tsv"],
    "stitch.blending": ["interpolation", "max", "min", "mean"],
    "stitch.fill": [0, -3, 0.5],
    "stitch.region": [None, {"x": [0, 10]}, {"x": [-5, 10], "y": [0, 1], "z": [2, 3]}],
    "output.chunk": [64, {"x": 64, "y": 32, "z": 16}],
    "output.shard": ["auto", 128, {"x": 128, "y": 64, "z": 64}],
    "output.levels": ["auto", 3],
    "output.compression": ["gzip", "none"],
    "output.assembly": ["copy", "virtual"],
    "output.formats": [["bdv"], ["bdv", "ims", "ome-zarr", "ome-tiff", "tiff"], []],
    "output.keep_old": [False, True],
    "resources.mem_mb": ["auto", 4000],
}

# What stitchlib does so far, of that. Whatever joins the code joins here.
SUPPORTED = {
    "output.formats": [["bdv"]],
}


def leaves(value, path=()):
    """Every key of nested mappings with its value; a mapping of axes is one value."""
    for name, child in value.items():
        if isinstance(child, dict) and not set(child) <= set("xyz"):
            yield from leaves(child, (*path, name))
        else:
            yield (*path, name), child


def node(spec, path):
    for name in path:
        spec = spec["properties"][name]
    return spec


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def refused(value, *parts):
    """Check that a configuration is refused in one message that has all these parts."""
    with pytest.raises(InputError) as caught:
        parse_config(value)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


def test_the_schema_has_every_key_of_the_contract_and_no_other():
    def keys(spec, path=()):
        for name, child in spec["properties"].items():
            if "properties" in child and not set(child["properties"]) <= set("xyz"):
                yield from keys(child, (*path, name))
            else:
                yield (*path, name)

    contract = [path for path, _ in leaves(yaml.safe_load(CONTRACT))]
    assert list(keys(schema("config"))) == contract


@pytest.mark.parametrize("path", [path for path, _ in leaves(yaml.safe_load(CONTRACT))])
def test_the_defaults_are_those_of_the_contract(path):
    contract = dict(leaves(yaml.safe_load(CONTRACT)))
    wanted = OTHER_DEFAULTS.get(path, contract[path])
    raw = parse_config({}).raw
    for name in path:
        raw = raw[name]
    assert raw == wanted
    assert type(raw) is type(wanted)
    if path != ("voxel_size",):
        assert node(schema("config"), path)["default"] == wanted


def test_the_contracts_own_configuration_is_accepted():
    config = parse_config(yaml.safe_load(CONTRACT))
    assert config.dataset == "brain"
    assert config.voxel_size == (1.6, 1.6, 5.0)
    assert config.reference_channel == "c0"
    assert config.align.overlap == {"x": 0.15, "y": 0.15}
    assert config.align.max_shift == (20, 20, 8)
    assert config.align.min_overlap is None
    assert config.place.min_confidence == 0.99
    assert (config.stitch.blending, config.stitch.fill) == ("interpolation", 0)
    assert config.output.chunk == (64, 64, 64)
    assert (config.output.shard, config.output.levels) == (None, None)
    assert config.output.compression == "gzip"
    assert config.mem_mb is None
    assert config.raw == yaml.safe_load(CONTRACT)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in CHOICES.items() for value in values]
)
def test_every_value_of_the_contract_is_accepted_or_refused_by_name(key, value):
    if value in SUPPORTED.get(key, [value]):
        given = nested(key, value)
        if value in ("given", "positions.tsv"):  # one makes no sense without the other
            given = {"place": {"method": "given", "positions": "positions.tsv"}}
        raw = parse_config(given).raw
        for name in key.split("."):
            raw = raw[name]
        assert raw == value
    else:
        refused(nested(key, value), f"{key} = {value!r} is not supported yet; use ")


def test_several_problems_are_named_at_once():
    message = refused(
        {"output": {"formats": ["ims"], "chunk": 64, "shard": 65}}, "output.formats", "output.shard"
    )
    assert len(message.splitlines()) == 2
    message = refused({"algin": {}, "output": {"levels": 0}}, "'algin'", "output.levels = 0")
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"algin": {}}, ["unknown key 'algin'", "did you mean 'align'?"]),
        ({"align": {"max_shifts": 3}}, ["unknown key 'align.max_shifts'", "'max_shift'?"]),
        ({"output": {"shards": 3}}, ["unknown key 'output.shards'", "did you mean 'shard'?"]),
        ({"voxel_size": {"X": 3}}, ["unknown key 'voxel_size.X'", "x, y, z"]),
        ({"align": {"overlap": {"w": 1}}}, ["unknown key 'align.overlap.w'", "known: x, y, z"]),
        ({"blending": "max"}, ["unknown key 'blending'", "known: tiles, results, dataset"]),
        ({"resources": {"mem": 3}}, ["unknown key 'resources.mem'", "mem_mb"]),
        ({3: 4}, ["unknown key '3'"]),
        ([], ["[]", "must be keys with values"]),
        ("tiles.tsv", ["must be keys with values"]),
        ({"align": None}, ["align = None"]),
        ({"voxel_size": 1.6}, ["voxel_size = 1.6", "must be keys with values, as {key: value}"]),
        ({"voxel_size": {"x": 0}}, ["voxel_size.x = 0: must be more than 0"]),
        ({"voxel_size": {"x": "1 um"}}, ["voxel_size.x = '1 um': must be a number"]),
        ({"reference_channel": 0}, ["reference_channel = 0: must be text or null"]),
        ({"output": {"formats": "bdv"}}, ["output.formats = 'bdv': must be a list, as [a, b]"]),
        ({"place": {"min_confidence": 99}}, ["place.min_confidence = 99: must be at most 1"]),
        ({"dataset": "a b"}, ["dataset = 'a b'", "starts with a letter or digit"]),
        ({"align": 3}, ["align = 3"]),
        ({"align": {"method": "fast"}}, ["align.method = 'fast'", "one of auto, exact, mip"]),
        ({"align": {"max_shift": 20}}, ["align.max_shift = 20"]),
        ({"align": {"max_shift": {"x": -1}}}, ["align.max_shift.x = -1"]),
        ({"align": {"max_shift": {"x": 1.5}}}, ["align.max_shift.x = 1.5"]),
        ({"align": {"max_shift": {"x": "20"}}}, ["align.max_shift.x = '20'"]),
        ({"align": {"min_overlap": 0}}, ["align.min_overlap = 0"]),
        ({"align": {"pairs_per_job": 0}}, ["align.pairs_per_job = 0"]),
        ({"align": {"overlap": 0.15}}, ["align.overlap = 0.15"]),
        ({"align": {"overlap": {"x": -1}}}, ["align.overlap.x = -1", "fraction of the tile"]),
        ({"align": {"overlap": {"x": "15 %"}}}, ["align.overlap.x = '15 %'"]),
        ({"align": {"overlap": {"x": True}}}, ["align.overlap.x = True"]),
        ({"align": {"overlap": {"x": [1, 2, 3]}}}, ["align.overlap.x = [1, 2, 3]"]),
        ({"align": {"overlap": {"x": [1]}}}, ["align.overlap.x = [1]"]),
        ({"align": {"overlap": {"x": 1.0}}}, ["align.overlap.x = 1.0", "below 1.0", "voxels"]),
        ({"align": {"overlap": {"y": 15.5}}}, ["align.overlap.y = 15.5", "without a point"]),
        ({"align": {"overlap": {"x": float("nan")}}}, ["align.overlap.x = nan"]),
        ({"align": {"overlap": {"x": [0.3, 0.1]}}}, ["align.overlap.x", "smaller overlap"]),
        ({"align": {"overlap": {"x": [30, 10]}}}, ["align.overlap.x", "smaller overlap"]),
        ({"align": {"overlap": {"x": [0.1, 30]}}}, ["align.overlap.x", "both as"]),
        ({"place": {"min_confidence": 1.1}}, ["place.min_confidence = 1.1"]),
        ({"place": {"min_confidence": -0.1}}, ["place.min_confidence = -0.1"]),
        ({"place": {"min_confidence": float("nan")}}, ["place.min_confidence = nan"]),
        ({"voxel_size": {"x": 0}}, ["voxel_size.x = 0"]),
        ({"voxel_size": {"x": -1}}, ["voxel_size.x = -1"]),
        ({"voxel_size": {"z": float("inf")}}, ["voxel_size.z = inf"]),
        ({"voxel_size": {"z": float("nan")}}, ["voxel_size.z = nan"]),
        ({"stitch": {"blending": "linear"}}, ["stitch.blending = 'linear'", "interpolation"]),
        ({"stitch": {"fill": float("nan")}}, ["stitch.fill = nan", "finite"]),
        ({"stitch": {"fill": float("inf")}}, ["stitch.fill = inf", "finite"]),
        ({"stitch": {"fill": None}}, ["stitch.fill = None"]),
        ({"output": {"chunk": 0}}, ["output.chunk = 0", "Chunk"]),
        ({"output": {"chunk": "auto"}}, ["output.chunk = 'auto'"]),
        ({"output": {"chunk": {"x": 64, "y": 64}}}, ["output.chunk = {'x': 64, 'y': 64}"]),
        ({"output": {"shard": 100}}, ["output.shard = 100", "whole chunks", "output.chunk = 64"]),
        ({"output": {"chunk": 10, "shard": {"x": 10, "y": 20, "z": 5}}}, ["output.shard = {"]),
        ({"output": {"levels": 0}}, ["output.levels = 0"]),
        ({"output": {"levels": True}}, ["output.levels = True"]),
        ({"output": {"compression": "lzf"}}, ["output.compression = 'lzf'", "gzip"]),
        ({"output": {"formats": ["zarr"]}}, ["output.formats.0 = 'zarr'"]),
        ({"output": {"formats": ["bdv", "bdv"]}}, ["output.formats"]),
        ({"output": {"keep_old": "no"}}, ["output.keep_old = 'no'"]),
        ({"resources": {"mem_mb": 0}}, ["resources.mem_mb = 0"]),
        ({"dataset": "a b"}, ["dataset = 'a b'"]),
        ({"dataset": "-rf"}, ["dataset = '-rf'"]),
        ({"dataset": "../up"}, ["dataset = '../up'"]),
        ({"dataset": "brain\n"}, ["dataset = 'brain\\n'"]),
        ({"dataset": ""}, ["dataset = ''"]),
        ({"dataset": 5}, ["dataset = 5"]),
        ({"tiles": ""}, ["tiles = ''"]),
        ({"tiles": 5}, ["tiles = 5"]),
        ({"results": "{x}"}, ["results = '{x}'"]),
        ({"results": "a\n"}, ["results = 'a\\n'"]),
    ],
)
def test_what_is_wrong_is_named_with_its_value(value, parts):
    before = copy.deepcopy(value)
    message = refused(value, *parts)
    assert len(message.splitlines()) == 1
    assert message.startswith("configuration: ")
    assert repr(value) == repr(before)


def test_whole_numbers_may_be_written_with_a_point():
    # JSON Schema takes 64.0 for an integer; chunks and levels must be one all the same.
    config = parse_config(
        {
            "align": {"max_shift": {"x": 5.0}, "min_overlap": 4.0, "pairs_per_job": 2.0},
            "output": {"chunk": 32.0, "shard": {"x": 64.0, "y": 64, "z": 64}, "levels": 3.0},
            "resources": {"mem_mb": 500.0},
        }
    )
    numbers = [
        *config.align.max_shift, config.align.min_overlap, config.align.pairs_per_job,
        *config.output.chunk, *config.output.shard, config.output.levels, config.mem_mb,
    ]  # fmt: skip
    assert numbers == [5, 20, 8, 4, 2, 32, 32, 32, 64, 64, 64, 3, 500]
    assert {type(number) for number in numbers} == {int}


def test_partial_mappings_keep_the_other_defaults():
    config = parse_config({"align": {"max_shift": {"z": 3}}, "voxel_size": {"z": 2}})
    assert config.align.max_shift == (20, 20, 3)
    assert config.voxel_size == (1.0, 1.0, 2.0)
    assert parse_config({"output": {"chunk": {"x": 1, "y": 2, "z": 3}}}).output.chunk == (1, 2, 3)
    overlap = {"x": [10, 20], "y": 0.5, "z": 0}
    assert parse_config({"align": {"overlap": overlap}}).align.overlap == {
        "x": (10, 20), "y": 0.5, "z": 0,
    }  # fmt: skip


def test_the_defaults_are_not_shared():
    parse_config({}).raw["align"]["method"] = "changed"
    parse_config({}).raw["output"]["formats"].append("changed")
    assert parse_config({}).raw["align"]["method"] == "auto"
    assert parse_config({}).raw["output"]["formats"] == ["bdv"]


# Files


def test_the_configuration_that_ships_is_valid():
    config = load_config(ROOT / "config" / "config.yaml")
    assert config.tiles == Path("config/tiles.tsv")
    assert config.results == Path("results")


def test_an_empty_file_means_the_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "c.yaml") == parse_config({})


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "there is no such configuration file"),
        (b"a: [1, 2", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        (b"algin: {}", "did you mean 'align'?"),
        (b"- 1", "must be keys with values"),
    ],
)
def test_files_that_are_no_configuration_are_named(tmp_path, content, part):
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert part in str(caught.value)


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(InputError, match="cannot be read as YAML"):
        load_config(tmp_path)


# The sheet's schema


def test_the_sheets_schema_has_every_column_of_the_contract_and_no_other():
    required = ["tile", "channel", "path", "tile_x", "tile_y"]
    optional = ["tile_z", "x", "y", "z", "dataset", "series", "key", "select", "timepoint"]
    spec = schema("tiles")
    assert list(spec["properties"]) == [*required, *optional]
    assert spec["required"] == required
    assert spec["additionalProperties"] is False
    types = {name: column["type"] for name, column in spec["properties"].items()}
    for name in ("tile_x", "tile_y", "tile_z", "timepoint", "series"):
        assert types[name] == "integer"
    for name in "xyz":
        assert types[name] == "number"
    assert spec["properties"]["timepoint"]["default"] == 0
