"""Files that another process reads while it runs."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Whoever reads the file finds all of it or what was there before, never a beginning."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
