"""Winding of dual-grid quads on any torch device; same result as :mod:`voxlume.ovoxel.orient`.

Boruvka's algorithm in place of Kruskal's: in each round every component takes its first edge to another
one, all at once. Edge numbers are unique, so both grow the same minimal spanning forest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.ovoxel.orient import LINE_BITS, inward_components


def flipped_quads_torch(quads: Tensor, axes: Tensor, coords: Tensor, vertices: Tensor) -> Tensor:
    """Which quads must be reversed to make the winding consistent and outward.

    Parameters
    ----------
    quads : int64 (q, 4), corners in the order of the extraction.
    axes : int64 (q,), the axis of the voxel edge each quad crosses.
    coords : integer (n, 3), the voxels.
    vertices : float (n, 3), their dual vertices in the model frame.

    Returns
    -------
    bool (q,) on the same device.
    """
    if not len(quads):
        return torch.zeros(0, dtype=torch.bool, device=quads.device)
    links = edge_links(quads, axes, len(vertices))
    root, flipped = propagate(links, len(quads))
    is_root = root == torch.arange(len(root), device=root.device)
    component = (is_root.cumsum(0) - 1)[root]
    seen = _seen_from_outside(quads, axes, coords)
    moments = _component_moments(quads, vertices, seen, flipped, component)
    inward = torch.from_numpy(inward_components(moments.cpu().numpy())).to(quads.device)
    return flipped ^ inward[component]


def edge_links(quads: Tensor, axes: Tensor, num_voxels: int) -> Tensor:
    """int64 (e, 2), ascending by edge: the two quads of each manifold edge, as 2 * quad + backwards."""
    s, t = (axes + 2) % 3, (axes + 1) % 3
    a, b, _, d = quads.unbind(1)
    edges = torch.stack([3 * a + s, 3 * b + t, 3 * d + s, 3 * a + t], 1).reshape(-1)
    backwards = torch.tensor([0, 0, 1, 1], device=quads.device)
    entries = (2 * torch.arange(len(quads), device=quads.device)[:, None] + backwards).reshape(-1)
    count = torch.zeros(3 * num_voxels, dtype=torch.int32, device=quads.device)
    count.scatter_add_(0, edges, torch.ones_like(edges, dtype=torch.int32))
    blank = torch.zeros(3 * num_voxels, dtype=torch.int64, device=quads.device)
    first = blank.scatter_reduce(0, edges, entries, "amin", include_self=False)
    second = blank.scatter_reduce(0, edges, entries, "amax", include_self=False)
    manifold = count == 2
    return torch.stack([first[manifold], second[manifold]], 1)


def propagate(links: Tensor, num_quads: int) -> tuple[Tensor, Tensor]:
    """Root of each quad's component, and its flip against the component's first quad, (q,) each."""
    device = links.device
    everyone = torch.arange(num_quads, device=device)
    # Parity is the flip against the parent. Links are kept between the roots of their two ends.
    parent, parity = everyone.clone(), torch.zeros(num_quads, dtype=torch.bool, device=device)
    i, j = links[:, 0] >> 1, links[:, 1] >> 1
    relation = (links[:, 0] & 1) == (links[:, 1] & 1)
    while len(i):
        number = torch.arange(len(i), device=device)
        first = torch.full((num_quads,), len(i), device=device)
        first.scatter_reduce_(0, i, number, "amin").scatter_reduce_(0, j, number, "amin")
        roots = (first < len(i)).nonzero()[:, 0]
        edge = first[roots]
        other = i[edge] + j[edge] - roots
        # Where two components took the same edge, the lower one stays a root.
        moves = (first[other] != edge) | (other < roots)
        roots, edge, other = roots[moves], edge[moves], other[moves]
        parent[roots], parity[roots] = other, relation[edge]
        _shorten(parent, parity, roots)
        relation = relation ^ parity[i] ^ parity[j]
        i, j = parent[i], parent[j]
        apart = i != j
        i, j, relation = i[apart], j[apart], relation[apart]
    _shorten(parent, parity, everyone)
    first = torch.full_like(parent, num_quads).scatter_reduce(0, parent, everyone, "amin")
    return parent, parity ^ parity[first[parent]]


def _shorten(parent: Tensor, parity: Tensor, items: Tensor) -> None:
    """Let each of ``items`` point straight at its root, in place."""
    while True:
        above = parent[items]
        top = parent[above]
        if bool((top == above).all()):
            return
        parity[items] = parity[items] ^ parity[above]
        parent[items] = top


def _seen_from_outside(quads: Tensor, axes: Tensor, coords: Tensor) -> Tensor:
    """+1 for the first quad of its grid line, -1 for the last, 0 between and for the only one, int8 (q,)."""
    places = coords.long()[quads[:, 0]]
    around = (axes[:, None] + torch.tensor([1, 2, 0], device=axes.device)) % 3
    p, q, along = torch.gather(places, 1, around).unbind(1)
    keys = (((((axes << LINE_BITS) | p) << LINE_BITS) | q) << LINE_BITS) | along
    keys, order = keys.sort()
    line = keys >> LINE_BITS
    change = torch.ones(len(line) + 1, dtype=torch.int8, device=axes.device)
    change[1:-1] = line[1:] != line[:-1]
    seen = torch.empty_like(change[1:])
    seen[order] = change[:-1] - change[1:]
    return seen


def _component_moments(
    quads: Tensor, vertices: Tensor, seen: Tensor, flipped: Tensor, component: Tensor
) -> Tensor:
    """float64 (k, 10), the sums that :func:`voxlume.ovoxel.orient.inward_components` takes."""
    corners = vertices.double()[quads]
    p0, p1, p2, p3 = corners.unbind(1)
    sign = 1.0 - 2.0 * flipped.double()
    vector = torch.linalg.cross(p2 - p0, p3 - p1) / 2
    cone = (p0 * (torch.linalg.cross(p1, p2) + torch.linalg.cross(p2, p3))).sum(1) / 6
    rows = torch.cat(
        [
            (seen * sign)[None],
            (cone * sign)[None],
            (vector * sign[:, None]).T,
            corners.mean(1).T,
            vector.norm(dim=1)[None],
            torch.ones_like(sign)[None],
        ]
    )
    # Running sums of the rows sorted by component: no atomics on the few counters of large components.
    _, order = component.sort(stable=True)
    ends = torch.bincount(component).cumsum(0)
    sums = rows[:, order].cumsum(1)[:, ends - 1]
    return torch.diff(sums, dim=1, prepend=torch.zeros_like(sums[:, :1])).T.contiguous()
