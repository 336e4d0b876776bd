"""What the Snakemake workflow catalogue asks of a workflow with standardised usage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.acquisition import ROOT, Setup


def test_it_has_the_files_that_the_catalogue_looks_for() -> None:
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "config" / "README.md").stat().st_size
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")
    rules = list((ROOT / "workflow" / "rules").iterdir())
    assert rules
    assert {path.suffix for path in rules} == {".smk"}


def test_what_it_says_of_itself_is_what_the_catalogue_understands() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    deployment = usage["software-stack-deployment"]
    assert deployment.keys() == {"conda", "apptainer", "apptainer+conda"}
    # Fetched rules refuse it (tests/test_fetched.py), and no rule names a container or a report.
    text = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").iterdir())
    assert not deployment["conda"]
    assert deployment["apptainer"] == bool(re.search(r"^\s*container:", text, re.MULTILINE))
    assert usage["report"] == ("report(" in text)


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_either_snakefile_asks_for_all_jobs(snakefile: str, tmp_path: Path) -> None:
    setup = Setup.make(tmp_path / "work", (2, 1), ("c0",))
    text = setup.run("-n", "--snakefile", str(ROOT / snakefile)).text
    planned = dict(re.findall(r"^(align|place|dataset|all) +(\d+)$", text, re.MULTILINE))
    assert planned == {"align": "1", "place": "1", "dataset": "1", "all": "1"}
