"""How long the command line takes to answer, in a process of its own each time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from measure import Report, Row, arguments, in_turn, settings_of

BAR_SECONDS = 0.5


def seconds(*command: str) -> float:
    """Wall time of a command from its start to its end; raises when it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    chosen = arguments("Start-up time of the command line.", repeats=7)
    report = Report("startup", settings_of(chosen), with_matmul=False)
    eightbit = str(Path(sys.executable).with_name("eightbit"))
    commands = {
        "eightbit --help": ("eightbit", (eightbit, "--help")),
        "eightbit list games": ("eightbit", (eightbit, "list", "games")),
        "import eightbit": ("eightbit", (sys.executable, "-c", "import eightbit")),
        "import gymnasium": ("gymnasium", (sys.executable, "-c", "import gymnasium")),
        "import stable_baselines3": (
            "stable-baselines3",
            (sys.executable, "-c", "import stable_baselines3"),
        ),
        "python": ("python", (sys.executable, "-c", "pass")),
    }
    for _, command in commands.values():
        seconds(*command)  # the first start reads from the disk
    taken = in_turn(
        {
            name: lambda command=command: seconds(*command)
            for name, (_, command) in commands.items()
        },
        chosen.repeats,
    )
    for name, (library, _) in commands.items():
        bar = {"bar, s": BAR_SECONDS} if name.startswith("eightbit") else {}
        report.rows.append(Row(name, library, "s", taken[name], threads=1, extra=bar))
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
