"""evaluation.json: what it holds, how it is checked, and how it is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..envs.options import PROTOCOLS, Protocol
from ..errors import EightBitError, RunFolderError
from ..train.checkpoints import write_atomically
from ..train.runs import describe_machine
from .evaluation import Evaluation
from .scores import TABLE_SOURCE, Score, Source, beats, published_scores

FILE_NAME = "evaluation.json"
FORMAT = 1
_NUMBER: dict[str, Any] = {"type": "number"}
_COUNT: dict[str, Any] = {"type": "integer"}
_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER_OR_NONE: dict[str, Any] = {"type": ["number", "null"]}
_COUNT_OR_NONE: dict[str, Any] = {"type": ["integer", "null"]}


def _fields_schema(names: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"type": "object", "required": sorted(names), "properties": names}


_PROTOCOL_SCHEMA = _fields_schema(
    {
        "sticky": _NUMBER,
        "noop_max": _COUNT,
        "life_loss": {"type": "boolean"},
        "full_action_set": {"type": "boolean"},
        "max_frames": _COUNT,
        "eval_episodes": _COUNT,
        "eval_epsilon": _NUMBER,
        "score_from_training": {"type": "boolean"},
        "description": _TEXT,
    }
)

_CONTROL_SCHEMA = _fields_schema(
    {
        "player": _TEXT,
        "mean": _NUMBER,
        "interval": {"type": ["array", "null"], "items": _NUMBER, "minItems": 2},
        "returns": {"type": "array", "items": _NUMBER, "minItems": 1},
        "epsilon": _NUMBER,
        "beaten": {"type": ["boolean", "null"]},
    }
)

EVALUATION_SCHEMA: dict[str, Any] = _fields_schema(
    {
        "format": {"type": "integer", "enum": [FORMAT]},
        "game": _TEXT,
        "protocol": {"type": "string", "enum": [protocol.value for protocol in Protocol]},
        "protocol_fields": _PROTOCOL_SCHEMA,
        "env_options": {"type": "object"},
        "source": {"type": "string", "enum": [source.value for source in Source]},
        "episodes": _COUNT,
        "returns": {"type": "array", "items": _NUMBER, "minItems": 1},
        "lengths": {"type": ["array", "null"], "items": _COUNT},
        "mean": _NUMBER,
        "interval": {"type": ["array", "null"], "items": _NUMBER, "minItems": 2},
        "interval_method": _TEXT,
        "human_normalised": _NUMBER_OR_NONE,
        "human_normalised_source": _TEXT,
        "published_random": _NUMBER_OR_NONE,
        "published_human": _NUMBER_OR_NONE,
        "epsilon": _NUMBER_OR_NONE,
        "seed": _COUNT,
        "trained_agent_steps": _COUNT_OR_NONE,
        "trained_frames": _COUNT_OR_NONE,
        "controls": {"type": "array", "items": _CONTROL_SCHEMA},
        "command": _TEXT,
        "versions": {"type": "object"},
    }
)
"""JSON Schema (the part of it that `check_schema` knows) of evaluation.json.

Returns, mean and interval are raw game points; `lengths` are agent steps; `epsilon` is null and
`lengths` may be null where the source is the training log; `trained_*` are null where the run
does not tell. `controls` were played under the same protocol; `beaten` tells whether the score is
higher by more than both intervals, null where one of them has none.
"""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def _has_type(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name in ("number", "integer"):
        return False
    return isinstance(value, _TYPES[name])


def check_schema(value: Any, schema: dict[str, Any], where: str = "record") -> None:
    """Checks `value` against a schema: type, enum, required, properties, items and minItems.

    Raises:
        EightBitError: naming the field that does not fit and what it should be.
    """
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else types
    if names and not any(_has_type(value, name) for name in names):
        raise EightBitError(f"{where} is {type(value).__name__}; it must be {' or '.join(names)}.")
    if "enum" in schema and value not in schema["enum"]:
        raise EightBitError(f"{where} is {value!r}; it must be one of {schema['enum']}.")
    if isinstance(value, dict):
        missing = [name for name in schema.get("required", []) if name not in value]
        if missing:
            raise EightBitError(f"{where} lacks {', '.join(missing)}.")
        for name, part in schema.get("properties", {}).items():
            if name in value:
                check_schema(value[name], part, f"{where}.{name}")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            raise EightBitError(f"{where} has {len(value)} items; {schema['minItems']} are needed.")
        for index, item in enumerate(value):
            check_schema(item, schema.get("items", {}), f"{where}[{index}]")


def control_record(control: Evaluation, score: Score) -> dict[str, Any]:
    """One item of `controls`: a control, and whether `score` beats it."""
    known = control.score.interval is not None and score.interval is not None
    return {
        "player": control.player,
        "mean": control.score.mean,
        "interval": None if control.score.interval is None else list(control.score.interval),
        "returns": list(control.score.returns),
        "epsilon": control.epsilon,
        "beaten": beats(score, control.score) if known else None,
    }


def evaluation_record(
    played: Evaluation,
    *,
    command: str,
    controls: Sequence[Evaluation] = (),
    trained_agent_steps: int | None = None,
    trained_frames: int | None = None,
) -> dict[str, Any]:
    """The dictionary that evaluation.json holds; it fits `EVALUATION_SCHEMA`.

    Args:
        played: the score and how it came about.
        command: what repeats the evaluation.
        controls: other players under the same protocol.
        trained_agent_steps: agent steps of training over all environments.
        trained_frames: emulator frames of training over all environments.
    """
    score = played.score
    from_log = score.source is Source.TRAINING_LOG
    published = published_scores(score.game)
    record = {
        "format": FORMAT,
        "game": score.game,
        "protocol": score.protocol.value,
        "protocol_fields": dataclasses.asdict(PROTOCOLS[score.protocol]),
        "env_options": dataclasses.asdict(played.options),
        "source": score.source.value,
        "episodes": len(score.returns),
        "returns": list(score.returns),
        "lengths": None if from_log else list(played.lengths),
        "mean": score.mean,
        "interval": None if score.interval is None else list(score.interval),
        "interval_method": "95 % percentile bootstrap of the mean, 10,000 resamples",
        "human_normalised": score.human_normalised,
        "human_normalised_source": TABLE_SOURCE,
        "published_random": None if published is None else published.random,
        "published_human": None if published is None else published.human,
        "epsilon": None if from_log else played.epsilon,
        "seed": played.seed,
        "trained_agent_steps": trained_agent_steps,
        "trained_frames": trained_frames,
        "controls": [control_record(control, score) for control in controls],
        "command": command,
        "versions": describe_machine()["versions"],
    }
    check_schema(record, EVALUATION_SCHEMA, FILE_NAME)
    return record


def write_record(folder: Path, record: dict[str, Any], name: str = FILE_NAME) -> Path:
    """Writes the record into `folder` such that a reader sees the old file or the new one.

    Raises:
        RunFolderError: the folder cannot be written to.
    """
    path = folder / name
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    try:
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written ({error.strerror}): make room or choose another folder."
        ) from error
    return path


def read_record(folder: Path, name: str = FILE_NAME) -> dict[str, Any]:
    """Reads and checks a record.

    Raises:
        RunFolderError: the file is missing, not JSON, or does not fit the schema.
    """
    path = folder / name
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        check_schema(record, EVALUATION_SCHEMA, name)
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({error.strerror}): write it with 'eightbit evaluate RUN'."
        ) from error
    except (ValueError, EightBitError) as error:
        raise RunFolderError(
            f"{path} is damaged ({error}): write it anew with 'eightbit evaluate RUN'."
        ) from error
    return record
