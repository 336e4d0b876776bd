"""What people copy from the documentation works."""

from __future__ import annotations

import re

import pytest

from tests.workflow import PROJECT

PAGES = ["tutorial.md", "gallery.md"]


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        # Blank lines before it, so that a traceback has the line of the page.
        before = "\n" * text[: block.start(1)].count("\n")
        exec(compile(before + block[1], page, "exec"), names)
