"""The presenter of the demo clip: a MakeHuman figure (shape, clothes, rig, face), its motion and its objects.

Knows MPFB's rig and Blender's materials and meshes; `makehuman` reads the files. Knows nothing of
the room, the camera or the clip; `presenter_clip` says which packages it needs.

Figure space is MakeHuman's (decimetres, y up, facing +z); world is Blender's (metres, z up, camera along +y).
Shapes: V vertices, B bones. `posed_from_rest` is (B, 3, 4).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import bpy  # type: ignore[import-not-found]
import numpy as np

from engine.data.bake.makehuman import Assets, Mesh, Proxy

SUIT, HAIR, SKIN = "male_casualsuit01", "short02", "young_lightskinned_male_diffuse2.png"
SHAPE = {  # MakeHuman's targets and how much of each
    "macrodetails/caucasian-male-young": 1.0,
    "macrodetails/universal-male-young-minmuscle-averageweight": 0.3,
    "macrodetails/universal-male-young-averagemuscle-minweight": 0.2,
    "head/head-scale-horiz-incr": 0.22,
    "proportions/male-young-averagemuscle-averageweight-idealproportions": 0.2,
    "head/head-scale-vert-incr": 0.22,
    "head/head-scale-depth-incr": 0.22,
}
Z = (0.0, 0.0, 1.0)


def rotation(axis: Sequence[float] | np.ndarray, angle_deg: float) -> np.ndarray:
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    k, a = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), math.radians(angle_deg)
    return np.asarray(np.eye(3) + math.sin(a) * k + (1 - math.cos(a)) * k @ k)  # Rodrigues


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shortest turn that brings direction `a` onto direction `b`."""
    axis = np.cross(a, b)
    return rotation(axis, math.degrees(math.atan2(float(np.linalg.norm(axis)), float(a @ b))))


