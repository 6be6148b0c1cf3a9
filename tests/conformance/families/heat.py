"""Cases of family heat."""

from __future__ import annotations

from typing import Any

from restain.her2.graphs import FeatureGraph, feature_graph
from restain.her2.models.heat import HEAT, Config, HEATLayer, Pooling

from ..reading import Answers, Arrays, Options, tensor
from .clam import load_model


def given(x: Arrays) -> FeatureGraph:
    return FeatureGraph(*(tensor(x, name) for name in ("edges", "similarity", "edge_types")))


def graph(o: Options, x: Arrays) -> dict[str, Any]:
    found = feature_graph(tensor(x, "features"), o["neighbours"])
    return {"edges": found.edges, "similarity": found.similarity, "edge_types": found.signs}


def layer(o: Options, x: Arrays) -> dict[str, Any]:
    network = HEATLayer(o["dim"], o["heads"], o["n_node_types"], 0.2).eval()
    network.load_state_dict({key: tensor(x, f"weights.layer.{key}") for key in network.state_dict()})
    return {"out": network(tensor(x, "features"), tensor(x, "node_types"), given(x))}


def model(o: Options, x: Arrays) -> dict[str, Any]:
    config = Config(
        width=o["dim"], depth=o["layers"], heads=o["heads"], node_types=o["n_node_types"], pooling=Pooling(o["pooling"])
    )
    network = load_model(HEAT(config, o["in_dim"], o["n_classes"]), x)
    kinds = tensor(x, "node_types")
    return {"logits": network.scores(network.nodes(tensor(x, "features"), kinds, given(x)), kinds)[None]}


KINDS: Answers = {"heat/graph": graph, "heat/layer": layer, "heat/model": model}
