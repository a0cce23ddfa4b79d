"""A pytest plugin that keeps every n-th test, as IRKIT_TEST_SAMPLE="n:first" says, and all of on_device.py."""

from __future__ import annotations

import os
from typing import Any


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Drop the others."""
    every, first = map(int, os.environ["IRKIT_TEST_SAMPLE"].split(":"))
    keep = [i for i in items if i.path.name == "on_device.py"]
    rest = [i for i in items if i.path.name != "on_device.py"]
    items[:] = [*keep, *rest[first::every]]
