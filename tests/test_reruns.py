"""After a change, exactly the jobs that it concerns run, and the volume is that of a fresh run.

Counts are of align, place, stitch and assemble. The acquisition: 3 x 2 tiles of 40 x 40 x 8 voxels,
28 apart, two channels, each pair a job; the volume has 4 x 3 shards a channel, of 32 x 32.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import time

import pytest

from tests.acquisition import ROOT, SHAPE, Setup, changed_shards, different, same

slow = pytest.mark.slow
KNOWN = {"d": ("c0", "c1")}


def settle(setup, expected, *args):
    """Run, count, compare with a fresh run; a second run straight after executes nothing."""
    ran = setup.run(*args)
    assert ran.counts == expected, ran.text
    check(setup)
    assert setup.run(*args).counts == (0, 0, 0, 0)
    return ran


def check(setup, dataset="d"):
    fresh = setup.fresh(dataset)
    assert same(setup.volume(dataset), fresh), different(setup.volume(dataset), fresh)


def add_channel(setup):
    for (dataset, name), tile in setup.tiles.items():
        tile.channels["c2"] = 0
        setup.save(dataset, name, "c2")
    setup.write()


def drop_channel(setup):
    for tile in setup.tiles.values():
        del tile.channels["c1"]
    setup.write()


def touch(setup):
    os.utime(setup.path("d", "x1y0", "c0"))


def set_back(setup):
    setup.change("x1y0")
    os.utime(setup.path("d", "x1y0", "c0"), (10**9, 10**9))


# What changes, and the ideal counts. A tile in the middle of the upper row touches shards 0-2 along
# x and 0-1 along y (6 a channel) and has 3 neighbours; a corner tile has 2.
CHANGES = [
    pytest.param(lambda s: s.change("x1y0"), (3, 1, 6, 1), id="tile-changed"),
    pytest.param(lambda s: s.change("x1y0", "c1"), (0, 0, 6, 1), id="tile-of-another-channel"),
    pytest.param(lambda s: s.move("x1y0", (1, 1, 0)), (3, 1, 12, 1), id="tile-moved"),
    pytest.param(add_channel, (0, 0, 12, 1), id="channel-added"),
    pytest.param(lambda s: s.set(stitch={"blending": "max"}), (0, 0, 24, 1), id="blending"),
    pytest.param(
        lambda s: s.set(stitch={"region": {"x": [10, 70], "y": [-5, 60]}, "fill": 7}),
        (0, 0, 12, 1),
        id="region",
    ),
    # The volume now ends one voxel earlier, at an odd one: two more shards show that.
    pytest.param(lambda s: s.remove("x2y1"), (0, 1, 18, 1), id="tile-removed"),
    pytest.param(lambda s: s.add(3, 0), (1, 1, 10, 1), id="tile-added"),
    pytest.param(
        lambda s: s.set(output={"assembly": "virtual"}), (0, 0, 0, 1), id="assembly-virtual"
    ),
    pytest.param(
        lambda s: s.set(align={"max_shift": {"x": 4, "y": 3, "z": 2}}),
        (7, 1, 0, 0),
        id="align-option-same-result",
    ),
    pytest.param(lambda s: s.set(stitch={"fill": 5}), (0, 0, 24, 1), id="fill", marks=slow),
    pytest.param(
        lambda s: s.set(place={"min_confidence": 0.95}),
        (0, 1, 0, 0),
        id="placement-option-same-result",
        marks=slow,
    ),
    pytest.param(
        lambda s: s.set(output={"compression": "none"}),
        (0, 0, 24, 1),
        id="compression",
        marks=slow,
    ),
    pytest.param(lambda s: s.set(output={"levels": 4}), (0, 0, 0, 1), id="levels", marks=slow),
    pytest.param(lambda s: s.set(voxel_size={"z": 9}), (0, 0, 0, 1), id="voxel-size", marks=slow),
    pytest.param(drop_channel, (0, 0, 0, 1), id="channel-removed", marks=slow),
    pytest.param(
        lambda s: s.move("x2y0", (1, 0, 0)), (2, 1, 14, 1), id="outermost-tile-moved", marks=slow
    ),
    pytest.param(touch, (3, 1, 6, 1), id="tile-touched", marks=slow),
    pytest.param(set_back, (3, 1, 6, 1), id="tile-with-date-set-back", marks=slow),
    pytest.param(lambda s: s.set(reference_channel="c1"), (7, 1, 0, 0), id="reference", marks=slow),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_costs_what_it_touches(done, change, expected):
    before = done.touched()
    change(done)
    settle(done, expected)
    options = done.config.get("stitch") or done.config["output"].get("compression")
    if not options and change is not touch:
        assert expected[2] == changed_shards(before, done.touched())


def delete(pattern):
    def change(setup):
        setup.files(pattern)[0].unlink()

    return change


def edit(pattern):
    def change(setup):
        path = setup.files(pattern)[0]
        path.write_bytes(path.read_bytes().replace(b"0", b"1", 1) + b" ")

    return change


def wipe(pattern):
    def change(setup):
        shutil.rmtree(setup.files(pattern)[0])

    return change


def other_volume(setup):
    """Another dataset's volume, or an older one, was copied over this one."""
    with_other = setup.results() / "d.h5"
    other = setup.copy(setup.folder.parent / "other")
    other.set(stitch={"blending": "min"})
    other.run()
    shutil.copy(other.results() / "d.h5", with_other)


