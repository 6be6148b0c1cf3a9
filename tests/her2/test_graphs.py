"""Graphs of tiles: the neighbour-limited clustering against the full one, neighbours against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from restain.her2.graphs import (
    Linkage,
    cluster_graph,
    cluster_tiles,
    feature_graph,
    nearest_features,
    touching,
)
from restain.her2.models.slidegraph import EdgeConv, RunningNorm

HOW = Linkage(3e-3, 1e-3, 0.8)


def tiles(number: int, spread: float, seed: int, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of 256 px with holes between them, and features that lie ``spread`` apart."""
    chance = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(number / 0.7)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 256.0
    coords = grid[np.sort(chance.permutation(len(grid))[:number])]
    return coords, chance.normal(size=(number, dim)) * spread


def same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = np.unique(np.stack([one, two], 1), axis=0)
    return len(pairs) == len(np.unique(one)) == len(np.unique(two))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [0.0001, 1.0, 30.0, 150.0])
@pytest.mark.parametrize("number", [2, 3, 60, 700])
def test_pairs_within_reach_give_the_clusters_of_all_pairs(number: int, spread: float, seed: int) -> None:
    coords, features = tiles(number, spread, seed)
    full = cluster_tiles(coords, features, HOW, whole=number)
    near = cluster_tiles(coords, features, HOW, whole=0)
    assert same_partition(full, near)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95, 0.999, 1.0])
def test_they_agree_at_other_cuts_and_off_the_grid(cut: float) -> None:
    """At 0.999 nearly everything joins whose mean similarity is above 0.001: sums over far pairs matter."""
    chance = np.random.default_rng(5)
    coords, features = chance.random((400, 2)) * 6000, chance.normal(size=(400, 8)) * 40
    how = Linkage(3e-3, 1e-3, cut)
    full = cluster_tiles(coords, features, how, whole=400)
    assert same_partition(full, cluster_tiles(coords, features, how, whole=0))
    assert len(np.unique(full)) < 400


def test_ties_come_to_an_end() -> None:
    """Tiles that are all alike on a grid: every neighbour is as near as the next."""
    coords, _ = tiles(300, 1.0, 0)
    labels = cluster_tiles(coords, np.zeros((300, 4)), HOW, whole=0)
    assert 1 < len(np.unique(labels)) < 300


def test_a_cluster_never_exceeds_the_cut() -> None:
    """Mean dissimilarity between the two last parts of each cluster, by brute force: what is joined is alike."""
    coords, features = tiles(200, 20.0, 1)
    labels = cluster_tiles(coords, features, HOW, whole=0)
    alike = HOW.similarity(cdist(coords, coords), cdist(features, features))
    for one in np.unique(labels):
        for two in np.unique(labels):
            if one < two:
                between = alike[np.ix_(labels == one, labels == two)].mean()
                assert between < 0.2, "two clusters this alike would have joined"


@pytest.mark.parametrize("size", [6, 10, 12, 14])
def test_means_halfway_between_two_px_are_rounded_to_even(size: int) -> None:
    """The mean of consecutive whole numbers, an even count of them, ends in .5: in every cluster the same side."""
    starts = np.arange(60) * 9000
    coords = np.array([[start + i, 7.0] for start in starts for i in range(size)])
    graph = cluster_graph(coords, np.zeros((len(coords), 2)), HOW, 100)
    mean = starts + (size - 1) // 2
    assert graph.coords[:, 0].tolist() == (mean + mean % 2).tolist()


def test_edges_are_those_of_the_sorted_clusters() -> None:
    coords, features = tiles(60, 150.0, 0)
    coords = np.rint(coords + np.random.default_rng(1).normal(size=coords.shape) * 40)  # no four centres on a circle
    graph = cluster_graph(coords, features, HOW, 4000)
    assert np.array_equal(graph.edges, touching(graph.coords, 4000))


