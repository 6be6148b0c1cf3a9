"""Optimisers of slide models, Lookahead among them, and the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from restain.her2.train_options import Optimiser, Schedule, Updates

LOOKAHEAD_STEPS, LOOKAHEAD_PULL = 6, 0.5
"""k and alpha of Lookahead (Zhang 2019, Sec. 5 uses 5 to 10 and 0.5)."""
PLATEAU_FACTOR = 0.5


class Updater:
    """An optimiser with its schedule; its whole state can be saved.

    With ``radam_lookahead`` the weights are pulled every k updates to a slow copy that moves half way to them: slow +=
    alpha (fast - slow), fast = slow (Zhang 2019, Alg. 1).

    Args:
        parameters: what is trained.
        options: optimiser, rate, decay, schedule.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], options: Updates) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.options = options
        kinds: dict[Optimiser, Callable[..., torch.optim.Optimizer]] = {
            Optimiser.adam: torch.optim.Adam,
            Optimiser.adamw: torch.optim.AdamW,
            Optimiser.radam_lookahead: partial(torch.optim.RAdam, decoupled_weight_decay=True),
        }
        self.optimizer = kinds[options.optimizer](self.parameters, lr=options.rate, weight_decay=options.weight_decay)
        self.slow: list[Tensor] | None = None
        if options.optimizer is Optimiser.radam_lookahead:
            self.slow = [parameter.detach().clone() for parameter in self.parameters]
        self.steps = 0
        self.factor, self.best, self.waited = 1.0, math.inf, 0

    def begin_epoch(self, epoch: int) -> float:
        """Set the rate of epoch ``epoch`` (from 1); the rate."""
        factor = self.factor
        if self.options.schedule is Schedule.cosine:
            factor = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.options.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * factor
        return self.options.rate * factor

    def end_epoch(self, loss: float | None) -> None:
        """Tell ``plateau`` the validation loss."""
        if self.options.schedule is not Schedule.plateau or loss is None:
            return
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= self.options.plateau_patience:
            self.factor, self.waited = self.factor * PLATEAU_FACTOR, 0

    def step(self) -> None:
        """One update from the gradients that are there; they are gone afterwards."""
        if self.options.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        if self.slow is not None and self.steps % LOOKAHEAD_STEPS == 0:
            with torch.no_grad():
                for slow, fast in zip(self.slow, self.parameters, strict=True):
                    slow.add_(fast - slow, alpha=LOOKAHEAD_PULL)
                    fast.copy_(slow)

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        best = None if math.isinf(self.best) else self.best
        counts = {"steps": self.steps, "factor": self.factor, "best": best, "waited": self.waited}
        return {"optimizer": self.optimizer.state_dict(), "slow": self.slow, **counts}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        optimizer = state["optimizer"]
        numbered = {int(number): value for number, value in optimizer["state"].items()}
        self.optimizer.load_state_dict(optimizer | {"state": numbered})
        if self.slow is not None:
            for own, saved in zip(self.slow, state["slow"], strict=True):
                own.copy_(saved)
        self.steps, self.factor, self.waited = state["steps"], state["factor"], state["waited"]
        self.best = math.inf if state["best"] is None else state["best"]
