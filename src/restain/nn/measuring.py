"""Frozen networks as instruments: the same numbers whoever asks, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import BoundedSemaphore, Lock, Thread
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restain.nn.devices import measuring_device

Network = TypeVar("Network", bound=nn.Module)
Answer = TypeVar("Answer")

BATCH = 16
"""Images that a network sees at a time."""

AT_A_TIME = 4
"""Networks of this process that compute at a time on the CPU, for each holds its activations; on a GPU it is one."""


_number_lock = Lock()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """In this thread torch's operations have one thread, as the count changes the last digits; afterwards as before.

    Several networks may measure at a time, in threads of their caller's: that is how all cores are used.
    """
    before = _set_number(1)
    try:
        yield
    finally:
        _set_number(before)


def _set_number(number: int) -> int:
    """Give torch's operations ``number`` threads in this thread, and in no other; the number that they had.

    ``torch.set_num_threads`` counts for the thread that calls it, and for every thread that begins to use torch later.
    The latter get back, from a thread made for that alone, what they would have begun with; only one that begins in
    this very moment keeps ``number``.
    """
    with _number_lock:
        own, others = torch.get_num_threads(), _in_a_new_thread(torch.get_num_threads)
        torch.set_num_threads(number)
        if others != number:
            _in_a_new_thread(partial(torch.set_num_threads, others))
        return own


def _in_a_new_thread(ask: Callable[[], Answer]) -> Answer:
    answers: list[Answer] = []
    thread = Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]


_on_cpu, _on_gpu = BoundedSemaphore(AT_A_TIME), Lock()


@contextmanager
def measuring() -> Iterator[None]:
    """No gradients, and the same arithmetic whoever asks: one thread on the CPU, float32 proper on a GPU.

    TF32, which cuDNN takes unasked, would change the third digit of a feature.
    """
    with torch.inference_mode():
        if measuring_device().type == "cpu":
            with _on_cpu, _one_thread_each():
                yield
        else:
            exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            with _on_gpu, exact:
                yield


def unit_images(*images: NDArray[np.uint8]) -> Tensor:
    """Images of one size, uint8 RGB [H, W, 3], as one batch [N, 3, H, W] in [0, 1] where networks measure."""
    batch = torch.from_numpy(np.stack(images)).to(measuring_device())
    return batch.permute(0, 3, 1, 2).float() / 255


def features_of(
    images: Sequence[NDArray[np.uint8]],
    prepare: Callable[[NDArray[np.uint8]], Tensor],
    network: Callable[[Tensor], Tensor],
) -> NDArray[np.float32]:
    """Features of many images, a batch at a time.

    Args:
        images: uint8 RGB [H, W, 3], of any sizes.
        prepare: an image to what the network wants, [1, 3, h, w], of one size whatever the image's.
        network: [n, 3, h, w] to [n, d], on ``measuring_device()``.

    Returns:
        float32 [len(images), d].
    """
    found = []
    for start in range(0, len(images), BATCH):
        with measuring():
            batch = torch.cat([prepare(image) for image in images[start : start + BATCH]])
            found.append(network(batch).float().cpu().numpy())
    return np.concatenate(found)


def ready(network: Network) -> Network:
    """``network``, frozen, where networks measure."""
    return network.to(measuring_device()).eval().requires_grad_(False)
