"""Reads MakeHuman's files: Wavefront meshes with groups, morph targets (`.target`), clothes and hair
(`.mhclo`).

Knows the file formats and how a garment hangs on the body. Knows nothing of shapes, skeletons or motion.

MakeHuman's space: decimetres, y up, facing +z. Shapes: V vertices.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


class Assets:
    """Files by name under some folders; of several with one name, the largest (Git LFS pointers are tiny)."""

    def __init__(self, *roots: Path) -> None:
        files = (p for root in roots for p in root.rglob("*") if p.is_file())
        self.paths = sorted(files, key=lambda p: p.stat().st_size)

    def find(self, ending: str) -> Path:
        hits = [p for p in self.paths if p.as_posix().endswith("/" + ending)]
        if not hits or hits[-1].read_bytes()[:12] == b"version http":
            raise FileNotFoundError(
                f"{ending!r} not found among the assets, or only as a Git LFS pointer; "
                "see the docstrings of engine/data/bake/presenter_clip.py and engine/data/bake/pack.py"
            )
        return hits[-1]

    def target(self, ending: str, count: int) -> np.ndarray:
        """A morph target as a dense (V, 3) offset."""
        data, offset = self.find(ending).read_bytes(), np.zeros((count, 3))
        for line in (gzip.decompress(data) if ending.endswith(".gz") else data).decode().splitlines():
            parts = line.split()
            if len(parts) == 4 and parts[0].isdigit():
                offset[int(parts[0])] = [float(x) for x in parts[1:]]
        return offset


class Mesh:
    """A Wavefront mesh, with the group of every face."""

    def __init__(self, path: Path) -> None:
        vertices, uvs, group = [], [], ""
        self.faces: list[list[int]] = []
        self.face_uvs: list[list[int]] = []
        self.groups: list[str] = []
        lines = (line.split() for line in path.read_text(errors="replace").splitlines())
        for word, *rest in filter(None, lines):
            if word == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif word == "vt":
                uvs.append([float(x) for x in rest[:2]])
            elif word == "g":
                group = rest[0]
            elif word == "f":
                corners = [[int(x) - 1 for x in token.split("/")[:2] if x] for token in rest]
                self.faces.append([c[0] for c in corners])
                self.face_uvs.append([c[-1] if len(c) > 1 else 0 for c in corners])
                self.groups.append(group)
        self.vertices, self.uvs = np.array(vertices), np.array(uvs or [[0.0, 0.0]])

    def faces_of(self, group: str) -> np.ndarray:
        return np.array([i for i, g in enumerate(self.groups) if g == group])

    def vertices_of(self, group: str) -> np.ndarray:
        return np.unique(np.concatenate([self.faces[i] for i in self.faces_of(group)]))


class Proxy:
    """A garment, hair or brows: every vertex hangs on three vertices of the base mesh (`.mhclo`)."""

    def __init__(self, assets: Assets, name: str) -> None:
        path = assets.find(f"{name}.mhclo")
        self.mesh = Mesh(path.with_suffix(".obj"))
        self.hidden: set[int] = set()  # base vertices under the garment
        scales, rows, section = {}, [], ""
        for parts in (line.split() for line in path.read_text(errors="replace").splitlines()):
            if not parts or parts[0].startswith("#"):
                continue
            if parts[0] in ("x_scale", "y_scale", "z_scale"):
                scales[parts[0]] = (int(parts[1]), int(parts[2]), float(parts[3]))
            elif parts[0] in ("verts", "delete_verts"):
                section = parts[0]
            elif parts[0].isdigit() and section == "verts":
                row = [float(x) for x in parts[:9]]
                rows.append(row if len(row) == 9 else [row[0]] * 3 + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
            elif parts[0].isdigit():
                for span in " ".join(parts).replace(" - ", "-").split():
                    low, _, high = span.partition("-")
                    self.hidden.update(range(int(low), int(high or low) + 1))
        table = np.array(rows)
        self.anchors, self.weights, self.offsets = table[:, :3].astype(int), table[:, 3:6], table[:, 6:9]
        self.scales = [scales[f"{axis}_scale"] for axis in "xyz"]

    def fit(self, base: np.ndarray) -> np.ndarray:
        scale = [abs(base[a, k] - base[b, k]) / rest for k, (a, b, rest) in enumerate(self.scales)]
        return np.asarray(np.einsum("vk,vkc->vc", self.weights, base[self.anchors]) + self.offsets * scale)