class Figure:
    """The presenter: shape, rig, and the vertices of every part for a moment of the loop."""

    def __init__(self, assets: Assets) -> None:
        self.assets, self.mesh = assets, Mesh(assets.find("3dobjs/base.obj"))
        self.base, count = self.mesh.vertices.copy(), len(self.mesh.vertices)
        for name, amount in SHAPE.items():
            self.base += amount * assets.target(f"{name}.target.gz", count)
        self.face_offsets: dict[str, np.ndarray] = {}
        self.proxies = {n: Proxy(assets, n) for n in (SUIT, HAIR, "eyebrow001", "eyelashes01", "teeth_base")}
        rig = json.loads(assets.find("standard/rig.default.json").read_text())
        self.parents = {bone: rig[bone]["parent"] or "" for bone in rig}
        self.bones: list[str] = []
        while len(self.bones) < len(rig):  # parents before children
            self.bones += [b for b in rig if b not in self.bones and self.parents[b] in ("", *self.bones)]
        self.heads = {b: self._joint(rig[b]["head"]) for b in self.bones}
        self.weights = np.zeros((count, len(self.bones)))
        bone_weights = json.loads(assets.find("standard/weights.default.json").read_text())["weights"]
        for bone, pairs in bone_weights.items():
            for vertex, weight in pairs if bone in rig else ():
                self.weights[vertex, self.bones.index(bone)] = weight
        self.weights[self.weights.sum(1) < 1e-6, self.bones.index("head")] = 1.0
        self.weights /= self.weights.sum(1, keepdims=True)
        self.proxy_weights = {
            n: np.einsum("vk,vkb->vb", p.weights, self.weights[p.anchors]) for n, p in self.proxies.items()
        }
        self.floor = self.base[self.mesh.vertices_of("body"), 1].min()

    def _joint(self, spec: dict[str, Any]) -> np.ndarray:
        if spec["strategy"] == "CUBE":
            indices: Any = self.mesh.vertices_of(spec["cube_name"])
        else:
            indices = spec.get("vertex_indices") or [spec["vertex_index"]]
        return np.asarray(self.base[indices].mean(0))

    def posed_from_rest(self, turns: dict[str, np.ndarray]) -> np.ndarray:
        """The frame of every bone; `turns` are local rotations in the axes of the rest pose."""
        out: dict[str, np.ndarray] = {"": np.eye(3, 4)}
        for bone in self.bones:
            above, head = out[self.parents[bone]], self.heads[bone]
            turn = above[:, :3] @ turns.get(bone, np.eye(3))
            out[bone] = np.column_stack([turn, above[:, :3] @ head + above[:, 3] - turn @ head])
        return np.array([out[b] for b in self.bones])

    def reach(
        self,
        turns: dict[str, np.ndarray],
        side: str,
        wrist: np.ndarray,
        pole: np.ndarray,
        twist_deg: float,
        bend_deg: float,
    ) -> None:
        """Two-bone reach of the wrist to a point, the elbow towards `pole`; adds to `turns`."""
        above = self.posed_from_rest(turns)[self.bones.index(f"shoulder01.{side}")]
        rest = [self.heads[f"{b}.{side}"] for b in ("upperarm01", "lowerarm01", "wrist")]
        shoulder = above[:, :3] @ rest[0] + above[:, 3]
        upper, lower = (float(np.linalg.norm(b - a)) for a, b in pairwise(rest))
        distance = min(float(np.linalg.norm(wrist - shoulder)), (upper + lower) * 0.995)
        line = (wrist - shoulder) / np.linalg.norm(wrist - shoulder)
        along = (upper**2 - lower**2 + distance**2) / (2 * distance)  # law of cosines
        away = pole - line * (pole @ line)
        elbow = shoulder + line * along + away / np.linalg.norm(away) * math.sqrt(max(upper**2 - along**2, 0))
        back, fore = above[:, :3].T, rest[2] - rest[1]
        first = rotation_between(rest[1] - rest[0], back @ (elbow - shoulder))
        turns[f"upperarm01.{side}"] = first
        forearm = shoulder + line * distance - elbow
        turns[f"lowerarm01.{side}"] = rotation_between(fore, first.T @ back @ forearm)
        turns[f"lowerarm02.{side}"] = rotation(fore, twist_deg * 0.55)
        # At rest the thumb points along z, so that turning about z flexes hand and fingers.
        turns[f"wrist.{side}"] = rotation(Z, bend_deg) @ rotation(fore, twist_deg * 0.45)

    def pose(self, theta: float) -> dict[str, np.ndarray]:
        """World vertices of the base mesh (under "") and of every proxy."""
        face, turns = motion(self, theta)
        base = self.base.copy()
        for name, amount in face.items():
            if name not in self.face_offsets:
                self.face_offsets[name] = self.assets.target(f"{name}.target", len(base))
            base += amount * self.face_offsets[name]
        frames, out = self.posed_from_rest(turns), {}
        parts = [("", base, self.weights)]
        parts += [(n, p.fit(base), self.proxy_weights[n]) for n, p in self.proxies.items()]
        for name, rest, weights in parts:
            blend = np.tensordot(weights, frames, 1)  # linear blend skinning: v' = sum_b w_b (R_b v + t_b)
            v = np.einsum("vij,vj->vi", blend[:, :, :3], rest) + blend[:, :, 3]
            out[name] = np.stack([v[:, 0], -v[:, 2], v[:, 1] - self.floor], 1) * 0.1
        return out


