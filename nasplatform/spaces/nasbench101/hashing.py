"""Identity of cells: the benchmark's md5 and a fast 64-bit key of the same construction.

Both are Weisfeiler-Lehman hashes: a vertex starts from (out-degree, in-degree, label), and as
many rounds as the cell has vertices mix in the sorted values of its in- and out-neighbours.
The md5 follows ``hash_module`` of google-research/nasbench to the letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5

import numpy as np
from numpy.typing import NDArray

# The benchmark hashes input as -1, operations as 0, 1, 2 and output as -2; indexed by op id.
_LABELS = np.array([-1, 0, 1, 2, -2], dtype=np.int64)
_HEX = np.frombuffer(bytes(range(256)).hex().encode(), np.uint16)  # two characters of a byte
_FEW = 32  # up to here the plain loop is the faster way
_AT_ONCE = 1 << 17  # vertices whose messages stand in memory together

_Vertices = NDArray[np.intp]


def official_hashes(adjacency: NDArray[np.uint8], ops: NDArray[np.int8]) -> list[str]:
    """Return the 32 hexadecimal digits of each pruned, padded cell.

    adjacency: (B, N, N) uint8; ops: (B, N) int8, -1 = padding.
    """
    if len(ops) <= _FEW:
        return [_hash_module(*pair) for pair in zip(adjacency, ops, strict=True)]
    names = np.empty(len(ops), "S32")
    sizes = (ops >= 0).sum(1)
    for n in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == n)
        real = [*range(n - 1), ops.shape[1] - 1]
        digests = _hash_modules(adjacency[rows][:, real][:, :, real], ops[rows][:, real])
        names[rows] = _texts(digests).view("S32")[:, 0]
    return [name.decode() for name in names.tolist()]


def _hash_module(adjacency: NDArray[np.uint8], ops: NDArray[np.int8]) -> str:
    """Hash one padded cell, adjacency (N, N) and ops (N,), as the benchmark's own code does."""
    edges, labels = adjacency.tolist(), ops.tolist()
    vertices = [v for v, label in enumerate(labels) if label >= 0]
    sources = {v: [w for w in vertices if edges[w][v]] for v in vertices}
    targets = {v: [w for w in vertices if edges[v][w]] for v in vertices}
    hashes = {
        v: _md5(str((len(targets[v]), len(sources[v]), int(_LABELS[labels[v]])))) for v in vertices
    }
    for _ in vertices:
        hashes = {
            v: _md5(
                "".join(sorted([hashes[w] for w in sources[v]]))
                + f"|{''.join(sorted([hashes[w] for w in targets[v]]))}|{hashes[v]}"
            )
            for v in vertices
        }
    return _md5(str(sorted(hashes.values())))


def _md5(text: str) -> str:
    return md5(text.encode()).hexdigest()


def _hash_modules(adjacency: NDArray[np.uint8], ops: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Do the same for B cells of n vertices each, all at once; return digests (B, 16).

    adjacency: (B, n, n); ops: (B, n), no padding. The vertices of all cells are numbered
    through, B n of them; those with equal degrees have messages of equal length.
    """
    n_cells, n = ops.shape
    starts = np.stack([adjacency.sum(2), adjacency.sum(1), _LABELS[ops]]).astype(np.int64)
    places = starts[0] * 64 + starts[1] * 8 + starts[2]
    _, example, start_of = np.unique(places, return_index=True, return_inverse=True)
    triples = starts.reshape(3, -1)[:, example].T.tolist()
    digests = _joined([str(tuple(triple)).encode() for triple in triples])[start_of.ravel()]
    groups = list(_surroundings(adjacency))
    for _ in range(n):
        texts, words = _texts(digests), _leading_words(digests)
        digests = np.empty_like(digests)
        for vertices, sources, targets in groups:
            before, after = _sorted_by(words, sources), _sorted_by(words, targets)
            messages = _messages(texts[before], texts[after], texts[vertices])
            digests[vertices] = _joined(messages.view(f"V{messages.shape[1]}").ravel().tolist())
    vertices = np.arange(n_cells * n).reshape(n_cells, n)
    ordered = _texts(digests)[_sorted_by(_leading_words(digests), vertices)]
    blank = np.frombuffer(str(["_" * 32] * n).encode(), np.uint8)
    listed = np.tile(blank, (n_cells, 1))
    listed[:, blank == ord("_")] = ordered.reshape(n_cells, -1)
    return _joined(listed.view(f"V{len(blank)}").ravel().tolist())


def _surroundings(
    adjacency: NDArray[np.uint8],
) -> Iterator[tuple[_Vertices, _Vertices, _Vertices]]:
    """Yield vertices of equal degrees (M,), their sources (M, in) and targets (M, out)."""
    n = adjacency.shape[1]
    incoming, outgoing = adjacency.sum(1).ravel(), adjacency.sum(2).ravel()
    degrees = incoming * n + outgoing
    into = np.ascontiguousarray(adjacency.transpose(0, 2, 1)).reshape(-1, n)
    out = adjacency.reshape(-1, n)
    for degree in np.unique(degrees).tolist():
        every = np.flatnonzero(degrees == degree)
        for start in range(0, len(every), _AT_ONCE):
            vertices = every[start : start + _AT_ONCE]
            first = (vertices - vertices % n)[:, None]
            sources, targets = (
                first + np.nonzero(edges[vertices])[1].reshape(len(vertices), -1)
                for edges in (into, out)
            )
            yield vertices, sources, targets


def _sorted_by(words: NDArray[np.uint64], vertices: _Vertices) -> _Vertices:
    """Order each row of vertices (M, k) by their words."""
    order = np.argsort(words[vertices], axis=1)
    ordered: _Vertices = np.take_along_axis(vertices, order, axis=1)
    return ordered


def _messages(
    before: NDArray[np.uint8], after: NDArray[np.uint8], own: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return ``before|after|own`` of M vertices, (M, k, 32), (M, l, 32), (M, 32), as bytes."""
    rows = len(own)
    bar = np.full((rows, 1), ord("|"), np.uint8)
    parts = (before.reshape(rows, -1), bar, after.reshape(rows, -1), bar, own)
    return np.concatenate(parts, axis=1)


def _joined(messages: list[bytes]) -> NDArray[np.uint8]:
    """Return the md5 of every message, (M, 16)."""
    digests = b"".join([md5(message).digest() for message in messages])
    return np.frombuffer(digests, np.uint8).reshape(-1, 16)


def _texts(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the hexadecimal digits of digests (M, 16) as characters (M, 32)."""
    return _HEX[digests].view(np.uint8)


def _leading_words(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return (M,) numbers that compare as the hexadecimal texts do, but for a 64-bit collision."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").ravel().astype(np.uint64)


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
