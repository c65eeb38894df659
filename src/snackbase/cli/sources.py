"""Which of a developer's files changed: the Python files below the current folder, and `.env`.

Looks at times and sizes instead of asking the kernel to tell: a few hundred files take a millisecond, network and
container file systems that tell nothing are no exception, and nobody is woken by every write into the data folder.
"""

import os
from collections.abc import Iterator
from pathlib import Path

Seen = tuple[int, int]
"""Time of the last change in nanoseconds, and size."""

MOST_FILES = 5_000
NOT_THEIRS = frozenset({"node_modules", "__pycache__", "site-packages"})


class Sources:
    """Remembers what it saw when it was last asked.

    Args:
        root: the folder. Hidden folders, virtual environments and other people's packages in it are left out.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = self._look()

    def changed(self) -> list[str]:
        """The files that were changed, made or deleted since the last call, by their path from the root."""
        before, self._seen = self._seen, self._look()
        names = before.keys() | self._seen.keys()
        return sorted(name for name in names if before.get(name) != self._seen.get(name))

    def _look(self) -> dict[str, Seen]:
        seen: dict[str, Seen] = {}
        for path in self._files():
            try:
                status = path.stat()
            except OSError:  # gone since, or a link to nothing
                continue
            seen[str(path.relative_to(self._root))] = (status.st_mtime_ns, status.st_size)
            if len(seen) >= MOST_FILES:
                break
        return seen

    def _files(self) -> Iterator[Path]:
        yield self._root / ".env"
        for place, folders, files in os.walk(self._root):
            here = Path(place)
            folders[:] = sorted(name for name in folders if self._theirs(here / name))
            yield from (here / name for name in files if name.endswith(".py"))

    def _theirs(self, folder: Path) -> bool:
        return (
            not folder.name.startswith(".") and folder.name not in NOT_THEIRS and not (folder / "pyvenv.cfg").exists()
        )
