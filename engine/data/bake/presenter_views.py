"""Renders the room of the bundled clip from several cameras at once: the held-out scene of another renderer.

Everything else that is judged comes from the renderer that made the training data. This scene does not: path
tracing, other materials and light, another room, seen by four cameras with true depth and poses. It is small,
lies in the repository (`engine/eval/other_renderer`, split heldout), and is never trained on.

Knows where the cameras stand and how Blender's depth and indices are read. Needs what `presenter_clip` needs,
and opencv-python-headless in the same environment; then, from the project's root,
`python -m engine.data.bake.presenter_views --assets assets --out engine/eval/other_renderer`. Frames that
exist are kept, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import bpy  # type: ignore[import-not-found]
import numpy as np
from mathutils import Matrix  # type: ignore[import-not-found]

from engine.camera.geometry import Intrinsics
from engine.data import layout
from engine.data.bake.makehuman import Assets
from engine.data.bake.presenter_clip import Room, read_png, render, set_up
from engine.data.bake.presenter_figure import Presenter
from engine.data.render.stage import View
from engine.data.scenes.files import SceneFiles, write_cameras, write_description

LENS = "f24_aperture5"
FOCAL = layout.LENSES[LENS] / layout.SENSOR_WIDTH_MM  # in widths of the picture
LOOP_S = 5.12  # of the presenter's movements
CHEST = np.array([0.0, 0.0, 1.25])  # where the cameras look, in Blender's axes: x right, y away, z up
PERSON_INDEX = 1
NOTHING_BEYOND_M = 1e4  # Blender's depth of what is infinitely far is more

TO_OPENCV = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # the world's axes
CAMERA_AXES = np.diag([1.0, -1.0, -1.0])  # OpenCV's camera → Blender's


def places(share: float) -> dict[str, np.ndarray]:
    """Each camera's place when that share of the clip is over, by the name of its path."""
    turn = math.radians(-24 + 48 * share)
    rise = 0.5 - 0.5 * math.cos(math.pi * share)
    return {
        "tripod": np.array([0.0, -2.45, 1.36]),
        "orbit": np.array([2.5 * math.sin(turn), -2.5 * math.cos(turn), 1.45]),
        "push-in": np.array([-0.35, -2.6 + 0.9 * rise, 1.3 + 0.15 * rise]),
        "creep": np.array([0.95, -2.15, 1.6 - 0.1 * share]),
    }


def looking_at_chest(place: np.ndarray) -> np.ndarray:
    """Camera to world 4 4, OpenCV's axes, level."""
    forward = TO_OPENCV @ (CHEST - place)
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = TO_OPENCV @ place
    return pose


def flights() -> dict[str, list[np.ndarray]]:
    """Every camera's poses in all frames."""
    frames = [places(frame / (layout.FRAMES - 1)) for frame in range(layout.FRAMES)]
    return {name: [looking_at_chest(frame[name]) for frame in frames] for name in frames[0]}


def prepare(scene: bpy.types.Scene, folder: Path) -> None:
    """Small pictures without blur, and beside each its depth and what is a person."""
    scene.render.resolution_x, scene.render.resolution_y = layout.SIZE
    lens = scene.camera.data
    lens.sensor_width, lens.lens, lens.dof.use_dof = 36.0, 36.0 * FOCAL, False
    view = bpy.context.view_layer
    view.use_pass_z = view.use_pass_object_index = True
    scene.use_nodes = True
    nodes, link = scene.node_tree.nodes, scene.node_tree.links.new
    nodes.clear()
    layers, picture, file = (
        nodes.new(kind)
        for kind in ("CompositorNodeRLayers", "CompositorNodeComposite", "CompositorNodeOutputFile")
    )
    link(layers.outputs["Image"], picture.inputs["Image"])
    file.base_path = str(folder)
    file.format.file_format, file.format.color_mode, file.format.color_depth = "OPEN_EXR", "RGB", "32"
    file.file_slots.clear()
    for name, output in (("depth", "Depth"), ("person", "IndexOB")):
        file.file_slots.new(name)
        link(layers.outputs[output], file.inputs[name])


