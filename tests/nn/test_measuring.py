"""Networks as instruments: the same features whatever the batch, the threads and who asks at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import numpy as np
import pytest
import torch
from torch import nn

from restain.nn.inception import inception_input
from restain.nn.measuring import BATCH, _number_lock, features_of, measuring, ready, unit_images

Image = np.ndarray


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return ready(nn.Sequential(*layers))


@pytest.fixture
def images() -> list[Image]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (30 + n, 40, 3), dtype=np.uint8) for n in range(BATCH + 3)]


def features(images: list[Image], network: nn.Module) -> np.ndarray:
    return features_of(images, lambda image: inception_input(unit_images(image)), network)


def test_features_do_not_depend_on_batches_and_threads(network: nn.Module, images: list[Image]) -> None:
    together = features(images, network)
    assert together.shape == (BATCH + 3, 6)
    assert together.dtype == np.float32
    assert np.allclose(together, np.concatenate([features([image], network) for image in images]), atol=1e-6)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            assert np.array_equal(features(images, network), together)
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)


def test_many_may_ask_at_a_time(network: nn.Module, images: list[Image]) -> None:
    threads = torch.get_num_threads()
    expected = features(images[:4], network)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: features(images[:4], network), range(24)):
            assert np.array_equal(found, expected)
    assert torch.get_num_threads() == threads


def test_measuring_keeps_no_graph_and_survives_errors() -> None:
    threads = torch.get_num_threads()
    weight = torch.ones(1, requires_grad=True)
    with measuring():
        assert not (weight * 2).requires_grad
    with pytest.raises(ZeroDivisionError), measuring():
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == threads
    assert (weight * 2).requires_grad


def test_unit_images() -> None:
    image = np.array([[[0, 51, 255]]], np.uint8)
    assert torch.equal(unit_images(image, image)[1, :, 0, 0].cpu(), torch.tensor([0, 0.2, 1]))


@pytest.fixture
def several() -> Iterator[int]:
    """This thread, and those to come, have three threads of torch's each."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_one_thread_each_whoever_comes_and_goes(several: int) -> None:
    """Two threads measure in turns that overlap, again and again; a third begins to use torch meanwhile."""
    inside, outside = [], []
    entered, left = [Event() for _ in range(6)], [Event() for _ in range(6)]

    def measure(first: int) -> None:
        for turn in range(first, 6, 2):
            if turn:
                entered[turn - 1].wait(10)
            with measuring():
                entered[turn].set()
                if turn < 5:
                    entered[turn + 1].wait(10)
                if turn:
                    left[turn - 1].wait(10)
                inside.append(torch.get_num_threads())
            outside.append(torch.get_num_threads())
            left[turn].set()

    threads = [Thread(target=measure, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    entered[0].wait(10)
    with _number_lock, ThreadPoolExecutor(1) as pool:  # not in the moment in which a number is being set
        assert pool.submit(torch.get_num_threads).result() == several
    for thread in threads:
        thread.join(20)
    assert inside == [1] * 6
    assert outside == [several] * 6
    assert torch.get_num_threads() == several
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == several


def test_networks_that_measure_within_networks(several: int) -> None:
    with measuring():
        with measuring():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == several
