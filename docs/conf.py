"""Builds the pages of this folder as a site: `make docs`."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

project = "onotrain"
copyright = "the onotrain developers"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = project
html_copy_source = False
# MathML: browsers show it without a script, so the site works without a network.
html_math_renderer = "mathml"


def _contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the site's table of contents of the links on the index page, a part of it for each heading."""
    if page == "index":
        for title, text in re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", source[0], re.DOTALL | re.MULTILINE):
            pages = "\n".join(re.findall(r"^\* \[.+?\]\((.+?)\.md\)", text, re.MULTILINE))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n"


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div style="margin: 1em 0; overflow-x: auto">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.connect("source-read", _contents)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
