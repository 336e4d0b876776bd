"""The workflow as a module that Snakemake fetches from a repository.

Nothing is asked of a network: Snakemake keeps a bare clone of a repository of GitHub in its cache,
and one is put there.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acquisition import ROOT, Setup, different, same

REPOSITORY = "stitchlib/stitchlib"
OUTER = """\
module stitching:
    snakefile: github("{repository}", path="workflow/Snakefile", tag="{tag}")
    config: config

use rule * from stitching

onsuccess:
    stitching.onsuccess()
"""
"""As `snakedeploy` writes it, but for what `onsuccess` does."""


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the rules, in which there is no library beside them."""
    if not shutil.which("git"):
        pytest.skip("there is no git")
    folder = tmp_path_factory.mktemp("repository") / "stitchlib"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "workflow", folder / "workflow", ignore=ignored)
    (folder / "stitchlib").mkdir()
    for name in ("Snakefile", "environment.yml", "stitchlib/_version.py"):
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    commit(folder, "v1")
    version = folder / "stitchlib" / "_version.py"
    version.write_text('__version__ = "99.0"\n')
    commit(folder, "v99")
    return folder


def commit(folder: Path, tag: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", tag)
    git(folder, "tag", tag)


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Setup:
    """A folder with tiles, and a cache in which the repository was cloned before."""
    cache = tmp_path / "cache"
    clone = cache / "snakemake/snakemake/source-cache/snakemake-git-cache/github.com" / REPOSITORY
    clone.parent.mkdir(parents=True)
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(clone))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return Setup.make(tmp_path / "work", (2, 1), ("c0",))


def use(setup: Setup, tag: str) -> None:
    setup.code = setup.folder / "workflow"
    setup.code.mkdir()
    (setup.code / "Snakefile").write_text(OUTER.format(repository=REPOSITORY, tag=tag))


@pytest.mark.slow
def test_a_module_from_a_repository_makes_the_volume_of_a_clone(
    setup: Setup, tmp_path: Path
) -> None:
    clone = setup.copy(tmp_path / "clone")
    first = clone.run().counts
    use(setup, "v1")
    assert setup.run().counts == first == (1, 1, 6, 1)
    assert same(setup.volume(), clone.volume()), different(setup.volume(), clone.volume())
    assert setup.run().counts == (0, 0, 0, 0)
    setup.change("x1y0")
    assert setup.run().counts == (1, 1, 6, 1)


@pytest.mark.slow
def test_rules_of_another_version_than_the_library_are_refused(setup: Setup) -> None:
    use(setup, "v99")
    text = setup.run("-n", fails=True).text
    assert "these rules need stitchlib 99.0 where Snakemake is installed, and there is 0." in text
    assert "Traceback" not in text
    assert not (setup.folder / "results").exists()


@pytest.mark.slow
def test_an_environment_of_conda_is_refused_where_it_would_lack_the_library(setup: Setup) -> None:
    use(setup, "v1")
    text = setup.run("-n", "--software-deployment-method", "conda", fails=True).text
    assert "run with the stitchlib that is installed beside Snakemake; leave the option out" in text
    assert not (setup.folder / "results").exists()
