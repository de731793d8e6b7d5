"""Readers of data sets: where each comes from, and one module for each kind.

`labelled` reads pictures with a class, `boxes` pictures with boxes, `captions` pictures with
sentences, `questions` pictures with questions, `collections` pictures alone, `texts` text,
`parallel_texts` text in two languages, `strokes` handwriting as movements of a pen, `speech`
recordings with what is said in them; `sounds` and `films` read single files; `scenes` draws
pictures; `download` finds a set in a local folder, the cache, or at its own address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..registry import Registry

Kind = Literal[
    "labelled pictures",
    "boxed pictures",
    "pictures",
    "pictures with sentences",
    "pictures with questions",
    "text",
    "parallel text",
    "pen strokes",
    "speech",
]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set at its own address.

    Attributes:
        url: where it is fetched.
        file_name: its name in the cache.
        checksum: "md5:..." or "sha256:..."; None where its publisher states none.
        tried: whether this address and checksum were used successfully by the authors.
    """

    url: str
    file_name: str
    checksum: str | None
    tried: bool


@dataclass(frozen=True)
class DataSet:
    """A data set that is known by name.

    Attributes:
        name: what `--data` takes; also its folder in $EIGHTBIT_DATA and in the cache.
        kind: what its examples are.
        description: one line.
        licence: terms of use, as its publisher states them.
        origin: the publication that it comes from.
        files: what a download fetches.
        generated: whether it is made when it is used; then it has no files.
    """

    name: str
    kind: Kind
    description: str
    licence: str
    origin: str
    files: tuple[RemoteFile, ...]
    generated: bool = False


DATASETS: Registry[DataSet] = Registry("data set", "eightbit list data")


def _add(data_set: DataSet) -> None:
    DATASETS.add(data_set.name, data_set)


_add(
    DataSet(
        name="cifar10",
        kind="labelled pictures",
        description="50,000 + 10,000 pictures of 32 x 32 in 10 classes",
        licence="none stated; made for research",
        origin="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        files=(
            RemoteFile(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                file_name="cifar-10-binary.tar.gz",
                checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
                tried=False,
            ),
        ),
    )
)

_MNIST_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_FILES = tuple(
    RemoteFile(_MNIST_ADDRESS + name, name, f"md5:{checksum}", tried=False)
    for name, checksum in (
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    )
)
_MNIST_ORIGIN = "LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning, 1998"

_add(
    DataSet(
        name="mnist",
        kind="labelled pictures",
        description="60,000 + 10,000 handwritten digits of 28 x 28, grey",
        licence="CC BY-SA 3.0",
        origin=_MNIST_ORIGIN,
        files=_MNIST_FILES,
    )
)
_add(
    DataSet(
        name="mnist_test",
        kind="labelled pictures",
        description="the 10,000 test digits of MNIST alone, cut into 8,000 + 2,000",
        licence="CC BY-SA 3.0",
        origin=_MNIST_ORIGIN,
        files=_MNIST_FILES[:2],
    )
)

_BCCD_COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
_add(
    DataSet(
        name="bccd",
        kind="boxed pictures",
        description="364 microscope pictures of blood cells with boxes of three classes",
        licence="MIT",
        origin="Shenggan, BCCD Dataset, GitHub, 2018",
        files=(
            RemoteFile(
                url=f"https://github.com/Shenggan/BCCD_Dataset/archive/{_BCCD_COMMIT}.zip",
                file_name=f"BCCD_Dataset-{_BCCD_COMMIT[:8]}.zip",
                checksum=None,
                tried=False,
            ),
        ),
    )
)
_add(
    DataSet(
        name="bsds500",
        kind="pictures",
        description="500 photographs in an official split of 200, 100 and 200",
        licence="non-commercial research and education",
        origin="Arbelaez, Maire, Fowlkes and Malik, Contour Detection, 2011",
        files=(
            RemoteFile(
                url="http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/"
                "BSR_bsds500.tgz",
                file_name="BSR_bsds500.tgz",
                checksum=None,
                tried=False,
            ),
        ),
    )
)
_add(
    DataSet(
        name="lfw_faces",
        kind="pictures",
        description="photographs of faces, several of many people; split by person",
        licence="none stated; made for research",
        origin="Huang, Ramesh, Berg and Learned-Miller, Labeled Faces in the Wild, 2007",
        files=(
            RemoteFile(
                url="https://ndownloader.figshare.com/files/5976015",
                file_name="lfw-funneled.tgz",
                checksum="sha256:b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
                tried=False,
            ),
        ),
    )
)

_CHAR_RNN = "Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015"
_CHAR_RNN_COMMIT = "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
for _name, _description, _licence, _origin, _url, _file in (
    (
        "tinyshakespeare",
        "1.1 million characters of Shakespeare's plays",
        "public domain",
        _CHAR_RNN,
        f"https://raw.githubusercontent.com/karpathy/char-rnn/{_CHAR_RNN_COMMIT}"
        "/data/tinyshakespeare/input.txt",
        "input.txt",
    ),
    (
        "shakespeare",
        "4.6 million characters: all of Shakespeare",
        "public domain",
        _CHAR_RNN,
        "https://cs.stanford.edu/people/karpathy/char-rnn/shakespeare_input.txt",
        "shakespeare_input.txt",
    ),
    (
        "warpeace",
        "3.3 million characters: War and Peace in English",
        "public domain",
        _CHAR_RNN,
        "https://cs.stanford.edu/people/karpathy/char-rnn/warpeace_input.txt",
        "warpeace_input.txt",
    ),
    (
        "linux",
        "6.2 million characters of the Linux kernel's source",
        "GPL-2.0",
        _CHAR_RNN,
        "https://cs.stanford.edu/people/karpathy/char-rnn/linux_input.txt",
        "linux_input.txt",
    ),
    (
        "names",
        "32,033 first names, one a line",
        "MIT, of the repository",
        "Karpathy, makemore, GitHub, 2022",
        "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
        "names.txt",
    ),
    (
        "enwik8",
        "the first 100 million bytes of an English Wikipedia, as XML",
        "CC BY-SA 3.0",
        "Hutter, The Human Knowledge Compression Contest, 2006",
        "http://mattmahoney.net/dc/enwik8.zip",
        "enwik8.zip",
    ),
):
    _add(
        DataSet(
            name=_name,
            kind="text",
            description=_description,
            licence=_licence,
            origin=_origin,
            files=(RemoteFile(url=_url, file_name=_file, checksum=None, tried=False),),
        )
    )

