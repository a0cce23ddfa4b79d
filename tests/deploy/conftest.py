"""Compiled zoo models, the same ones as in tests/e2e."""

from tests.e2e.conftest import answers, compiled

__all__ = ["answers", "compiled"]
