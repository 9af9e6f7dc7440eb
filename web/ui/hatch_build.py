"""Packaging hook: `pip install` of the source builds the page, on a machine without Node.

A source distribution carries the built page, so installing from one builds nothing. Neither does
an editable install: it serves the page from this folder, where `python -m web.build` puts it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageBuildHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if version == "editable":
            return
        spec = importlib.util.spec_from_file_location("lanrage_page", root / "web" / "build.py")
        assert spec is not None
        assert spec.loader is not None
        page = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(page)
        page.build(root / "web" / "ui")
