"""HEAT: a heterogeneous graph of tiles that are alike, with attention for each kind of relation.

Paper: Chan et al., "Histopathology whole slide image analysis with heterogeneous graph representation learning", CVPR
2023.
Authors' code: no licence (HKU-MedAI/WSI-HGNN). None of it is here.
Differs: neighbours are exact, not approximate. Types of tiles come from a classifier of nuclei where the bag has one
(``Bag.kinds``); without it all tiles are of one type. As released: an edge runs from a tile to its neighbours, the
softmax is per relation, relations that the graph has are averaged, and there is neither GELU nor norm. Order of tiles
is of no account.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from restain.core.errors import RestainError
from restain.her2.bag import Bag
from restain.her2.base import SlideConfig, SlideModel, SlideOutput, divides, register_model, share_by_score
from restain.her2.graphs import FeatureGraph, feature_graph

SIGNS = 2
"""Kinds of edges: r at most 0, r above 0."""


class Pooling(StrEnum):
    """How the tiles of a type become one vector."""

    mean = "mean"
    sum = "sum"


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of HEAT.

    Attributes:
        width: of the nodes, 256 (Chan 2023, 4; METHODS: hidden).
        depth: layers, 2.
        heads: 4.
        neighbours: of each tile in the space of features, 8.
        node_types: types of tiles that ``Bag.kinds`` tells apart; 1 where there is no classifier of nuclei (6 with the
            authors').
        pooling: mean (released) or sum.
        dropout: 0.2 of what a layer adds.
    """

    width: int = 256
    depth: int = 2
    heads: int = 4
    neighbours: int = 8
    node_types: int = 1
    pooling: Pooling = Pooling.mean
    dropout: float = 0.2


def linears(types: int, inputs: int, outputs: int) -> nn.ModuleList:
    """One linear layer a type."""
    return nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(types))


def by_type(layers: nn.ModuleList, x: Tensor, kinds: Tensor) -> Tensor:
    """Each row of x [n, inputs] through the layer of its type [n], [n, outputs]."""
    if len(layers) == 1:
        out: Tensor = layers[0](x)
        return out
    rows = [(kinds == number).nonzero()[:, 0] for number in range(len(layers))]
    moved = torch.cat([layer(x[own]) for layer, own in zip(layers, rows, strict=True)])
    return moved[torch.cat(rows).argsort()]


class HEATLayer(nn.Module):
    """Attention over the incoming edges of a node, relation by relation (Chan 2023, Eq. 3 to 6).

    A relation is a type of source, a sign, a type of target. Keys and values come from the source's type, queries from
    the target's; a score is q k e(r) / sqrt(d) with e a learned line of the similarity r. What the relations of a
    target's type bring is averaged; a type that no relation targets keeps its features.

    Args:
        width: of the nodes.
        heads: that share it.
        types: of nodes.
        dropout: of what is added.
    """

    def __init__(self, width: int, heads: int, types: int, dropout: float) -> None:
        super().__init__()
        divides(width, heads)
        self.heads, self.types = heads, types
        self.k_linears, self.q_linears, self.v_linears, self.a_linears = (
            linears(types, width, width) for _ in range(4)
        )
        self.e_linear = nn.Linear(1, 1)
        self.skip = nn.Parameter(torch.ones(types))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, kinds: Tensor, graph: FeatureGraph) -> Tensor:
        """Nodes [n, width] of types [n] to the same shape."""
        if not graph.edges.shape[1]:
            return x
        source, target = graph.edges
        relation = (kinds[source] * SIGNS + graph.signs) * self.types + kinds[target]
        present = torch.bincount(relation, minlength=self.types * SIGNS * self.types)
        count = (present.view(-1, self.types) > 0).sum(0)  # relations that target each type
        group, members = torch.unique(target * len(present) + relation, return_inverse=True)[0:2]
        k, q, v = (
            by_type(layers, x, kinds).view(len(x), self.heads, -1)
            for layers in (self.k_linears, self.q_linears, self.v_linears)
        )
        scale = self.e_linear(graph.similarity[:, None].to(x))[:, 0] / k.shape[-1] ** 0.5
        brought = []
        for head in range(self.heads):  # edges x width is held for one head at a time
            scores = (k[source, head] * q[target, head]).sum(1) * scale
            share = group_softmax(scores, members, len(group)) / count[kinds[target]]
            brought.append(x.new_zeros(len(x), v.shape[-1]).index_add(0, target, share[:, None] * v[source, head]))
        added = self.dropout(by_type(self.a_linears, torch.cat(brought, 1), kinds))
        gate = torch.sigmoid(self.skip)[kinds, None]
        return torch.where(count[kinds, None] > 0, added * gate + x * (1 - gate), x)


