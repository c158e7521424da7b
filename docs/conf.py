"""How the documentation is built, from the top of a checkout: `sphinx-build -W -n -c docs . site`.

The top of the checkout is the source, so that a link between a page here, the README and an
example is one and the same file's path, in the site and where the repository is hosted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sphinx import addnodes

HERE = Path(__file__).parent
TOP = HERE.parent
EXAMPLES = TOP / "examples"
sys.path.insert(0, str(HERE))

from docstrings import as_rst  # type: ignore[import-not-found] # noqa: E402 - beside this file

import requests_refresh  # noqa: E402

project = "requests_refresh"
release = version = requests_refresh.__version__
html_title = f"requests_refresh {release}"
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "*.md",
    "benchmarks/*.md",
    "examples/README.md",
    "examples/**/README.md",
]
exclude_patterns = ["docs/*.py", "**/.*", "site", "build"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_copy_source = False
html_show_copyright = False

nitpicky = True
# What is not of this package is named, and leads nowhere: the site is built without a network.
nitpick_ignore_regex = [("py:.*", r"(?!requests_refresh\.).*")]

myst_heading_anchors = 4  # levels whose titles are anchors, named as where repositories are hosted

autoclass_content = "both"  # some tell their settings in the constructor
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"

linkcheck_timeout = 20  # seconds
linkcheck_workers = 4
linkcheck_anchors = False  # pages that are made by a script have none until it runs
linkcheck_ignore = [
    r"https?://(.*\.)?example\.(com|org)(/.*)?",
    r"https?://(127\.0\.0\.1|localhost)(:\d+)?(/.*)?",
]


def plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are prose in plain text: mark up what has a form."""
    lines[:] = as_rst(lines).splitlines()


def folders(app: Any, doctree: Any) -> None:
    """A link to a folder leads to its README, or is its name alone where that has none.

    So are all links to examples/ where the checkout came without it.
    """
    if app.env.docname.startswith("examples/"):
        app.env.metadata[app.env.docname]["orphan"] = True  # guides lead there, if no contents do
    for link in list(doctree.findall(addnodes.pending_xref)):
        there = (Path(doctree["source"]).parent / link["reftarget"]).resolve()
        page = f"{os.path.relpath(there, TOP)}/README"
        if link["reftype"] != "myst":
            continue
        if there.is_dir() and page in app.env.found_docs:
            link.update_all_atts({"refdomain": "doc", "reftarget": page}, replace=True)
            link["reftargetid"] = None
        elif there.is_dir() or (there.is_relative_to(EXAMPLES) and not EXAMPLES.is_dir()):
            link.replace_self(link.children)


def door(app: Any, failure: Exception | None) -> None:
    """Who opens the site at its root comes to its first page."""
    if failure is None and app.builder.name == "html":
        page = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, "utf-8")


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("autodoc-process-docstring", plain)
    app.connect("doctree-read", folders)
    app.connect("build-finished", door)
