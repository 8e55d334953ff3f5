"""Identity of cells: the benchmark's md5 and a fast 64-bit key of the same construction.

Both are Weisfeiler-Lehman hashes: a vertex starts from (out-degree, in-degree, label), and as
many rounds as the cell has vertices mix in the sorted values of its in- and out-neighbours.
The md5 follows ``hash_module`` of google-research/nasbench to the letter.
"""

from __future__ import annotations

from hashlib import md5

import numpy as np
from numpy.typing import NDArray

# The benchmark hashes input as -1, operations as 0, 1, 2 and output as -2; indexed by op id.
_LABELS = np.array([-1, 0, 1, 2, -2], dtype=np.int64)


def official_hashes(adjacency: NDArray[np.uint8], ops: NDArray[np.int8]) -> list[str]:
    """Return the 32 hexadecimal digits of each pruned, padded cell.

    adjacency: (B, N, N) uint8; ops: (B, N) int8, -1 = padding.
    """
    out_degree, in_degree = adjacency.sum(2, dtype=np.int64), adjacency.sum(1, dtype=np.int64)
    starts = np.stack([out_degree, in_degree, _LABELS[ops]], axis=2)
    triples, start_of = np.unique(starts.reshape(-1, 3), axis=0, return_inverse=True)
    names = np.array([md5(str(tuple(t)).encode()).hexdigest() for t in triples.tolist()])
    first_hashes = names[start_of].reshape(ops.shape)
    # Cells share few wirings: the neighbour lists are made once for each.
    wirings = np.concatenate([np.packbits(adjacency.reshape(len(ops), -1), axis=1), ops >= 0], 1)
    _, example, wiring_of = np.unique(wirings, axis=0, return_index=True, return_inverse=True)
    neighbours = [_neighbours(adjacency[i], ops[i] >= 0) for i in example]
    return [
        _hash_module(*neighbours[wiring], hashes)
        for wiring, hashes in zip(wiring_of.tolist(), first_hashes.tolist(), strict=True)
    ]


def _neighbours(
    edges: NDArray[np.uint8], real: NDArray[np.bool_]
) -> tuple[list[int], list[tuple[int, list[int], list[int]]]]:
    """Return the vertices and, for each, itself, its sources and its targets."""
    vertices = np.flatnonzero(real).tolist()
    return vertices, [
        (v, np.flatnonzero(edges[:, v]).tolist(), np.flatnonzero(edges[v]).tolist())
        for v in vertices
    ]


def _hash_module(
    vertices: list[int], neighbours: list[tuple[int, list[int], list[int]]], hashes: list[str]
) -> str:
    """Run the rounds of the benchmark's ``hash_module``, from the hashes of the N vertices."""
    for _ in vertices:
        rounds = hashes.copy()
        for own, sources, targets in neighbours:
            before = "".join(sorted([hashes[w] for w in sources]))
            after = "".join(sorted([hashes[w] for w in targets]))
            rounds[own] = md5(f"{before}|{after}|{hashes[own]}".encode()).hexdigest()
        hashes = rounds
    return md5(str(sorted([hashes[v] for v in vertices])).encode()).hexdigest()


def isomorphism_keys(adjacency: NDArray[np.uint8], ops: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Return (B,) keys, equal for isomorphic pruned cells and, over this space, only for those.

    The construction of the md5 with a sum of mixed 64-bit values in place of sorted strings.
    That all 423,624 cells have different keys is a test, not a proof.
    """
    edges = np.ascontiguousarray(adjacency.transpose(1, 2, 0)).astype(bool)  # (N, N, B)
    n = len(edges)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    real = np.where(ops.T >= 0, ~np.uint64(0), np.uint64(0))
    degrees = edges.sum(1, dtype=np.uint64) * np.uint64(8) + edges.sum(0, dtype=np.uint64)
    values = _mix(degrees * np.uint64(8) + (ops.T + 1).astype(np.uint64)) & real
    for _ in range(n - 1):
        spread = _mix(values)
        before, after = np.zeros_like(values), np.zeros_like(values)
        for i, j in pairs:
            before[j] += spread[i] * edges[i, j]
            after[i] += spread[j] * edges[i, j]
        mixed = _mix(before + np.uint64(1)) + np.uint64(3) * _mix(after + np.uint64(2))
        values = _mix(mixed + np.uint64(7) * values) & real
    return _mix(_mix(values).sum(0, dtype=np.uint64))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit values (the finaliser of SplitMix64)."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
