"""The depth network learns, stops and goes on, and leaves as a file: on a few tiny scenes of boxes."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine.data import layout
from engine.data.multicam import MultiCamScene
from engine.errors import ConfigError, DataError, WeightsError
from engine.geometry.depth_network import SIZES, DepthMaps, DepthNetwork, Inference
from engine.model.weight_files import open_weights
from engine.train.depth import DepthSettings, DepthTask, export_depth, tensors, train_depth
from engine.train.depth_augment import augmented, canonical, cropped, on_photo, pasted, through_h264
from engine.train.depth_data import BlockPlan, Views, depth_scenes, read_pairs
from engine.train.depth_export import OUTPUT_NAMES, Exported, export_onnx
from engine.train.depth_losses import Truth, depth_losses
from engine.train.depth_pretrained import FROZEN_STAGES
from engine.train.depth_supply import Batch, BlockRecipe, DepthSupply, joined, read_photos
from engine.train.distributed import World
from engine.train.loop import LoopSettings, Trained
from engine.train.run_folder import alone_in

WIDTH, HEIGHT = 64, 32
FRAMES = 6
FOCAL = 1.0
QUIET = lambda share, what: None  # noqa: E731
CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


def boxes(seed: int, frames: int = FRAMES) -> Views:
    """A textured wall, a nearer box, and a person: an ellipse that moves by a pixel each frame."""
    rng = np.random.default_rng(seed)
    wall_m, box_m, person_m = rng.uniform(3, 6), rng.uniform(2, 3), rng.uniform(1, 1.8)
    texture = cv2.resize(rng.integers(60, 200, (8, 16, 3), np.uint8), (WIDTH, HEIGHT))
    x0, y0 = rng.integers(4, 40), rng.integers(2, 12)
    images, depths, mattes = [], [], []
    for t in range(frames):
        image, depth = texture.copy(), np.full((HEIGHT, WIDTH), wall_m, np.float32)
        image[y0 : y0 + 14, x0 : x0 + 16] = (40, 90, 160)
        depth[y0 : y0 + 14, x0 : x0 + 16] = box_m
        matte = cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), (24 + t, 24), (8, 14), 0, 0, 360, 255, -1)
        image[matte > 0], depth[matte > 0] = (220, 170, 140), person_m
        images.append(image), depths.append(layout.encode_depth(depth)), mattes.append(matte)
    return Views(np.stack(images), np.stack(depths), np.stack(mattes), np.full(frames, FOCAL, np.float32))


def write_scene(root: Path, split: str, number: int) -> None:
    """As the renderer writes it, with two cameras."""
    scene = layout.scene_folder(root, split, "f24_aperture5", number)
    table: dict[str, dict[str, list[float]]] = {layout.frame_name(i): {} for i in range(FRAMES)}
    for camera in range(2):
        views = boxes(10 * number + camera)
        write_video(layout.video_path(scene, camera), views.images, "yuv444p", "libx264")
        write_video(layout.depth_path(scene, camera), views.stored_depth, "gray16le", "ffv1")
        write_video(layout.matte_path(scene, camera), views.matte, "gray", "ffv1")
        for row in table.values():
            row[layout.camera_name(camera)] = [FOCAL, FOCAL * WIDTH / HEIGHT, 0.5, 0.5]
    layout.intrinsics_path(scene).parent.mkdir()
    layout.intrinsics_path(scene).write_text(json.dumps(table))
    still = {name: dict.fromkeys(row, layout.to_published(np.eye(4))) for name, row in table.items()}
    layout.extrinsics_path(scene).write_text(json.dumps(still))
    distances = {layout.camera_name(camera): [2.0] * FRAMES for camera in range(2)}
    layout.description_path(scene).write_text(json.dumps({"subject_distance_m": distances}))


def write_video(path: Path, frames: np.ndarray, pixel_format: str, codec: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.options = {"crf": "12"} if codec == "libx264" else {}
        for frame in frames:
            given = "rgb24" if frame.ndim == 3 else pixel_format
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=given)))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(3):
        write_scene(root, "train", number)
    write_scene(root, "heldout", 7)
    return root


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def settings(data: Path, out: Path, steps: int = 6, **changes) -> DepthSettings:
    loop = LoopSettings(out=out, batch=2, steps=steps, decay=0.3, log_every=2, look_every=4)
    plain = DepthSettings(data=data, loop=loop, size="tiny", block=BlockPlan(clips=2, pairs_per_clip=4))
    return replace(plain, workers=0, **changes)


def first_batch(task: DepthTask) -> Batch:
    with closing(task.batches(iter([[0, 1]]))) as batches:
        return next(batches)


def recipe(data: Path) -> BlockRecipe:
    return BlockRecipe(
        data=data,
        size=(WIDTH, HEIGHT),
        plan=BlockPlan(clips=2, pairs_per_clip=4),
        batch=2,
        seed=0,
        photos=None,
    )


def random_network(size: str = "tiny") -> DepthNetwork:
    """With statistics other than those of a new network, so that folding them has something to do."""
    torch.manual_seed(1)
    network = DepthNetwork(SIZES[size]).train()
    width, height = network.size
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, 3, height, width))
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


def test_views_come_back_from_disk_as_they_were_written(data):
    scene = MultiCamScene(data / depth_scenes(data, "train")[1])
    _, pair = read_pairs(scene, 1, [0, 3], (WIDTH, HEIGHT))
    made = boxes(11)
    assert np.array_equal(pair.stored_depth, made.stored_depth[3:5])
    assert np.array_equal(pair.matte, made.matte[3:5])
    assert np.abs(pair.images.astype(int) - made.images[3:5]).mean() < 4
    assert np.all(pair.focal == np.float32(FOCAL))


def test_a_scene_without_depth_is_not_trained_on(data, tmp_path):
    scene = layout.scene_folder(tmp_path, "train", "f24_aperture5", 1)
    write_video(layout.video_path(scene, 0), boxes(1).images, "yuv444p", "libx264")
    layout.description_path(scene).write_text("{}")
    assert depth_scenes(tmp_path, "train") == []
    with pytest.raises(DataError, match="no finished scene with depth in train"):
        train_depth(settings(tmp_path, tmp_path / "run"), QUIET)


def test_a_crop_is_a_longer_lens():
    """A pixel's canonical depth, times the picture's width over the crop's, is the old one."""
    example = canonical(boxes(3), FOCAL)
    rng = np.random.default_rng(0)
    for _ in range(10):
        crop = cropped(example, (WIDTH, HEIGHT), rng)
        longer = crop.inverse_depth.max() / example.inverse_depth.max()
        assert 1 <= longer < 2.3
        found = np.unique(np.round(crop.inverse_depth / longer, 4))
        assert np.isin(found, np.unique(np.round(example.inverse_depth, 4))).all()


