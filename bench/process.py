"""What a process and its children have used: CPU seconds and resident memory (Linux)."""

import time
from pathlib import Path

PROC = Path("/proc")
REST_S = 0.2


def tree(pid: int) -> list[int]:
    """The process and all its descendants that live now."""
    found = [pid]
    for one in found:
        for task in (PROC / str(one) / "task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """User and system CPU time of a process tree so far, ended threads included.

    Source: clock_getcpuclockid(3): the clock of a process is its inverted number, shifted, with the scheduler's tag.
    """
    return sum(time.clock_gettime((~one << 3) | 2) for one in tree(pid))


def rested(pid: int, within_s: float = 10.0) -> None:
    """Wait until the process tree does next to nothing: the end of a thousand connections takes it a moment.

    After `within_s` it is taken as it is: a server that is never at rest is busy in the measurement as well.
    """
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        before = cpu_s(pid)
        time.sleep(REST_S)
        if cpu_s(pid) - before < REST_S / 50:
            return


def resident_bytes(pid: int) -> int:
    """Resident memory of a process tree. What the kernel holds for its sockets is not in it."""
    pages = sum(int((PROC / str(one) / "statm").read_text().split()[1]) for one in tree(pid))
    return pages * 4096


class Peak:
    """The most resident memory of a process, in bytes, beyond what it had when this was made.

    Source: proc(5): writing 5 to clear_refs sets VmHWM back to what is resident now.
    """

    def __init__(self, pid: int) -> None:
        self._folder = PROC / str(pid)
        (self._folder / "clear_refs").write_text("5")
        self._before = self._kilobytes("VmRSS")

    def _kilobytes(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def grown(self) -> int:
        return (self._kilobytes("VmHWM") - self._before) * 1024
