"""README.md: its table is computed from the records in the repository, and its code runs.

`python tests/test_readme.py` writes the table anew.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

from eightbit.train.curves import read_curve
from eightbit.train.runs import read_config

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "README.md"
BENCHMARKS, RESULTS = ROOT / "benchmarks" / "results", ROOT / "docs" / "results"


def _record(folder: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return record


def _link(folder: Path, name: str) -> str:
    return f"[{name}]({(folder / name).relative_to(ROOT).as_posix()})"


def _score(name: str) -> tuple[str, dict[str, Any]]:
    record = _record(RESULTS, name)
    low, high = record["interval"]
    text = (
        f"**{record['mean']:.1f}** ({low:.1f} to {high:.1f}), {record['episodes']} games, "
        f"`{record['protocol']}`"
    )
    return text, record


def _ratios(name: str) -> dict[str, float]:
    return {one["name"]: one["median"] for one in _record(BENCHMARKS, name)["ratios"]}


def _values(name: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in _record(BENCHMARKS, name)["rows"]}


def learning_rows() -> list[tuple[str, str, str]]:
    """What was learnt, its score and its source."""
    ours, theirs = (read_curve(RESULTS / f"pong-{who}.csv") for who in ("fast", "sb3"))
    minutes = float(theirs.columns["minutes"][-1])
    score, trained = _score("pong-fast")
    demo_score, demo = _score("demo")
    timed = _record(RESULTS, "pong-time-to-18")
    breakout_score, breakout = _score("breakout-fast")
    low, high = timed["interval"]
    return [
        (
            f"Pong until 18 is reached and confirmed, `eightbit train pong`, "
            f"{timed['frames'] / 1e6:.1f} M frames, one seed, machine shared with other work",
            f"**{timed['minutes']:.0f} minutes**, looks included; {timed['mean']:.1f} "
            f"({low:.1f} to {high:.1f}), {len(timed['returns'])} games, `{timed['protocol']}`",
            _link(RESULTS, "pong-time-to-18.json"),
        ),
        (
            f"`eightbit train breakout`, {breakout['training_minutes']:.0f} minutes on a third of "
            "a core, not run to the end",
            breakout_score,
            _link(RESULTS, "breakout-fast.json"),
        ),
        (
            f"`make demo`: {demo['game'].replace('_', ' ')} after {demo['training_minutes']:.0f} "
            f"minutes of learning, {demo['total_minutes']:.0f} in all",
            f"{demo_score}; random play {demo['controls'][0]['mean']:.1f}",
            _link(RESULTS, "demo.json"),
        ),
        (
            f"`eightbit train pong --agent dqn`, {trained['training_minutes']:.0f} minutes",
            score,
            _link(RESULTS, "pong-fast.json"),
        ),
        (
            f"Pong, mean training return after {minutes:.0f} minutes, one seed",
            f"{ours.return_at(minutes):.1f}, SB3's DQN {theirs.return_at(minutes):.1f}",
            _link(RESULTS, "README.md"),
        ),
    ]


TASK_ROWS = (
    ("detect-bccd", "`eightbit train detect`, blood cells from scratch", ("map50", "map")),
    ("classify-fast", "`eightbit train classify`, CIFAR-10 coded as JPEG", ("accuracy",)),
    ("text-hour", "`eightbit train text`, tinyshakespeare, its last 10 %", ("nats",)),
    ("text-fast", "`eightbit train text --preset fast`, the same", ("nats",)),
    (
        "translate-en-de",
        "`eightbit train translate`, Multi30k, test_2016_flickr, beam 5, sacreBLEU",
        ("bleu", "chrf"),
    ),
    (
        "read-handwriting",
        "`eightbit train read-handwriting --preset long`, lines of unseen writers",
        ("cer",),
    ),
    (
        "handwriting",
        "`eightbit train handwriting --preset long`, lines of unseen writers",
        ("nats_per_point",),
    ),
    (
        "speech-ctc",
        "`eightbit train speech-ctc --preset hour`, AN4's test part, beam with 4-gram",
        ("wer",),
    ),
    (
        "speech-hybrid-an4",
        "`eightbit train speech-hybrid --preset an4`, the same, beside its GMM-HMM",
        ("wer", "gmm_wer", "gain"),
    ),
    (
        "caption-scenes",
        "`eightbit train caption --preset scenes`, pairs of colour and shape never seen",
        ("exact", "true"),
    ),
    (
        "answer-relations",
        "`eightbit train answer --preset relations`, Sort-of-CLEVR",
        ("relational", "non_relational"),
    ),
    ("answer-easy-vqa", "`eightbit train answer`, easy-VQA", ("accuracy",)),
    (
        "glimpse-translated",
        "`eightbit train glimpse --preset translated`, 60 x 60, 8,000 digits to learn from",
        ("error",),
    ),
    (
        "glimpse-cluttered",
        "`eightbit train glimpse --preset cluttered`, the same among clutter",
        ("error",),
    ),
    (
        "detect-atari-scenes",
        "`eightbit train detect --data atari-scenes`, objects of eight games",
        ("map", "map50"),
    ),
)
"""Of each run of a task that the page names: its record, what it is, the metrics told."""


def task_rows() -> list[tuple[str, str, str]]:
    """What tasks reached on their test splits, and its source."""
    rows = []
    for name, what, metrics in TASK_ROWS:
        record = _record(RESULTS, f"task-{name}")
        config = read_config(RESULTS / f"task-{name}.toml")
        run = config["run"]
        where = "an H200" if run["device"] == "cuda" else "two shared cores"
        by_time = run["minutes"] != "none"
        long = (
            f"{run['minutes']:g} minutes" if by_time else f"{config['learning']['epochs']} epochs"
        )
        scores = [(metric, record["metrics"][metric]) for metric in metrics]
        told = ", ".join(
            f"{metric} **{one['value']:.3f}** ({' to '.join(f'{x:.3f}' for x in one['interval'])})"
            for metric, one in scores
        )
        source = _link(RESULTS, f"task-{name}.json")
        rows.append((f"{what}, {long} on {where}", told, source))
    return rows


def speed_rows() -> list[tuple[str, str, str]]:
    """What was timed or weighed, the figure and its source."""
    speed, steps = _ratios("training"), _values("training")
    memory, startup, replay = (_values(name) for name in ("memory", "startup", "replay"))
    stepping, updates = _ratios("stepping"), _ratios("updates")
    games, paired = (list(_ratios(name).values()) for name in ("console", "console-2-threads"))
    preset = steps["ours, preset fast"]
    return [
        (
            "DQN's preset `fast`, agent steps per second",
            f"{preset['value']:,.0f}, {speed['ours, preset fast, to SB3']:.1f} x SB3's DQN",
            _link(BENCHMARKS, "training.json"),
        ),
        (
            "training at SB3's settings",
            f"{speed['ours, fp32, to SB3']:.2f} x SB3 in fp32, "
            f"{speed['ours, bf16, to SB3']:.2f} x in bf16",
            _link(BENCHMARKS, "training.json"),
        ),
        (
            "updates per second beside CleanRL's, its networks, losses and batches",
            "; ".join(
                f"{name.upper()} {updates[f'{name} in fp32, to CleanRL']:.2f} x in fp32, "
                f"{updates[f'{name} at its best, to CleanRL']:.2f} x in bf16"
                for name in ("dqn", "c51", "rainbow", "pqn")
            ),
            _link(BENCHMARKS, "updates.json"),
        ),
        (
            "replay memory of 1 M Atari transitions",
            f"{replay['add: ours, large']['extra']['GB for 1 M']:.2f} GB, "
            f"SB3 {replay['add: SB3']['extra']['GB for 1 M']:.1f} GB",
            _link(BENCHMARKS, "replay.json"),
        ),
        (
            "a run's memory beyond the replay memory",
            f"{memory['beyond the replay memory']['value']:.2f} GB",
            _link(BENCHMARKS, "memory.json"),
        ),
        (
            f"games of Atari, frames per second, median of {len(games)}",
            f"{statistics.median(games):.2f} x ale-py's vectorizer with one thread "
            f"(worst game {min(games):.2f}), {statistics.median(paired):.2f} x with two",
            _link(BENCHMARKS, "console.json"),
        ),
        (
            "Pong, 32 in step",
            f"{stepping['ours to ale-py, 32 environments']:.2f} x ale-py's vectorizer, "
            f"{stepping['ours to SB3, 32 environments']:.1f} x SB3's wrappers",
            _link(BENCHMARKS, "stepping.json"),
        ),
        (
            "`eightbit --help`, `eightbit list games`",
            f"{startup['eightbit --help']['value']:.2f} s, "
            f"{startup['eightbit list games']['value']:.2f} s",
            _link(BENCHMARKS, "startup.json"),
        ),
    ]


def _with_table(text: str) -> str:
    machine = _record(BENCHMARKS, "training")["machine"]
    matmul = _record(BENCHMARKS, "training")["matmul_gflops"]
    lines = ["| what | measured | source |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in [*learning_rows(), *task_rows(), *speed_rows()]]
    lines += [
        "",
        f"Machine: {machine['cores']} cores of {machine['processor']}, no GPU; its matrix product "
        f"reaches {matmul['fp32']:.0f} GFLOP/s in fp32 and {matmul['bf16']:.0f} in bf16.",
    ]
    table = "<!-- measured -->\n" + "\n".join(lines) + "\n<!-- /measured -->"
    return re.sub(r"<!-- measured -->.*?<!-- /measured -->", lambda _: table, text, flags=re.DOTALL)


def test_the_table_is_that_of_the_records():
    assert PAGE.read_text() == _with_table(PAGE.read_text()), f"run {Path(__file__).name}"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)  # the page's own code
    assert names["agent"].num_updates > 0


def test_every_file_that_the_pages_link_to_exists():
    pages = [PAGE, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]
    assert len(pages) > 6
    for page in pages:
        for link in re.findall(r"\]\(([^)\s#]+)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


if __name__ == "__main__":
    PAGE.write_text(_with_table(PAGE.read_text()))
