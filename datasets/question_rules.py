"""Questions and one-word answers made of sentences that tell what is in a picture.

Ren, Kiros and Zemel (2015) made COCO-QA from captions by a parser's trees of their sentences.
Here there is no parser but word lists and four rules, one for each of their kinds:

- object: the first noun of a sentence is asked for where a verb follows ("a dog runs" -> "what
  runs"), and the thing that is held, worn and so on ("a boy holding a ball" -> "what is the boy
  holding");
- number: two to ten of something ("two dogs play" -> "how many dogs are there");
- colour: the one colour of a thing ("in a red shirt" -> "what is the colour of the shirt");
- location: the place named by the last "in", "on" or "at" ("a dog runs on the beach" -> "where
  is the dog").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COLOURS = _words(
    "black white red blue green yellow orange brown pink purple grey gray tan gold silver cyan"
)
ACTORS = _words(
    "dog man boy girl woman child person baby lady player cat horse bird skateboarder toddler "
    "puppy skier biker climber surfer cyclist hiker snowboarder swimmer dancer rider runner "
    "kid bull motorcyclist bicyclist rollerblader camel cow sheep goat bear "
    "elephant giraffe zebra duck"
)
"""nouns that do something"""
GROUPS = _words("dogs men boys girls women children people kids players")
"""what several of them are called"""
THINGS = _words(
    "ball frisbee stick toy bone rope guitar bike bicycle hat cap helmet shirt jacket coat dress "
    "camera book bag balloon sign umbrella racket bat kite skateboard snowboard surfboard "
    "leash flag cup phone microphone paddle sword bucket fish suit sweater vest uniform "
    "bikini wetsuit sunglasses glasses jeans costume tie scarf backpack swimsuit sled boat "
    "kayak car truck horse motorcycle wave hoop rail bench swing slide"
)
PLACES = _words(
    "beach park field street water snow grass pool river lake ocean sea mountain hill forest woods "
    "yard road sidewalk sand dirt track court gym stage room kitchen bed couch rock cliff wall "
    "trail path bridge city playground backyard desert bench sky air mud puddle fountain "
    "meadow garden crowd store restaurant stadium car boat ramp trampoline tree leaves ice"
)
_ARTICLES = ("a", "an", "the")
_ADJECTIVES = COLOURS | _words(
    "young old little small large big tan brown-haired blond blonde elderly older younger "
    "shirtless asian female male happy wet tall spotted shaggy furry fluffy and"
)
_VERBS_OF_HOLDING = _words(
    "holding wearing carrying riding throwing catching chasing kicking playing pulling pushing "
    "hitting chewing biting reading swinging"
)
_NO_VERBS = _words("is has was as his its this is us across towards sometimes")
_MAIN_VERBS = _words(
    "runs jumps walks plays stands sits looks climbs holds rides waves poses swims catches leaps "
    "smiles watches performs does goes flies slides splashes shakes dribbles lies leans carries "
    "throws kicks makes takes gets has tries attempts prepares sleeps races skis surfs skates "
    "falls moves turns points laughs eats drinks pulls pushes chases reaches"
)
"""what a sentence goes on with, whatever stands before"""
_CLAUSES = _words("as while who that which when whose where")
_NOT_VERBS_ING = _words("during evening morning string swing wing ring building clothing")
_PARTS = _words(
    "in on at with near by over through of and from to into against while as under next behind "
    "across along down up around off for that who wearing"
)


def questions_of(sentence: str) -> list[tuple[str, str, str]]:
    """Questions that a sentence answers.

    Args:
        sentence: lower case words with single spaces between them.

    Returns:
        (question, answer, kind), the answer one word of the sentence; often none.
    """
    words = sentence.split()
    if "s" in words:  # what is left of "a man's shoulders", which nobody would ask for
        return []
    found = [*_objects(words), *_numbers(words), *_colours(words), *_locations(words)]
    return list(dict.fromkeys(found))


def _subject(words: Sequence[str]) -> int | None:
    """Where the first noun of "a young dog ..." stands; None where it is not known for sure."""
    if not words or words[0] not in _ARTICLES:
        return None
    place = 1
    while place < len(words) and words[place] in _ADJECTIVES:
        place += 1
    if place + 1 >= len(words) or words[place] not in ACTORS:
        return None
    # "a dog and a cat run" has two subjects; "a man with a dog" has one.
    return None if words[place + 1] in ("and", "or", "s") else place


def _is_doing(word: str) -> bool:
    return word.endswith("ing") and word not in _NOT_VERBS_ING


def _another_verb(rest: Sequence[str]) -> bool:
    """Whether "wearing a red vest waves ..." goes on with the sentence's own verb."""
    for i, word in enumerate(rest):
        if word in _CLAUSES:  # "... as the sun shines" is a clause of its own
            return False
        if (
            word in ("is", "are")
            or word in _MAIN_VERBS
            or (_is_verb(word) and rest[i - 1] in THINGS)
        ):
            return True
    return False


