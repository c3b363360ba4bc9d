"""The documentation site: `make docs` builds it from the pages where they lie."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "extensions"))

project = "inphase"
author = "the authors of inphase"
copyright = "the authors of inphase, Apache-2.0"

# the repository is the source folder: a link between two pages works there and on the site
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "*.md",
    "*/README.md",
    "middleware/**.md",
    "native/fuzz/README.md",
    "schedules/*/README.md",
    "tests/*.md",
    "tests/vm/README.md",
    "tests/bare/README.md",
    "tests/other_models/README.md",
    "tests/other_readers/README.md",
    "tests/other_servers/README.md",
]
exclude_patterns = [".*", "build", "dist", "**/templates"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "c_header",
    "decisions",
    "docstrings",
    "schedule_keys",
    "words",
]
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
nitpicky = True
nitpick_ignore_regex = [
    ("c:identifier", r"u?int\d+_t"),
    ("py:.*", r"(?!inphase).*"),  # other people's
    ("py:.*", r"inphase\.\w+\.\w+\..*"),  # a room's own, which no module offers
]
suppress_warnings = [
    "duplicate_declaration.c",  # a structure and a function of one name
    "ref.python",  # Python's `type`, and attributes of that name
]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4

highlight_language = "text"  # of a block that says none

html_theme = "furo"
html_title = "inphase"
templates_path = ["templates"]
html_additional_pages = {"index": "redirect.html"}  # to the first page
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
