"""Draws a stage from many cameras at an instant: colour, depth and the people's matte, by OpenGL without a
screen.

Knows OpenGL (moderngl on EGL; Mesa's llvmpipe where there is no GPU) and the pinhole camera. Knows nothing
of how a stage is made up (`engine.data.scenes`), of camera paths or of files. Two shadow maps are drawn once
per instant and shared by all cameras.

World axes are OpenCV's (y down), metres. Buffers' first row is the top of the picture, so nothing is ever
flipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import moderngl
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Matrix
from engine.data.render import shaders
from engine.data.render.gpu import (
    SHADOW_SIZE,
    TEXTURE_SIZE,
    WHITE,
    four_channels,
    octahedral,
    open_context,
    put,
    put_matrix,
    shadow_map_texture,
    target_texture,
    texture_layer,
    vertices_by_material,
)
from engine.data.render.mesh import Floats
from engine.data.render.optics import clip_from_camera, clip_from_light, corners, outside, unit
from engine.data.render.stage import Stage, Thing, View

CONTACT_RADIUS_M = 0.28


@dataclass(eq=False)
class _Loaded:
    """A thing on the graphics card."""

    thing: Thing
    order: NDArray[np.int64]  # the mesh's vertex of each vertex on the card
    vertices: moderngl.Buffer
    surface: moderngl.VertexArray
    shadow: moderngl.VertexArray
    bounds: Floats  # 8 3, corners in the world; refreshed for what moves
    buffers: list[moderngl.Buffer] = field(default_factory=list)


class Renderer:
    """Owns an OpenGL context for pictures of one size. Not for use by several threads."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._gl = open_context()
        gl = self._gl
        self._surface = gl.program(
            vertex_shader=shaders.SURFACE_VERTEX, fragment_shader=shaders.SURFACE_FRAGMENT
        )
        self._shadow = gl.program(
            vertex_shader=shaders.SHADOW_VERTEX, fragment_shader=shaders.SHADOW_FRAGMENT
        )
        self._contact = self._screen(shaders.CONTACT_FRAGMENT)
        self._smooth = self._screen(shaders.SMOOTH_FRAGMENT)
        self._light = self._screen(shaders.LIGHT_FRAGMENT)
        self._screens = {id(p): gl.vertex_array(p, []) for p in (self._contact, self._smooth, self._light)}
        large, small = (width * shaders.SAMPLES, height * shaders.SAMPLES), (width, height)
        self._colours = target_texture(gl, large, 4, "f1")
        self._shapes = target_texture(gl, large, 4, "f1")
        self._depths = gl.depth_texture(large)
        self._depths.compare_func = ""
        self._depths.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self._depths.repeat_x = self._depths.repeat_y = False
        self._open = [target_texture(gl, small, 1, "f1") for _ in range(2)]
        self._final = target_texture(gl, small, 4, "f1")
        self._final_depth = target_texture(gl, small, 1, "f4")
        self._first_pass = gl.framebuffer([self._colours, self._shapes], self._depths)
        self._contact_pass = [gl.framebuffer([texture]) for texture in self._open]
        self._final_pass = gl.framebuffer([self._final, self._final_depth])
        self._shadow_map = shadow_map_texture(gl)
        self._shadow_pass = gl.framebuffer(depth_attachment=self._shadow_map)
        self._stage: Stage | None = None
        self._loaded: list[_Loaded] = []
        self._stage_textures: dict[str, moderngl.Texture | moderngl.TextureArray | moderngl.Texture3D] = {}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gl.release()

    def render(self, stage: Stage, time_s: float, cameras: Sequence[tuple[Matrix, Intrinsics]]) -> list[View]:
        """One view per (camera_to_world 4×4, intrinsics) at the renderer's size."""
        for _, lens in cameras:
            if (lens.width, lens.height) != (self.width, self.height):
                raise ValueError(
                    f"the lens is for {lens.width}×{lens.height}, the renderer {self.width}×{self.height}"
                )
        if stage is not self._stage:
            self._load(stage)
        self._move(time_s)
        light_clips = self._draw_shadows(stage)
        self._set_stage(stage, light_clips, time_s)
        return [self._draw(stage, camera_to_world, lens) for camera_to_world, lens in cameras]

    def _screen(self, fragment: str) -> moderngl.Program:
        return self._gl.program(vertex_shader=shaders.SCREEN_VERTEX, fragment_shader=fragment)

    def _load(self, stage: Stage) -> None:
        self._release_stage()
        layers = {name: layer for layer, name in enumerate(sorted(stage.textures))}
        rows: list[list[float]] = []
        for thing in stage.things:
            self._loaded.append(self._load_thing(thing, layers, rows))
        gl = self._gl
        table = np.array(rows, np.float32).reshape(-1, 3, 4)
        pixels = np.stack([texture_layer(stage.textures[name]) for name in layers] or [texture_layer(WHITE)])
        textures = gl.texture_array((TEXTURE_SIZE, TEXTURE_SIZE, len(pixels)), 4, pixels.tobytes())
        textures.build_mipmaps()
        textures.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        materials = gl.texture((3, len(table)), 4, table.tobytes(), dtype="f4")
        materials.filter = (moderngl.NEAREST, moderngl.NEAREST)
        sides, depth, height, width, _ = stage.ambient.shape
        ambient = gl.texture3d(
            (width, height, sides * depth),
            4,
            four_channels(stage.ambient).astype(np.float32).tobytes(),
            dtype="f4",
        )
        ambient.repeat_x = ambient.repeat_y = ambient.repeat_z = False
        side = stage.walls.shape[1]
        walls = gl.texture_array(
            (side, side, 6), 4, four_channels(stage.walls).astype(np.float32).tobytes(), dtype="f4"
        )
        walls.build_mipmaps()
        walls.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        walls.repeat_x = walls.repeat_y = False
        around = octahedral(stage.surroundings)
        surroundings = gl.texture(around.shape[:2], 4, four_channels(around).tobytes(), dtype="f4")
        surroundings.repeat_x = surroundings.repeat_y = False
        self._stage_textures = {
            "textures": textures,
            "materials": materials,
            "ambient": ambient,
            "walls": walls,
            "surroundings": surroundings,
        }
        self._stage = stage

    def _load_thing(self, thing: Thing, layers: Mapping[str, int], rows: list[list[float]]) -> _Loaded:
        mesh, gl, first = thing.mesh, self._gl, len(rows)
        for m in mesh.materials:
            layer = -1.0 if m.texture is None else float(layers[m.texture])
            finish = [m.roughness, m.metallic, thing.emission, float(thing.person)]
            rows.append([*m.colour, layer, *finish, 1.0, 1.0, *thing.scroll_per_s])
        order, material, faces = vertices_by_material(mesh)
        shape = np.concatenate([mesh.positions, mesh.normals], axis=1)[order]
        vertices = gl.buffer(shape.tobytes(), dynamic=True)
        look = np.concatenate([mesh.uv[order], material[:, None] + first], axis=1).astype(np.float32)
        looks = gl.buffer(look.tobytes())
        indices = gl.buffer(faces.tobytes())
        surface = gl.vertex_array(
            self._surface,
            [(vertices, "3f 3f", "position", "normal"), (looks, "2f 1f", "uv", "material")],
            indices,
        )
        shadow = gl.vertex_array(self._shadow, [(vertices, "3f 12x", "position")], indices)
        return _Loaded(
            thing, order, vertices, surface, shadow, corners(mesh.positions), [vertices, looks, indices]
        )

    def _release_stage(self) -> None:
        for loaded in self._loaded:
            loaded.surface.release()
            loaded.shadow.release()
            for buffer in loaded.buffers:
                buffer.release()
        for texture in self._stage_textures.values():
            texture.release()
        self._loaded, self._stage_textures, self._stage = [], {}, None

    def _move(self, time_s: float) -> None:
        """Gives everything that moves its place and shape at the time."""
        self._places = []
        for loaded in self._loaded:
            thing = loaded.thing
            place = np.eye(4) if thing.place is None else thing.place(time_s)
            if thing.shape is not None:
                positions, normals = thing.shape(time_s)
                shape = np.concatenate([positions, normals], axis=1)[loaded.order]
                loaded.vertices.write(shape.astype(np.float32).tobytes())
                loaded.bounds = corners(positions)
            box = loaded.bounds @ place[:3, :3].T + place[:3, 3]
            self._places.append((place, box))

    def _draw_shadows(self, stage: Stage) -> list[Matrix]:
        gl, clips = self._gl, []
        gl.enable_only(moderngl.DEPTH_TEST)
        self._shadow_pass.use()
        self._shadow_pass.clear(depth=1.0)
        for index, light in enumerate(stage.lights[: shaders.SHADOW_LIGHTS]):
            clip = clip_from_light(light, stage)
            self._shadow_pass.viewport = (index * SHADOW_SIZE, 0, SHADOW_SIZE, SHADOW_SIZE)
            put_matrix(self._shadow, "clip_from_world", clip)
            self._draw_things(self._shadow, clip)
            clips.append(clip)
        return clips

    def _draw_things(self, program: moderngl.Program, clip: Matrix) -> None:
        for loaded, (place, box) in zip(self._loaded, self._places, strict=True):
            if outside(clip, box):
                continue
            put_matrix(program, "world_from_body", place)
            (loaded.surface if program is self._surface else loaded.shadow).render()

    def _set_stage(self, stage: Stage, light_clips: list[Matrix], time_s: float) -> None:
        program, lights, washes = self._light, stage.lights[: shaders.SHADOW_LIGHTS], stage.washes
        put(self._surface, time_s=time_s)
        put(self._contact, radius_m=CONTACT_RADIUS_M, spread=_SPREAD)
        pad = shaders.SHADOW_LIGHTS - len(lights)
        blank = [(0.0, 0.0, 0.0, 0.0)]
        places = [
            (*(li.place or tuple(-v for v in unit(li.direction))), float(li.place is not None))
            for li in lights
        ]
        put(
            program,
            room_low=stage.low,
            room_high=stage.high,
            ambient_depth=float(stage.ambient.shape[1]),
            exposure=stage.exposure,
            haze=stage.haze,
            tap_count=len(_TAPS),
            taps=_TAPS,
            light_count=len(lights),
            light_place=places + blank * pad,
            light_axis=[(*unit(li.direction), math.cos(li.half_angle)) for li in lights] + blank * pad,
            light_colour=[(*li.colour, math.cos(li.half_angle * li.edge)) for li in lights] + blank * pad,
            light_softness=[li.softness for li in lights] + [0.0] * pad,
        )
        if "light_clip" in program:
            stacked = np.stack([c.T for c in light_clips] + [np.eye(4)] * pad).astype(np.float32)
            program["light_clip"].write(stacked.tobytes())  # type: ignore[union-attr]
        pad = shaders.WASHES - len(washes)
        put(
            program,
            wash_count=len(washes),
            wash_place=[w.place for w in washes] + [(0.0, 0.0, 0.0)] * pad,
            wash_axis=[(*unit(w.direction), math.cos(w.half_angle)) for w in washes] + blank * pad,
            wash_colour=[(*w.colour, math.cos(w.half_angle * 0.3)) for w in washes] + blank * pad,
        )

    def _draw(self, stage: Stage, camera_to_world: Matrix, lens: Intrinsics) -> View:
        gl, textures = self._gl, self._stage_textures
        camera_from_world = np.linalg.inv(camera_to_world)
        clip = clip_from_camera(lens) @ camera_from_world
        gl.enable_only(moderngl.DEPTH_TEST)
        self._first_pass.use()
        self._first_pass.clear()
        put_matrix(self._surface, "clip_from_world", clip)
        self._bind(self._surface, materials=textures["materials"], textures=textures["textures"])
        self._draw_things(self._surface, clip)
        gl.enable_only(moderngl.NOTHING)
        seen = {"depths": self._depths, "shapes": self._shapes}
        self._fill(self._contact, self._contact_pass[0], camera_to_world, lens, **seen)
        self._fill(self._smooth, self._contact_pass[1], camera_to_world, lens, contact=self._open[0])
        put(self._light, eye=tuple(camera_to_world[:3, 3]))
        self._fill(
            self._light,
            self._final_pass,
            camera_to_world,
            lens,
            **seen,
            colours=self._colours,
            contact=self._open[1],
            ambient=textures["ambient"],
            walls=textures["walls"],
            surroundings=textures["surroundings"],
            shadows=self._shadow_map,
        )
        return self._read()

    def _fill(
        self,
        program: moderngl.Program,
        target: moderngl.Framebuffer,
        pose: Matrix,
        lens: Intrinsics,
        **samplers: object,
    ) -> None:
        """Runs a fragment shader over a whole buffer."""
        target.use()
        fx, fy, cx, cy = (
            lens.fx / lens.width,
            lens.fy / lens.height,
            (lens.cx + 0.5) / lens.width,
            (lens.cy + 0.5) / lens.height,
        )
        if "world_from_camera" in program:
            put_matrix(program, "world_from_camera", pose)
        if "ray" in program:
            program["ray"] = (1 / fx, 1 / fy, -cx / fx, -cy / fy)
        near, far = 1 / shaders.NEAR_M, 1 / shaders.FAR_M
        put(program, inverse_z=(far - near, near))
        if "lens" in program:
            program["lens"] = (fx, fy, cx, cy)
        self._bind(program, **samplers)
        self._screens[id(program)].render(moderngl.TRIANGLES, vertices=3)

    @staticmethod
    def _bind(program: moderngl.Program, **samplers: object) -> None:
        for slot, (name, texture) in enumerate(samplers.items()):
            if name in program:
                texture.use(slot)  # type: ignore[attr-defined]
                program[name] = slot

    def _read(self) -> View:
        shape = (self.height, self.width)
        colour = np.frombuffer(self._final_pass.read(components=4, alignment=1), np.uint8).reshape(*shape, 4)
        inverse = np.frombuffer(
            self._final_pass.read(attachment=1, components=1, dtype="f4", alignment=1), np.float32
        ).reshape(shape)
        with np.errstate(divide="ignore"):
            depth = np.where(inverse > 0, 1 / inverse, np.float32(np.inf)).astype(np.float32)
        return View(np.ascontiguousarray(colour[..., :3]), depth, np.ascontiguousarray(colour[..., 3]))


_TAPS = [(0.15, 0.05), (-0.45, 0.3), (0.05, -0.6), (0.6, 0.55), (-0.85, -0.35), (0.8, -0.4)]
_SPREAD = [
    tuple(direction * length)
    for direction, length in zip(
        (lambda d: d / np.linalg.norm(d, axis=1, keepdims=True))(
            np.random.default_rng(3).normal(size=(8, 3))
        ),
        np.linspace(0.15, 1.0, 8),
        strict=True,
    )
]