def _is_verb(word: str) -> bool:
    third = word.endswith("s") and not word.endswith("ss") and len(word) > 3
    return third and word not in _NO_VERBS and word not in THINGS and word not in GROUPS


def _objects(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    place = _subject(words)
    if place is None:
        return
    noun, rest = words[place], list(words[place + 1 :])
    if rest[0] == "is" and len(rest) > 1 and _is_doing(rest[1]):
        yield f"what {' '.join(rest)}", noun, "object"
    elif _is_doing(rest[0]):
        if _another_verb(rest):
            return
        yield f"what is {' '.join(rest)}", noun, "object"
        rest = ["is", *rest]
    elif _is_verb(rest[0]):
        yield f"what {' '.join(rest)}", noun, "object"
        return
    if len(rest) > 3 and rest[0] == "is" and rest[1] in _VERBS_OF_HOLDING:
        thing = _thing(rest[2:])
        if thing is not None and thing != noun:
            yield f"what is the {noun} {rest[1]}", thing, "object"


def _thing(words: Sequence[str]) -> str | None:
    """The thing of "a red ball in ...", where only words that describe it come before it."""
    if words[0] not in _ARTICLES and words[0] not in ("his", "her"):
        return None
    for i, word in enumerate(words[1:4], 1):
        after = words[i + 1] if i + 1 < len(words) else ""
        if word in THINGS and after not in THINGS:
            return word
        if word in _PARTS or word in _ARTICLES or word not in _ADJECTIVES:
            return None
    return None


def _numbers(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    counted = [i for i, word in enumerate(words) if word in NUMBERS]
    if {"couple", "pair", "group", "crowd", "bunch"} & set(words):  # uncounted ones stand by
        return
    # With two numbers, or one behind "of", a picture holds more than either says.
    if len(counted) != 1 or (counted[0] and words[counted[0] - 1] in ("of", "number", "other")):
        return
    (i,) = counted
    for end in range(i + 1, min(i + 4, len(words))):
        word = words[end]
        if word in _PARTS or word in _ARTICLES or _is_doing(word):
            return
        # "one of two dogs and a third": others of the kind may be told of later.
        if word in GROUPS or (word.endswith("s") and word[:-1] in ACTORS | THINGS):
            single = {"men": "man", "women": "woman", "people": "person", "children": "child"}
            others = {word, single.get(word, word.removesuffix("s")), "another", "others"}
            if not others & set(words[end + 1 :]):
                yield f"how many {' '.join(words[i + 1 : end + 1])} are there", words[i], "number"
            return


def _colours(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    nouns = ACTORS | THINGS
    for i in range(1, len(words) - 1):
        noun = words[i + 1]
        if words[i] not in COLOURS or noun not in nouns or words.count(noun) > 1:
            continue
        after = words[i + 2] if i + 2 < len(words) else ""
        mixed = words[i - 1] in ("and", "or") or words[i - 1] in COLOURS
        # "a red football player" and "a white car door": the colour is of what comes after.
        if not mixed and after not in nouns and (after == "" or _ends_phrase(after)):
            colour = "grey" if words[i] == "gray" else words[i]
            yield f"what is the colour of the {noun}", colour, "colour"


def _ends_phrase(word: str) -> bool:
    return word in _PARTS or word in ("is", "are", "has") or _is_doing(word) or _is_verb(word)


def _locations(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    place = _subject(words)
    plural = words[1] if len(words) > 1 and words[0] in NUMBERS and words[1] in GROUPS else None
    if place is None and plural is None:
        return
    found = [
        (i, j)
        for i, word in enumerate(words)
        if word in ("in", "on", "at", "through")
        for j in range(i + 1, min(i + 4, len(words)))
        if words[j] in PLACES and all(_describes(w) for w in words[i + 1 : j])
    ]
    ends = [
        (i, j)
        for i, j in found
        if j + 1 == len(words) or words[j + 1] in _PARTS or _is_doing(words[j + 1])
    ]
    if len(ends) != 1:  # none, or several that may both be right
        return
    ((before, end),) = ends
    others = words[1 if place is None else place + 1 : before]
    # "a woman smiles at a girl on the sidewalk" tells where the girl is.
    if any(word in ACTORS or word in GROUPS for word in others[plural is not None :]):
        return
    who = f"is the {words[place]}" if place is not None else f"are the {plural}"
    yield f"where {who}", words[end], "location"


def _describes(word: str) -> bool:
    return word in _ARTICLES or word in _ADJECTIVES or word in ("sandy", "snowy", "grassy", "rocky")
