"""The command ``irkit``: compile, run, inspect, dump, opt, targets, demo."""

from irkit.cli.commands import app, main

__all__ = ["app", "main"]
