"""A directory for a user of the command line."""

from pathlib import Path

import pytest

from tests.cli.support import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A cluster file that is right, and no model yet."""
    return Desk(tmp_path)
