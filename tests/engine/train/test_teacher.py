"""Whole runs of the tiny size."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from engine.diffusion.teacher import load_teacher
from engine.errors import ConfigError, DataError, WeightsError
from engine.model.config import SIZES
from engine.model.tiny_vae import TINY_VAES, TinyVAE
from engine.model.weight_files import open_weights, save_weights
from engine.train.checkpoint import checkpoints
from engine.train.run_folder import alone_in
from engine.train.teacher import TeacherSettings, train_teacher


def silent(share: float, what: str) -> None:
    pass


def run(settings: TeacherSettings, **changes: object) -> list[dict[str, float]]:
    """Trains, and returns the lines of its log."""
    train_teacher(replace(settings, loop=replace(settings.loop, **changes)), silent)
    return metrics(settings.loop.out)


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(rows: list[dict[str, float]]) -> list[float]:
    return [row["model/loss"] for row in rows if "model/loss" in row]


def test_a_run_lowers_the_loss_and_leaves_all_that_is_promised(settings: TeacherSettings) -> None:
    rows = run(replace(settings, learning_rate=1e-2), steps=60, look_every=60)
    found = losses(rows)
    assert len(found) == 60
    assert sum(found[-10:]) < 0.75 * sum(found[:10])
    assert rows[-1]["heldout/psnr_1"] > 5
    out = settings.loop.out
    strip = cv2.imread(str(next((out / "strips").glob("*.jpg"))))
    assert strip.shape == (4 * 24, 3 * 32, 3)  # four clips; source, sample, truth
    assert list((out / "tensorboard").iterdir())
    _, config = load_teacher(out / "model.safetensors", "cpu", torch.float32)
    assert config.name == "tiny"
    told = open_weights(out / "model.safetensors").metadata
    assert told["variant"] == "pair" and told["steps"] == "60" and "codec" not in told


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    settings: TeacherSettings, tmp_path: Path
) -> None:
    settings = replace(settings, loop_share=0.5, augment=True)
    whole = run(settings)
    broken = replace(settings, loop=replace(settings.loop, out=tmp_path / "broken"))
    run(broken, steps=4)
    resumed = run(broken)
    assert losses(resumed) == losses(whole)
    a, b = (open_weights(one.loop.out / "model.safetensors").tensors for one in (settings, broken))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_passes_that_share_a_step_are_the_step(settings: TeacherSettings, tmp_path: Path) -> None:
    whole = losses(run(settings))
    parts = replace(settings, loop=replace(settings.loop, out=tmp_path / "parts", accumulate=2))
    assert losses(run(parts)) == pytest.approx(whole, rel=1e-4)


def test_lines_after_the_checkpoint_are_forgotten(settings: TeacherSettings) -> None:
    run(settings, steps=3)
    with (settings.loop.out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "model/loss": 1e9}\n')
    assert max(losses(run(settings, steps=5))) < 1e9


def test_other_settings_are_refused_in_a_runs_folder(settings: TeacherSettings) -> None:
    run(settings, steps=1)
    with pytest.raises(ConfigError, match=r"learning_rate = 0\.001.*0\.5.*another --out"):
        run(replace(settings, learning_rate=0.5), steps=2)
    with pytest.raises(ConfigError, match=r"loop\.batch"):
        run(settings, batch=8)


def test_a_second_training_in_a_runs_folder_is_refused_while_the_first_one_runs(
    settings: TeacherSettings,
) -> None:
    with alone_in(settings.loop.out), pytest.raises(ConfigError, match=r"another process trains into .*run"):
        run(settings, steps=1)
    run(settings, steps=1)


def test_a_damaged_checkpoint_is_named(settings: TeacherSettings) -> None:
    run(settings, steps=1)
    newest = checkpoints(settings.loop.out / "checkpoints")[-1]
    (newest / "progress.json").write_text("{")
    with pytest.raises(WeightsError, match=newest.name):
        run(settings, steps=2)


def test_data_without_a_scene_says_how_to_make_some(settings: TeacherSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data render"):
        run(replace(settings, data=tmp_path))


@pytest.mark.parametrize("variant", ["pair", "prefix"])
def test_blocks_computed_twice_train_as_blocks_kept(
    settings: TeacherSettings, tmp_path: Path, variant: str
) -> None:
    settings = replace(settings, variant=variant)  # type: ignore[arg-type]
    kept = losses(run(settings, steps=3))
    again = replace(settings, checkpointing=True, loop=replace(settings.loop, out=tmp_path / "again"))
    assert losses(run(again, steps=3)) == pytest.approx(kept, rel=1e-5)


def test_products_in_bfloat16_learn_what_those_in_float32_do(
    settings: TeacherSettings, tmp_path: Path
) -> None:
    settings = replace(settings, learning_rate=1e-2)
    plain = losses(run(settings, steps=20))
    loop = replace(settings.loop, out=tmp_path / "half", precision="bf16")
    half = losses(run(replace(settings, loop=loop), steps=20))
    assert half != plain
    assert half == pytest.approx(plain, rel=0.05)


def test_a_run_may_begin_with_weights_and_change_some_of_them_only(
    settings: TeacherSettings, tmp_path: Path
) -> None:
    run(settings, steps=2)
    start = settings.loop.out / "model.safetensors"
    tuned = replace(
        settings,
        weights=str(start),
        trainable="camera",
        loop=replace(settings.loop, out=tmp_path / "tuned"),
    )
    run(tuned, steps=2)
    before, after = (open_weights(p).tensors for p in (start, tuned.loop.out / "model.safetensors"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"plucker.embedding.weight", "plucker.embedding.bias", "stream_embedding"}


def test_a_file_trained_on_latents_names_their_codec(
    settings: TeacherSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = TINY_VAES["tiny"]
    on_latents = replace(SIZES["tiny"], codec="tiny-vae", latent_channels=4, stride=(4, 8, 8), size=(32, 32))
    monkeypatch.setitem(SIZES, "tiny", on_latents)
    codec = tmp_path / "codec.safetensors"
    save_weights(codec, TinyVAE(vae).state_dict(), {})
    run(replace(settings, codec=str(codec), frames=3), steps=1)
    assert open_weights(settings.loop.out / "model.safetensors").metadata["codec"] == str(codec)


def test_a_size_on_latents_asks_for_its_codec(settings: TeacherSettings) -> None:
    with pytest.raises(WeightsError, match=r"wan-1\.3b works on latents.*--codec"):
        run(replace(settings, size="wan-1.3b"))
