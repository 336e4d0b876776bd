"""corrections.tsv, given positions and preset links: read, checked, part of the card."""

from __future__ import annotations

import json

import pytest
import yaml

from stitchlib.config import parse_config
from stitchlib.corrections import Corrections
from stitchlib.errors import InputError
from stitchlib.inputs import links_from_json, links_to_json
from stitchlib.io.files import read_table, write_text
from stitchlib.pairs import Link, pairs_text
from stitchlib.phantom import Phantom, write_phantom
from stitchlib.place import place_dataset, write_placement
from stitchlib.positions_report import dataset_report
from stitchlib.runs import Run

HEADER = "kind\ttile\tx\ty\tz\tpre\tpost\tdisplacement_x\tdisplacement_y\tdisplacement_z\n"
PHANTOM = Phantom(grid=(3, 2), tile_shape=(32, 30), overlap=0.4, jitter=2)


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    return write_phantom(PHANTOM, tmp_path_factory.mktemp("phantom"))


@pytest.fixture
def config(sheet, tmp_path):
    value = yaml.safe_load(sheet.config.read_text())
    value["results"] = str(tmp_path / "results")
    return value


def row(kind, tile="", corner=("", "", ""), pair=("", ""), displacement=("", "", "")):
    return "\t".join(map(str, (kind, tile, *corner, *pair, *displacement))) + "\n"


def with_corrections(config, folder, *rows, header=HEADER):
    path = folder / "corrections.tsv"
    path.write_text(header + "".join(rows))
    config.setdefault("place", {})["corrections"] = str(path)
    return config


def dataset(config):
    return Run.of(config).datasets["phantom"]


def link(pre, post, displacement, **more):
    values = {
        "axis": 0, "shift": (0.0,) * 3, "quality": 0.9, "measure": "ncc", "error": (0.1,) * 3,
        "confidence": 1.0, "status": "ok", **more,
    }  # fmt: skip
    return Link(pre, post, displacement=displacement, **values)


def test_each_kind_is_read(config, tmp_path):
    run = dataset(
        with_corrections(
            config,
            tmp_path,
            row("pin", "x0_y0", (5, 6.5, "")),
            row("link", pair=("x1_y1", "x0_y1"), displacement=(-20, 1, 0)),
            row("forbid", pair=("x1_y0", "x2_y0")),
            row("exclude", "x2_y1"),
        )
    )
    found = run.inputs.corrections
    assert found.pins == {"x0_y0": (5.0, 6.5, 0.0)}
    assert [(k.pre, k.post, k.axis, k.displacement) for k in found.links] == [
        ("x1_y1", "x0_y1", 0, (-20.0, 1.0, 0.0))
    ]
    assert ("x2_y0", "x1_y0") in found.forbidden
    assert found.excluded == {"x2_y1"}
    assert Corrections.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert "x2_y1" not in [tile.name for tile in run.drawn]


BAD = {
    "kind = 'pni'": [row("pni", "x0_y0")],
    "x is empty": [row("pin", "x0_y0", ("", 1, 2))],
    "must be a number of voxels": [row("pin", "x0_y0", ("left", 1, ""))],
    "the tiles have no z": [row("pin", "x0_y0", (1, 1, 4))],
    "names tile 'x9_y9'": [row("exclude", "x9_y9")],
    "pre = 'x0_y0' means nothing in a pin": [row("pin", "x0_y0", (1, 1, ""), ("x0_y0", ""))],
    "name two tiles": [row("forbid", pair=("x0_y0", "x0_y0"))],
    "pin x0_y0 contradicts or repeats pin x0_y0 in line 2": [
        row("pin", "x0_y0", (1, 1, "")),
        row("pin", "x0_y0", (2, 1, "")),
    ],
    "forbid x1_y0 – x0_y0 contradicts or repeats link": [
        row("link", pair=("x0_y0", "x1_y0"), displacement=(20, 0, "")),
        row("forbid", pair=("x1_y0", "x0_y0")),
    ],
    "pin x0_y0 contradicts or repeats exclude": [
        row("exclude", "x0_y0"),
        row("pin", "x0_y0", (2, 1, "")),
    ],
    "exclude x0_y0 contradicts or repeats link": [
        row("link", pair=("x0_y0", "x1_y0"), displacement=(20, 0, "")),
        row("exclude", "x0_y0"),
    ],
    "every tile": [row("exclude", name) for name in PHANTOM.names],
    "contradicts the other links and pins by": [
        row("pin", "x0_y0", (0, 0, "")),
        row("pin", "x1_y0", (20, 0, "")),
        row("link", pair=("x0_y0", "x1_y0"), displacement=(25, 0, "")),
    ],
}


