"""What the docs site takes from outside `docs/`: mkdocs calls these functions by their names.

README, changelog, security and the home's description become pages, notebooks are rendered, and
the benchmarks' plots come along. Links are written so that they work where the files lie, as on a
code host; here they are turned to the pages of the site.
"""

import base64
import posixpath
import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[2]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "data/README.md": "home.md",
}
"""Files of the project that are pages of the site, by their path there."""

_LINK = re.compile(r"(?P<bang>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside `docs/`."""
    for source, uri in PAGES.items():
        text = (PROJECT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
    for path in sorted((PROJECT / "benchmarks" / "results").glob("*.png")):
        uri = path.relative_to(PROJECT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        text, pictures = render(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn links to files of the project into links to pages of the site."""
    here = page.file.src_uri

    def turned(found: re.Match[str]) -> str:
        target, hash_, anchor = found["target"].partition("#")
        if not target or "://" in target:
            return found[0]
        uri = site_uri(posixpath.normpath(posixpath.join(posixpath.dirname(source(here)), target)))
        if uri is None:  # a folder of the project, or a file that is no page
            return found["text"]
        away = posixpath.relpath(uri, posixpath.dirname(here) or ".")
        return f"{found['bang']}[{found['text']}]({away}{hash_}{anchor})"

    return _LINK.sub(turned, markdown)


def source(uri: str) -> str:
    """Return the path in the project of a page of the site."""
    for path, page in PAGES.items():
        if page == uri:
            return path
    return uri if uri.startswith("notebooks/") else f"docs/{uri}"


def site_uri(path: str) -> str | None:
    """Return where a file of the project is on the site; None where it is not."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and posixpath.splitext(path)[1]:
        return path.removeprefix("docs/")
    if path.startswith("notebooks/") and path.endswith((".ipynb", ".png")):
        return path.replace(".ipynb", ".md")
    return path if path.startswith("benchmarks/results/") and path.endswith(".png") else None


def render(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![picture]({name})")
            elif output.get("name") == "stdout" or "text/plain" in data:
                shown = output.get("text") or data["text/plain"]
                parts.append(f"```text\n{shown.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures
