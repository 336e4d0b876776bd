from __future__ import annotations

import pytest

from tests.acquisition import Setup


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