def test_image_depth_and_matte_stay_on_each_other_in_a_crop():
    example = canonical(boxes(4), FOCAL)
    rng = np.random.default_rng(5)
    for _ in range(5):
        crop = cropped(example, (WIDTH, HEIGHT), rng)
        skin = np.abs(crop.images.astype(int) - (220, 170, 140)).max(-1) < 3
        nearest = np.isclose(crop.inverse_depth, crop.inverse_depth.max())
        assert (skin & (crop.matte > 0.5) & nearest).sum() > 0.8 * (crop.matte > 0.5).sum() > 0


def test_a_pasted_person_hides_only_what_is_farther():
    wall, person = canonical(boxes(1), FOCAL), canonical(boxes(2), FOCAL)
    both = pasted(wall, person)
    there = person.matte > 0.5
    near = person.inverse_depth[there].min() > wall.inverse_depth[there].max()
    expected = person.inverse_depth[there] if near else wall.inverse_depth[there]
    assert np.array_equal(both.inverse_depth[there], expected)
    behind = replace(person, inverse_depth=np.full_like(person.inverse_depth, 0.1))
    assert pasted(wall, behind) is wall


def test_on_a_photo_only_the_persons_depth_is_known():
    example = canonical(boxes(2), FOCAL)
    photo = np.full((50, 90, 3), (1, 250, 3), np.uint8)
    placed = on_photo(example, photo, np.random.default_rng(0))
    assert np.array_equal(placed.known, example.matte > 0.5)
    assert np.all(placed.images[~placed.known] == (1, 250, 3))


def test_augmentation_is_decided_by_its_random_numbers():
    def once():
        return augmented(boxes(1, 2), boxes(2, 2), [], (WIDTH, HEIGHT), FOCAL, np.random.default_rng(7))

    first, second = once(), once()
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.inverse_depth, second.inverse_depth)


def test_h264_gives_every_frame_back():
    images = boxes(1, 2).images
    assert np.abs(through_h264(images, crf=20).astype(int) - images).mean() < 12


