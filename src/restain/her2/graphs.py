"""Graphs of tiles: clusters of neighbouring tiles that touch (SlideGraph+), nearest neighbours in features (HEAT)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array, csr_array
from scipy.spatial import Delaunay, QhullError, cKDTree
from scipy.spatial.distance import pdist
from torch import Tensor

REACH = 6.0
"""Tiles further apart than this over lambda_d have nothing in common (exp(-6) = 0.0025; 2000 px with 3e-3)."""

_WHOLE = 2000
"""Tiles up to which the clustering holds the distances of all pairs: 16 MB."""
_PAIRS = 1 << 18
"""Pairs whose features are compared at a time."""
_EXACT = 4096
"""Rows up to which all distances are computed in float64."""
_SPARE = 8
"""Neighbours more than asked for that are found in float32, before the exact distances choose among them."""
_BLOCK = 1 << 25
"""Distances that are held at a time while neighbours are searched: 128 MB."""


@dataclass(frozen=True)
class Linkage:
    """How tiles are joined into clusters.

    Attributes:
        lambda_d: per px, how fast similarity falls with distance.
        lambda_f: per unit, how fast it falls with the distance of features.
        cut: clusters join up to this mean dissimilarity 1 - exp(-lambda_f |dF|) exp(-lambda_d D).
    """

    lambda_d: float
    lambda_f: float
    cut: float

    @property
    def reach(self) -> float:
        """Distance in px beyond which tiles are wholly dissimilar."""
        return REACH / self.lambda_d

    def similarity(self, distance: np.ndarray, features: np.ndarray) -> np.ndarray:
        """exp(-lambda_f |dF|) exp(-lambda_d D) of pairs, 0 out of reach."""
        alike = np.exp(-self.lambda_f * features) * np.exp(-self.lambda_d * distance)
        return np.where(distance <= self.reach, alike, 0.0)


def cluster_tiles(coords: np.ndarray, features: np.ndarray, how: Linkage, whole: int = _WHOLE) -> np.ndarray:
    """Average-linkage clusters of tiles that are alike and near.

    Args:
        coords: float64 [n, 2], px.
        features: float64 [n, d].
        how: similarity and cut.
        whole: up to so many tiles all pairs are held (as released); above, only those within reach.

    Returns:
        A cluster's number for each tile, int64 [n], from 0. Both ways give the same clusters, unless several pairs are
        exactly equally alike.
    """
    if len(coords) == 1 or how.cut >= 1:  # nothing is more dissimilar than 1: all join
        return np.zeros(len(coords), np.int64)
    if len(coords) <= whole:
        return _cluster_whole(coords, features, how)
    return _cluster_near(coords, features, how)


def _cluster_whole(coords: np.ndarray, features: np.ndarray, how: Linkage) -> np.ndarray:
    dissimilar = 1 - how.similarity(pdist(coords), pdist(features))
    labels = fcluster(linkage(dissimilar, "average"), how.cut, criterion="distance")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _cluster_near(coords: np.ndarray, features: np.ndarray, how: Linkage) -> np.ndarray:
    """Average linkage that holds only pairs within reach.

    The mean similarity of two clusters is the sum over their pairs, where pairs out of reach add nothing, over the
    product of their sizes: sums of sparse rows say it exactly. Two clusters that are each other's most similar one join
    in any order of joining, since nothing that joins gets more similar to a third than its parts were (average linkage
    is reducible); so all such pairs join at once, round by round, until none reaches the cut.
    """
    sums = _similar_pairs(coords, features, how)
    labels = np.arange(len(coords))
    sizes: np.ndarray = np.ones(len(coords))
    while True:
        a, b = _mutual_best(sums, sizes, 1 - how.cut)
        if not len(a):
            return np.unique(labels, return_inverse=True)[1].astype(np.int64)
        target = np.arange(len(sizes))
        target[b] = a
        kept, new = np.unique(target, return_inverse=True)
        labels = new[labels]
        sizes = np.bincount(new, sizes, len(kept))
        pairs = sums.tocoo()
        rows, columns = new[pairs.row], new[pairs.col]
        apart = rows != columns
        sums = csr_array((pairs.data[apart], (rows[apart], columns[apart])), shape=(len(kept), len(kept)))


def _similar_pairs(coords: np.ndarray, features: np.ndarray, how: Linkage) -> csr_array:
    """Similarity of all pairs within reach, both ways, [n, n]."""
    pairs = cKDTree(coords).query_pairs(how.reach, output_type="ndarray")
    alike = np.empty(len(pairs))
    step = max(1, _PAIRS // max(1, features.shape[1] // 16))
    for start in range(0, len(pairs), step):
        one, two = pairs[start : start + step].T
        distance = np.sqrt(((coords[one] - coords[two]) ** 2).sum(1))
        other = np.sqrt(((features[one] - features[two]) ** 2).sum(1))
        alike[start : start + step] = how.similarity(distance, other)
    n = len(coords)
    half = coo_array((alike, (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    return (half + half.T).tocsr()


def _mutual_best(sums: csr_array, sizes: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs a < b that are each other's most similar cluster, at least ``least`` alike (ties: the first)."""
    sums.sort_indices()
    starts = sums.indptr[:-1]
    lengths = np.diff(sums.indptr)
    rows = np.repeat(np.arange(len(sizes)), lengths)
    means = sums.data / (sizes[rows] * sizes[sums.indices])
    filled = lengths > 0
    best = np.zeros(len(sizes))
    best[filled] = np.maximum.reduceat(means, starts[filled])
    at_best = np.flatnonzero((means == best[rows]) & (best[rows] >= least))
    partner = np.full(len(sizes), -1)
    found, first = np.unique(rows[at_best], return_index=True)
    partner[found] = sums.indices[at_best[first]]
    mutual = found[(partner[partner[found]] == found) & (found < partner[found])]
    return mutual, partner[mutual]


