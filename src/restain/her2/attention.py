"""Attention that slide models share: gated pooling, and self attention over thousands of tiles by Nystrom's method."""

from __future__ import annotations

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """A raw score for each tile: w (tanh(V h) * sigmoid(U h)) (Ilse 2018, Eq. 9), or w tanh(V h) (Eq. 8).

    Args:
        width: of the tiles' hidden features.
        inner: rows of V and U.
        branches: scores a tile (CLAM's multi branch: one a class).
        gated: with the sigmoid gate.
        dropout: on both factors.
    """

    def __init__(self, width: int, inner: int, branches: int = 1, gated: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.tanh = nn.Linear(width, inner)
        self.gate = nn.Linear(width, inner) if gated else None
        self.score = nn.Linear(inner, branches)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden features [n, width] to raw scores [branches, n]."""
        weighed = self.dropout(torch.tanh(self.tanh(hidden)))
        if self.gate is not None:
            weighed = weighed * self.dropout(torch.sigmoid(self.gate(hidden)))
        scores: Tensor = self.score(weighed)
        return scores.T


class PinvInit(StrEnum):
    """Over what the maxima in the initial value of the pseudo-inverse go."""

    batch = "batch"  # as released: the whole batch and all heads, so that bags in a batch depend on each other
    head = "head"  # each bag and head on its own


def iterative_pinv(matrix: Tensor, iterations: int, init: PinvInit) -> Tensor:
    """Moore-Penrose pseudo-inverse of attention matrices by iteration (Xiong 2021, Eq. 11).

    Args:
        matrix: [batch, heads, m, m], rows that sum to 1.
        iterations: 6 in the paper.
        init: see ``PinvInit``. The initial value is the transpose over the largest row sum times the largest column
            sum, so that the iteration converges.

    Returns:
        [batch, heads, m, m].
    """
    rows, columns = matrix.abs().sum(-1), matrix.abs().sum(-2)
    if init is PinvInit.batch:
        largest = rows.max() * columns.max()
    else:
        largest = (rows.amax(-1) * columns.amax(-1))[..., None, None]
    z = matrix.transpose(-1, -2) / largest
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(iterations):
        az = matrix @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z


def segment_means(rows: Tensor, segments: int) -> Tensor:
    """Means of consecutive segments of [..., n, d] as [..., segments, d]; segments of equal length where n allows."""
    n = rows.shape[-2]
    if n % segments == 0:
        return rows.reshape(*rows.shape[:-2], segments, n // segments, rows.shape[-1]).mean(-2)
    place = torch.arange(n, device=rows.device) * segments // n
    lengths = torch.bincount(place, minlength=segments).to(rows.dtype)
    sums = rows.new_zeros(*rows.shape[:-2], segments, rows.shape[-1]).index_add(-2, place, rows)
    return sums / lengths[:, None]


class Landmarks:
    """Nystrom's approximation of softmax(q k^T): three small softmaxes around landmarks (Xiong 2021, Eq. 13).

    The n x m matrices are never held: their products with values run through fused attention.

    Args:
        q: queries [batch, heads, n, d], scaled already.
        k: keys of the same shape.
        landmarks: means of that many consecutive segments of q and k.
        iterations: of the pseudo-inverse.
        init: of the pseudo-inverse.
        key_bias: added to the scores of landmarks against keys, [batch, 1, 1, n]; None for nothing.
    """

    def __init__(
        self, q: Tensor, k: Tensor, landmarks: int, iterations: int, init: PinvInit, key_bias: Tensor | None = None
    ) -> None:
        self.q, self.k, self.key_bias = q, k, key_bias
        self.q_means, self.k_means = segment_means(q, landmarks), segment_means(k, landmarks)
        middle = torch.softmax(self.q_means @ self.k_means.transpose(-1, -2), -1)
        self.inverse = iterative_pinv(middle, iterations, init)

    def __call__(self, v: Tensor) -> Tensor:
        """The attention times values [batch, heads, n, d]."""
        bias = None if self.key_bias is None else self.key_bias.expand(-1, 1, self.q_means.shape[-2], -1)
        gathered = F.scaled_dot_product_attention(self.q_means, self.k, v, bias, scale=1.0)
        return F.scaled_dot_product_attention(self.q, self.k_means, self.inverse @ gathered, scale=1.0)

    def row(self, token: int) -> Tensor:
        """Row ``token`` of the approximated attention of batch element 0, mean over heads, [n]; may be negative."""
        first = torch.softmax(self.q[0, :, token, None] @ self.k_means[0].transpose(-1, -2), -1)
        weights = first @ self.inverse[0]
        rows = [
            w @ torch.softmax(means @ keys.T, -1)
            for w, means, keys in zip(weights, self.q_means[0], self.k[0], strict=True)
        ]
        return torch.stack(rows).mean(0)[0]


def sequence_conv(heads: int, kernel: int) -> nn.Conv2d:
    """One filter a head along the sequence of values [batch, heads, n, d], without bias (Xiong 2021, 3.3)."""
    return nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """[batch, n, heads * d] to [batch, heads, n, d]."""
    return rows.reshape(*rows.shape[:-1], heads, -1).transpose(1, 2)


def join_heads(rows: Tensor) -> Tensor:
    """[batch, heads, n, d] to [batch, n, heads * d]."""
    return rows.transpose(1, 2).flatten(-2)


def token_share(row: Tensor, tiles: int) -> Tensor:
    """A heat map [tiles] that sums to 1, of one attention row over tokens (tile t, t + tiles, ... are repeats of t).

    Nystrom's approximation can be negative: what is, counts as nothing.
    """
    places = torch.arange(len(row), device=row.device) % tiles
    share = row.new_zeros(tiles).index_add(0, places, row.clamp_min(0))
    total = share.sum()
    return share / total if total > 0 else torch.full_like(share, 1 / tiles)
