"""The shell of every page: one HTML file that loads nothing and runs no script but its own, whatever its content says."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audioldm_lit.places import packaged
from audioldm_lit.report.texts import Texts

STYLES, SCRIPTS = ("report/shell.css",), ("report/shell.js",)  # of every page
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}  # what could end a script's element


def render(template: str, texts: Texts, styles: Sequence[str] = (), scripts: Sequence[str] = (), **content: Any) -> str:
    """A page as one HTML file.

    Its Content-Security-Policy names the hashes of the one style and the one script; inline styles and handlers do nothing, and no
    request leaves the page. All that a template shows is escaped.

    Args:
        template: Its file within the package, which extends `report/shell.html`.
        texts: What it says; `texts` in the template.
        styles: Further style sheets within the package.
        scripts: Further scripts, which are run in this order.
        **content: What the template shows.
    """
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, loader=FileSystemLoader(packaged("."))
    )
    environment.filters["data"] = data
    style, script = _joined([*STYLES, *styles]), _joined([*SCRIPTS, *scripts])
    policy = (
        "default-src 'none'; img-src data:; media-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    page = {"style": Markup(style), "script": Markup(script), "policy": Markup(policy), "texts": texts}
    return environment.get_template(template).render(**page, **content)


def data(value: Any) -> Markup:
    """Plain values as JSON for an element `<script type="application/json">`, out of which nothing can break."""
    return Markup(json.dumps(value, ensure_ascii=False).translate(UNSAFE))


def data_uri(content: bytes, kind: str) -> str:
    """A file as part of the page, by its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _joined(files: Sequence[str]) -> str:
    return "\n".join(packaged(name).read_text(encoding="utf-8") for name in files)


def _hash(text: str) -> str:
    """How a browser is told what may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