def future(setup):
    for path in setup.results().rglob("*"):
        os.utime(path, (time.time() + 86400,) * 2)


NO_JOB = (0, 0, 0, 0)
LOSSES = [
    pytest.param(delete("pairs/*.tsv"), (1, 1, 0, 0), id="table-deleted"),
    pytest.param(delete("shards/c1/*"), (0, 0, 1, 1), id="shard-deleted"),
    pytest.param(delete("d.h5"), (0, 0, 0, 1), id="volume-deleted"),
    pytest.param(edit("positions.tsv"), (0, 1, 0, 0), id="positions-edited"),
    pytest.param(other_volume, (0, 0, 0, 1), id="volume-replaced", marks=slow),
    pytest.param(
        lambda s: (s.results() / "d.h5").write_text("no"),
        (0, 0, 0, 1),
        id="volume-damaged",
        marks=slow,
    ),
    *(
        pytest.param(how(name), counts, id=f"{name}-{how.__name__}", marks=slow)
        for name, counts in {
            "positions.tsv": (0, 1, 0, 0),
            "pairs.tsv": (0, 1, 0, 0),
            "layout.json": (0, 1, 0, 0),
            "d.xml": (0, 0, 0, 1),
            "provenance.json": NO_JOB,
            "preview.png": NO_JOB,
        }.items()
        for how in (delete, edit)
    ),
    pytest.param(wipe("cards"), NO_JOB, id="cards-deleted", marks=slow),
    pytest.param(wipe("logs"), NO_JOB, id="logs-deleted", marks=slow),
    pytest.param(wipe("pairs"), (7, 1, 0, 0), id="tables-deleted", marks=slow),
    pytest.param(wipe("shards"), (0, 0, 24, 1), id="shards-deleted", marks=slow),
    pytest.param(wipe("records"), (0, 1, 0, 1), id="records-deleted", marks=slow),
    pytest.param(
        lambda s: shutil.rmtree(s.folder / ".snakemake"),
        NO_JOB,
        id="snakemake-deleted",
        marks=slow,
    ),
    pytest.param(future, NO_JOB, id="results-of-the-future", marks=slow),
]


@pytest.mark.parametrize(("change", "expected"), LOSSES)
def test_what_is_lost_or_edited_is_made_again(done, change, expected):
    names = ["positions.tsv", "pairs.tsv", "layout.json", "provenance.json", "preview.png"]
    before = {name: (done.results() / name).read_bytes() for name in names}
    change(done)
    settle(done, expected)
    assert {name: (done.results() / name).read_bytes() for name in names} == before


