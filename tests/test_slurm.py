"""The workflow on a real SLURM cluster, through the profile that people use."""

from __future__ import annotations

from pathlib import Path

import pytest

from stitchlib.phantom import Phantom, write_phantom
from tests import slurm
from tests.acquisition import different, read_volume, same
from tests.workflow import PROJECT, run

PHANTOM = Phantom(grid=(2, 2), tile_shape=(40, 36, 8), overlap=(12, 12), jitter=(2, 2, 1), seed=3)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    problem = slurm.why_not()
    if problem:
        pytest.skip(problem)
    made = slurm.Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        made.start()
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, made.environment[name])
        yield made
    finally:
        made.stop()


@pytest.mark.slow
def test_volume_made_on_slurm_is_that_of_a_local_run(
    cluster: slurm.Cluster, tmp_path: Path
) -> None:
    files = write_phantom(PHANTOM, tmp_path / "data")
    for name in ("slurm", "local"):
        (tmp_path / name).mkdir()
    profile = ("--profile", str(PROJECT / "profiles" / "slurm"))
    soon = (
        "--slurm-init-seconds-before-status-checks",
        "2",
        "--seconds-between-status-checks",
        "2",
    )
    outcome = run(tmp_path / "slurm", *profile, *soon, configfile=str(files.config))
    local = run(tmp_path / "local", configfile=str(files.config))
    assert outcome.jobs == local.jobs
    accounted = cluster.command("sacct", "-X", "-n", "-P", "-o", "state").split()
    assert accounted == ["COMPLETED"] * outcome.jobs.total()
    volumes = [read_volume(tmp_path / n / "results/phantom/phantom.h5") for n in ("slurm", "local")]
    assert same(*volumes), different(*volumes)