@pytest.mark.parametrize("message", BAD)
def test_bad_corrections_are_one_clear_error(config, tmp_path, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        dataset(with_corrections(config, tmp_path, *BAD[message]))
    assert "corrections.tsv, line " in str(caught.value)


def test_unknown_columns_and_missing_files_are_named(config, tmp_path):
    with pytest.raises(InputError, match="unknown column 'tille'"):
        dataset(with_corrections(config, tmp_path, header="kind\ttille\n"))
    config["place"]["corrections"] = str(tmp_path / "none.tsv")
    with pytest.raises(InputError, match=r"none\.tsv: there is no such file"):
        dataset(config)


def test_content_not_path_is_part_of_the_card(config, tmp_path):
    plain = dataset(config)
    text = row("pin", "x0_y0", (5, 6, ""))
    first = dataset(with_corrections(config, tmp_path, text)).place_card.digest
    (tmp_path / "other").mkdir()
    again = dataset(with_corrections(config, tmp_path / "other", text + "\n")).place_card.digest
    moved = dataset(with_corrections(config, tmp_path, row("pin", "x0_y0", (5, 7, ""))))
    assert plain.place_card.digest != first == again != moved.place_card.digest
    assert [c.digest for c, _ in plain.blocks] == [c.digest for c, _ in moved.blocks]


def test_a_row_may_be_for_one_dataset_only(config, tmp_path):
    header = "kind\ttile\tdataset\n"
    found = dataset(with_corrections(config, tmp_path, "exclude\tx0_y0\tphantom\n", header=header))
    assert found.inputs.corrections.excluded == {"x0_y0"}
    with pytest.raises(InputError, match="no dataset 'phantm'"):
        dataset(with_corrections(config, tmp_path, "exclude\tx0_y0\tphantm\n", header=header))


def write_given(config, tmp_path, text):
    path = tmp_path / "given.tsv"
    path.write_text(text)
    config["place"] = {"method": "given", "positions": str(path)}
    return config


def placed(run, tmp_path):
    card = run.place_card.content
    record = tmp_path / "out" / "records" / "place.json"
    found = place_dataset(card, tmp_path)
    write_placement(found, card, record, tmp_path)
    return found, record


def test_given_positions(config, tmp_path):
    text = "tile\tx\ty\n" + "".join(f"{n}\t{i * 20.5}\t-{i}\n" for i, n in enumerate(PHANTOM.names))
    run = dataset(write_given(config, tmp_path, text))
    assert run.blocks == []
    found, record = placed(run, tmp_path)
    assert [p.corner for p in found.positions][:3] == [(0, 0, 0), (20, -1, 0), (41, -2, 0)]
    assert {p.status for p in found.positions} == {"given"}
    assert read_table(record.parent.parent / "pairs.tsv")[1] == []
    # What one run wrote, the next one takes.
    write_text(tmp_path / "given.tsv", (record.parent.parent / "positions.tsv").read_text())
    again, _ = placed(dataset(config), tmp_path)
    assert [(p.corner, p.fit) for p in again.positions] == [
        (p.corner, p.fit) for p in found.positions
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tile\tx\ty\nx0_y0\t1\t1\n", r"no position for tile 'x0_y1' .*5 missing"),
        ("tile\tx\ty\nx0_y0\t1\tq\n", "line 2: y = 'q'"),
        ("tile\tx\nx0_y0\t1\n", "column 'y' is missing"),
        ("tile\tx\ty\nx0_y0\t1\t1\nx0_y0\t1\t1\n", "line 3: tile 'x0_y0' stands twice"),
    ],
)
def test_bad_given_positions(config, tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        dataset(write_given(config, tmp_path, text))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"place": {"method": "given"}}, "place.positions is missing"),
        ({"place": {"positions": "p.tsv"}}, "has no effect"),
        (
            {"place": {"method": "given", "positions": "p"}, "align": {"preset": "q"}},
            "align.preset",
        ),
    ],
)
def test_options_that_contradict_each_other(value, message):
    with pytest.raises(InputError, match=message):
        parse_config(value)


def test_preset_links_replace_aligning(config, tmp_path):
    truth = PHANTOM.truth
    names = [("x0_y0", "x1_y0"), ("x1_y0", "x2_y0"), ("x0_y0", "x0_y1"), ("x1_y0", "x1_y1")]
    links = [
        link(a, b, tuple(float(q - p) for p, q in zip((*truth[a], 0), (*truth[b], 0), strict=True)),
             axis=int(a[1] == b[1]), status="rejected", reason="an earlier verdict")
        for a, b in names
    ]  # fmt: skip
    assert links_from_json(links_to_json(links)) == links
    path = tmp_path / "pairs.tsv"
    path.write_text(pairs_text(links))
    config["align"]["preset"] = str(path)
    run = dataset(config)
    assert run.blocks == []
    found, record = placed(run, tmp_path)
    assert [p.n_links for p in found.positions] == [2, 1, 3, 1, 1, 0]
    assert {k.status for k in found.links} == {"ok"}
    for p in found.positions[:5]:
        off = [a - b for a, b in zip(p.corner, (*truth[p.tile], 0), strict=True)]
        assert off == [-v for v in (*truth["x0_y0"], 0)]
    lines = dataset_report(record.parent.parent)
    assert any("without any trusted link" in line and "x2_y1" in line for line in lines)
    path.write_text(pairs_text([link("x0_y0", "nope", (1.0, 2.0, 0.0))]))
    with pytest.raises(InputError, match=r"pairs.tsv, line 2: there is no tile 'nope'"):
        dataset(config)
    path.write_text(pairs_text([link("x0_y0", "x1_y0", (1.0, 2.0, 0.0), confidence=3)]))
    with pytest.raises(InputError, match="confidence = 3"):
        dataset(config)