# Snakemake's memory is no help


def forget(setup):
    shutil.rmtree(setup.folder / ".snakemake")
    return []


AMNESIA = [
    pytest.param(forget, id="snakemake-deleted"),
    pytest.param(lambda s: shutil.rmtree(s.results() / "cards") or [], id="cards", marks=slow),
    pytest.param(lambda s: ["--rerun-triggers", "mtime"], id="mtime", marks=slow),
    pytest.param(
        lambda s: ["--rerun-triggers", "code", "input", "mtime", "params", "software-env"],
        id="all-triggers",
        marks=slow,
    ),
    pytest.param(lambda s: ["--workflow-profile", "none"], id="no-profile", marks=slow),
    pytest.param(lambda s: s.run("-n") and s.run("-n") and [], id="dry-runs-before", marks=slow),
]


@pytest.mark.parametrize("prepare", AMNESIA)
def test_a_change_is_seen_without_snakemakes_memory(done, prepare):
    done.change("x1y0")
    args = prepare(done)
    settle(done, (3, 1, 6, 1), *args)


@slow
def test_touch_makes_nothing_good(done):
    done.change("x1y0")
    done.start("--touch").communicate()
    settle(done, (3, 1, 6, 1))


@slow
def test_a_dry_run_changes_no_result(done):
    def state():
        files = [p for p in done.results().rglob("*") if p.is_file() and "cards" not in p.parts]
        return {p: p.stat().st_mtime_ns for p in files}

    before = state()
    done.set(stitch={"blending": "max"})
    text = done.run("-n").text
    assert "stitch" in text
    assert state() == before


def test_a_record_that_is_older_than_what_it_stands_for_stands(done):
    (record,) = done.files("records/dataset.*")
    os.utime(record, (10**9, 10**9))
    shutil.rmtree(done.folder / ".snakemake")  # where Snakemake keeps checksums
    assert "Nothing to be done" in done.run().text


# Changed and changed back


def test_results_that_were_kept_are_used_again(done):
    done.set(output={"keep_old": True})
    settle(done, NO_JOB)
    done.set(stitch={"blending": "max"})
    settle(done, (0, 0, 24, 1))
    assert len(done.files("shards/*/*.h5")) == 48
    done.set(stitch={"blending": "interpolation"})
    settle(done, (0, 0, 0, 1))


@slow
def test_what_nothing_names_is_removed_after_a_run(done):
    def stems():
        return {p.name for p in done.results().rglob("*.*") if p.is_file()}

    before = stems()
    (done.results() / "shards" / "c1" / "mine.txt").write_text("keep")
    done.set(stitch={"blending": "max"})
    settle(done, (0, 0, 24, 1))
    assert len(done.files("shards/*/*.h5")) == 24
    done.set(stitch={"blending": "interpolation"})
    settle(done, (0, 0, 24, 1))
    assert stems() - before == {"mine.txt"}
    assert {n for n in before - stems() if "dataset" not in n} <= {
        n for n in before if n.count(".") < 3
    }


@slow
def test_a_partial_target_removes_nothing(done):
    done.set(stitch={"blending": "max"})
    done.run("-n")  # writes no card of a shard; ask for the placement alone
    record = done.files("records/place.*")[0].relative_to(done.folder)
    assert done.run(str(record)).counts == NO_JOB
    assert len(done.files("shards/*/*.h5")) == 24
    settle(done, (0, 0, 24, 1))


# Failures


@slow
def test_a_failed_assembly_leaves_the_old_volume_and_costs_itself_alone(done, tmp_path):
    before = done.volume()
    broken = clone(tmp_path / "clone")
    script = broken / "workflow/scripts/assemble.py"
    script.write_text("raise SystemExit('no')\n")
    done.change("x1y0")
    done.code = broken
    assert done.run(fails=True).counts == (3, 1, 6, 1)
    assert same(done.volume(), before)
    done.code = ROOT
    settle(done, (0, 0, 0, 1))


