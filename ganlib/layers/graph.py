r"""Layers for dense graphs: what a network must be made of to see a graph, and not the order of its nodes.

A graph of V nodes is two tensors of one-hot rows, or of points between them where it is relaxed: nodes
``(N, V, T)`` with T node types, and edges ``(N, V, V, B)`` with B edge types, of which type 0 is "no edge".
:func:`pack` puts both into one tensor, so that whatever works on a batch of tensors works on graphs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pack(nodes: Tensor, edges: Tensor) -> Tensor:
    """One tensor for a batch of graphs: each node's type, and beside it its row of edges.

    Args:
        nodes: ``(N, V, T)``.
        edges: ``(N, V, V, B)``.

    Returns:
        ``(N, V, T + V B)``. An edge between two nodes stands in it twice, once in the row of each.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if nodes.ndim != 3 or edges.ndim != 4 or edges.shape[:3] != (*nodes.shape[:2], nodes.shape[1]):
        raise ValueError(
            f"nodes must be (N, V, T) and edges (N, V, V, B), got {tuple(nodes.shape)}, {tuple(edges.shape)}"
        )
    return torch.cat([nodes, edges.flatten(2)], 2)


def unpack(graphs: Tensor, node_types: int) -> tuple[Tensor, Tensor]:
    """The nodes ``(N, V, T)`` and edges ``(N, V, V, B)`` that :func:`pack` put together, without a copy.

    Raises:
        ValueError: unless ``graphs`` is ``(N, V, T + V B)`` for T ``node_types`` and some B.
    """
    size = graphs.shape[-2] if graphs.ndim == 3 else 0
    width = graphs.shape[-1] - node_types
    if size < 1 or width < size or width % size:
        raise ValueError(
            f"graphs must be (N, V, {node_types} + V * B) for {node_types} types of nodes, "
            f"got {tuple(graphs.shape)}"
        )
    return graphs[..., :node_types], graphs[..., node_types:].unflatten(2, (size, -1))


class RelationalGraphConvolution(nn.Module):
    r"""Each node hears from its neighbours, through a matrix of its own for each type of edge.

    .. math:: h'_i = W_0 h_i + b + \sum_{j} \sum_{y=1}^{B-1} A_{ijy} W_y h_j

    Type 0, "no edge", carries no message: who is not connected is not heard. Relabel the nodes and the rows
    of the output are relabelled with them (the layer is equivariant). Half an edge, :math:`A_{ijy} = 1/2`,
    carries half a message, so the layer is differentiable in the graph itself. Linear: an activation goes
    after it.

    Args:
        features: length of a node's vector h.
        outputs: length of :math:`h'`.
        edge_types: B, "no edge" among them; at least 2.

    Raises:
        ValueError: if an argument is too small, or on a call if shapes do not fit together.

    Source: Schlichtkrull et al. 2018, "Modeling Relational Data with Graph Convolutional Networks", with
    sums over neighbours in place of means, as in the authors' code of De Cao and Kipf 2018, section 3.2.
    There each :math:`W_y` has a bias too; a node's one-hot type among its features, which adds up to 1,
    holds it already. Lecture: UBC "MolGANs".
    """

    def __init__(self, features: int, outputs: int, edge_types: int) -> None:
        super().__init__()
        for name, value, least in (("features", features, 1), ("outputs", outputs, 1),
                                   ("edge_types", edge_types, 2)):  # fmt: skip
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.edge_types = edge_types
        # W_0 ... W_(B-1) side by side: one product for all of them.
        self.linear = nn.Linear(edge_types * features, outputs)

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        """Nodes ``(N, V, features)``, edges ``(N, V, V, B)`` -> ``(N, V, outputs)``."""
        n, v = h.shape[:2]
        if edges.shape != (n, v, v, self.edge_types):
            raise ValueError(
                f"edges must be {(n, v, v, self.edge_types)} for nodes {tuple(h.shape)}, "
                f"got {tuple(edges.shape)}"
            )
        # For each node and type the sum of its neighbours' vectors, then the matrices.
        kinds = edges[..., 1:].transpose(2, 3).reshape(n, v * (self.edge_types - 1), v)
        heard = (kinds @ h).view(n, v, -1)
        return self.linear(torch.cat([h, heard], 2))


class GatedSum(nn.Module):
    r"""A graph's vector from those of its nodes: a sum in which each node decides what it adds.

    .. math:: h_G = \tanh \sum_{v} \sigma(W_i h_v + b_i) \odot \tanh(W_j h_v + b_j)

    A sum has no order, so that relabelling the nodes changes nothing (the layer is invariant).

    Args:
        features: length of a node's vector.
        outputs: length of the graph's.

    Raises:
        ValueError: if an argument is less than 1.

    Source: Li et al. 2016, "Gated Graph Sequence Neural Networks", and De Cao and Kipf 2018, section 3.2.
    Lecture: UBC "MolGANs".
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        for name, value in (("features", features), ("outputs", outputs)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.linear = nn.Linear(features, 2 * outputs)

    def forward(self, h: Tensor) -> Tensor:
        """Nodes ``(N, V, features)`` -> graphs ``(N, outputs)``, in (-1, 1)."""
        gate, value = self.linear(h).chunk(2, 2)
        return torch.tanh((torch.sigmoid(gate) * torch.tanh(value)).sum(1))
