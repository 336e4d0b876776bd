"""The card of every job: all that decides its outcome, and nothing else.

What a card holds is what its job reads. A key that is added, or has another value, makes a digest
of its own, so the job and all that follow from it run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stitchlib import align, assemble, place, stitch
from stitchlib.cards import Card
from stitchlib.config import Config
from stitchlib.core.boxes import Box, Point
from stitchlib.inputs import Inputs
from stitchlib.layouts import relative_location
from stitchlib.pairs import Pair
from stitchlib.plans import ShardPlan, VolumePlan
from stitchlib.tiles import Dataset, Tile


def align_cards(
    config: Config, dataset: Dataset, blocks: Mapping[str, list[Pair]]
) -> Iterator[tuple[Card, list[Pair]]]:
    """Yield the card of every align job, and its pairs, from the pairs of each block."""
    images = {t.name: {**t.aligned.as_json(), "shape": list(t.shape)} for t in dataset.tiles}
    clip = config.align.clip
    for name, pairs in blocks.items():
        content = {
            "method": config.align.method,
            "measure": config.align.measure,
            "background": config.align.background,
            # Only where there is one: without, the card stays what it was.
            **({"clip": list(clip)} if clip != (None, None) else {}),
            "pairs": [pair.as_json() for pair in pairs],
            "dtype": dataset.dtype,
            "images": {tile: images[tile] for pair in pairs for tile in (pair.pre, pair.post)},
        }
        yield Card.of("align", align.VERSION, name, content), pairs


def place_card(config: Config, dataset: Dataset, inputs: Inputs, tables: Sequence[str]) -> Card:
    """Return the card of the place job, which reads these tables of pairs."""
    content = {
        "min_confidence": config.place.min_confidence,
        **inputs.as_json(),
        "ndim": dataset.ndim,
        "dtype": dataset.dtype,
        # layout.json names the images relative to where it stands.
        "images": relative_location(config.tiles.parent / "any", config.results / dataset.name),
        "tables": tables,
        "tiles": [
            {
                "tile": tile.name,
                "index": list(tile.index),
                "nominal": list(tile.nominal),
                "shape": list(tile.shape),
                "path": tile.aligned.path,
                **tile.aligned.part.as_json(),
            }
            for tile in dataset.tiles
        ],
    }
    return Card.of("place", place.VERSION, "", content)


def stitch_cards(
    config: Config,
    dataset: Dataset,
    plan: VolumePlan,
    placed: Iterable[tuple[Tile, Point]],
) -> Iterator[tuple[Card, ShardPlan]]:
    """Yield card and plan of every stitch job, for the tiles that are drawn and their corners."""
    levels = tuple((v.factor, v.chunk) for v in plan.levels[: plan.shard_levels])
    boxed = [(tile, Box.at(p, tile.shape).relative_to(plan.corner)) for tile, p in placed]
    for channel in dataset.channels:
        tiles = [(tile.images[channel], box) for tile, box in boxed if channel in tile.images]
        boxes = [box for _, box in tiles]
        for index, members in plan.shards(boxes).items():
            shard = ShardPlan(
                plan.shard_box(index, [boxes[i] for i in members]),
                levels,
                tuple((tiles[i][0].as_json(), tiles[i][1]) for i in members),
                dataset.dtype,
                config.stitch.blending,
                config.stitch.fill,
                config.output.compression,
                planes=dataset.ndim == 2,
            )
            name = f"{channel}/x{index[0]}y{index[1]}z{index[2]}"
            yield Card.of("stitch", stitch.VERSION, name, shard.as_json()), shard


def assemble_card(
    config: Config, dataset: Dataset, plan: VolumePlan, shards: Iterable[tuple[Card, ShardPlan]]
) -> Card:
    """Return the card of the assemble job, which reads what these stitch jobs make."""
    members: dict[str, list[dict[str, Any]]] = {channel: [] for channel in dataset.channels}
    for card, shard in shards:
        members[card.name.partition("/")[0]].append(
            {"path": f"{card.stem}.h5", "lower": list(shard.box.lower)}
        )
    content = {
        "channels": list(dataset.channels),
        "dtype": dataset.dtype,
        "corner": list(plan.corner),
        "voxel_size": list(config.voxel_size),
        "levels": [
            {"factor": list(v.factor), "shape": list(v.shape), "chunk": list(v.chunk)}
            for v in plan.levels
        ],
        "shard_levels": plan.shard_levels,
        "fill": config.stitch.fill,
        "compression": config.output.compression,
        "assembly": config.output.assembly,
        "shards": members,
    }
    return Card.of("assemble", assemble.VERSION, "", content)


def dataset_card(config: Config, dataset: Dataset, inputs: Inputs, placing: Card) -> Card:
    """Return the card of the last job: the whole configuration and all tiles, for the provenance.

    ``placing`` is the place job's card.
    """
    content = {
        "dataset": dataset.name,
        "config": config.raw,
        # Content, not path: a changed table alone must run the dataset again.
        "corrections": inputs.corrections.as_json(),
        "place": placing.digest,
        "tiles": [
            {
                "tile": tile.name,
                "index": list(tile.index),
                "images": {c: image.as_json() for c, image in tile.images.items()},
            }
            for tile in dataset.tiles
        ],
        "jobs": [align.VERSION, place.VERSION, stitch.VERSION, assemble.VERSION],
    }
    return Card.of("dataset", 2, "", content)
