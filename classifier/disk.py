"""What is on disk for certain."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """
    Wait until a file's content, or the names in a folder, would outlast a power cut.

    Raises:
        OSError: it cannot be opened, or the disk cannot do it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
