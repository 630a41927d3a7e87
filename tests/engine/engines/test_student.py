from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.camera.geometry import IDENTITY, Pose
from engine.engines.base import EngineSettings
from engine.engines.student import StudentEngine
from engine.errors import EngineError, WeightsError
from engine.frames import Pixels
from engine.model import config as model_config
from engine.model.dit import PairTransformer
from engine.model.fitting import config_metadata
from engine.model.tiny_vae import TINY_VAES, TinyVAE
from engine.model.weight_files import save_weights
from plugin.engine_process import build_engine

SETTINGS = EngineSettings(
    name="student", size=(1280, 720), horizontal_fov=1.0, subject_distance_m=2.5, model="tiny"
)


def with_time_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny size behind a codec that folds four frames into one, as the large sizes are."""
    config = replace(
        model_config.SIZES["tiny"],
        codec="tiny-vae",
        latent_channels=4,
        stride=(4, 8, 8),
        size=(64, 48),
        chunk=3,
        window=6,
    )
    monkeypatch.setitem(model_config.SIZES, "tiny", config)


def saved_student(folder: Path) -> str:
    """A file of weights of the size "tiny", whatever that is now."""
    config = model_config.SIZES["tiny"]
    torch.manual_seed(1)
    path = folder / "student.safetensors"
    save_weights(path, PairTransformer(config).state_dict(), config_metadata(config))
    return str(path)


def saved_codec(folder: Path, name: str = "tiny") -> tuple[str, TinyVAE]:
    torch.manual_seed(2)
    codec, path = TinyVAE(TINY_VAES[name]), folder / f"{name}.safetensors"
    save_weights(path, codec.state_dict(), {})
    return str(path), codec


def warm(settings: EngineSettings = SETTINGS) -> StudentEngine:
    engine = StudentEngine(settings)
    engine.warmup(lambda share, what: None)
    return engine


def frames(engine: StudentEngine, seed: int = 0) -> list[Pixels]:
    assert engine.size is not None
    width, height = engine.size
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(engine.chunk)]


@pytest.mark.parametrize("stride", [1, 4])
def test_as_many_frames_come_out_as_go_in_with_their_poses(
    stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stride == 4:
        with_time_stride(monkeypatch)
    engine = warm()
    assert engine.chunk == (2 if stride == 1 else 12)
    for step in range(5):
        given = frames(engine, step)
        poses = [Pose.from_angles(pan=0.01 * (step + i)) for i in range(engine.chunk)]
        made = engine.step(given, poses)
        assert [rendered.pose for rendered in made] == poses
        assert all(rendered.pixels.shape == given[0].shape for rendered in made)
        assert all(rendered.pixels.dtype == np.uint8 for rendered in made)


@pytest.mark.parametrize("stride", [1, 4])
def test_a_reset_forgets_the_past(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if stride == 4:
        with_time_stride(monkeypatch)
    engine = warm()
    poses = [IDENTITY] * engine.chunk
    results = []
    for _ in range(2):
        engine.reset()
        engine._noise.manual_seed(1)
        engine.step(frames(engine, 1), poses)
        results.append(engine.step(frames(engine, 2), poses)[-1].pixels)
    np.testing.assert_array_equal(*results)


def test_pictures_go_through_the_codec_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_time_stride(monkeypatch)
    path, codec = saved_codec(tmp_path)
    engine = warm(replace(SETTINGS, weights=saved_student(tmp_path), codec=path))
    clip = torch.rand(1, 13, 3, 48, 64)
    torch.testing.assert_close(engine._codec.encode(clip), codec.encode(clip))


def test_trained_weights_without_their_codec_are_refused_with_what_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_time_stride(monkeypatch)
    with pytest.raises(EngineError, match=r"tiny works on latents.*`weights import`.*--codec.*codec:"):
        warm(replace(SETTINGS, weights=saved_student(tmp_path)))


def test_a_codec_of_other_latents_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = replace(SETTINGS, codec="anything")
    with pytest.raises(WeightsError, match="tiny works on pixels and takes no codec, found 'anything'"):
        warm(pixels)
    with_time_stride(monkeypatch)
    path, _ = saved_codec(tmp_path, "taew2_1")
    with pytest.raises(
        WeightsError, match="makes 16 channels for 4×8×8 pixels, and tiny works on 4 channels"
    ):
        warm(replace(SETTINGS, weights=saved_student(tmp_path), codec=path))


def test_the_warmup_tells_how_far_it_is() -> None:
    told: list[float] = []
    StudentEngine(SETTINGS).warmup(lambda share, what: told.append(share))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)


def test_a_pose_of_another_focal_length_has_other_rays() -> None:
    engine = warm()
    like = torch.zeros(1, 1, 48, 6, 8)
    wide, long = (engine._camera([Pose(zoom=zoom)], like)[0] for zoom in (1.0, 2.0))
    corner = wide[0, 0, 3:, 0, 0] / wide[0, 0, 5, 0, 0]
    assert corner[0] == pytest.approx(-np.tan(0.5) * 7 / 8, rel=1e-5)
    tangents = [float(rays[0, 0, 3, 0, 0] / rays[0, 0, 5, 0, 0]) for rays in (wide, long)]
    assert tangents[0] == pytest.approx(2 * tangents[1], rel=1e-5)


def test_a_student_that_is_told_the_cameras_matrices_follows_the_camera(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(model_config.SIZES, "tiny", replace(model_config.SIZES["tiny"], camera="recammaster"))
    engine = warm()
    for block in engine._model.blocks:
        block.camera.cam_encoder.weight.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    pictures = []
    for pose in (IDENTITY, Pose.from_angles(pan=0.3)):
        engine.reset()
        engine._noise.manual_seed(1)
        pictures.append(engine.step(frames(engine), [pose] * engine.chunk)[-1].pixels.astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() > 0


def test_cameras_are_told_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    told = replace(model_config.SIZES["tiny"], camera="recammaster")
    monkeypatch.setitem(model_config.SIZES, "tiny", told)
    pose = Pose.from_angles(pan=0.3, tilt=-0.1)
    _, extrinsics = StudentEngine(SETTINGS)._camera([pose, IDENTITY], torch.zeros(1, 2, 48, 6, 8))
    assert extrinsics is not None and extrinsics.shape == (1, 2, 12)
    np.testing.assert_allclose(extrinsics[0, 0].view(3, 4)[:, :3], pose.matrix(), atol=1e-6)


def test_every_chunk_is_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one too, whose frames stay in the attention sink."""
    with_time_stride(monkeypatch)
    engine = warm()
    lengths = []
    original = PairTransformer.encode_source

    def noted(model: PairTransformer, source: torch.Tensor, *rest: object) -> object:
        lengths.append(source.shape[1])
        return original(model, source, *rest)

    monkeypatch.setattr(PairTransformer, "encode_source", noted)
    for _ in range(2):
        engine.step(frames(engine), [IDENTITY] * engine.chunk)
    assert lengths == [3, 3, 3]


def test_out_of_memory_says_what_is_needed_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = warm()

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine, "_step", full)
    with pytest.raises(EngineError, match=r"tiny did not fit .* GB.*smaller model"):
        engine.step(frames(engine), [IDENTITY] * engine.chunk)


def test_a_prompts_embedding_is_loaded_from_a_file_and_changes_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({"prompt": torch.randn(5, 20)}, path)
    pictures = []
    for prompt in (None, str(path)):
        engine = warm(replace(SETTINGS, prompt=prompt))
        engine._noise.manual_seed(1)
        pictures.append(engine.step(frames(engine), [IDENTITY] * engine.chunk)[0].pixels.astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() > 0


def test_a_prompt_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({"prompt": torch.randn(512, 4096)}, path)
    with pytest.raises(EngineError, match="5 x 20"):
        warm(replace(SETTINGS, prompt=str(path)))


def test_a_size_with_hints_is_not_run_without_them() -> None:
    with pytest.raises(EngineError, match=r"mini is painted over what geometry knows"):
        StudentEngine(replace(SETTINGS, model="mini"))


def test_the_large_sizes_are_still_built() -> None:
    assert isinstance(build_engine(replace(SETTINGS, model="wan-1.3b")), StudentEngine)