@slow
def test_a_failed_shard_costs_itself_alone(done, tmp_path):
    broken = clone(tmp_path / "clone")
    script = broken / "workflow/scripts/stitch.py"
    script.write_text(
        script.read_text().replace(
            "run_job(stitch)", "'x1y1z0' in sys.argv[1] and sys.exit(3)\nrun_job(stitch)"
        )
    )
    done.set(stitch={"blending": "max"})
    done.code = broken
    assert done.run(fails=True).counts == (0, 0, 24, 0)
    assert len(done.files("shards/*/*.h5")) == 46  # the old ones, and the new ones but two
    done.code = ROOT
    settle(done, (0, 0, 2, 1))


@slow
def test_a_killed_run_is_taken_up_again(done):
    done.set(stitch={"blending": "max"})
    process = done.start()
    while len(done.files("shards/*/*.h5")) < 28:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    done.run("--unlock")
    made = len(done.files("shards/*/*.h5")) - 24
    counts = done.run().counts
    assert counts[:2] == (0, 0)
    assert counts[3] == 1
    assert counts[2] <= 24 - made + 4
    settle(done, NO_JOB)


def test_a_tile_that_vanished_is_named(done):
    before = done.volume()
    done.path("d", "x1y0", "c1").unlink()
    text = done.run(fails=True).text
    assert "tiles/d-x1y0-c1.npy" in text
    assert "Traceback" not in text
    assert same(done.volume(), before)


@slow
def test_a_tile_replaced_while_the_run_goes_on_is_refused(done, tmp_path):
    late = clone(tmp_path / "clone")
    script = late / "workflow/scripts/stitch.py"
    path = done.path("d", "x1y0", "c1")
    script.write_text(f"import os; os.utime({str(path)!r}, (5, 5))\n" + script.read_text())
    done.change("x1y0", "c1")
    done.code = late
    ran = done.run(fails=True)
    assert "was replaced since the run was planned" in ran.text
    done.code = ROOT
    settle(done, (0, 0, 6, 1))


@slow
def test_a_region_without_tiles_is_refused(done):
    done.set(stitch={"region": {"x": [500, 600]}})
    text = done.run(fails=True).text
    assert "no tile of dataset 'd' lies there" in text


# Other places