def test_order_of_tiles_changes_no_cluster() -> None:
    coords, features = tiles(300, 30.0, 2)
    order = np.random.default_rng(0).permutation(300)
    one = cluster_graph(coords, features, HOW, 4000)
    two = cluster_graph(coords[order], features[order], HOW, 4000)
    assert np.array_equal(one.coords, two.coords)
    assert np.array_equal(one.edges, two.edges)
    assert np.allclose(one.features, two.features)


@pytest.mark.parametrize(
    ("coords", "edges"),
    [
        ([[0, 0]], []),
        ([[0, 0], [3, 4]], [(0, 1), (1, 0)]),
        ([[0, 0], [20, 0], [10, 0]], [(0, 2), (1, 2), (2, 0), (2, 1)]),
        ([[0, 0], [9, 0], [0, 9]], [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]),
        ([[0, 0], [0, 0]], [(0, 1), (1, 0)]),
        ([[0, 0], [500, 0]], []),
    ],
    ids=["one", "two", "on a line", "triangle", "same place", "too far"],
)
def test_few_clusters_are_linked(coords: list[list[float]], edges: list[tuple[int, int]]) -> None:
    found = touching(np.array(coords, float), 100)
    assert found.shape[0] == 2
    assert [tuple(pair) for pair in found.T.tolist()] == edges


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_nearest_features_are_those_of_brute_force(offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)) + offset
    away = torch.from_numpy(cdist(features.double(), features.double()))
    away.fill_diagonal_(torch.inf)
    expected = away.argsort(1)[:, :8].sort(1).values
    assert torch.equal(nearest_features(features, 8).sort(1).values, expected)
    monkeypatch.setattr("restain.her2.graphs._EXACT", 10)  # the way of large bags: float32, in blocks
    monkeypatch.setattr("restain.her2.graphs._BLOCK", 2000)
    assert torch.equal(nearest_features(features, 8).sort(1).values, expected)


def test_similarity_is_pearsons_r_and_the_sign_its_sign() -> None:
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    graph = feature_graph(features, 4)
    r = np.corrcoef(features.numpy().astype(np.float64))
    assert np.allclose(graph.similarity, r[graph.edges[0], graph.edges[1]], atol=1e-6)
    assert torch.equal(graph.signs, (graph.similarity > 0).long())
    assert torch.equal(graph.edges[0], torch.arange(30).repeat_interleave(4))


@pytest.mark.parametrize("number", [1, 2, 5])
def test_fewer_tiles_than_neighbours_are_all_neighbours(number: int) -> None:
    graph = feature_graph(torch.randn(number, 6), 8)
    assert graph.edges.shape == (2, number * (number - 1))
    flat = feature_graph(torch.ones(number, 6), 8)
    assert (flat.similarity == 0).all(), "features that do not vary have no correlation"


def test_edge_convolution_takes_the_maximum_over_incoming_edges() -> None:
    torch.manual_seed(0)
    layer = EdgeConv(3, 4).eval()
    x = torch.randn(4, 3)
    edges = torch.tensor([[0, 1, 3], [2, 2, 0]])
    out = layer(x, edges)
    first = [layer.nn(torch.cat([x[2], x[j] - x[2]])[None])[0] for j in (0, 1)]
    assert torch.allclose(out[2], torch.maximum(*first), atol=1e-6)
    assert torch.equal(out[[1, 3]], torch.zeros(2, 4))


def test_running_norm_keeps_what_tells_bags_apart() -> None:
    """Batch statistics over bags are found, and a bag keeps its distance from the mean in training."""
    norm = RunningNorm(1).train()
    chance = torch.Generator().manual_seed(0)
    for number in range(400):
        out = norm(torch.randn(50, 1, generator=chance) + 4 * (number % 2))
    assert float(norm.running_mean) == pytest.approx(2, abs=0.4)
    assert float(norm.running_var) == pytest.approx(5, rel=0.25)
    assert float(out.detach().mean()) == pytest.approx(2 / 5**0.5, abs=0.25)
    assert norm(torch.zeros(1, 1)).isfinite().all()
