"""``--bless`` rewrites the expected halves of the .ir files."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite expected results of tests/passes/**/*.ir")