def clone(folder):
    for name in ("Snakefile", "environment.yml", "workflow", "stitchlib", "profiles"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


@slow
def test_a_fresh_clone_finds_everything_done(done, tmp_path):
    done.code = clone(tmp_path / "clone")
    settle(done, NO_JOB)


VERSIONS = [
    ("align", (7, 1, 0, 0)),
    ("place", (0, 1, 0, 0)),
    ("stitch", (0, 0, 24, 1)),
    ("assemble", (0, 0, 0, 1)),
]


@slow
@pytest.mark.parametrize(("stage", "expected"), VERSIONS)
def test_a_new_version_of_a_stage_reruns_it_and_a_docstring_does_not(
    done, tmp_path, stage, expected
):
    done.code = clone(tmp_path / "clone")
    module = done.code / "stitchlib" / f"{stage}.py"
    text = module.read_text()
    module.write_text(text.replace('"""', '"""Indeed. ', 1))
    assert done.run().counts == NO_JOB
    lines = [
        f"VERSION = {int(line.split()[2]) + 1}" if line.startswith("VERSION = ") else line
        for line in text.splitlines()
    ]
    module.write_text("\n".join(lines))
    settle(done, expected)


@slow
@pytest.mark.parametrize("how", ["moved", "copied", "deeper"])
def test_results_may_be_moved_or_copied(done, how):
    target = "far/away/results" if how == "deeper" else "elsewhere"
    (done.folder / target).parent.mkdir(parents=True, exist_ok=True)
    if how == "copied":
        shutil.copytree(done.folder / "results", done.folder / target)
    else:
        shutil.move(done.folder / "results", done.folder / target)
    done.set(results=target)
    # layout.json names the images relative to where it stands.
    settle(done, (0, 1, 0, 0) if how == "deeper" else NO_JOB)


@slow
def test_a_moved_folder_is_still_done_and_a_virtual_volume_still_whole(done, tmp_path):
    done.set(output={"assembly": "virtual"}, stitch={"fill": 3})
    settle(done, (0, 0, 24, 1))
    shutil.move(done.folder, tmp_path / "there")
    done.folder = tmp_path / "there"
    check(done)
    settle(done, NO_JOB)


@slow
def test_it_does_not_matter_from_where_and_how_the_sheet_is_named(done, tmp_path):
    absolute = {"tiles": str(done.folder / "data/tiles.tsv")}
    absolute["results"] = str(done.folder / "results")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done.set(**absolute)
    assert done.run(cwd=elsewhere).counts == NO_JOB
    assert done.run().counts == NO_JOB
    link = tmp_path / "link"
    link.symlink_to(done.folder)
    assert done.run(cwd=link).counts == NO_JOB
    done.set(tiles=str(link / "data/tiles.tsv"), results=str(link / "results"))
    assert done.run(cwd=elsewhere).counts == NO_JOB
    done.set(tiles="../link/data/tiles.tsv", results="../work/results")
    assert done.run(cwd=elsewhere).counts == NO_JOB
    done.change("x1y0", "c1")
    assert done.run(cwd=elsewhere).counts == (0, 0, 6, 1)
    done.set(tiles="data/tiles.tsv", results="results")
    settle(done, NO_JOB)


@slow
def test_it_works_as_a_module_of_another_workflow(done):
    (done.folder / "outer.smk").write_text(
        "module stitching:\n"
        f"    snakefile: {str(ROOT / 'Snakefile')!r}\n"
        '    config: config["stitching"]\n\n'
        "use rule * from stitching as stitching_*\n\n"
        "rule done:\n"
        "    default_target: True\n"
        "    input: rules.stitching_all.input\n"
        '    output: "done.txt"\n'
        '    shell: "touch {output}"\n\n'
        "onsuccess:\n    stitching.onsuccess()\n"
    )

    def run():
        inner = dict(done.config)
        config = done.folder / "outer.yaml"
        import yaml

        config.write_text(yaml.safe_dump({"stitching": inner}))
        command = ["-s", "outer.smk", "--configfile", "outer.yaml"]
        return done.run(*command)

    assert run().counts == NO_JOB
    done.change("x1y0")
    assert run().counts == (3, 1, 6, 1)
    assert run().counts == NO_JOB
    check(done)
    assert len(done.files("shards/*/*.h5")) == 24
    settle(done, NO_JOB)


# Several


@slow
def test_one_dataset_of_many_runs_alone(tmp_path):
    setup = Setup.make(tmp_path / "work", grid=(2, 1), datasets=("a", "b", "c"))
    first = setup.run().counts
    assert first[:2] == (3, 3)
    assert first[3] == 3
    setup.change("x1y0", dataset="b")
    before = setup.touched("b")
    ran = setup.run()
    assert ran.counts[:2] == (1, 1)
    assert ran.counts[2] == sum(
        "c0" in key and any("x1y0" in e for e in shown) for key, shown in before.items()
    )
    assert ran.counts[3] == 1
    for name in "abc":
        check(setup, name)
    assert setup.run().counts == NO_JOB


@slow
def test_one_failed_dataset_does_not_stop_the_others(tmp_path):
    setup = Setup.make(tmp_path / "work", grid=(2, 1), datasets=("a", "b"))
    path = setup.path("a", "x1y0", "c0")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"'fortran_order': False", b"'fortran_order': Folse"))
    setup.run(fails=True)  # refused while planned
    path.write_bytes(raw)
    broken = clone(tmp_path / "clone")
    script = broken / "workflow/scripts/align.py"
    script.write_text("import sys\n'/a/' in sys.argv[1] and sys.exit(3)\n" + script.read_text())
    setup.code = broken
    setup.run(fails=True)
    check(setup, "b")
    assert not (setup.results("a") / "a.h5").exists()
    setup.code = ROOT
    assert setup.run().counts[3] == 1
    check(setup, "a")


