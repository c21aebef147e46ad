"""How Sphinx makes a site of these pages: `uv run --only-group docs sphinx-build -W docs build/docs`.

The pages stay plain Markdown: index.md is the table of contents for a reader of the files, and what it links to under
each heading is the navigation of the site.
"""

import re
from typing import Any

from pygments.lexers.shell import BashLexer

project = "django-outbox-jobs"
extensions = ["myst_parser"]
exclude_patterns: list[str] = []
html_theme = "furo"
html_title = project
html_show_copyright = html_show_sphinx = html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5d57", "color-brand-content": "#0b5d57"},
    "dark_css_variables": {"color-brand-primary": "#6fc7bd", "color-brand-content": "#6fc7bd"},
}
myst_heading_anchors = 3
pygments_style, pygments_dark_style = "friendly", "github-dark"


def _navigation(app: Any, name: str, source: list[str]) -> None:
    """To the start page: a hidden table of contents for each of its headings. To a page that leads on: its pages."""
    text = source[0]
    if name == "index":
        for kind, part in re.findall(r"^## (.+)\n\n((?:.+\n)+)", text, re.MULTILINE):
            text += _contents(re.findall(r"^- \[.+?\]\((.+?)\.md\)", part, re.MULTILINE), f":caption: {kind}\n")
    elif name == "moving":
        text += _contents(re.findall(r"^\| .+? \| \[.+?\]\((moving/.+?)\.md\)", text, re.MULTILINE), "")
    source[0] = text


def _contents(pages: list[str], options: str) -> str:
    return "\n\n```{toctree}\n:hidden:\n" + options + "\n" + "\n".join(pages) + "\n```\n"


def setup(app: Any) -> None:
    app.connect("source-read", _navigation)
    app.add_lexer("console", BashLexer)  # commands stand here without a prompt, to be copied
