"""The site's reference pages, made while it is built: one for each room of the package, one for the modules beside the rooms."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).resolve().parent.parent / "audioldm_lit"


def pages() -> dict[str, str]:
    """Markdown of every page by its name."""
    beside = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    texts = {"api/root.md": "\n\n".join(["# The root of the package", *(f"::: audioldm_lit.{name}" for name in beside)])}
    return texts | {f"api/{name}.md": f"# {name}\n\n::: audioldm_lit.{name}" for name in rooms}


def on_config(config: MkDocsConfig) -> None:
    """List the pages in the navigation."""
    config.nav.append({"API": list(pages())})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages to those that are written by hand."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