def stand(camera: bpy.types.Object, camera_to_world: np.ndarray) -> None:
    there = np.eye(4)
    there[:3, :3] = TO_OPENCV.T @ camera_to_world[:3, :3] @ CAMERA_AXES
    there[:3, 3] = TO_OPENCV.T @ camera_to_world[:3, 3]
    camera.matrix_world = Matrix(there.tolist())


def read_exr(path: Path) -> np.ndarray:
    """The first channel, H W."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    values = np.array(image.pixels[:], np.float32).reshape(height, width, -1)[::-1, :, 0]
    bpy.data.images.remove(image)
    return values


def render_missing(assets: Assets, folder: Path, samples: int, threads: int) -> None:
    """Each frame of each camera as an .npz of colour, depth and matte."""
    scene = set_up(samples, threads)
    Room(assets)
    presenter = Presenter(assets)
    for thing, *_ in presenter.things:
        thing.pass_index = PERSON_INDEX
    prepare(scene, folder)
    paths = flights()
    for frame in range(layout.FRAMES):
        presenter.show(2 * math.pi * (frame / layout.FPS) / LOOP_S)
        for name, poses in paths.items():
            done = frame_path(folder, name, frame)
            if done.exists():
                continue
            stand(scene.camera, poses[frame])
            render(scene, folder / "colour.png")
            number = f"{scene.frame_current:04d}"
            depth = read_exr(folder / f"depth{number}.exr")
            unfinished = done.with_suffix(".partial.npz")
            np.savez_compressed(
                unfinished,
                colour=read_png(folder / "colour.png")[..., :3],
                depth_m=np.where(depth < NOTHING_BEYOND_M, depth, np.inf).astype(np.float32),
                matte=((read_exr(folder / f"person{number}.exr") > 0.5) * 255).astype(np.uint8),
            )
            unfinished.replace(done)
        print(f"{frame + 1} of {layout.FRAMES} frames", flush=True)


def frame_path(folder: Path, camera: str, frame: int) -> Path:
    return folder / f"{camera}-{frame:03d}.npz"


def read_view(path: Path) -> View:
    with np.load(path) as arrays:
        return View(arrays["colour"], arrays["depth_m"], arrays["matte"])


def write(out: Path, folder: Path, samples: int) -> None:
    scene = layout.scene_folder(out, "heldout", LENS, 0)
    paths = flights()
    with SceneFiles(scene, layout.SIZE, layout.FRAMES, len(paths)) as files:
        for frame in range(layout.FRAMES):
            files.add([read_view(frame_path(folder, name, frame)) for name in paths])
    width, height = layout.SIZE
    lens = Intrinsics(FOCAL * width, FOCAL * width, (width - 1) / 2, (height - 1) / 2, width, height)
    write_cameras(scene, list(paths.values()), [[lens] * layout.FRAMES] * len(paths))
    names = [layout.camera_name(camera) for camera in range(len(paths))]
    write_description(
        scene,
        {
            "split": "heldout",
            "family": "presenter",
            "renderer": f"Blender {bpy.app.version_string}, Cycles, {samples} samples",
            "fps": layout.FPS,
            "size": layout.SIZE,
            "frames": layout.FRAMES,
            "cameras": len(paths),
            "lens": LENS,
            "paths": dict(zip(names, paths, strict=True)),
            "subject_distance_m": {
                name: [round(distance_m(pose), 4) for pose in poses]
                for name, poses in zip(names, paths.values(), strict=True)
            },
        },
    )


def distance_m(camera_to_world: np.ndarray) -> float:
    """Of the chest, along the camera's axis."""
    return float(camera_to_world[:3, 2] @ (TO_OPENCV @ CHEST - camera_to_world[:3, 3]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="folder of CC0 packages")
    parser.add_argument("--out", type=Path, required=True, help="folder above heldout")
    parser.add_argument("--frames", type=Path, default=Path("presenter_views"), help="where frames are kept")
    parser.add_argument("--samples", type=int, default=4, help="per pixel")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    args.frames.mkdir(parents=True, exist_ok=True)
    wanted = [frame_path(args.frames, name, n) for name in flights() for n in range(layout.FRAMES)]
    if not all(path.exists() for path in wanted):
        render_missing(Assets(args.assets), args.frames, args.samples, args.threads)
    write(args.out, args.frames, args.samples)


if __name__ == "__main__":
    main()
