"""Recordings with transcripts, of known data sets and one's own; speakers stay in one part."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import wave
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eightbit.datasets.speech import SPLITS, Speech, read_speech
from eightbit.errors import DataError, UnknownNameError, UsageError

DATA = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere"))


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (DATA / name).is_dir(), reason=f"set EIGHTBIT_DATA to a folder that holds {name}"
    )


def recording(number: int, rate: int = 8_000) -> bytes:
    """A WAV of 16 bit whose samples are all `number`."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.full(rate // 50 + number, number, "<i2").tobytes())
    return content.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def table(rows: list[dict[str, str]]) -> str:
    content = io.StringIO()
    writer = csv.DictWriter(content, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue()


def rows(count: int, **columns: Any) -> list[dict[str, str]]:
    """Lines of a table whose files are sounds/0.wav and so on; a column may depend on the line."""
    return [
        {"file": f"sounds/{i}.wav", "text": f"word {i}"}
        | {name: value(i) if callable(value) else value for name, value in columns.items()}
        for i in range(count)
    ]


def recordings(count: int, rate: int = 8_000) -> dict[str, bytes]:
    return {f"sounds/{i}.wav": recording(i, rate) for i in range(count)}


def told(speech: Speech) -> dict[str, list[tuple[str, str, int]]]:
    """By split, speaker, text and the number that the samples hold; samples are compared."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for split, utterances in speech.splits.items():
        for one in utterances:
            assert one.samples.dtype == np.int16 and len(set(one.samples.tolist())) == 1
            found.setdefault(split, []).append((one.speaker, one.text, int(one.samples[0])))
    return found


def speakers(speech: Speech, split: str) -> set[str]:
    return {one.speaker for one in speech.splits[split]}


# --------------------------------------------------------------------------- known sets


@needs("an4")
def test_an4_is_read_as_its_publisher_divides_it() -> None:
    try:
        speech = read_speech("an4", seed=0)
    except DataError as error:
        if "are noise" not in str(error):
            raise
        pytest.skip(str(error))  # a copy whose bytes were exchanged before it was compressed
    assert speech.rate == 16_000
    assert {split: len(speech.splits[split]) for split in SPLITS} == speech.facts["counts"]
    assert speech.facts["counts"]["test"] == 130
    assert sum(speech.facts["counts"].values()) == 1_078
    assert sum(speech.facts["seconds"].values()) == pytest.approx(48 * 60, rel=0.02)
    first = next(one for one in speech.splits["train"] if one.name == "an251-fash-b")
    assert (first.speaker, first.text) == ("fash", "YES")
    assert "cen7-mmxg-b" in {one.name for one in speech.splits["test"]}
    assert speakers(speech, "validation").isdisjoint(speakers(speech, "train"))
    assert speakers(speech, "test").isdisjoint(speakers(speech, "train"))
    assert len(speakers(speech, "validation")) == 5
    assert speech.lexicon is not None
    (phones,) = (DATA / "an4").rglob("an4.phone")
    listed = phones.read_text().split()
    assert sorted([*speech.lexicon.phones, "SIL"]) == sorted(listed)
    spoken = {w for part in speech.splits.values() for one in part for w in one.text.split()}
    assert speech.lexicon.missing(spoken) == []
    assert json.loads(json.dumps(speech.facts)) == speech.facts


@needs("fsdd")
def test_the_spoken_digits_have_an_official_split_and_speakers_to_hold_out() -> None:
    speech = read_speech("fsdd", seed=0)
    assert speech.rate == 8_000
    assert speech.facts["counts"] == {"train": 2_400, "validation": 300, "test": 300}
    assert speech.facts["speakers"] == {"train": 6, "validation": 6, "test": 6}
    assert {one.name.rpartition("_")[2] for one in speech.splits["test"]} == set("01234")
    assert {one.name.rpartition("_")[2] for one in speech.splits["validation"]} == set("56789")
    assert "index 0 to 4 is test" in speech.facts["split"]
    one = next(one for one in speech.splits["test"] if one.name == "7_theo_3")
    assert (one.speaker, one.text) == ("theo", "SEVEN")
    assert speech.lexicon is not None and len(speech.lexicon.pronunciations) == 10
    peak = max(int(np.abs(one.samples.astype(int)).max()) for one in speech.splits["test"])
    assert 8_000 < peak <= 32_768


def digit_files() -> dict[str, bytes]:
    return {
        f"recordings/{digit}_{who}_{index}.wav": recording(10 * index + digit)
        for digit in (0, 7)
        for who in ("ann", "bob_2")
        for index in range(12)
    }


def test_a_speaker_of_the_digits_is_held_out(tmp_path: Path) -> None:
    data = str(write(tmp_path, digit_files()))
    official = told(read_speech(data, 0))
    assert ("bob_2", "SEVEN", 107) in official["train"]
    assert {len(official[split]) for split in ("test", "validation")} == {20}
    assert len(official["train"]) == 8
    held = read_speech(data, 0, held_out="bob_2")
    assert speakers(held, "test") == {"bob_2"} and len(held.splits["test"]) == 24
    assert speakers(held, "train") == speakers(held, "validation") == {"ann"}
    assert sorted({number // 10 for _, _, number in told(held)["validation"]}) == [5, 6, 7, 8, 9]
    assert sorted({n // 10 for _, _, n in told(held)["train"]}) == [0, 1, 2, 3, 4, 10, 11]
    assert "bob_2" in held.facts["split"]
    with pytest.raises(UsageError, match="has no speaker 'eve' to hold out; it has ann, bob_2"):
        read_speech(data, 0, held_out="eve")


TESTED = "an4/etc/an4_test.transcription"


def an4_files(order: str = ">") -> dict[str, bytes | str]:
    """The layout of the archive at the data set's address, with raw samples in a byte order."""
    names = [
        f"{kind}{i}-{who}-b" for i in (1, 2) for kind, who in zip("abcdef", "pqrstu", strict=True)
    ]
    raw = np.arange(-1_600, 1_600).astype(f"{order}i2").tobytes()
    sounds = {f"an4/wav/an4_clstk/{name.split('-')[1]}/{name}.raw": raw for name in names}
    train = "".join(f"<s> YES  NO </s> ({name})\n" for name in names[:-2])
    test = "".join(f"NO ({name})\n" for name in names[-2:])
    return {
        **sounds,
        "an4/etc/an4_train.transcription": train,
        TESTED: test + "\n",
        "an4/etc/an4.dic": "YES  Y EH S\nNO  N OW\n",
        "an4/etc/an4.phone": "SIL\nY\nEH\nS\nN\nOW\n",
    }


def test_sounds_with_exchanged_bytes_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sounds = {}
    for i in range(8):
        wave_like = np.cumsum(rng.normal(0, 200, 2_000)).astype("<i2")
        with wave.open(file := io.BytesIO(), "wb") as content:
            content.setparams((1, 2, 8_000, 0, "NONE", ""))
            content.writeframes(wave_like.byteswap().tobytes())
        sounds[f"sounds/{i}.wav"] = file.getvalue()
    folder = write(tmp_path, {"manifest.csv": table(rows(8)), **sounds})
    with pytest.raises(DataError, match="are noise, as samples with exchanged bytes sound"):
        read_speech(str(folder), 0)


@pytest.mark.parametrize("order", [">", "<"])
def test_a_sphinx_archive_with_raw_sound_is_read(tmp_path: Path, order: str) -> None:
    with tarfile.open(tmp_path / "an4_sphere.tar.gz", "w:gz") as tar:
        for name, content in an4_files(order).items():
            info = tarfile.TarInfo(name)
            content = content.encode() if isinstance(content, str) else content
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    speech = read_speech(str(tmp_path), 0)
    assert speech.facts["counts"]["test"] == 2 and speech.rate == 16_000
    one = speech.splits["train"][0]
    assert one.text == "YES NO" and one.speaker in "pqrstu"
    assert np.array_equal(one.samples, np.arange(-1_600, 1_600))
    assert speech.lexicon is not None and speech.lexicon.name == "an4.dic"
    other = read_speech(str(tmp_path), 0, held_out="q")
    assert speakers(other, "test") == {"q"} and len(other.splits["test"]) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"an4/etc/an4_test.transcription": "NO (x1-y-b)\n"},
            r"no sound of x1-y-b \(line 1 of an4_te",
        ),
        (
            {"an4/etc/an4_test.transcription": "NO\n"},
            "line 1 of an4_test.transcription does not end",
        ),
        ({"an4/etc/an4_test.transcription": "<s> </s> (a1-p-b)\n"}, "line 1 of .* holds no text"),
        ({"an4/etc/an4.phone": "Y EH S N"}, "an4.dic uses the phones OW, which an4.phone does not"),
        ({"an4/etc/an4.dic": "YES  Y EH S\nNO\n"}, "line 2 of an4.dic gives no phones for NO"),
        ({"an4/wav/an4_clstk/p/a1-p-b.raw": b""}, "line 1 of an4_train.*a1-p-b.raw is empty"),
    ],
)
def test_what_is_wrong_in_a_sphinx_folder_is_named(
    tmp_path: Path, changed: dict[str, bytes | str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_speech(str(write(tmp_path, an4_files() | changed)), 0)


# ------------------------------------------------------------------------------ one's own


def in_format(name: str, lines: list[dict[str, str]]) -> str:
    if name.endswith(".jsonl"):
        return "".join(json.dumps(line) + "\n" for line in lines)
    if name.endswith(".json"):
        return json.dumps(lines)
    if name.endswith(".tsv"):  # knows no quotation marks of its own
        return "".join("\t".join(cells) + "\n" for cells in [lines[0].keys(), *map(_cells, lines)])
    return table(lines)


def _cells(line: dict[str, str]) -> list[str]:
    return list(line.values())


@pytest.mark.parametrize(
    "name", ["manifest.csv", "manifest.tsv", "manifest.json", "manifest.jsonl"]
)
def test_every_kind_of_table_is_read_from_folder_zip_and_its_own_path(
    tmp_path: Path, name: str
) -> None:
    names = ["train", "train", "val", "test", "dev"]
    lines = rows(5, speaker=lambda i: f"s{i}", split=lambda i: names[i])
    lines[0]["text"] = ' say  "x, y" '
    files = {**recordings(5), name: in_format(name, lines), "lexicon.txt": "WORD  W ER D\n"}
    folder = write(tmp_path / "mine", files)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path, content in files.items():
            archive.writestr(f"top/{path}", content)
    wanted = {
        "train": [("s0", 'say "x, y"', 0), ("s1", "word 1", 1)],
        "validation": [("s2", "word 2", 2), ("s4", "word 4", 4)],
        "test": [("s3", "word 3", 3)],
    }
    for data in (folder, folder / name, tmp_path / "mine.zip"):
        speech = read_speech(str(data), 0)
        assert told(speech) == wanted
        assert speech.facts["split"] == "as the files say"
        assert speech.lexicon is not None and "WORD" in speech.lexicon.pronunciations


def test_tables_of_other_programs_are_read(tmp_path: Path) -> None:
    nemo = [{"audio_filepath": f"sounds/{i}.wav", "text": "a", "duration": 1.5} for i in range(4)]
    write(tmp_path, {**recordings(4), "nemo.json": "\n".join(map(json.dumps, nemo))})
    with pytest.raises(DataError, match=r"nemo\.json is no JSON"):
        read_speech(str(tmp_path / "nemo.json"), 0)
    (tmp_path / "nemo.json").rename(tmp_path / "nemo.jsonl")
    assert sum(read_speech(str(tmp_path / "nemo.jsonl"), 0).facts["counts"].values()) == 4
    voice = [{"client_id": f"c{i}", "path": f"{i}.wav", "sentence": 'the "end'} for i in range(4)]
    text = "client_id\tpath\tsentence\n" + "".join("\t".join(r.values()) + "\n" for r in voice)
    write(tmp_path / "sounds", {"validated.tsv": text})
    speech = read_speech(str(tmp_path / "sounds" / "validated.tsv"), 0)
    assert speech.splits["train"][0].text == 'the "end' and speech.facts["speakers"]["test"] == 1


def test_speakers_stay_whole_where_they_are_known(tmp_path: Path) -> None:
    data = str(
        write(
            tmp_path,
            {**recordings(60), "manifest.csv": table(rows(60, speaker=lambda i: f"s{i % 20}"))},
        )
    )
    parts = [read_speech(data, seed) for seed in (0, 0, 1)]
    sets = [{split: speakers(speech, split) for split in SPLITS} for speech in parts]
    assert sets[0] == sets[1] != sets[2]
    assert [len(sets[0][split]) for split in SPLITS] == [16, 1, 3]
    assert sum(parts[0].facts["counts"].values()) == 60
    assert not sets[0]["train"] & sets[0]["test"] and not sets[0]["train"] & sets[0]["validation"]
    assert "whole speakers" in parts[0].facts["split"]
    held = read_speech(data, 0, held_out="s7")
    assert speakers(held, "test") == {"s7"} and len(held.splits["test"]) == 3
    assert "s7" not in speakers(held, "train") | speakers(held, "validation")


def test_recordings_are_drawn_one_by_one_where_speakers_are_unknown(tmp_path: Path) -> None:
    lines = rows(40, speaker=lambda i: "me" if i else "")
    data = str(write(tmp_path, {**recordings(40), "manifest.csv": table(lines)}))
    speech = read_speech(data, 0)
    assert speech.facts["counts"] == {"train": 31, "validation": 3, "test": 6}
    assert "single recordings" in speech.facts["split"]
    with pytest.raises(UsageError, match="has no speaker 'you' to hold out; it has me"):
        read_speech(data, 0, held_out="you")


def test_only_the_part_that_is_missing_is_drawn(tmp_path: Path) -> None:
    lines = rows(30, split=lambda i: "test" if i < 5 else "", speaker=lambda i: f"s{i}")
    data = str(write(tmp_path, {**recordings(30), "manifest.csv": table(lines)}))
    found = told(read_speech(data, 0))
    assert [number for _, _, number in found["test"]] == [0, 1, 2, 3, 4]
    assert len(found["validation"]) == 2


def test_a_text_beside_every_sound_is_enough(tmp_path: Path) -> None:
    texts = {f"sounds/{i}.txt": f"Number\n {i} \n" for i in range(5)}
    data = write(tmp_path, {**recordings(5), **texts, "SOURCE.txt": "my own"})
    speech = read_speech(str(data), 0)
    assert sum(speech.facts["counts"].values()) == 5 and speech.facts["source"] == "my own"
    assert {one.text for one in speech.splits["train"]} <= {f"Number {i}" for i in range(5)}
    (data / "sounds" / "3.txt").unlink()
    with pytest.raises(DataError, match=r"sounds/3\.wav in .* has no sounds/3\.txt beside it"):
        read_speech(str(data), 0)


def test_folders_called_like_splits_are_the_splits(tmp_path: Path) -> None:
    files = {}
    for number, split in enumerate(("train", "valid", "test")):
        files[f"{split}/{number}.wav"] = recording(number)
        files[f"{split}/{number}.txt"] = "hello"
    found = told(read_speech(str(write(tmp_path, files)), 0))
    assert [found[split][0][2] for split in SPLITS] == [0, 1, 2]


@pytest.mark.parametrize(("rates", "wanted"), [((44_100, 8_000), 16_000), ((8_000, 11_025), 8_000)])
def test_recordings_of_several_rates_come_out_at_one(
    tmp_path: Path, rates: tuple[int, int], wanted: int
) -> None:
    files = {f"sounds/{i}.wav": recording(i, rates[i % 2]) for i in range(4)}
    speech = read_speech(str(write(tmp_path, {**files, "manifest.csv": table(rows(4))})), 0)
    assert speech.rate == speech.facts["rate"] == wanted
    lengths = {len(one.samples) for part in speech.splits.values() for one in part}
    assert all(length == pytest.approx(wanted / 50, abs=8) for length in lengths)


# -------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"manifest.csv": "file,words\na,b\n"}, "manifest.csv has no column text"),
        ({"manifest.csv": ""}, "manifest.csv has no column file"),
        ({"manifest.csv": "file,text\n"}, "manifest.csv lists no recordings"),
        ({"manifest.csv": "file,text\nsounds/0.wav,\n"}, "line 2 of manifest.csv holds no text"),
        ({"manifest.csv": "file,text\n,hello\n"}, "line 2 of manifest.csv names no file"),
        (
            {"manifest.csv": "file,text,split\nsounds/0.wav,a,exam\n"},
            "line 2 of manifest.csv has the split 'exam'; write train, validation or test",
        ),
        (
            {"manifest.csv": table(rows(9))},
            r"line 6 of manifest.csv: there is no sounds/4\.wav in",
        ),
        (
            {"manifest.csv": table(rows(4)), "sounds/2.wav": b"no sound at all"},
            r"line 4 of manifest.csv: sounds/2\.wav is no sound",
        ),
        (
            {"manifest.csv": table(rows(4)), "sounds/3.wav": b""},
            r"line 5 of manifest.csv: sounds/3\.wav is empty",
        ),
        ({"manifest.csv": table(rows(2))}, "has 2 recordings to learn from; more are needed"),
        (
            {"manifest.csv": table(rows(4, split="test"))},
            "has 0 recordings to learn from; more are needed to hold some out for validation",
        ),
        ({"manifest.json": "[1]"}, "entry 1 of manifest.json is no object"),
        ({"manifest.jsonl": '{"file": "a",\n'}, "line 1 of manifest.jsonl is no JSON"),
        ({"manifest.json": '[{"file": "a", "text": 7}]'}, "entry 1 of manifest.json has 7 as text"),
        ({"manifest.csv": "file,text\na,b\n", "manifest.tsv": ""}, "manifest.csv and manifest.tsv"),
        ({"manifest.csv": b"file,text\na,\xe4\n"}, "is not UTF-8"),
        ({}, "tells no transcripts; put a manifest.csv"),
        (
            {"manifest.csv": table(rows(4)), "a.dic": "A  B\n", "b.dic": "A  B\n"},
            r"holds a\.dic and b\.dic; keep one lexicon",
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, files: dict[str, bytes | str], message: str
) -> None:
    folder = write(tmp_path, {**recordings(4), **files})
    with pytest.raises(DataError, match=message):
        read_speech(str(folder), 0)


def test_a_name_or_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="fsdd"):
        read_speech("fsd", 0)
    with pytest.raises(DataError, match="does not exist"):
        read_speech(str(tmp_path / "nothing"), 0)
    write(tmp_path, {"a.wav": recording(1)})
    with pytest.raises(DataError, match=r"a\.wav is no table of recordings"):
        read_speech(str(tmp_path / "a.wav"), 0)


def test_a_lone_speaker_cannot_be_held_out(tmp_path: Path) -> None:
    lines = table(rows(4, speaker="me"))
    data = str(write(tmp_path, {**recordings(4), "manifest.csv": lines}))
    with pytest.raises(UsageError, match="has the speaker me alone"):
        read_speech(data, 0, held_out="me")
