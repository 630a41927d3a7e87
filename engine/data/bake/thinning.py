"""Thins out a surface once, so that every deformation of the original carries over to the few faces that
are left.

Knows meshes with islands of texture coordinates. Knows nothing of bodies, clothes or files. Only baking
needs it. Shapes: V vertices of the original; P points, C corners (points with a texture coordinate), N
faces of what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Part:
    """A decimated surface tied to the original: point p is the weighted mean of three original vertices."""

    anchors: np.ndarray  # P 3, vertices of the original mesh
    weights: np.ndarray  # P 3, sum one
    corner_points: np.ndarray  # C, into P
    uv: np.ndarray  # C 2, as in the original file (v up)
    faces: np.ndarray  # N 3, into C
    regions: np.ndarray  # N, region of each face

    def carry(self, values: np.ndarray) -> np.ndarray:
        """Values at the points, from (original vertices, D)."""
        return np.asarray(np.einsum("pk,pkd->pd", self.weights, values[self.anchors]))


def triangles(polygons: list[list[int]]) -> np.ndarray:
    """N 3: every polygon as a fan."""
    return np.array([[p[0], p[k], p[k + 1]] for p in polygons for k in range(1, len(p) - 1)], np.int64)


def islands(faces: np.ndarray, count: int) -> np.ndarray:
    """For every face the number of its connected piece, pieces counted by their first vertex."""
    label = np.arange(count)
    while True:
        least = label[faces].min(1)
        new = label.copy()
        np.minimum.at(new, faces.ravel(), np.repeat(least, 3))
        new = new[new]
        if (new == label).all():
            return np.asarray(np.unique(label[faces[:, 0]], return_inverse=True)[1])
        label = new


def nearest_points(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, among: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """Face and barycentric weights (n 3) of the closest points on a surface; candidates by nearest
    centroid."""
    corners = vertices[faces]
    centres, squared = corners.mean(1), (corners.mean(1) ** 2).sum(1)
    best_face, best_weights = np.zeros(len(points), int), np.zeros((len(points), 3))
    for start in range(0, len(points), 512):
        block = points[start : start + 512]
        distance = squared - 2 * block @ centres.T
        near = np.argpartition(distance, min(among, len(faces) - 1), axis=1)[:, :among]
        a, b, c = (corners[near, k] for k in range(3))
        weights = barycentric(block[:, None], a, b, c).clip(0)
        weights /= weights.sum(-1, keepdims=True)
        found = weights[..., :1] * a + weights[..., 1:2] * b + weights[..., 2:] * c
        pick = ((found - block[:, None]) ** 2).sum(-1).argmin(1)
        rows = np.arange(len(block))
        best_face[start : start + 512] = near[rows, pick]
        best_weights[start : start + 512] = weights[rows, pick]
    return best_face, best_weights


def barycentric(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Weights of p's projection into the plane of each triangle (Ericson, Real-Time Collision Detection,
    3.4)."""
    u, v, w = b - a, c - a, p - a
    uu, uv, vv, wu, wv = ((x * y).sum(-1) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    d = np.maximum(uu * vv - uv * uv, 1e-18)
    s, t = (vv * wu - uv * wv) / d, (uu * wv - uv * wu) / d
    return np.stack([1 - s - t, s, t], -1)


def decimated(
    vertices: np.ndarray,
    faces: np.ndarray,
    face_uvs: np.ndarray,
    uvs: np.ndarray,
    regions: np.ndarray,
    count: int,
) -> Part:
    """About `count` faces; texture coordinates and regions come from the nearest face of the same island."""
    used = np.unique(faces)
    compact = np.searchsorted(used, faces)
    points, thin = vertices[used], compact
    if len(faces) > count:
        import fast_simplification  # only who bakes needs it

        points, thin = fast_simplification.simplify(
            vertices[used].astype(np.float32), compact.astype(np.int32), target_count=count, agg=8
        )
    face, weights = nearest_points(points.astype(float), vertices, faces)
    owner = nearest_points(points[thin].mean(1).astype(float), vertices, faces)[0]
    island = islands(face_uvs, len(uvs))
    kind = island * (regions.max() + 1) + regions
    corner_uv = np.zeros((len(thin), 3, 2))
    for which in np.unique(kind[owner]):
        mine, theirs = np.flatnonzero(kind[owner] == which), np.flatnonzero(kind == which)
        hit, blend = nearest_points(points[thin[mine]].reshape(-1, 3).astype(float), vertices, faces[theirs])
        found = np.einsum("nk,nkd->nd", blend, uvs[face_uvs[theirs[hit]]])
        corner_uv[mine] = found.reshape(-1, 3, 2)
    key = np.column_stack([thin.ravel(), np.round(corner_uv.reshape(-1, 2) * 2048)])
    rows, corner = np.unique(key, axis=0, return_inverse=True)
    return Part(
        anchors=faces[face],
        weights=weights,
        corner_points=rows[:, 0].astype(int),
        uv=rows[:, 1:] / 2048,
        faces=corner.reshape(-1, 3),
        regions=regions[owner],
    )
