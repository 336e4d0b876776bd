"""What differs between two cards of a job, in a person's words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stitchlib.io.parts import Part

Content = Mapping[str, Any]

_LABELS = {
    "measure": "align.measure",
    "min_confidence": "place.min_confidence",
    "blending": "stitch.blending",
    "fill": "stitch.fill",
    "compression": "output.compression",
    "assembly": "output.assembly",
    "voxel_size": "voxel_size",
    "dtype": "type of the voxels",
    "images": "where the images are, seen from the results",
    "corner": "least corner of the volume",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a card does not know of itself."""

    move: tuple[int, ...] = (0, 0, 0)
    """How far the volume's least corner moved, voxels; positions in cards count from there."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Tile and channel of images, by their files' names and what part of these they are."""

    def name(self, image: str) -> str:
        """Return what a person calls an image."""
        return self.names.get(image, image)


def describe(old: Content, new: Content, context: Context) -> list[str]:
    """Tell why ``new`` is another card than ``old``, both of one job, most telling things first.

    Parameters
    ----------
    old, new : mapping
        Contents of the cards.
    context : Context
        What is to be known besides.
    """
    found: list[str] = []
    if old["version"] != new["version"]:
        found.append(
            f"a new algorithm of {new['stage']} (version {old['version']} → {new['version']})"
        )
    for key in sorted({*old, *new} - {"version", "stage"}):
        if old.get(key) == new.get(key):
            continue
        special = _SPECIAL.get((str(new["stage"]), key))
        if special is not None and key in old and key in new:
            found += special(old[key], new[key], context)
        else:
            label = _LABELS.get(key, key)
            found.append(f"{label}: {_short(old.get(key))} → {_short(new.get(key))}")
    return list(dict.fromkeys(found))


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        return f"({', '.join(f'{v:g}' for v in value)})"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def file_change(name: str, old: Content, new: Content) -> str:
    """Tell what changed of a tile's file, or '' where nothing did."""
    if _image(old) != _image(new):
        return f"{name}: another file ({_image(old)} → {_image(new)})"
    if all(old.get(key) == new.get(key) for key in ("size", "mtime_ns", "planes")):
        return ""
    text = f"{name}: file changed ({_date(old['mtime_ns'])} → {_date(new['mtime_ns'])}"
    if old["size"] != new["size"]:
        text += f", {old['size']} → {new['size']} bytes"
    return text + ")"


def _image(content: Content) -> str:
    return Part.from_json(content).of(content["path"])


def _date(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f".{rest // 10**6:03d}"


def _point(values: Sequence[int]) -> str:
    return f"({', '.join(str(v) for v in values)})"


def _difference(new: Sequence[int], old: Sequence[int]) -> list[int]:
    return [a - b for a, b in zip(new, old, strict=True)]


def _align_images(
    old: Mapping[str, Content], new: Mapping[str, Content], _: Context
) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            yield f"tile {name}: {'new' if name in new else 'removed'}"
        elif text := file_change(f"tile {name}", old[name], new[name]):
            yield text
        elif old[name] != new[name]:
            yield f"tile {name}: its shape changed"


def _pairs(old: Sequence[Content], new: Sequence[Content], _: Context) -> Iterator[str]:
    before, after = ({(p["pre"], p["post"]): p for p in pairs} for pairs in (old, new))
    for pair in sorted({*before, *after}):
        name = " – ".join(pair)
        if pair not in before or pair not in after:
            yield f"pair {name}: {'new' if pair in after else 'removed'}"
        elif before[pair] != after[pair]:
            changed = [k for k in after[pair] if before[pair].get(k) != after[pair][k]]
            what = {"nominal": "nominal position", "min_overlap": "align.min_overlap"}
            words = dict.fromkeys(what.get(key, "search range") for key in changed)
            yield f"another {' and '.join(words)} (align.overlap, align.max_shift or the sheet)"


def _placed_tiles(old: Sequence[Content], new: Sequence[Content], _: Context) -> Iterator[str]:
    before, after = ({t["tile"]: t for t in tiles} for tiles in (old, new))
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            yield f"tile {name}: {'new' if name in after else 'removed'}"
        elif before[name] != after[name]:
            keys = [key for key in after[name] if before[name].get(key) != after[name][key]]
            yield f"tile {name}: another {', '.join(keys)} in the sheet"
    if list(before) != list(after) and {*before} == {*after}:
        yield "tiles stand in another order in the sheet"


def _tables(old: Sequence[str], new: Sequence[str], _: Context) -> Iterator[str]:
    more, fewer = len({*new} - {*old}), len({*old} - {*new})
    if more or fewer:
        yield f"{more} pair tables are new" if more else f"{fewer} pair tables are gone"


def _fused_tiles(old: Sequence[Content], new: Sequence[Content], context: Context) -> Iterator[str]:
    before, after = ({_image(t): t for t in tiles} for tiles in (old, new))
    for image in sorted({*before, *after}):
        name = context.name(image)
        if image not in before:
            yield f"{name}: now touches it"
        elif image not in after:
            yield f"{name}: touches it no more"
        else:
            if text := file_change(name, before[image], after[image]):
                yield text
            relative = _difference(after[image]["lower"], before[image]["lower"])
            absolute = [r + m for r, m in zip(relative, context.move, strict=True)]
            if any(absolute):
                yield f"{name}: moved by {_point(absolute)}"
    if any(context.move):
        yield f"the volume's least corner moved by {_point(context.move)}, so all of it does"


def _shard_box(old: Any, new: Any, _: Context) -> Iterator[str]:
    yield f"it ends elsewhere ({_point(old[1])} → {_point(new[1])})"


def _levels(old: Sequence[Content], new: Sequence[Content], _: Context) -> Iterator[str]:
    if len(old) != len(new):
        yield f"levels of the pyramid: {len(old)} → {len(new)}"
    for level, (a, b) in enumerate(zip(old, new, strict=False)):
        for key in ("chunk", "factor", "shape"):
            if a.get(key) != b.get(key) and (level == 0 or key == "factor"):
                name = "extent" if key == "shape" else key
                yield f"{name}: {_point(a[key])} → {_point(b[key])}"


def _assembled(
    old: Mapping[str, Sequence[Content]], new: Mapping[str, Sequence[Content]], _: Context
) -> Iterator[str]:
    before, after = ({s["path"] for group in g.values() for s in group} for g in (old, new))
    if after - before:
        yield f"{len(after - before)} shards are new"
    elif before - after:
        yield f"{len(before - after)} shards are gone"


def _channels(old: Sequence[str], new: Sequence[str], _: Context) -> Iterator[str]:
    for name in [n for n in new if n not in old]:
        yield f"channel {name}: new"
    for name in [n for n in old if n not in new]:
        yield f"channel {name}: removed"
    if {*old} == {*new}:
        yield f"order of the channels: {', '.join(old)} → {', '.join(new)}"


_SPECIAL: dict[tuple[str, str], Any] = {
    ("align", "images"): _align_images,
    ("align", "pairs"): _pairs,
    ("place", "tiles"): _placed_tiles,
    ("place", "tables"): _tables,
    ("stitch", "tiles"): _fused_tiles,
    ("stitch", "box"): _shard_box,
    ("stitch", "levels"): _levels,
    ("assemble", "levels"): _levels,
    ("assemble", "shards"): _assembled,
    ("assemble", "channels"): _channels,
}
