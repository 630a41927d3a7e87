"""Small things that the renderer asks of OpenGL: a context, buffers, uniforms, and pixels in the order
cards want them.

Knows moderngl. Knows nothing of passes, stages or cameras.
"""

from __future__ import annotations

import cv2
import moderngl
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Matrix
from engine.data.render import shaders
from engine.data.render.mesh import Floats, Mesh
from engine.errors import DataError

SHADOW_SIZE = 640
TEXTURE_SIZE = 512
PACKAGES = "libegl1 libgl1-mesa-dri libgles2"
WHITE = np.full((1, 1, 3), 255, np.uint8)


def open_context() -> moderngl.Context:
    try:
        return moderngl.create_context(standalone=True, require=430, backend="egl")  # type: ignore[arg-type]
    except Exception as error:  # moderngl raises bare exceptions and ImportErrors of its loader
        raise DataError(
            f"rendering needs OpenGL 4.3 without a screen (EGL), and there is none here ({error}). "
            f"On Debian or Ubuntu: apt install {PACKAGES}"
        ) from error


def target_texture(
    gl: moderngl.Context, size: tuple[int, int], components: int, dtype: str
) -> moderngl.Texture:
    texture = gl.texture(size, components, dtype=dtype)
    nearest = dtype == "f4"
    texture.filter = (moderngl.NEAREST, moderngl.NEAREST) if nearest else (moderngl.LINEAR, moderngl.LINEAR)
    texture.repeat_x = texture.repeat_y = False
    return texture


def shadow_map_texture(gl: moderngl.Context) -> moderngl.Texture:
    texture = gl.depth_texture((SHADOW_SIZE * shaders.SHADOW_LIGHTS, SHADOW_SIZE))
    texture.compare_func = "<="
    texture.filter = (moderngl.LINEAR, moderngl.LINEAR)
    texture.repeat_x = texture.repeat_y = False
    return texture


def put(program: moderngl.Program, **values: object) -> None:
    """Sets the uniforms that the compiler has kept."""
    for name, value in values.items():
        if name in program:
            program[name] = value


def put_matrix(program: moderngl.Program, name: str, matrix: Matrix) -> None:
    if name in program:
        program[name].write(np.asarray(matrix.T, np.float32).tobytes())  # type: ignore[union-attr]


def four_channels(values: Floats) -> Floats:
    """Three channels → four, as cards want them."""
    return np.concatenate([values, np.ones((*values.shape[:-1], 1), np.float32)], axis=-1)


def octahedral(around: Floats, size: int = 256) -> Floats:
    """An equirectangular picture on an unfolded octahedron with its top in the middle, size × size × 3."""
    z, x = np.meshgrid(*[(np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1] * 2, indexing="ij")
    y = np.abs(x) + np.abs(z) - 1
    below = y > 0
    x, z = (
        np.where(below, (1 - np.abs(z)) * np.sign(x), x),
        np.where(below, (1 - np.abs(x)) * np.sign(z), z),
    )
    height, width = around.shape[:2]
    u = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * width - 0.5
    v = np.arccos(-y / np.sqrt(x * x + y * y + z * z)) / np.pi * height - 0.5
    padded = np.concatenate([around[:, -1:], around, around[:, :1]], axis=1)
    maps = (u + 1).astype(np.float32), np.clip(v, 0, height - 1).astype(np.float32)
    return np.ascontiguousarray(cv2.remap(padded, *maps, cv2.INTER_LINEAR), np.float32)


def texture_layer(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as a layer of the array of textures."""
    shrinking = pixels.shape[0] > TEXTURE_SIZE
    how = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    sized = np.asarray(cv2.resize(pixels, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=how), np.uint8)
    if sized.shape[2] == 4:
        return sized
    opaque = np.full((TEXTURE_SIZE, TEXTURE_SIZE, 1), 255, np.uint8)
    return np.concatenate([sized, opaque], axis=2, dtype=np.uint8)


def vertices_by_material(
    mesh: Mesh,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
    """Vertex and material of each vertex on the card (one for each pair in use), and the faces over these."""
    keys = mesh.faces.astype(np.int64) * len(mesh.materials) + mesh.face_materials[:, None]
    unique, inverse = np.unique(keys.ravel(), return_inverse=True)
    return unique // len(mesh.materials), unique % len(mesh.materials), inverse.astype(np.uint32)
