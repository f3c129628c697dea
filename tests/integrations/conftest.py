"""What the tests of integrations share."""

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def in_memory():
    """A folder in memory where the system has one: no write waits for a disk to flush."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="genopt-") as folder:
        yield Path(folder)
