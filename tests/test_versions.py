"""Results are trusted by the version of the algorithm that made them, so it must not lie."""

from __future__ import annotations

import json

import pytest

from tests.versions import FILE, MODULES, current


@pytest.fixture(scope="module")
def now():
    return current()


@pytest.mark.parametrize("stage", MODULES)
def test_another_result_has_another_version(now, stage):
    then = json.loads(FILE.read_text())[stage]
    if now[stage]["version"] == then["version"]:
        assert now[stage]["digest"] == then["digest"], (
            f"stage {stage} gives another result than version {then['version']} did: raise VERSION "
            f"in stitchlib/{stage}.py, so that old results are made again, and then run "
            "`python -m tests.versions --write`"
        )
    else:
        assert now[stage]["version"] > then["version"], f"{stage}.VERSION went back"
        assert now[stage] == then, (
            f"stage {stage} has the new version {now[stage]['version']}: write down its results "
            "with `python -m tests.versions --write`"
        )
