"""Adapt a pre-trained AudioLDM to small sets of sounds, and tell the truth about the result.

Letters in every shape: B batch, T samples, F mel frames, M mel bins, C latent channels, D embedding.

As a library, `import audioldm_lit as al`: what `__init__.pyi` names is loaded when first used, so that the import takes no time.
"""

import ast
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

STUB = Path(__file__).with_suffix(".pyi")  # which type checkers and editors read too
PLACES = {
    alias.name: str(node.module)
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


def __getattr__(name: str) -> Any:
    """Load a name (PEP 562)."""
    asking = inspect.currentframe()
    by = asking.f_back.f_globals.get("__name__", "") if asking and asking.f_back else ""
    # jsonargparse looks for the shortest way to a class: saved settings go on naming the module that it is in.
    if name not in PLACES or by.startswith("jsonargparse"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
