"""SlideGraph+: clusters of alike neighbouring tiles as nodes of a graph, scored by edge convolutions.

Paper: Lu et al., "SlideGraph+: Whole slide image level graphs to predict HER2 status in breast cancer", Medical Image
Analysis 2022.
Authors' code: GPL-3.0 (wenqi006/SlideGraph). None of it is here.
Differs: cross entropy of all classes in place of the original's pairwise hinge; columns of features that do not vary
are found over the training set (``fit``), not on each slide; slides with many tiles are clustered from pairs within
reach alone, with the same result but for exact ties; features are standardised over the training set before they are
compared; one or two clusters, or some on a line, have edges too; the best epoch is kept instead of the mean of the last
models; while training, a bag is normalised by the running statistics of all bags, for its
own would take away what tells slides apart (the released code normalises over batches of slides). Distances are in px
of tiles that are 256 px wide, whatever the slide's own px. Order of tiles is of no account.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.core.errors import RestainError
from restain.her2.bag import Bag
from restain.her2.base import SlideConfig, SlideModel, SlideOutput, register_model, share_by_score
from restain.her2.graphs import ClusterGraph, Linkage, cluster_graph

TILE = 256.0
"""px of a tile's side in which the distances of the paper are."""
CONSTANT = 1e-4
"""Range up to which a column of features does not vary (released)."""


class Pooling(StrEnum):
    """How the nodes' scores become the graph's."""

    mean = "mean"
    max = "max"
    add = "add"


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of SlideGraph+.

    Attributes:
        widths: of the layers, 16, 16 and 8 (released).
        pooling: mean (released), max or add.
        dropout: 0.5 of the pooled scores (released).
        lambda_d: 3e-3 per px (released).
        lambda_f: 1e-3 (released).
        cluster_cut: 0.8 (released).
        edge_max: 4000 px (released).
    """

    widths: tuple[int, ...] = (16, 16, 8)
    pooling: Pooling = Pooling.mean
    dropout: float = 0.5
    lambda_d: float = 3e-3
    lambda_f: float = 1e-3
    cluster_cut: float = 0.8
    edge_max: float = 4000.0


class RunningNorm(nn.BatchNorm1d):
    """Batch norm that normalises by the running statistics in training as well, after they took in what it sees.

    One bag is no batch: normalised by its own statistics, slides would lose what tells them apart, and training would
    see other values than prediction.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[n, width] to the same shape; any n."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        if self.training and len(x):
            with torch.no_grad():
                self.num_batches_tracked += 1
                rate = max(self.momentum or 0.1, 1 / float(self.num_batches_tracked))  # the first ones count in full
                apart = (x - self.running_mean).square().mean(0)  # between slides too, not only within this one
                self.running_var.lerp_(apart if self.num_batches_tracked > 1 else x.var(0, unbiased=False), rate)
                self.running_mean.lerp_(x.mean(0), rate)
        # Copies: another bag may change the statistics before the gradients of this one are computed.
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


def layer(inputs: int, outputs: int) -> nn.Sequential:
    """Linear, norm, ReLU."""
    return nn.Sequential(nn.Linear(inputs, outputs), RunningNorm(outputs), nn.ReLU())


class EdgeConv(nn.Module):
    """The maximum over a node's incoming edges of MLP([x_i, x_j - x_i]); 0 without any (Wang 2019).

    Args:
        inputs: width of the nodes.
        outputs: width of the result.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.nn = layer(2 * inputs, outputs)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Nodes [n, inputs] and edges [2, E] (source, target) to [n, outputs]."""
        source, target = edges
        messages: Tensor = self.nn(torch.cat([x[target], x[source] - x[target]], 1))
        into = target[:, None].expand_as(messages)
        return messages.new_zeros(len(x), messages.shape[1]).scatter_reduce(
            0, into, messages, "amax", include_self=False
        )


class Scores(NamedTuple):
    """Of graphs [graphs, C] and nodes [n, C], and the nodes' last features [n, width]."""

    graphs: Tensor
    nodes: Tensor
    features: Tensor


