"""Memory of a training run beyond its replay memory: the most that its processes held at once."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from measure import Report, Row, arguments, settings_of

from eightbit.agents.presets import DQN_PRESETS
from eightbit.agents.replay import replay_bytes

BAR_GB = 1.5


def peak_bytes(command: list[str], folder: Path) -> int:
    """Runs the command in `folder`; the largest sum of its processes' own memory.

    Raises:
        SystemExit: the command failed.
    """
    peak = 0
    with open(folder / "output.txt", "w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [watched, *watched.children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in family))
            except psutil.NoSuchProcess:  # it ended between two looks
                continue
            time.sleep(0.05)
        output.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read()}")
    return peak


def main() -> None:
    chosen = arguments(
        "Memory of a training run beyond the replay memory.",
        game="pong",
        preset="fast",
        frames=200_000,
    )
    report = Report("memory", settings_of(chosen), with_matmul=False)
    options = DQN_PRESETS[chosen.preset]
    planned = replay_bytes(options.buffer_size, options.num_envs, (4, 84, 84), "uint8", 4)
    # The memory's pages are taken as they are first written, so a short run holds a part of them.
    steps = min(chosen.frames // 4, options.buffer_size)
    touched = planned * steps / options.buffer_size
    eightbit = str(Path(sys.executable).with_name("eightbit"))
    with tempfile.TemporaryDirectory() as folder:
        command = [eightbit, "train", chosen.game, "--preset", chosen.preset]
        command += ["--frames", str(chosen.frames), "--out", "run"]
        peak = peak_bytes(command, Path(folder))
    beyond = max(peak - touched, 1.0)
    rows = (
        ("peak", peak, {}),
        ("replay memory in use", touched, {"GB when full": planned / 1e9}),
        ("beyond the replay memory", beyond, {"bar, GB": BAR_GB}),
    )
    for name, value, extra in rows:
        row = Row(
            name,
            "eightbit",
            "GB",
            [value / 1e9],
            threads=psutil.cpu_count() or 1,
            num_envs=options.num_envs,
            batch_size=options.batch_size,
            replay_ratio=options.replay_ratio,
            extra=extra,
        )
        report.rows.append(row)
    report.finish(chosen.out)
    print(json.dumps({"beyond_gb": round(beyond / 1e9, 3), "reached": beyond <= BAR_GB * 1e9}))


if __name__ == "__main__":
    main()
