"""WordNet's files, Wu-Palmer similarity, WUPS and METEOR on a WordNet of a dozen synsets."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from eightbit.datasets.captions import CaptionedPicture
from eightbit.errors import DataError, UsageError
from eightbit.tasks import TaskData
from eightbit.vision_tasks._telling.meteor import meteor_each, wordnet_for_meteor
from eightbit.vision_tasks._telling.wordnet import WordNet, wups
from eightbit.vision_tasks._telling.words import Words
from eightbit.vision_tasks.caption import TASK, CaptionOptions
from eightbit.vision_tasks.caption.data import Split
from eightbit.vision_tasks.caption.model import build_model

# Name: (words, what is above). bat and pet have two ways up, and "bat" has two senses.
TREE = {
    "entity": (["entity"], []),
    "thing": (["thing"], ["entity"]),
    "animal": (["animal", "creature"], ["thing"]),
    "mammal": (["mammal"], ["animal"]),
    "dog": (["dog", "domestic_dog"], ["mammal", "pet"]),
    "cat": (["cat"], ["mammal"]),
    "pet": (["pet"], ["animal", "entity"]),
    "bat": (["bat"], ["mammal"]),
    "man": (["man"], ["mammal"]),
    "club": (["bat", "club"], ["thing"]),
    "snoopy": (["Snoopy"], ["dog"]),
    "red": (["red"], []),
}
LICENCE = "  1 This line stands for the licence, as in the real files.  \n"


def write_wordnet(folder: Path) -> Path:
    """Files laid out as wndb(5WN) says."""
    folder.mkdir(parents=True, exist_ok=True)
    heads = {
        name: f"03 n {len(words):02x} " + " ".join(f"{word} 0" for word in words)
        for name, (words, _) in TREE.items()
    }

    def line(name: str, places: dict[str, int]) -> str:
        kinds = [("@i" if name == "snoopy" else "@", up) for up in TREE[name][1]]
        pointers = [f"{mark} {places.get(up, 0):08d} n 0000" for mark, up in kinds]
        pointers.append(f"+ {places.get('red', 0):08d} a 0101")
        return (
            f"{places.get(name, 0):08d} {heads[name]} {len(pointers):03d} {' '.join(pointers)} "
            f"| what {name} means\n"
        )

    places, at = {}, len(LICENCE)
    for name in TREE:
        places[name] = at
        at += len(line(name, {}))
    (folder / "data.noun").write_text(LICENCE + "".join(line(name, places) for name in TREE))
    senses = defaultdict(list)
    for name, (words, _) in TREE.items():
        for word in words:
            senses[word.lower()].append(places[name])
    rows = [
        f"{word} n {len(found)} 2 @ + {len(found)} 1 "
        + " ".join(f"{p:08d}" for p in found)
        + "  \n"
        for word, found in sorted(senses.items())
    ]
    (folder / "index.noun").write_text(LICENCE + "".join(rows))
    (folder / "noun.exc").write_text("mice mouse\nmongooses mongoose\ndoggies dog\n")
    for part in ("verb", "adj", "adv"):
        (folder / f"data.{part}").write_text(LICENCE)
        (folder / f"index.{part}").write_text(LICENCE)
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet(write_wordnet(tmp_path_factory.mktemp("wordnet") / "dict").parent)


def test_words_plurals_and_senses_are_found(net: WordNet) -> None:
    assert [net.lemmas(place) for place in net.synsets("bat")] == [["bat"], ["bat", "club"]]
    (dog,) = net.synsets("dog")
    for spelled in ("dogs", "Dog", "doggies", "domestic dog"):
        assert net.synsets(spelled) == (dog,)
    assert net.synsets("men") == net.synsets("man") != ()
    assert net.synsets("unicorn") == () and net.synsets("dog", "verb") == ()
    assert [net.lemmas(up) for up in net.hypernyms(dog)] == [["mammal"], ["pet"]]
    assert net.lemmas(net.hypernyms(net.synsets("snoopy")[0])[0])[0] == "dog"


@pytest.mark.parametrize(
    ("first", "second", "similarity"),
    [
        # Depths, of the root 1: thing 2, animal 3, mammal 4, dog and cat 5.
        ("dog", "cat", 2 * 4 / (4 + 1 + 4 + 1)),
        ("dog", "animal", 2 * 3 / (3 + 2 + 3)),
        ("dog", "mammal", 2 * 4 / (4 + 1 + 4)),
        ("snoopy", "cat", 2 * 4 / (4 + 2 + 4 + 1)),
        ("bat", "dog", 2 * 4 / (4 + 1 + 4 + 1)),
        ("bat", "thing", 2 * 2 / (2 + 1 + 2)),
        ("creature", "animal", 1),
        ("dogs", "dog", 1),
        ("dog", "red", 0),
        ("dog", "unicorn", 0),
        ("unicorn", "unicorn", 1),
    ],
)
def test_wu_palmer_by_hand(net: WordNet, first: str, second: str, similarity: float) -> None:
    assert net.wu_palmer(first, second) == pytest.approx(similarity)
    assert net.wu_palmer(second, first) == pytest.approx(similarity)


def test_of_two_ways_up_the_shortest_chooses_and_the_longest_counts(net: WordNet) -> None:
    # pet lies 2 below the root by one way and 4 by the other, which passes animal (3).
    # dog and pet share pet, animal, thing and entity: animal is deepest by the shortest ways.
    assert net.wu_palmer("dog", "pet") == pytest.approx(2 * 3 / (3 + 2 + 3 + 1))


def test_wups_of_single_words(net: WordNet) -> None:
    answers, truths = ["dog", "dog", "dog", "unicorn"], ["dog", "mammal", "cat", "dog"]
    assert wups(net, answers, truths, 0.0) == pytest.approx([1, 8 / 9, 0.8, 0])
    assert wups(net, answers, truths) == pytest.approx([1, 0.8 / 9, 0.08, 0])
    assert wups(net, answers, truths, 0.85) == pytest.approx([1, 8 / 9, 0.08, 0])


def test_folders_that_are_no_wordnet_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no data\.noun; name WordNet's folder"):
        WordNet(tmp_path)
    folder = write_wordnet(tmp_path / "bad")
    (folder / "index.noun").write_text(LICENCE + "dog n x\n")
    with pytest.raises(DataError, match=r"line 2 of index\.noun in .* is damaged"):
        WordNet(folder)
    (folder / "index.noun").write_text("dog n 1 0 1 0 00000012\ncat n 1 0 1 0 00000020\n")
    with pytest.raises(DataError, match=r"data\.noun in .* does not belong to its index\.noun"):
        WordNet(folder).wu_palmer("dog", "cat")


def test_meteor_needs_nltk_and_says_so(net: WordNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nltk.translate.meteor_score", None)
    with pytest.raises(UsageError, match="METEOR needs NLTK: pip install nltk"):
        meteor_each(["a dog"], [["a dog"]], net)


def test_meteor_knows_synonyms(net: WordNet) -> None:
    pytest.importorskip("nltk", reason="METEOR is NLTK's")
    found = meteor_each(["a club runs", "a car runs"], [["one bat runs"]] * 2, net)
    # Two of three words match in one piece: F is 2/3, less half of (1 piece / 2 words) cubed.
    assert found.tolist() == pytest.approx([2 / 3 * (1 - 0.5 * 0.5**3), 1 / 3 * 0.5])


def test_captions_are_scored_with_meteor_where_a_wordnet_is_given(net: WordNet) -> None:
    pytest.importorskip("nltk", reason="METEOR is NLTK's")
    options = CaptionOptions(size=16, backbone_options='{"channels": [4, 4], "hidden": 8}')
    words = Words.learn(["one bat runs", "a club runs"])
    model = build_model(options, {"words": words.to_facts()})
    black = np.zeros((16, 16, 3), np.uint8)
    members = [CaptionedPicture(str(i), lambda: black, ("one bat runs",)) for i in range(3)]
    for given in (net, None):
        data = TaskData({"usual": "a club runs"}, 3, None, {"test": Split(members, None, given)})
        values = TASK.measure(model, data, "test", "trivial").values
        assert ("meteor" in values) == (given is not None)
        if given is not None:
            found = values["meteor"](np.arange(3))
            assert found == pytest.approx(2 / 3 * (1 - 0.5 * 0.5**3))


def test_a_folder_that_is_no_wordnet_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no data\.noun"):
        wordnet_for_meteor(str(tmp_path))