def touching(coords: np.ndarray, furthest: float) -> np.ndarray:
    """Delaunay neighbours at most ``furthest`` px apart, both ways, int64 [2, E] sorted by (source, target).

    Args:
        coords: float64 [n, 2]; on one line, or only two, each is linked to the next.
        furthest: px.
    """
    pairs = _neighbours(coords)
    near = np.sqrt(((coords[pairs[:, 0]] - coords[pairs[:, 1]]) ** 2).sum(1)) <= furthest
    pairs = pairs[near]
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    return both.T.astype(np.int64).reshape(2, -1)


def _neighbours(coords: np.ndarray) -> np.ndarray:
    if len(coords) < 2:
        return np.empty((0, 2), np.int64)
    try:
        corners = Delaunay(coords).simplices
    except (QhullError, ValueError):
        order = np.lexsort((coords[:, 1], coords[:, 0]))
        return np.stack([order[:-1], order[1:]], 1)
    return np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])


@dataclass(frozen=True)
class ClusterGraph:
    """SlideGraph+'s graph of a slide.

    Attributes:
        coords: float64 [n, 2], rounded means of the clusters' tiles, sorted by (x, y).
        features: float64 [n, d], means.
        edges: int64 [2, E] (source, target), sorted.
        cluster: of each tile, int64.
    """

    coords: np.ndarray
    features: np.ndarray
    edges: np.ndarray
    cluster: np.ndarray


def cluster_graph(
    coords: np.ndarray, features: np.ndarray, how: Linkage, furthest: float, whole: int = _WHOLE
) -> ClusterGraph:
    """Clusters of alike neighbouring tiles, linked to those beside them (Lu 2022, 2.2).

    Where four centres lie on a circle (on an exact grid), either diagonal is Delaunay's; which one depends on the order
    of the clusters, and so on ``whole``.

    Args:
        coords: float64 [n, 2], px.
        features: float64 [n, d].
        how: see ``Linkage``.
        furthest: px that an edge spans at most.
        whole: see ``cluster_tiles``.
    """
    labels = cluster_tiles(coords, features, how, whole)
    sizes = np.bincount(labels)
    gather = csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(len(sizes), len(labels)))
    # Sums first: a mean that ends in .5 must do so exactly, or it is rounded to the wrong side.
    centres = np.rint(gather @ coords / sizes[:, None])
    edges = touching(centres, furthest)
    order = np.lexsort((centres[:, 1], centres[:, 0]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    edges = np.unique(place[edges], axis=1)
    return ClusterGraph(centres[order], (gather @ features / sizes[:, None])[order], edges, place[labels])


@dataclass(frozen=True)
class FeatureGraph:
    """HEAT's graph of a slide.

    Attributes:
        edges: int64 [2, E] (source, target): from each node to its neighbours, sorted.
        similarity: float32 [E], Pearson's r of both nodes' features (0 where one does not vary).
        signs: int64 [E], 1 where similarity is above 0, else 0.
    """

    edges: Tensor
    similarity: Tensor
    signs: Tensor


def feature_graph(features: Tensor, neighbours: int) -> FeatureGraph:
    """Edges from each tile to those most like it (Chan 2023, 3.2).

    Args:
        features: float32 [n, d].
        neighbours: of each; all others where there are fewer.
    """
    nearest = nearest_features(features, neighbours)
    sources = torch.arange(len(features), device=features.device).repeat_interleave(nearest.shape[1])
    targets = nearest.sort(1).values.flatten()
    similarity = torch.cat(
        [
            _pearson(features[one], features[two])
            for one, two in zip(torch.split(sources, _PAIRS // 16), torch.split(targets, _PAIRS // 16), strict=True)
        ]
    )
    return FeatureGraph(torch.stack([sources, targets]), similarity, (similarity > 0).long())


def nearest_features(features: Tensor, neighbours: int) -> Tensor:
    """The nearest other rows of each row by Euclidean distance, exactly (ties: the first), int64 [n, k].

    Candidates are found block by block after the mean was taken off (in float32 where there are many rows); their
    distances in float64 choose.
    """
    n = len(features)
    k = min(neighbours, n - 1)
    wide = min(k + _SPARE, n - 1)
    centred = features - features.mean(0) if n > _EXACT else features.double() - features.double().mean(0)
    squares = (centred**2).sum(1)
    own = torch.arange(n, device=features.device)
    chosen = []
    for rows in torch.split(own, max(1, _BLOCK // n)):
        far = squares - 2 * centred[rows] @ centred.T
        far[torch.arange(len(rows), device=far.device), rows] = torch.inf
        candidates = far.topk(wide, largest=False).indices.sort(1).values
        for some, others in zip(torch.split(rows, 1024), torch.split(candidates, 1024), strict=True):
            exact = (features[others].double() - features[some, None].double()).square().sum(-1)
            chosen.append(others.gather(1, exact.argsort(dim=1, stable=True)[:, :k]))
    return torch.cat(chosen)


def _pearson(one: Tensor, two: Tensor) -> Tensor:
    one, two = one.double(), two.double()
    one, two = one - one.mean(1, keepdim=True), two - two.mean(1, keepdim=True)
    scale = (one.square().sum(1) * two.square().sum(1)).sqrt()
    r = (one * two).sum(1) / torch.where(scale > 0, scale, torch.ones_like(scale))
    return torch.where(scale > 0, r, torch.zeros_like(r)).float()