class GraphNetwork(nn.Module):
    """Layers that each score their nodes; a graph's score is the sum of the layers' pooled scores.

    Args:
        in_dim: width of the features.
        classes: scores.
        config: widths, pooling, dropout.
    """

    def __init__(self, in_dim: int, classes: int, config: Config) -> None:
        super().__init__()
        widths = config.widths
        self.pooling, self.dropout = config.pooling, config.dropout
        self.first_h = layer(in_dim, widths[0])
        self.convs = nn.ModuleList(EdgeConv(a, b) for a, b in pairwise(widths))
        self.linears = nn.ModuleList(nn.Linear(width, classes) for width in widths)

    def forward(self, features: Tensor, edges: Tensor, graph_of_node: Tensor) -> Scores:
        """Features [n, d], edges [2, E] and the graph of each node [n] to scores."""
        x = self.first_h(features)
        graphs = int(graph_of_node.max()) + 1
        nodes = torch.zeros((), device=x.device)
        pooled = torch.zeros((), device=x.device)
        for number, score in enumerate(self.linears):
            if number:
                x = self.convs[number - 1](x, edges)
            own = score(x)
            nodes = nodes + own
            pooled = pooled + F.dropout(self._pool(own, graph_of_node, graphs), self.dropout, self.training)
        return Scores(pooled, nodes, x)

    def _pool(self, scores: Tensor, graph_of_node: Tensor, graphs: int) -> Tensor:
        how = {Pooling.mean: "mean", Pooling.max: "amax", Pooling.add: "sum"}[self.pooling]
        into = graph_of_node[:, None].expand_as(scores)
        return scores.new_zeros(graphs, scores.shape[1]).scatter_reduce(0, into, scores, how, include_self=False)


@register_model("slidegraph", paper="Lu et al., Medical Image Analysis 2022", code_licence="GPL-3.0")
class SlideGraph(SlideModel):
    """Tiles to clusters to a graph to a score a class."""

    varying: Tensor

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.config: Config
        if not config.widths or min(config.widths) < 1:
            raise RestainError(f"widths are {list(config.widths)}; there is at least one layer, of at least 1.")
        self.network = GraphNetwork(in_dim, classes, config)
        self.register_buffer("varying", torch.ones(in_dim, dtype=torch.bool))

    def fit(self, bags: Iterable[Bag]) -> None:
        """Find the columns of features that vary over the training set; the others are left out from then on."""
        low = high = None
        for bag in bags:
            least, most = bag.features.amin(0), bag.features.amax(0)
            low = least if low is None else torch.minimum(low, least)
            high = most if high is None else torch.maximum(high, most)
        if low is not None and high is not None:
            self.varying.copy_((high - low) > CONSTANT)

    def graph(self, bag: Bag) -> ClusterGraph:
        """The graph of a bag, computed once."""
        config = self.config
        how = Linkage(config.lambda_d, config.lambda_f, config.cluster_cut)
        varying = self.varying.cpu().numpy()

        def compute() -> ClusterGraph:
            features = bag.features.detach().cpu().numpy()[:, varying].astype("float64")
            return cluster_graph(bag.grid * TILE, features, how, config.edge_max)

        return bag.remember(f"clusters {how} {config.edge_max} {varying.tobytes().hex()}", compute)

    def classify(self, bag: Bag) -> SlideOutput:
        """The graph's scores; tiles weigh by their cluster's score for the class."""
        graph = self.graph(bag)
        device = bag.features.device
        features = bag.features.new_zeros(len(graph.coords), self.in_dim)
        features[:, self.varying] = torch.from_numpy(graph.features).to(features)
        edges = torch.from_numpy(graph.edges).to(device)
        scores = self.network(features, edges, torch.zeros(len(features), dtype=torch.int64, device=device))
        logits = scores.graphs[0]
        own = scores.nodes.detach()[torch.from_numpy(graph.cluster).to(device), int(logits.argmax())]
        return SlideOutput(logits, share_by_score(own))

    def reference_keys(self) -> dict[str, str]:
        """Our keys to the released ones."""
        return {key: key.removeprefix("network.") for key in self.state_dict()}

    def released_name(self, name: str) -> str | None:
        """The layers of the convolutions are there twice."""
        return None if name.startswith("nns.") else name
