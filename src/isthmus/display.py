"""How an object shows itself in a notebook without its file knowing how anything is drawn.

Sets of images, runs and estimators stand above the figures on the map, and importing them must not load matplotlib. The
module that draws them is loaded when a notebook asks, as the package's public names are when they are first used.
"""

from __future__ import annotations

import importlib


def html(thing: object, name: str) -> str:
    """What the function `name` of `isthmus.report.notebook` draws of `thing`: an HTML fragment."""
    return str(getattr(importlib.import_module("isthmus.report.notebook"), name)(thing))
