"""What retrieval needs: vectors of pictures and sentences that are similar where they belong."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from .._telling.words import PAD


class Embedding(nn.Module):
    """One vector for a picture and one for a sentence, compared by their cosine (Kiros 2014).

    Args:
        picture_size: length of the trunk's vector.
        word_size: length of a word's vector.
        size: length of the vectors that are compared.
    """

    def __init__(self, picture_size: int, word_size: int, size: int):
        super().__init__()
        self.picture = nn.Linear(picture_size, size)
        self.encoder = create_backbone("lstm", (word_size,), hidden=size)

    def pictures(self, vectors: Tensor, cells: Tensor) -> Tensor:
        """(B, size), of length 1, for vectors (B, F); cells are not looked at."""
        return F.normalize(self.picture(vectors).float(), dim=-1)

    def sentences(self, words: Tensor, mask: Tensor) -> Tensor:
        """(N, size), of length 1: the encoder's state behind the last of words (N, T, E)."""
        outputs, _ = self.encoder(words)
        last = mask.sum(1) - 1
        rows = torch.arange(len(words), device=words.device)
        return F.normalize(outputs[rows, last].float(), dim=-1)

    def similarity(self, pictures: Tensor, sentences: Tensor, mask: Tensor) -> Tensor:
        """Cosines (B, N)."""
        return pictures @ sentences.t()


class Alignment(nn.Module):
    """Vectors for regions and for words in their context (Karpathy and Fei-Fei 2015).

    Regions are the cells of the trunk's last map, and the whole picture as one more. A picture
    and a sentence are as similar as s_kl, the sum over words of the largest inner product with a
    region. Words are read in both directions, by an LSTM where the paper has a plain network.

    Args:
        picture_size: length of the trunk's vector.
        cell_size: length of a cell's vector.
        word_size: length of a word's vector.
        size: length of the vectors that are compared.
    """

    def __init__(self, picture_size: int, cell_size: int, word_size: int, size: int):
        super().__init__()
        self.region = nn.Linear(cell_size, size)
        self.whole = nn.Linear(picture_size, size)
        self.encoder = create_backbone("lstm", (word_size,), hidden=size, bidirectional=True)
        self.word = nn.Linear(2 * size, size)
        self.scale = size**-0.5

    def pictures(self, vectors: Tensor, cells: Tensor) -> Tensor:
        """Regions (B, S + 1, size) of cells (B, S, C), the whole picture (B, F) as the last one."""
        found = torch.cat([self.region(cells), self.whole(vectors)[:, None]], 1)
        return found.float() * self.scale

    def sentences(self, words: Tensor, mask: Tensor) -> Tensor:
        """Vectors (N, T, size) of words (N, T, E); where `mask` is False they mean nothing."""
        # Where padding begins a sequence of its own begins, so the sentence is read from its end.
        starts = mask[:, :-1] & ~mask[:, 1:]
        reset = torch.cat([torch.zeros_like(mask[:, :1]), starts], 1)
        outputs, _ = self.encoder(words, None, reset)
        found: Tensor = self.word(outputs)
        return found.float()

    def similarity(self, pictures: Tensor, sentences: Tensor, mask: Tensor) -> Tensor:
        """s_kl (B, N) of regions (B, R, D) and words (N, T, D), `mask` (N, T)."""
        told = sentences[mask]
        best = torch.einsum("brd,wd->bwr", pictures, told).amax(-1)
        owner = mask.nonzero()[:, 0]
        found = best.new_zeros(len(pictures), len(sentences))
        return found.index_add(1, owner, best)


Ranking = Embedding | Alignment


def ranking_loss(similarity: Tensor, owners: Tensor, margin: float) -> Tensor:
    """Mean over pairs of what other sentences and other pictures come too close by.

    That is max(0, margin - s_kk + s_kl) summed over other sentences l, and the same with s_lk over
    other pictures (Kiros 2014; Karpathy 2015 with margin 1).

    Args:
        similarity: float (B, B), pictures down, sentences across; pairs on the diagonal.
        owners: int64 (B,), the picture of each row; rows of one picture are no contrast.
        margin: see above.
    """
    right = similarity.diagonal()
    other = owners[:, None] != owners
    sentences = (margin - right[:, None] + similarity).clamp_min(0)
    pictures = (margin - right[None] + similarity).clamp_min(0)
    return ((sentences + pictures) * other).sum() / len(similarity)


def ranks(similarity: np.ndarray, picture_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places, from 0, at which what belongs together is found.

    Args:
        similarity: float (pictures, sentences).
        picture_of: int (sentences,), the picture of each sentence.

    Returns:
        for each picture how many sentences stand before the first of its own, and for each
        sentence how many pictures stand before its own. Of equals, others stand first.
    """
    count = len(similarity)
    own = np.arange(count)[:, None] == picture_of[None]
    best = np.where(own, similarity, -np.inf).max(1)
    annotation = ((similarity >= best[:, None]) & ~own).sum(1)
    mine = similarity[picture_of, np.arange(len(picture_of))]
    search = (similarity >= mine[None]).sum(0) - 1
    return annotation, search


def recall_table(places: np.ndarray) -> dict[str, float]:
    """R@1, R@5 and R@10 as shares, and the median rank, from 1, of places from 0."""
    shares = {f"recall_{k}": float((places < k).mean()) for k in (1, 5, 10)}
    return {**shares, "median_rank": float(np.median(places) + 1)}


def smoothed_alignment(scores: np.ndarray, cost: float) -> np.ndarray:
    """The region of each word, neighbours holding together (Karpathy 2015's chain).

    It maximises the sum of the words' scores less `cost` for each change of region, by dynamic
    programming.

    Args:
        scores: float (T, R), products of words and regions.
        cost: 0 or more; 0 takes the best region of each word.

    Returns:
        int (T,).
    """
    steps, regions = scores.shape
    total = scores[0].astype(np.float64)
    back = np.zeros((steps, regions), np.int64)
    for step in range(1, steps):
        best = int(total.argmax())
        stays = total >= total[best] - cost
        back[step] = np.where(stays, np.arange(regions), best)
        total = np.where(stays, total, total[best] - cost) + scores[step]
    path = [int(total.argmax())]
    for step in range(steps - 1, 0, -1):
        path.append(int(back[step, path[-1]]))
    return np.array(path[::-1])


def word_mask(words: Tensor) -> Tensor:
    """bool (N, T): where there is a word."""
    return words != PAD
