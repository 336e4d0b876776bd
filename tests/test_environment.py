"""The project's files agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {
    "isal": "python-isal",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
}


def _split(requirement: str) -> tuple[str, str]:
    name, version = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement.replace(" ", "")).groups()
    return CONDA_NAMES.get(name, name).lower(), version


def test_conda_environment_is_in_step_with_pyproject() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = dict(
        _split(r)
        for r in [
            *project["dependencies"],
            *(
                o
                for name in ("workflow", "slurm", "cluster")
                for o in project["optional-dependencies"][name]
            ),
        ]
    )
    wanted["python"] = project["requires-python"]
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    assert dict(_split(r) for r in environment["dependencies"]) == wanted


def test_every_dependency_says_why() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    block = text[text.index("dependencies = [") : text.index("[project.urls]")]
    for line in block.splitlines():
        if line.strip().startswith('"') and not line.strip().startswith('"stitchlib['):
            assert re.search(r'",\s+# \w', line), line
