"""The command ``irkit``: compile, run, inspect, bench, tune, export, toolchain, dump, opt, targets, demo."""

import irkit.cli.bench
import irkit.cli.deploy
import irkit.cli.tune  # noqa: F401  (they add their commands)
from irkit.cli.commands import app, main

__all__ = ["app", "main"]
