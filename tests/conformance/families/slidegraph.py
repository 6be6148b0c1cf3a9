"""Cases of family slidegraph."""

from __future__ import annotations

from typing import Any

import numpy as np

from restain.her2.graphs import Linkage, cluster_graph
from restain.her2.models.slidegraph import CONSTANT, Config, GraphNetwork, Pooling

from ..reading import Answers, Arrays, Options, load, tensor


def graph(o: Options, x: Arrays) -> dict[str, Any]:
    varying = np.ptp(x["features"], axis=0) > CONSTANT  # on this slide, as released
    how = Linkage(o["lambda_d"], o["lambda_f"], o["cluster_cut"])
    found = cluster_graph(x["coords"].astype(float), x["features"][:, varying].astype(float), how, o["edge_max"])
    return {"cluster_coords": found.coords, "cluster_features": found.features, "edges": found.edges}


def model(o: Options, x: Arrays) -> dict[str, Any]:
    config = Config(widths=tuple(o["layers"]), pooling=Pooling(o["pooling"]))
    network = GraphNetwork(x["features"].shape[1], o["dim_target"], config)
    load(network, x, "model", {"mode": "eval"})
    scores = network(*(tensor(x, name) for name in ("features", "edges", "graph_of_node")))
    return {"graph_scores": scores.graphs, "node_scores": scores.nodes, "node_features": scores.features}


KINDS: Answers = {"slidegraph/graph": graph, "slidegraph/model": model}
