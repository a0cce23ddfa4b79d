"""The command ``irkit``: compile, run, inspect, bench, export, toolchain, dump, opt, targets, demo."""

import irkit.cli.bench
import irkit.cli.deploy  # noqa: F401  (adds its commands)
from irkit.cli.commands import app, main

__all__ = ["app", "main"]
