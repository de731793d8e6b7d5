"""docs/protocols.md: its tables are the code's, and its code prints what it says.

`python tests/evaluate/test_protocol_docs.py` writes the generated parts anew.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from eightbit.envs import PROTOCOLS
from eightbit.evaluate.records import EVALUATION_SCHEMA

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocols.md"
COLUMNS = (
    "protocol",
    "sticky actions",
    "no-ops",
    "life loss ends an episode in training",
    "actions",
    "cap, frames",
    "games",
    "epsilon",
    "score",
)


def protocols() -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for protocol, spec in PROTOCOLS.items():
        rows.append(
            (
                f"`{protocol.value}`",
                f"{spec.sticky:g}",
                f"up to {spec.noop_max}" if spec.noop_max else "0",
                "yes" if spec.life_loss else "no",
                "all 18" if spec.full_action_set else "minimal",
                f"{spec.max_frames:,}",
                str(spec.eval_episodes),
                f"{spec.eval_epsilon:g}",
                spec.description,
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def from_training() -> str:
    names = [f"`{p.value}`" for p, spec in PROTOCOLS.items() if spec.score_from_training]
    return " and ".join(names)


def fields() -> str:
    names = ", ".join(f"`{name}`" for name in EVALUATION_SCHEMA["required"])
    control = EVALUATION_SCHEMA["properties"]["controls"]["items"]["required"]
    return f"{names}; each control: {', '.join(f'`{name}`' for name in control)}."


def output(text: str) -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, str(PAGE), "exec"), {})  # the page's own code
    return f"```text\n{printed.getvalue()}```"


def generated(text: str) -> str:
    parts = {
        "protocols": protocols(),
        "training": from_training(),
        "fields": fields(),
        "output": output(text),
    }
    for name, part in parts.items():
        text, count = re.subn(
            rf"<!-- {name} -->.*?<!-- /{name} -->",
            lambda _, name=name, part=part: f"<!-- {name} -->\n{part}\n<!-- /{name} -->",
            text,
            flags=re.DOTALL,
        )
        assert count == 1, name
    return text


def test_the_tables_of_the_page_are_those_of_the_code():
    assert PAGE.read_text() == generated(PAGE.read_text()), f"run {Path(__file__).name}"


def test_the_page_shows_the_refusal_to_compare_and_names_every_protocol():
    text = PAGE.read_text()
    assert "mnih2015 and dopamine cannot be compared" in text
    assert all(f"`{protocol.value}`" in text for protocol in PROTOCOLS)


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text()))