@slow
def test_two_configurations_in_turn_and_beside_each_other(done, tmp_path):
    other = Setup(done.folder, done.code)
    other.tiles = done.tiles
    other.config = {**done.config, "stitch": {"blending": "max"}}
    absolute = {
        "tiles": str(done.folder / "data/tiles.tsv"),
        "results": str(done.folder / "results"),
    }
    done.set(**absolute)
    other.config.update(absolute)

    def use(setup):
        setup.write()
        name = "a.yaml" if setup is done else "b.yaml"
        shutil.copy(done.folder / "config.yaml", done.folder / name)
        folder = tmp_path / name[0]
        folder.mkdir(exist_ok=True)
        return ["--configfile", str(done.folder / name)], folder

    for setup in (other, done, other, done):
        args, cwd = use(setup)
        ran = setup.run(*args, cwd=cwd)
        assert ran.counts == (0, 0, 24, 1)
        check(setup)
    started = []
    done.change("x1y0")
    for setup in (done, other):
        args, cwd = use(setup)
        started.append(setup.start(*args, cwd=cwd))
    for process in started:
        text = process.communicate(timeout=300)[0]
        assert process.returncode == 0, text
    for setup in (done, other):
        args, cwd = use(setup)
        ran = setup.run(*args, cwd=cwd)
        assert ran.counts[:2] == (0, 0)
        check(setup)
        assert setup.run(*args, cwd=cwd).counts == NO_JOB


def test_the_counts_are_snakemakes_own(done):
    done.change("x1y0")
    text = done.run().text
    finished = [
        line.split("Rule: ")[1].rstrip(")")
        for line in text.splitlines()
        if line.startswith("Finished jobid")
    ]
    counted = tuple(finished.count(rule) for rule in ("align", "place", "stitch", "assemble"))
    assert counted == (3, 1, 6, 1)
    assert SHAPE == (40, 40, 8)


MADE = {
    "align": "pairs/*.tsv",
    "place": "records/place.*",
    "stitch": "shards/*/*.h5",
    "preview": "records/preview.*",
    "assemble": "records/assemble.*",
    "dataset": "records/dataset.*",
}


@slow
@pytest.mark.parametrize("last", MADE)
def test_a_placement_beside_a_job_that_is_just_ending_is_gone_on_with(tmp_path, last):
    """Snakemake sees the placement while what the other dataset's last job makes is there."""
    setup = Setup.make(tmp_path / "work", (2, 1), ("c0",), ("a", "b"))
    setup.set(output={"shard": 128})
    setup.code = clone(tmp_path / "clone")

    def put_before(stage: str, dataset: str, lines: str) -> None:
        script = setup.code / "workflow/scripts" / f"{stage}.py"
        head = f"import os, pathlib, sys, time\nif '/{dataset}/' in sys.argv[1]:\n"
        script.write_text(head + textwrap.indent(lines, "    ") + script.read_text())

    there = "while not list(pathlib.Path('results/{}').glob('{}')): time.sleep(0.1)\n"
    put_before("place", "a", there.format("b", MADE[last]))
    linger = (
        "if child := os.fork():\n"
        "    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        f"    {there.format('a', MADE['place'])}"
        "    time.sleep(3)\n"
        "    os._exit(code)\n"
    )
    put_before(last, "b", linger)
    assert setup.run().counts == (2, 2, 2, 2)
    for name in "ab":
        check(setup, name)
    assert setup.run().counts == NO_JOB