_MULTI30K_COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
_MULTI30K_FILES = [
    f"{part}.{language}.gz"
    for part, languages in (
        ("train", "en de fr cs"),
        ("val", "en de fr cs"),
        ("test_2016_flickr", "en de fr cs"),
        ("test_2017_flickr", "en de fr"),
        ("test_2017_mscoco", "en de fr"),
    )
    for language in languages.split()
]
_add(
    DataSet(
        name="multi30k",
        kind="parallel text",
        description="29,000 descriptions of pictures in English, German, French and Czech",
        licence="research and education",
        origin="Elliott, Frank, Sima'an and Specia, Multi30K, 2016",
        files=tuple(
            RemoteFile(
                url=f"https://raw.githubusercontent.com/multi30k/dataset/{_MULTI30K_COMMIT}"
                f"/data/task1/raw/{name}",
                file_name=name,
                checksum=None,
                tried=False,
            )
            for name in _MULTI30K_FILES
        ),
    )
)
_add(
    DataSet(
        name="unipen",
        kind="pen strokes",
        description="lines and words of handwriting by many writers, as pen movements",
        licence="CC BY 4.0",
        origin="Guyon, Schomaker, Plamondon, Liberman and Janet, UNIPEN project, 1994",
        files=(),
    )
)

_add(
    DataSet(
        name="an4",
        kind="speech",
        description="1,078 utterances, spelled words and numbers, by 84 speakers; with a lexicon",
        licence="free for any purpose, under its own terms",
        origin="Acero and Stern, Environmental Robustness in Automatic Speech Recognition, 1990",
        files=(
            RemoteFile(
                url="http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz",
                file_name="an4_sphere.tar.gz",
                checksum=None,
                tried=False,
            ),
        ),
    )
)

_FSDD_COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
_add(
    DataSet(
        name="fsdd",
        kind="speech",
        description="3,000 recordings of the ten digits by 6 speakers",
        licence="CC BY-SA 4.0",
        origin="Jackson and others, Free Spoken Digit Dataset, GitHub, 2018",
        files=(
            RemoteFile(
                url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/"
                f"{_FSDD_COMMIT}.zip",
                file_name=f"free-spoken-digit-dataset-{_FSDD_COMMIT[:8]}.zip",
                checksum=None,
                tried=False,
            ),
        ),
    )
)

_add(
    DataSet(
        name="scenes",
        kind="pictures with sentences",
        description="coloured shapes that stand left of, right of, above and below each other",
        licence="MIT",
        origin="drawn by eightbit.datasets.scenes, no picture twice",
        files=(),
        generated=True,
    )
)
_FLICKR8K = "Hodosh, Young and Hockenmaier, Framing Image Description as a Ranking Task, 2013"
_add(
    DataSet(
        name="flickr8k-900",
        kind="pictures with sentences",
        description="900 photographs of Flickr8k with five sentences each",
        licence="research and education",
        origin=_FLICKR8K,
        files=(),
    )
)
_add(
    DataSet(
        name="flickr8k",
        kind="pictures with sentences",
        description="8,000 photographs with five sentences each, in an official split",
        licence="research and education",
        origin=_FLICKR8K,
        files=(
            RemoteFile(
                url="https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/"
                "Flickr8k_Dataset.zip",
                file_name="Flickr8k_Dataset.zip",
                checksum=None,
                tried=False,
            ),
            RemoteFile(
                url="https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/"
                "Flickr8k_text.zip",
                file_name="Flickr8k_text.zip",
                checksum=None,
                tried=False,
            ),
        ),
    )
)
_add(
    DataSet(
        name="easy-vqa",
        kind="pictures with questions",
        description="5,000 pictures of one shape of 64 x 64 and 48,248 questions with 13 answers",
        licence="MIT",
        origin="Zhou, easy-VQA, GitHub, 2019",
        files=(),
    )
)
_add(
    DataSet(
        name="sort-of-clevr",
        kind="pictures with questions",
        description="six squares and circles of 75 x 75, 10 relational and 10 other questions each",
        licence="MIT",
        origin="eightbit.datasets.sort_of_clevr, at the settings of Santoro and others, 2017",
        files=(),
        generated=True,
    )
)
_add(
    DataSet(
        name="atari-scenes",
        kind="boxed pictures",
        description="frames of Atari games with boxes, sentences and questions",
        licence="MIT",
        origin="drawn by eightbit.datasets.atari_scenes, from random play on the console",
        files=(),
        generated=True,
    )
)
_add(
    DataSet(
        name="atari-scenes-by-game",
        kind="boxed pictures",
        description="the same by nouns alone, tested on two games that training never has",
        licence="MIT",
        origin="drawn by eightbit.datasets.atari_scenes, from random play on the console",
        files=(),
        generated=True,
    )
)
