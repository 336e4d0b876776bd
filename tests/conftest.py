from __future__ import annotations

import pytest
from hypothesis import settings

from tests.acquisition import Setup

# No test has a time limit: a machine may be busy.
settings.register_profile("stitchlib", deadline=None)
settings.load_profile("stitchlib")


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    """Six tiles, two channels, 24 shards, all done once."""
    setup = Setup.make(tmp_path_factory.mktemp("base") / "work")
    assert setup.run().counts == (7, 1, 24, 1)
    return setup


@pytest.fixture
def done(_finished, tmp_path):
    """Return a copy of a finished run, to be changed at will."""
    return _finished.copy(tmp_path / "work")
