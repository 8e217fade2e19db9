"""From a caption's words to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextEncoder(nn.Module):
    r"""What a caption says, as a vector: word numbers ``(N, L)`` -> ``(N, features)``.

    .. math::
        \varphi(t) = \operatorname{LN}\Big(W \max_{i \le |t|}
        \operatorname{ReLU}\big(b + \textstyle\sum_{k=-1}^{1} C_k \, e(t_{i+k})\big)\Big)

    An embedding e per word, a convolution over each word and its neighbours (so that "medium size" is not
    "medium strokes"), the largest answer of every filter wherever in the caption it comes, a linear map, and
    a layer norm, LN: every vector has mean 0 and variance 1, so that text is as loud as the latents or the
    features that it stands beside. A maximum is not diluted by the words that say nothing, as a mean over a
    long caption would be.

    Word 0 is padding. Its embedding is zero and stays so, which is what the convolution sees beyond a
    caption's ends anyway, and the maximum is over words alone: how far captions are padded changes nothing.
    A caption without words gets the maximum 0.

    Args:
        words: size of the vocabulary, with the padding.
        features: length of the vector.
        width: of embeddings and filters.

    Source: Kim 2014, "Convolutional Neural Networks for Sentence Classification", section 2 (the maximum over
    time), on words. Reed et al. 2016 read characters, by convolutions and a recurrent network that are
    trained beforehand.
    """

    def __init__(self, words: int, features: int, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width, padding_idx=0)
        self.convolve = nn.Conv1d(width, width, 3, padding=1)
        self.project = nn.Linear(width, features)
        self.normalize = nn.LayerNorm(features, elementwise_affine=False)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            raise ValueError(f"tokens must be int64 (N, L), got {tokens.dtype} {tuple(tokens.shape)}")
        answers = self.convolve(self.embed(tokens).mT).relu()
        # Answers are not negative, so a zero never wins over a word's.
        loudest = (answers * (tokens != 0)[:, None]).max(2).values
        return self.normalize(self.project(loudest))