def test_the_loss_ignores_scale_and_sees_a_wandering_one():
    """One factor for all is free but for the small scale term; a factor on every other frame is not."""
    example = canonical(boxes(1, 2), FOCAL)
    _, truth = tensors(joined([example]), CPU)
    still = Truth(truth.log_inverse_depth[:1].repeat(2, 1, 1), truth.matte, truth.known)
    nothing = torch.zeros_like(still.matte)
    scaled = depth_losses(DepthMaps(still.log_inverse_depth + 0.3, nothing, nothing), still)
    assert scaled["depth"] < 1e-6 and scaled["gradient"] < 1e-6 and scaled["steady"] < 1e-6
    assert scaled["scale"] == pytest.approx(0.3, abs=1e-5)
    jump = torch.tensor([0.0, 0.2])[:, None, None]
    wandering = depth_losses(DepthMaps(still.log_inverse_depth + jump, nothing, nothing), still)
    assert wandering["steady"] == pytest.approx(0.2, abs=1e-5)


def test_unknown_depth_gives_no_loss():
    _, truth = tensors(joined([canonical(boxes(1, 2), FOCAL)]), CPU)
    blind = truth._replace(known=torch.zeros_like(truth.known))
    zeros = torch.zeros_like(truth.matte)
    losses = depth_losses(DepthMaps(zeros, zeros, zeros), blind)
    assert all(losses[name] == 0 for name in ("depth", "scale", "gradient", "steady", "confidence"))


def test_a_few_steps_lower_the_loss(data, tmp_path):
    """On one batch, so that chance has no part in it."""
    task = DepthTask(settings(data, tmp_path, learning_rate=5e-2), ALONE)
    batch, part = first_batch(task), Trained(task.parts["depth"])
    totals = []
    for _ in range(40):
        loss = task.loss("depth", batch)["loss"]
        loss.backward()
        part.update(warmup=1, largest_gradient=1.0, fading=1.0)
        totals.append(loss.item())
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(data, tmp_path):
    """Stopped in the middle of a block, at step 2 of 4; what the normalisations remember is part of it."""
    train_depth(settings(data, tmp_path / "whole"), QUIET)
    for steps in (2, 6):
        train_depth(settings(data, tmp_path / "halves", steps=steps), QUIET)
    whole, halves = (open_weights(tmp_path / run / "depth.safetensors") for run in ("whole", "halves"))
    assert any("running_var" in name for name in whole.tensors)
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, halves.tensors[name]), name


def test_workers_change_nothing_but_the_time(data, tmp_path):
    def first_batches(workers: int) -> list[torch.Tensor]:
        (tmp_path / str(workers)).mkdir()
        supply = DepthSupply(recipe(data), tmp_path / str(workers), workers)
        with closing(supply.batches(3)) as batches:  # blocks have 4 steps
            return [tensor.clone() for batch in islice(batches, 6) for tensor in batch]

    for here, there in zip(first_batches(0), first_batches(2), strict=True):
        assert torch.equal(here, there)


def test_a_scene_that_is_rendered_meanwhile_joins_at_a_block_that_was_not_begun(data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(data / "train", root / "train")
    new = next((root / "train").glob("*/scene2"))
    new.rename(tmp_path / "scene2")

    (tmp_path / "run").mkdir()

    def images(step: int) -> torch.Tensor:  # a block has 4
        with closing(DepthSupply(recipe(root), tmp_path / "run", 0).batches(step)) as batches:
            return next(batches).images

    before = images(4), images(6)
    (tmp_path / "scene2").rename(new)
    assert torch.equal(images(6), before[1])
    later = images(8)
    assert json.loads((tmp_path / "run" / "scenes.json").read_text())["growths"] == [[1, 2], [2, 3]]
    assert torch.equal(images(8), later)
    assert torch.equal(images(6), before[1])


def test_training_leaves_a_log_weights_and_a_card(data, tmp_path):
    messages: list[str] = []
    scores = train_depth(settings(data, tmp_path), lambda share, what: messages.append(what))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "depth/loss" in row] == [2, 4, 6]
    assert [row["heldout/pictures"] for row in rows if "heldout/pictures" in row] == [2 * 4 * 2]
    assert any(message.startswith("step 6  depth/loss") for message in messages)
    assert cv2.imread(str(tmp_path / "strips" / "step-00000004.jpg")).shape == (4 * HEIGHT, 3 * WIDTH, 3)
    assert scores is not None and 0 < scores.median_relative_error < 1
    card = (tmp_path / "depth.md").read_text()
    assert f"{scores.median_relative_error:.1%}" in card and "6 steps" in card
    (tmp_path / "ship").mkdir()
    assert export_depth(tmp_path, tmp_path / "ship") == scores
    assert (tmp_path / "ship" / "depth.onnx").read_bytes() == (tmp_path / "depth.onnx").read_bytes()


