"""The documented names exist, with the documented parameters, order and defaults."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

import stitchlib
from tests.documented import DATA, parse

DOCUMENT = Path(__file__).resolve().parents[2] / "shared/spec/stitching-rigid-api.txt"
API = json.loads(DATA.read_text(encoding="utf-8"))


def calls():
    for name, entry in API["classes"].items():
        yield name, entry["parameters"]
        for method, parameters in entry["methods"].items():
            yield f"{name}.{method}", parameters
    yield from API["functions"].items()


def values():
    for name, entry in API["classes"].items():
        yield from (f"{name}.{value}" for value in entry["values"])


def found(name):
    owner, _, member = name.partition(".")
    value = getattr(stitchlib, owner)
    return inspect.getattr_static(value, member) if member else value


def same(actual, text):
    if text.startswith("<function "):
        return actual.__name__ == text.removeprefix("<function ").rstrip(">")
    if text.startswith("<"):  # a colour map
        return actual is not None
    if text == "-inf":
        return actual == -float("inf")
    return actual == ast.literal_eval(text) and type(actual) is type(ast.literal_eval(text))


SIGNATURES = dict(calls())


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_order_and_defaults_are_the_documented_ones(name):
    actual = inspect.signature(found(name)).parameters.values()
    own = [p for p in actual if p.name != "self" and p.kind is not p.KEYWORD_ONLY]
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    assert [stars.get(p.kind, "") + p.name for p in own] == [n for n, _ in SIGNATURES[name]]
    for parameter, (_, default) in zip(own, SIGNATURES[name], strict=True):
        if default is None:
            assert parameter.default is parameter.empty
        else:
            assert same(parameter.default, default), parameter
    extra = [p for p in actual if p.kind is p.KEYWORD_ONLY]
    assert all(p.default is not p.empty for p in extra)


@pytest.mark.parametrize("name", SIGNATURES)
def test_docstrings_name_every_parameter_and_what_is_returned(name):
    value = found(name)
    text = inspect.cleandoc(value.__doc__ or "")
    assert text
    assert text.splitlines()[0].endswith((".", ":")) or text.splitlines()[1]
    sections = dict(_sections(text))
    # Also the keyword-only ones.
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name != "self":
            described = f"{sections.get('Parameters', '')}".replace("*", "")
            assert parameter.name in described.replace(",", " ").split(), parameter.name
    returned = inspect.signature(value).return_annotation
    if not inspect.isclass(value) and returned not in (None, "None"):
        assert sections.get("Returns")


def _sections(text):
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines[1:]) if set(line.strip()) == {"-"}]
    for head, after in itertools.pairwise([*heads, len(lines)]):
        yield lines[head], "\n".join(lines[head + 2 : after])


@pytest.mark.parametrize("name", list(values()))
def test_properties_exist_and_say_what_they_are(name):
    value = found(name)
    if name == "Source.counter":
        assert isinstance(value, int)
        return
    assert isinstance(value, property)
    assert value.__doc__.strip()


LENGTHS = ("shape", "position", "lower", "upper", "extent", "origin", "displacement", "shift")


@pytest.mark.parametrize("name", [n for n in values() if n.split(".")[1] in LENGTHS])
def test_lengths_say_their_unit(name):
    assert "voxels" in found(name).__doc__


def test_all_names_are_listed_and_found():
    assert {n for n in SIGNATURES if "." not in n} <= set(stitchlib.__all__)
    assert set(dir(stitchlib)) >= set(stitchlib.__all__)
    for name in stitchlib.__all__:
        assert getattr(stitchlib, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Tile'"):
        stitchlib.Tile  # noqa: B018


def test_importing_stitchlib_imports_nothing_heavy():
    heavy = ("numpy", "scipy", "pandas", "matplotlib", "h5py", "tifffile", "tqdm")
    code = f"import sys, stitchlib; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_progress_bars_are_imported_by_those_who_want_them():
    code = "import sys, stitchlib; stitchlib.Layout; print('tqdm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not DOCUMENT.exists(), reason=f"there is no {DOCUMENT.name} here")
def test_the_transcription_is_that_of_the_document():
    assert parse(DOCUMENT.read_text(encoding="utf-8")) == API
