"""What a class path names, as far as the module's text tells without running it."""

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from audioldm_lit.errors import InputError


def check_class_path(path: str, where: str) -> None:
    """Refuse a path of what cannot be a class of any kind that a setting takes; what only running the module tells passes.

    Raises:
        InputError: If it is of Python's own library, or if its module's text defines no class of that name, or one without a base.
    """
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise InputError(where, f"is {path}, of Python's own library, which has no class of that kind", "name another class")
    if module in sys.modules or module.startswith("audioldm_lit."):
        return
    text = _text(module)
    if text is None:
        return
    try:
        found = [node for node in _statements(ast.parse(text)) if name in _names(node) or _names(node) & {"*", "__getattr__"}]
    except (SyntaxError, ValueError) as error:
        raise InputError(where, f"is {path}, whose module is no Python ({error})", "correct it") from error
    if not found:
        raise InputError(where, f"is {path}, which its module does not define", "name a class that is there")
    last = found[-1]
    if isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef) and last.name == name:
        raise InputError(where, f"is {path}, a function, and none is called", "name a class")
    if isinstance(last, ast.ClassDef) and not (last.bases or last.keywords or last.decorator_list):
        raise InputError(where, f"is {path}, a class without a base", "name a subclass of what the setting takes")


def _text(module: str) -> str | None:
    """Source of a module, found without importing the packages it lies in; None where there is none to read."""
    parts, places, spec = module.split("."), None, None
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    source = spec.origin if spec else None
    return Path(source).read_text(encoding="utf-8", errors="replace") if source and source.endswith(".py") else None


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Statements that a module runs when it is imported, those within `if`, `try`, `for` and `with` too."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _statements(node)


def _names(node: ast.AST) -> set[str]:
    """Names that a statement binds in its module."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
