"""Weights become methods by what their file says: tiny ones, at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.camera.geometry import Pose
from engine.diffusion.teacher import FRAMES_KEY, SHIFT_KEY, TRANSFORMERS, VARIANT_KEY
from engine.engines.mini import WEIGHTS as MINI
from engine.errors import WeightsError
from engine.eval.cases import Shot
from engine.eval.kept import KeptClips
from engine.eval.methods import EngineMethod, Timing, _timing, render_timed
from engine.eval.models import TeacherMethod, Weights, model_methods
from engine.model.codecs import codec_metadata
from engine.model.config import SIZES, model_config
from engine.model.fitting import config_metadata
from engine.model.tiny_vae import TINY_VAES, TinyVAE
from engine.model.weight_files import save_weights

SIZE = (64, 48)  # twice the tiny model's


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    config = model_config("tiny")
    found = {}
    for name, kind in TRANSFORMERS.items():
        torch.manual_seed(0)
        metadata = {
            **config_metadata(config),
            "layout": "trained",
            VARIANT_KEY: name,
            SHIFT_KEY: "3.0",
            FRAMES_KEY: "2",
        }
        found[name] = folder / f"{name}.safetensors"
        save_weights(found[name], kind(config).state_dict(), metadata)
    found["student"] = folder / "student.safetensors"
    metadata = {**config_metadata(config), "layout": "trained"}
    save_weights(found["student"], TRANSFORMERS["pair"](config).state_dict(), metadata)
    return found


@pytest.fixture(scope="module")
def shot(small_lens) -> Shot:
    frames = 5  # not a multiple of the tiny student's chunk
    lens = small_lens.scaled(*SIZE)
    rng = np.random.default_rng(0)
    return Shot(
        source=list(rng.integers(0, 256, (frames, SIZE[1], SIZE[0], 3), dtype=np.uint8)),
        poses=[Pose(translation=(0.1 * i, 0.0, 0.0)) for i in range(frames)],
        lenses=[lens] * frames,
        distances_m=[3.0] * frames,
    )


def test_each_file_is_what_it_says_it_is(files, shot):
    weights = [Weights.parse(str(files["pair"])), Weights.parse(str(files["prefix"]))]
    weights += [Weights.parse(f"ours={files['student']}")]
    methods = model_methods(weights, 2, SIZE)
    assert [method.name for method in methods] == ["teacher", "prefix, in clips", "prefix", "ours"]
    assert [method.streams for method in methods] == [False, False, False, True]
    assert isinstance(methods[-1], EngineMethod)
    for method in methods:
        frames, timing = render_timed(method, shot)
        assert [frame.shape for frame in frames] == [(SIZE[1], SIZE[0], 3)] * len(shot)
        assert timing.frame_s > 0


def test_a_prefix_model_is_also_measured_in_clips_as_long_as_it_was_trained_on(files, shot):
    clips, whole = model_methods([Weights(path=files["prefix"])], 1, SIZE)
    assert (clips.remembers, whole.remembers) == (False, True)
    in_clips, at_once = (np.stack(list(method.render(shot))) for method in (clips, whole))
    first = replace(shot, source=shot.source[:2], poses=shot.poses[:2], lenses=shot.lenses[:2])
    assert np.array_equal(in_clips[:2], np.stack(list(clips.render(first))))
    assert not np.array_equal(in_clips, at_once)


@pytest.mark.parametrize("variant", ["pair", None], ids=["teacher", "student"])
def test_pictures_of_models_on_latents_go_through_a_trained_codec(
    shot, tmp_path, monkeypatch, variant: str | None
):
    """The one that is asked for, or else the one that its file names; and never one of random weights."""
    config = replace(
        model_config("tiny"), codec="tiny-vae", latent_channels=4, stride=(4, 8, 8), chunk=1, size=SIZE
    )
    monkeypatch.setitem(SIZES, "tiny", config)
    codecs = [tmp_path / f"codec{seed}.safetensors" for seed in range(2)]
    for seed, path in enumerate(codecs):
        torch.manual_seed(seed)
        save_weights(path, TinyVAE(TINY_VAES["tiny"]).state_dict(), {})
    metadata = config_metadata(config) | ({} if variant is None else {VARIANT_KEY: variant})
    silent, telling = (Weights(path=tmp_path / f"{name}.safetensors") for name in ("silent", "telling"))
    state = TRANSFORMERS["pair"](config).state_dict()
    save_weights(silent.path, state, metadata)
    save_weights(telling.path, state, metadata | codec_metadata(str(codecs[0])))

    def made(file: Weights, codec: Path | None) -> np.ndarray:
        (method,) = model_methods([file], 1, SIZE, None if codec is None else str(codec))
        return np.stack(list(method.render(shot)))

    first = made(silent, codecs[0])
    assert np.array_equal(made(telling, None), first)
    assert np.array_equal(made(telling, codecs[1]), made(silent, codecs[1]))
    assert not np.array_equal(made(telling, codecs[1]), first)
    with pytest.raises(WeightsError, match=r"silent\.safetensors works on latents.*--codec"):
        made(silent, None)


def test_the_mini_that_goes_on_air_is_measured_as_it_is_and_against_plain_enlarging(shot):
    on_air = [Weights(path=MINI)]
    (student,) = model_methods(on_air, 1, (112, 64))
    painted, enlarged = model_methods(on_air, 1, (224, 128))
    assert [student.name, painted.name, enlarged.name] == ["student", "student", "student, enlarged"]
    assert painted.streams and not enlarged.streams
    frames = [np.stack(list(method.render(shot))) for method in (painted, enlarged)]
    assert {made.shape for made in frames} == {(len(shot), SIZE[1], SIZE[0], 3)}
    assert not np.array_equal(*frames)


def test_a_mini_of_larger_chunks_is_measured_by_its_rollout_and_does_not_know_what_comes(shot, tmp_path):
    config = replace(model_config("mini"), chunk=3, window=6)
    torch.manual_seed(0)
    file = tmp_path / "chunks.safetensors"
    told = {"layout": "trained", "chunk": "3", "window": "6"}
    save_weights(file, TRANSFORMERS["pair"](config).state_dict(), config_metadata(config) | told)
    (method,) = model_methods([Weights(path=file)], 1, SIZE)
    frames = np.stack(list(method.render(shot)))
    assert frames.shape == (len(shot), SIZE[1], SIZE[0], 3)
    other = replace(shot, source=[*shot.source[:3], *(255 - frame for frame in shot.source[3:])])
    others = np.stack(list(method.render(other)))
    assert np.array_equal(frames[:3], others[:3])
    assert not np.array_equal(frames[3:], others[3:])


def test_a_teacher_is_the_same_each_time_and_another_at_other_steps(files, shot):
    (teacher,) = model_methods([Weights(path=files["pair"])], 1, SIZE)
    assert isinstance(teacher, TeacherMethod)
    once, again, more = (np.stack(list(one.render(shot))) for one in (teacher, teacher, *teacher.at_steps(3)))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, more)


def test_time_per_frame_of_steps_of_chunks_and_of_whole_clips():
    def arriving(*waits_s: float) -> Timing:
        return _timing([0.0, *np.cumsum(waits_s).tolist()])

    assert arriving(0.5, *[0.1] * 6) == Timing(first_s=0.5, frame_s=pytest.approx(0.1))
    assert arriving(0.4, 0, 0.2, 0, 0.2, 0, 0.2, 0).frame_s == pytest.approx(0.1)
    assert arriving(3.0, *[0.0] * 5).frame_s == pytest.approx(0.5)


def test_an_evaluation_that_was_stopped_does_not_make_its_clips_again(files, shot, tmp_path, monkeypatch):
    (teacher,) = model_methods([Weights(path=files["pair"])], 1, SIZE)
    kept = KeptClips(tmp_path / "clips")
    frames, timing = kept.render_timed(teacher, shot)
    monkeypatch.setattr(TeacherMethod, "render", lambda *_: pytest.fail("it was made again"))
    again, same = KeptClips(tmp_path / "clips").render_timed(teacher, shot)
    assert np.array_equal(frames, again)
    assert same == timing
    kept.forget()
    assert list(tmp_path.iterdir()) == []


def test_clips_through_another_codec_are_other_clips(files, tmp_path):
    codecs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in codecs:
        save_weights(path, TinyVAE(TINY_VAES["tiny"]).state_dict(), {})
    through = [None, *map(str, codecs)]
    assert len({TeacherMethod("teacher", files["pair"], 1, codec).identity for codec in through}) == 3


def test_clips_are_kept_apart_by_weights_steps_and_shot(files, shot, tmp_path):
    kept = KeptClips(tmp_path)
    (teacher,) = model_methods([Weights(path=files["pair"])], 1, SIZE)
    assert isinstance(teacher, TeacherMethod)
    for method, asked in ((teacher, shot), (teacher, shot.still()), (*teacher.at_steps(2), shot)):
        kept.render_timed(method, asked)
        kept.render_timed(method, asked)
    assert len(list(tmp_path.iterdir())) == 3