def motion(figure: Figure, theta: float) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Face units and bone turns at `theta`: speech, glances, breath, a blink, two gesturing arms."""

    def wave(*terms: tuple[int, float]) -> float:
        return sum(a * math.cos(k * theta) for k, a in terms)

    speech = min(max(0.0, 0.42 + wave((11, -0.28), (17, 0.24), (23, -0.16), (4, 0.12))), 0.85)
    rounded = max(0.0, wave((7, 0.30), (13, 0.25)))
    blink = max(math.exp(-(((theta - moment) / 0.045) ** 2)) for moment in (0.62, 2.05))
    both = {  # on the left and on the right
        "mouthLowerDown": 0.35 * speech,
        "mouthUpperUp": 0.15 * speech,
        "mouthSmile": 0.72 + wave((2, 0.15)),
        "cheekSquint": 0.15,
        "eyeBlink": 0.95 * blink,
        "eyeWide": 0.06 * (1 - blink),
        "browOuterUp": 0.3 + wave((3, 0.2), (6, 0.1)),
    }
    face = {
        "jawOpen": 0.26 * speech,
        "mouthFunnel": 0.25 * rounded,
        "mouthPucker": 0.15 * rounded,
        "browInnerUp": 0.4 + wave((3, 0.15), (5, 0.15)),
        **{name + side: amount for name, amount in both.items() for side in ("Left", "Right")},
    }
    nod, shake = wave((3, 1.6), (5, 1.5), (8, 0.8)), wave((1, 5.0), (2, 3.0), (4, 1.5))
    tilt, sway, breath = wave((2, 2.0), (3, 1.2)), wave((1, 1.5), (2, 0.8)), math.sin(2.0 * theta) ** 2
    x, y = (1, 0, 0), (0, 1, 0)
    turns = {
        "spine04": rotation(y, 0.5 * sway) @ rotation(Z, 0.6 * sway),
        "spine02": rotation(y, sway) @ rotation(x, 1.0 - 0.9 * breath + wave((3, 0.5))),
        "neck01": rotation(y, 0.4 * shake) @ rotation(x, 0.4 * nod),
        "head": rotation(y, 0.6 * shake) @ rotation(x, 0.6 * nod) @ rotation(Z, tilt),
    }
    for side, sign in (("L", 1.0), ("R", -1.0)):
        turns[f"eye.{side}"] = rotation(y, -0.7 * shake) @ rotation(x, -0.7 * nod)
        turns[f"clavicle.{side}"] = rotation(Z, sign * (-1.0 + 1.2 * breath))
        lead = wave((1, 0.42), (2, -0.28), (4, 0.14), (6, 0.07)) * (1.0 if side == "R" else -0.8)
        wide = 0.5 + lead  # 0: hand low before the waist; 1: out and up, palm to the listener
        wrist = figure.heads["spine03"] + np.array(
            [sign * (1.35 + 1.5 * wide), 0.35 + 0.9 * wide + wave((5, 0.12), (9, 0.06)), 3.1 - 0.3 * wide]
        )
        figure.reach(
            turns,
            side,
            wrist,
            np.array([sign * 0.4, -1.0, -0.5]),
            -sign * (5.0 + 60.0 * wide),
            sign * (6.0 * wide - wave((5, 6.0))),
        )
        for finger in range(2, 6):
            curl_deg = (26.0 - 12.0 * wide) * (0.55 + 0.15 * finger)
            for joint, share in ((1, 0.6), (2, 1.0), (3, 0.6)):
                turns[f"finger{finger}-{joint}.{side}"] = rotation(Z, -sign * share * curl_deg)
    return face, turns


def material(name: str, **values: float | Sequence[float]) -> tuple[bpy.types.Material, bpy.types.Node]:
    """A principled material and its node; keyword `base_color` sets the socket "Base Color"."""
    look = bpy.data.materials.new(name)
    look.use_nodes = True
    node = look.node_tree.nodes["Principled BSDF"]
    for socket in node.inputs:
        value = values.get(socket.name.lower().replace(" ", "_"))
        if isinstance(value, tuple) and socket.type == "RGBA":
            value = (*value, 1.0)
        if value is not None:
            socket.default_value = value
    return look, node


def relief(
    look: bpy.types.Material,
    scale: float,
    strength: float,
    stretch: Sequence[float] = (1, 1, 1),
    colours: Sequence[Sequence[float]] = (),
    coordinates: str = "Object",
) -> None:
    """Noise as bumps and, between two `colours`, as pattern: pores, plaster, hair, wood grain."""
    nodes, link = look.node_tree.nodes, look.node_tree.links.new
    place, mapping = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMapping")
    noise, bump, node = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeBump"), nodes["Principled BSDF"]
    mapping.inputs["Scale"].default_value = stretch
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = scale, 8.0 if colours else 4.0
    bump.inputs["Strength"].default_value, bump.inputs["Distance"].default_value = strength, 0.002
    link(place.outputs[coordinates], mapping.inputs["Vector"])
    link(mapping.outputs[0], noise.inputs["Vector"])
    link(noise.outputs["Fac"], bump.inputs["Height"])
    link(bump.outputs[0], node.inputs["Normal"])
    if colours:
        ramp = nodes.new("ShaderNodeValToRGB")
        for element, colour, position in zip(ramp.color_ramp.elements, colours, (0.35, 0.68), strict=True):
            element.color, element.position = (*colour, 1.0), position
        link(noise.outputs["Fac"], ramp.inputs[0])
        link(ramp.outputs[0], node.inputs["Base Color"])


def pictured(
    name: str,
    source: Path | np.ndarray,
    socket: str = "Base Color",
    alpha: bool = False,
    tint: Sequence[float] = (1, 1, 1),
    **values: float | Sequence[float],
) -> bpy.types.Material:
    """A material whose `socket` shows a file or (H, W, 3) pixels, top row first, times `tint`."""
    look, node = material(name, **values)
    nodes, link = look.node_tree.nodes, look.node_tree.links.new
    texture, mix = nodes.new("ShaderNodeTexImage"), nodes.new("ShaderNodeMix")
    texture.extension = "EXTEND"
    if isinstance(source, Path):
        texture.image = bpy.data.images.load(str(source))
    else:
        texture.image = bpy.data.images.new(name, source.shape[1], source.shape[0], float_buffer=True)
        pixels = np.dstack([source, np.ones(source.shape[:2])])[::-1]
        texture.image.pixels.foreach_set(pixels.astype("f").ravel())
        texture.image.pack()
    mix.data_type, mix.blend_type = "RGBA", "MULTIPLY"
    mix.inputs["Factor"].default_value, mix.inputs[7].default_value = 1.0, (*tint, 1.0)
    link(texture.outputs["Color"], mix.inputs[6])
    link(mix.outputs[2], node.inputs[socket])
    if alpha:
        link(texture.outputs["Alpha"], node.inputs["Alpha"])
    return look


def solid(
    name: str,
    vertices: Sequence[Sequence[float]] | np.ndarray,
    faces: Sequence[Any] | np.ndarray,
    look: bpy.types.Material,
    uvs: np.ndarray | None = None,
    smooth: bool = True,
) -> bpy.types.Object:
    """A mesh object; `uvs` holds one row for every corner of every face."""
    data = bpy.data.meshes.new(name)
    data.from_pydata(np.asarray(vertices, float).tolist(), [], [list(map(int, f)) for f in faces])
    if uvs is not None:
        data.uv_layers.new().data.foreach_set("uv", np.asarray(uvs, "f").ravel())
    if smooth:
        data.shade_smooth()
    data.materials.append(look)
    thing = bpy.data.objects.new(name, data)
    bpy.context.collection.objects.link(thing)
    return thing


class Presenter:
    """The figure as Blender objects; `show` poses them."""

    def __init__(self, assets: Assets) -> None:
        self.figure = figure = Figure(assets)
        self.shape = figure.pose(0.0)
        self.things: list[tuple[bpy.types.Object, np.ndarray, str]] = []
        mesh, hidden = figure.mesh, set().union(*(p.hidden for p in figure.proxies.values()))
        flesh = pictured(
            "skin",
            assets.find(SKIN),
            roughness=0.48,
            specular_ior_level=0.4,
            subsurface_weight=0.25,
            subsurface_radius=(1.0, 0.32, 0.16),
            subsurface_scale=0.012,
        )
        relief(flesh, 420.0, 0.12)
        body = [i for i in mesh.faces_of("body") if not hidden.issuperset(mesh.faces[i])]
        self._add("", mesh, body, 1, flesh)
        for group in ("helper-l-eye", "helper-r-eye"):
            self._add("", mesh, mesh.faces_of(group), 1, self._eye(group))
        cloth = pictured(
            "cloth", assets.find(f"{SUIT}_diffuse.png"), alpha=True, roughness=0.85, sheen_weight=0.15
        )
        nodes, link = cloth.node_tree.nodes, cloth.node_tree.links.new
        normal, texture = nodes.new("ShaderNodeNormalMap"), nodes.new("ShaderNodeTexImage")
        texture.image = bpy.data.images.load(str(assets.find(f"{SUIT}_normal.png")))
        texture.image.colorspace_settings.name = "Non-Color"
        link(texture.outputs["Color"], normal.inputs["Color"])
        link(normal.outputs[0], nodes["Principled BSDF"].inputs["Normal"])
        hair = pictured(
            "hair",
            assets.find(f"{HAIR}_diffuse.png"),
            alpha=True,
            tint=(0.75, 0.62, 0.52),
            roughness=0.7,
            specular_ior_level=0.2,
        )
        relief(hair, 40.0, 0.8, (14.0, 1.0, 1.0), coordinates="UV")
        teeth = pictured("teeth", assets.find("teeth.png"), tint=(0.9, 0.88, 0.84), roughness=0.25)
        brow, lash = (
            pictured(n, assets.find(f"{n}.png"), alpha=True, roughness=0.7)
            for n in ("eyebrow001", "eyelashes01")
        )
        for name, look, smooth in (
            (SUIT, cloth, 1),
            (HAIR, hair, 0),
            ("teeth_base", teeth, 1),
            ("eyebrow001", brow, 0),
            ("eyelashes01", lash, 0),
        ):
            part = figure.proxies[name].mesh
            self._add(name, part, range(len(part.faces)), smooth, look)

    def _add(
        self, part: str, mesh: Mesh, keep: Sequence[int] | np.ndarray, smooth: int, look: bpy.types.Material
    ) -> None:
        corners = np.concatenate([mesh.faces[i] for i in keep])
        used = np.unique(corners)
        uvs = mesh.uvs[np.concatenate([mesh.face_uvs[i] for i in keep])]
        thing = solid(
            part or look.name,
            self.shape[part][used],
            [np.searchsorted(used, mesh.faces[i]) for i in keep],
            look,
            uvs,
        )
        if smooth:
            thing.modifiers.new("smooth", "SUBSURF").render_levels = smooth
        self.things.append((thing, used, part))

    def _eye(self, group: str) -> bpy.types.Material:
        """Iris and pupil by the distance from the eye's axis, kept in the UVs: they turn with it."""
        mesh, rest = self.figure.mesh, self.figure.base
        used = rest[mesh.vertices_of(group)]
        centre, radius = (used.max(0) + used.min(0)) / 2, np.ptp(used[:, 1]) / 2
        for i in mesh.faces_of(group):
            local = (rest[mesh.faces[i]] - centre) / radius
            mesh.uvs[mesh.face_uvs[i]] = 0.5 + 0.5 * local[:, :2] + np.where(local[:, 2:] < 0, 9.0, 0.0)
        y, x = np.mgrid[-1:1:512j, -1:1:512j]
        r, angle = np.hypot(x, y)[..., None], np.arctan2(y, x)[..., None]
        fibres = 0.8 + 0.2 * np.sin(angle * 37 + 3 * np.sin(angle * 11)) * np.cos(r * 40)
        iris = np.array([0.16, 0.085, 0.035]) * fibres * (0.7 + 1.6 * (0.46 - r).clip(0))
        limbus = np.exp(-(((r - 0.43) / 0.045) ** 2))
        picture = np.where(r < 0.43, iris, [0.62, 0.56, 0.53]) * (1 - 0.8 * limbus)
        return pictured(
            "eye",
            np.where(r < 0.17, 0.003, picture),
            roughness=0.08,
            coat_weight=1.0,
            coat_roughness=0.02,
            specular_ior_level=0.6,
        )

    def show(self, theta: float) -> None:
        self.shape = self.figure.pose(theta)
        for thing, used, part in self.things:
            thing.data.vertices.foreach_set("co", self.shape[part][used].astype("f").ravel())
            thing.data.update()
