"""What several test files need."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest


@pytest.fixture(scope="session")
def quick_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder for all that quick mode keeps, here and in the kernels that are started."""
    folder = tmp_path_factory.mktemp("quick")
    with patch.dict(
        os.environ, DEFORMLIB_STORE=str(folder / "store"), DEFORMLIB_CACHE=str(folder / "cache")
    ):
        yield folder
