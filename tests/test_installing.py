"""The ways to install that need no network, or can't be tried here as a whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.acquisition import environment
from tests.workflow import PROJECT

RECIPES = ["Dockerfile", "container.def"]


def copied(recipe: str) -> dict[str, str]:
    """Return what a recipe copies into the image: source and target."""
    text = (PROJECT / recipe).read_text()
    if recipe == "Dockerfile":
        lines = re.findall(r"^COPY (.*) (/\S+)$", text, re.MULTILINE)
        return {
            name: f"{target}{name}" if target.endswith("/") else target
            for names, target in lines
            for name in names.split()
        }
    files = text.partition("%files\n")[2].partition("\n\n")[0]
    return dict(line.split() for line in files.splitlines())


def commands(recipe: str) -> list[str]:
    return re.findall(r"(?:pip install|python -m) .*", (PROJECT / recipe).read_text())


def test_both_recipes_make_the_same_container() -> None:
    assert copied("Dockerfile") == copied("container.def")
    assert commands("Dockerfile") == commands("container.def")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_container_has_the_python_and_the_packages_of_the_project(recipe: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    text = (PROJECT / recipe).read_text()
    version = re.search(r"^From:? python:(3\.\d+)-slim$", text, re.MULTILINE | re.IGNORECASE)
    assert project["requires-python"] == f">={version[1]}"
    extras = re.search(r"\[(.*)\]", commands(recipe)[0])[1].split(",")
    # Those of environment.yml, which tests/test_environment.py compares with pyproject.toml.
    assert set(extras) == set(project["optional-dependencies"]) - {"test", "lint", "bench"}
    for source, target in copied(recipe).items():
        assert (PROJECT / source).exists()
        assert target == f"/opt/stitchlib/{source}"


def call(*words: object, cwd: Path) -> str:
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheelhouse_installs_where_there_is_no_network(tmp_path: Path) -> None:
    source = tmp_path / "stitchlib"
    source.mkdir()
    for name in copied("Dockerfile"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, source / name)
    wheels = tmp_path / "wheelhouse"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    try:
        call(*pip, "wheel", "-q", "-w", wheels, ".[workflow]", cwd=source)
    except AssertionError as error:
        if re.search("NewConnectionError|NameResolutionError|ConnectTimeout", str(error)):
            pytest.skip("packages can't be fetched here")
        raise
    call(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    offline = ("--no-index", "--find-links", wheels)
    call(python, "-m", "pip", "install", "-q", *offline, "stitchlib[workflow]", cwd=tmp_path)
    golden = shutil.copytree(PROJECT / "tests/golden", tmp_path / "work/tests/golden").parents[1]
    call(
        *(python, "-m", "snakemake", "-s", source / "Snakefile", "--cores", "2"),
        *("--configfile", "tests/golden/config.yaml"),
        cwd=golden,
    )
    assert list(golden.glob("results/*/*.h5"))
