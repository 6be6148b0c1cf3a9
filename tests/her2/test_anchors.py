"""Anchors and positions of tiles: against brute force, in any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans

from restain.her2.anchors import Positions, find_anchors, largest_distance, measure, positions_of

from .slide_models import make_bag, shuffled


def tissue(tiles: int, seed: int = 0) -> np.ndarray:
    """Places of tiles in two blobs of a grid, float64 [tiles, 2]."""
    chance = np.random.default_rng(seed)
    side = 2 * int(tiles**0.5) + 4
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(float)
    centres = np.array([[0.25, 0.3], [0.7, 0.75]]) * side
    near = np.sqrt(((grid[:, None] - centres) ** 2).sum(-1)).min(1)
    return chance.permutation(grid[np.argsort(near, kind="stable")[:tiles]])


@pytest.mark.parametrize(("tiles", "expected"), [(1, 1), (2, 1), (17, 1), (18, 2), (180, 11), (5000, 128)])
def test_one_anchor_for_eighteen_tiles_and_one_more(tiles: int, expected: int) -> None:
    anchors = find_anchors(tissue(tiles), 18, 128)
    assert 0.9 * expected <= len(anchors) <= expected
    assert len(np.unique(anchors)) == len(anchors)
    assert anchors.max() < tiles


def test_order_of_tiles_moves_no_anchor() -> None:
    places = tissue(700)
    order = np.random.default_rng(1).permutation(700)
    one, two = find_anchors(places, 18, 128), find_anchors(places[order], 18, 128)
    assert {tuple(place) for place in places[one]} == {tuple(place) for place in places[order][two]}


def test_anchors_are_as_near_as_those_of_another_k_means() -> None:
    """Mean squared distance to the nearest anchor, beside scikit-learn's centres (which need not be tiles)."""
    places = tissue(900)
    anchors = find_anchors(places, 18, 128)
    ours = ((places[:, None] - places[anchors]) ** 2).sum(-1).min(1).mean()
    theirs = -KMeans(len(anchors), n_init=3, random_state=0).fit(places).score(places) / len(places)
    assert ours < 1.25 * theirs


def test_tiles_in_one_place_have_one_anchor_and_no_distance() -> None:
    places = np.zeros((40, 2))
    anchors = find_anchors(places, 18, 128)
    assert len(anchors) == 1
    distance, polar = measure(places, anchors)
    assert (distance == 0).all()
    assert (polar == 4).all()


@pytest.mark.parametrize("places", [tissue(300), tissue(300) * 300 + 17, np.arange(40.0)[:, None] * [1.0, 2.0]])
def test_bins_are_those_of_the_formula(places: np.ndarray) -> None:
    anchors = np.array([0, 7, 20])
    distance, polar = measure(places, anchors)
    off = places[None] - places[anchors][:, None]
    length = np.sqrt((off**2).sum(-1))
    assert np.array_equal(distance, length // (pdist(places).max() / 64))
    degrees = np.degrees(np.arctan2(off[..., 1], off[..., 0]))
    assert np.array_equal(polar, np.minimum((degrees + 180) // 45, 7))


@pytest.mark.parametrize(
    "places",
    [
        np.random.default_rng(0).random((5000, 2)) * 100,
        np.stack([np.arange(3000.0), 2 * np.arange(3000.0)], 1),
        tissue(6000),
        np.array([[3.0, 4.0]]),
    ],
    ids=["scattered", "on a line", "grid", "one"],
)
def test_the_largest_distance_is_that_of_all_pairs(places: np.ndarray) -> None:
    assert largest_distance(places) == pytest.approx(pdist(places).max(initial=0), rel=1e-12)


def test_the_class_token_lies_at_the_mean_bin_cut_to_an_integer() -> None:
    bins = torch.tensor([[1, 2, 5], [0, 0, 64]], dtype=torch.uint8)
    both = Positions(bins, bins // 16).with_class_token()
    assert both.distance[:, 0].tolist() == [2, 21]
    assert both.polar[:, 0].tolist() == [0, 1]
    assert torch.equal(both.distance[:, 1:], bins)


def test_positions_follow_the_slide_not_its_pixels() -> None:
    """Row and column in tiles: the same slide in px half as large has the same positions, computed once a bag."""
    bag = make_bag(90)
    ordered, _ = bag.sorted()
    first = positions_of(ordered, 18, 128)
    assert positions_of(ordered, 18, 128).distance is first.distance
    half = type(bag)(ordered.features, ordered.coords / 2, 128.0)
    assert torch.equal(positions_of(half, 18, 128).distance, first.distance)
    other, _ = shuffled(bag)
    again, _ = other.sorted()
    assert torch.equal(again.coords, ordered.coords)
    assert torch.equal(positions_of(again, 18, 128).polar, first.polar)


def test_a_sorted_bag_says_where_each_tile_went() -> None:
    bag = make_bag(50)
    ordered, places = bag.sorted()
    assert torch.equal(ordered.coords[places], bag.coords)
    assert torch.equal(ordered.features[places], bag.features)
    rows = ordered.coords[:, 1]
    assert (rows.diff() >= 0).all()