def test_a_run_may_begin_with_another_ones_weights_and_its_card_says_so(data, tmp_path):
    train_depth(settings(data, tmp_path / "a", steps=2), QUIET)
    weights = tmp_path / "a" / "depth.safetensors"
    later = settings(data, tmp_path / "b", weights=weights)
    begun, saved = DepthTask(later, ALONE).network.state_dict(), open_weights(weights).tensors
    assert all(torch.equal(begun[name], tensor) for name, tensor in saved.items())
    train_depth(later, QUIET)
    card = (tmp_path / "b" / "depth.md").read_text()
    assert "2 steps of 2 pairs, 0 minutes on a CPU; then 6 steps of 2 pairs" in card


def test_weights_of_another_size_are_refused(data, tmp_path):
    train_depth(settings(data, tmp_path / "a", steps=2), QUIET)
    later = settings(data, tmp_path / "b", weights=tmp_path / "a" / "depth.safetensors")
    with pytest.raises(WeightsError, match=r"depth.safetensors is not a depth network of the size 'small'"):
        DepthTask(replace(later, size="small"), ALONE)


def test_a_second_training_in_the_folder_is_refused(data, tmp_path):
    with alone_in(tmp_path / "run"), pytest.raises(ConfigError, match="another process trains into"):
        train_depth(settings(data, tmp_path / "run", steps=1), QUIET)


def test_another_run_in_the_folder_is_refused(data, tmp_path):
    train_depth(settings(data, tmp_path, steps=1), QUIET)
    with pytest.raises(ConfigError, match=r"holds a run with learning_rate = 0\.001"):
        train_depth(settings(data, tmp_path, steps=2, learning_rate=0.5), QUIET)


def test_the_file_computes_what_the_network_does(tmp_path):
    """But for what bytes round off, which is little beside the values, and no shift of them."""
    network = random_network()
    width, height = network.size
    images = torch.rand(8, 3, height, width)
    export_onnx(network, tmp_path / "depth.onnx", images[:, None])
    assert [path.name for path in tmp_path.iterdir()] == ["depth.onnx"]
    with torch.inference_mode():
        wanted = Inference(network).eval()(images)
    for name, ours, theirs in zip(
        OUTPUT_NAMES, Exported(tmp_path / "depth.onnx")(images), wanted, strict=True
    ):
        error = (ours / theirs).log()
        assert error.std() < 0.05, name
        assert abs(float(error.mean())) < 0.02, name


def test_no_convolution_turns_bytes_back_into_numbers(tmp_path):
    """It did where activations were of two types, and the network took half as long again."""
    network = random_network("small")
    width, height = network.size
    export_onnx(network, tmp_path / "depth.onnx", [torch.rand(1, 3, height, width)])
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(tmp_path / "depth.onnx", options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    plain = [node for node in nodes if node.op_type in ("Conv", "FusedConv")]
    assert sum(node.op_type == "QLinearConv" for node in nodes) > 40
    assert not [node.name for node in plain if "DequantizeLinear" in map(made_by.get, node.input[1:])]


def test_folding_the_normalisations_changes_nothing():
    network = random_network()
    images = torch.rand(2, 3, *network.size[::-1])
    with torch.inference_mode():
        maps = network(images)
        inverse, matte, _ = Inference(network)(images)
    assert torch.allclose(inverse, maps.log_inverse_depth.exp(), rtol=1e-4)
    assert torch.allclose(matte, maps.matte_logits.sigmoid(), atol=1e-4)


def test_the_shipped_size_fits_the_repository(tmp_path):
    width, height = SIZES["small"].size
    export_onnx(DepthNetwork(SIZES["small"]), tmp_path / "depth.onnx", [torch.rand(1, 3, height, width)])
    assert (tmp_path / "depth.onnx").stat().st_size < 5e6


def test_an_unreadable_photo_is_named(tmp_path):
    (tmp_path / "wall.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"wall\.jpg"):
        read_photos(tmp_path)


def test_the_encoder_begins_with_all_that_photographs_taught_and_keeps_its_first_stages(data, tmp_path):
    task = DepthTask(settings(data, tmp_path, size="small"), ALONE)
    encoder = task.network.encoder
    fresh = DepthNetwork(SIZES["small"]).encoder.state_dict()
    for name, tensor in encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert not torch.equal(tensor, fresh[name]), f"{name} was not filled"
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    part = Trained(task.parts["depth"])
    task.loss("depth", first_batch(task))["loss"].backward()
    part.update(warmup=1, largest_gradient=1.0, fading=1.0)
    kept = tuple(f"{part}." for part in ("stem", *(f"stages.{n}" for n in range(FROZEN_STAGES))))
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in changed if name.startswith(kept)]
    last = len(encoder.stages) - 1
    assert {f"stages.{last}.0.project.conv.weight", f"stages.{last}.0.project.norm.running_mean"} <= changed
