"""``python -m irkit`` is the command ``irkit``."""

from irkit.cli import main

main()
