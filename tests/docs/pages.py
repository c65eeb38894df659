"""Reads the project's Markdown: pages, headings, links, and fenced snippets with what the tests shall do with them.

A comment right before a fence tells a test about it and is invisible to a reader:

    <!-- snippet: prints="Hello" where=browser -->

    prints   text that must appear while the snippet runs; for bash in the output of that snippet
    where    js: node (default), browser, or both
    as       python: app (an application that is served) or script (default); js: part (continues the one before)
    message  json: server, client or rest: what kind of message it shows
    refused  bash: the answer is meant to be an error
    background  bash: runs beside what follows
    skip     why it cannot run; how many of these there are is limited by a test
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUNNABLE = ("bash", "js", "python", "json")
OTHER = ("text", "nginx", "caddyfile", "ini", "html", "jsx", "systemd")
KEYS = {"prints", "where", "as", "message", "refused", "background", "skip"}

_FENCE = re.compile(r"^```(\S*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"<!-- snippet: ([^\n]*?) -->\s*\Z")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One fenced block. `line` is that of its fence, from 1."""

    page: str
    line: int
    language: str
    code: str
    wishes: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """page:line, for the names of tests."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One Markdown file; `name` is its path from the root."""

    name: str
    text: str

    @cached_property
    def snippets(self) -> list[Snippet]:
        """Every fenced block, in order."""
        found = []
        for match in _FENCE.finditer(self.text):
            before = _DIRECTIVE.search(self.text, 0, match.start())
            wishes = dict(_wishes(before[1])) if before else {}
            line = self.text.count("\n", 0, match.start()) + 1
            found.append(Snippet(self.name, line, match[1], match[2], wishes))
        return found

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def anchors(self) -> set[str]:
        """What `#...` may name: the headings, as GitHub spells them."""
        return {_anchor(heading) for heading in _HEADING.findall(self.prose)}

    @cached_property
    def links(self) -> list[tuple[str, str]]:
        """(text, target) of every link."""
        return _LINK.findall(self.prose)

    def rows(self, *, under: str) -> list[list[str]]:
        """The cells of the table rows in the chapter of that heading, its heads left out."""
        chapter = re.split(rf"^#+ {re.escape(under)}$", self.text, maxsplit=1, flags=re.MULTILINE)[1]
        lines = re.split(r"^#", chapter, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
        return [row for row in rows if row[0].startswith("`")]


def pages() -> list[Page]:
    """README, CHANGELOG, SECURITY and everything under docs, examples and clients."""
    files = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md")]
    files += sorted(file for folder in ("docs", "examples", "clients") for file in (ROOT / folder).rglob("*.md"))
    files = [file for file in files if "node_modules" not in file.parts]
    return [Page(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")) for file in files]


def page(name: str) -> Page:
    """One of them by its path from the root."""
    return Page(name, (ROOT / name).read_text(encoding="utf-8"))


def _wishes(text: str) -> Iterator[tuple[str, str]]:
    for word in shlex.split(text):
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise ValueError(f"a snippet's comment knows {', '.join(sorted(KEYS))}, not {key!r}")
        yield key, value


def _anchor(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
