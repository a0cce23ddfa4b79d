"""Native kernel families: a module a family, which registers its lowerings when imported. All are imported here."""

from __future__ import annotations

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