def group_softmax(scores: Tensor, members: Tensor, groups: int) -> Tensor:
    """Softmax of scores [E] within the groups whose numbers are ``members`` [E]."""
    highest = scores.new_full((groups,), -torch.inf).scatter_reduce(0, members, scores.detach(), "amax")
    raised = torch.exp(scores - highest[members])
    return raised / scores.new_zeros(groups).index_add(0, members, raised)[members]


@register_model("heat", paper="Chan et al., CVPR 2023", code_licence="none")
class HEAT(SlideModel):
    """Tiles adapted by type, layers of attention, and a score of each type's pooled tiles; the scores are summed."""

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.config: Config
        types, width = config.node_types, config.width
        self.gcs = nn.ModuleList(HEATLayer(width, config.heads, types, config.dropout) for _ in range(config.depth))
        self.adapt_ws = linears(types, in_dim, width)
        self.linears_prediction = linears(types, width, classes)

    def nodes(self, features: Tensor, kinds: Tensor, graph: FeatureGraph) -> Tensor:
        """Tiles [n, d] to nodes [n, width] after all layers."""
        x = by_type(self.adapt_ws, features, kinds)
        for layer in self.gcs:
            x = layer(x, kinds, graph)
        return x

    def scores(self, nodes: Tensor, kinds: Tensor) -> Tensor:
        """Nodes [n, width] to logits [C]: pooled by type, scored by type, summed."""
        logits = nodes.new_zeros(self.classes)
        for number, score in enumerate(self.linears_prediction):
            own = nodes[kinds == number]
            if len(own):
                logits = logits + score(own.mean(0) if self.config.pooling is Pooling.mean else own.sum(0))
        return logits

    def kinds(self, bag: Bag) -> Tensor:
        """The type of each tile, int64 [n]."""
        if bag.kinds is None or self.config.node_types == 1:
            return torch.zeros(len(bag), dtype=torch.int64, device=bag.features.device)
        if not 0 <= int(bag.kinds.min()) <= int(bag.kinds.max()) < self.config.node_types:
            raise RestainError(
                f"{bag.name or 'bag'}: types of tiles go from {int(bag.kinds.min())} to {int(bag.kinds.max())}, but "
                f"the model has {self.config.node_types} (node_types)."
            )
        return bag.kinds

    def classify(self, bag: Bag) -> SlideOutput:
        """The graph's scores; tiles weigh by their own score for the class."""
        neighbours = self.config.neighbours
        graph = bag.remember(f"nearest {neighbours}", lambda: feature_graph(bag.features, neighbours))
        device = bag.features.device
        graph = FeatureGraph(graph.edges.to(device), graph.similarity.to(device), graph.signs.to(device))
        kinds = self.kinds(bag)
        nodes = self.nodes(bag.features, kinds, graph)
        logits = self.scores(nodes, kinds)
        own = by_type(self.linears_prediction, nodes.detach(), kinds)[:, int(logits.argmax())]
        return SlideOutput(logits, share_by_score(own.detach()))

    def released_name(self, name: str) -> str | None:
        """Each layer has a linear map that nothing uses."""
        return None if re.fullmatch(r"gcs\.\d+\.weight\.\w+", name) else name
