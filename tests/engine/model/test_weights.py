"""Import, and loading again, of synthetic checkpoints in every published layout at tiny widths."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import WeightsError
from engine.model import weights
from engine.model.config import SIZES, ModelConfig, model_config
from engine.model.dit import PairTransformer
from engine.model.fitting import config_metadata
from engine.model.tiny_vae import TINY_VAES, TinyVAE
from engine.model.wan_vae import WAN_VAES, WanVAE
from engine.model.weight_files import open_weights
from engine.model.weights import find_weights, import_weights, list_weights, load_codec, load_transformer

TINY = model_config("tiny")
ADDED = {"stream_embedding", "empty_prompt", "plucker.embedding.weight", "plucker.embedding.bias"}
TOLERANCE = 1e-5
CPU, FLOAT32 = torch.device("cpu"), torch.float32

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, and no bundled weights."""
    monkeypatch.setattr(weights, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(weights, "BUNDLED_FOLDER", tmp_path / "bundled")
    return tmp_path / "user"


def a_transformer(config: ModelConfig = TINY) -> PairTransformer:
    """With random numbers everywhere but in what published checkpoints have not."""
    torch.manual_seed(0)
    model = PairTransformer(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name not in ADDED:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def published(model: PairTransformer) -> State:
    return {
        name.replace(".camera.", "."): tensor
        for name, tensor in model.state_dict().items()
        if name not in ADDED
    }


def self_forcing(model: PairTransformer) -> dict[str, State]:
    good = {f"model._fsdp_wrapped_module.{name}": tensor for name, tensor in published(model).items()}
    other = {name: tensor + 1 for name, tensor in good.items()}
    return {"critic": other, "generator": other, "generator_ema": good}


def velocity(model: PairTransformer, config: ModelConfig = TINY) -> Tensor:
    torch.manual_seed(1)
    latent = torch.randn(2, 3, config.latent_channels, 8, 12)
    prompt = torch.randn(2, config.text_length, config.text_width)
    poses = torch.randn(2, 3, 12) if config.camera == "recammaster" else None
    timesteps = torch.tensor([[900.0], [300.0]]).expand(2, 3)
    text = model.encode_text(prompt)
    return model.denoise(latent, timesteps, torch.arange(3), text, None, extrinsics=poses)[0]


def save(path: Path, content: object) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("layout", "file", "camera", "make"),
    [
        ("wan", "w.safetensors", "plucker", published),
        ("wan", "w.pth", "plucker", published),
        ("self-forcing", "w.pt", "plucker", self_forcing),
        ("recammaster", "w.ckpt", "recammaster", published),
    ],
)
def test_an_import_gives_the_same_model_as_the_published_file(
    tmp_path: Path, layout: str, file: str, camera: str, make: Callable[[PairTransformer], object]
) -> None:
    config = replace(TINY, camera=camera)
    model = a_transformer(config)
    report = import_weights(save(tmp_path / file, make(model)), "mine")
    assert report.matched == len(published(model)) == 15 + config.layers * (27 if camera == "plucker" else 31)
    assert set(report.new) == model.state_dict().keys() & ADDED
    loaded, found = load_transformer("mine", CPU, FLOAT32)
    assert found == config
    assert torch.equal(velocity(loaded, config), velocity(model, config))
    metadata = open_weights(report.path).metadata
    assert metadata["layout"] == layout and metadata["size"] == "tiny" and metadata["camera"] == camera
    assert metadata["hint_channels"] == "0" and len(metadata["source_sha256"]) == 64


def test_diffusers_weights_give_what_diffusers_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(
        num_attention_heads=TINY.heads,
        attention_head_dim=TINY.head_width,
        in_channels=TINY.latent_channels,
        out_channels=TINY.latent_channels,
        text_dim=TINY.text_width,
        freq_dim=TINY.frequency_width,
        ffn_dim=TINY.ffn_width,
        num_layers=TINY.layers,
    ).requires_grad_(False)
    for parameter in theirs.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "transformer")
    report = import_weights(tmp_path / "transformer")
    assert report.name == "tiny" and report.matched == 15 + 27 * TINY.layers
    model, _ = load_transformer("tiny", CPU, FLOAT32)
    latent = torch.randn(2, 3, TINY.latent_channels, 8, 12)
    prompt = torch.randn(2, TINY.text_length, TINY.text_width)
    timesteps = torch.tensor([900.0, 300.0])
    expected = theirs(latent.transpose(1, 2), timesteps, prompt).sample.transpose(1, 2)
    text = model.encode_text(prompt)
    found, _ = model.denoise(latent, timesteps[:, None].expand(2, 3), torch.arange(3), text, None)
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    print(f"diffusers' Wan through the import: relative error {error:.1e}")
    assert error <= TOLERANCE


def test_what_an_import_adds_is_zero_and_says_so(tmp_path: Path) -> None:
    report = import_weights(save(tmp_path / "w.safetensors", published(a_transformer())))
    assert set(report.new) == ADDED
    written = load_file(report.path)
    assert all(not written[name].any() for name in ADDED)
    assert set(json.loads(open_weights(report.path).metadata["new"])) == ADDED


def test_what_has_no_place_in_the_model_is_left_over(tmp_path: Path) -> None:
    model = a_transformer()
    extra = published(model) | {"blocks.0.adapter.weight": torch.ones(2)}
    report = import_weights(save(tmp_path / "w.safetensors", extra))
    assert report.left == ("blocks.0.adapter.weight",)
    critic = import_weights(save(tmp_path / "w.pt", self_forcing(model)))
    assert critic.name == "tiny-self-forcing"
    assert len(critic.left) == 2 * len(published(model))


def test_our_own_weights_keep_their_config_whatever_their_size(tmp_path: Path) -> None:
    config = replace(TINY, name="odd", width=60, heads=6, hint_channels=3, window=7)
    model = a_transformer(config)
    torch.nn.init.normal_(model.stream_embedding)
    source = tmp_path / "w.safetensors"
    told = {"realcam_format": "1", "layout": "trained", **config_metadata(config)}
    save_file(model.state_dict(), source, told)
    report = import_weights(source)
    assert report.name == "odd" and not report.new and not report.left
    loaded, found = load_transformer(report.path, CPU, FLOAT32)
    assert found == config and torch.equal(velocity(loaded, config), velocity(model, config))
    metadata = open_weights(report.path).metadata
    assert metadata["layout"] == "trained" and metadata["hint_channels"] == "3"


def test_a_config_of_another_version_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "w.safetensors"
    save_file(a_transformer().state_dict(), source, {"realcam_config": '{"name": "tiny"}'})
    with pytest.raises(
        WeightsError, match=r"not one of this version of RealCam: its fields differ in .*width"
    ):
        import_weights(source)


def test_an_unnamed_size_of_wans_family_is_made_after_the_nearest(tmp_path: Path) -> None:
    after = SIZES["wan-1.3b"]
    config = replace(after, name="wan-256x3", width=256, heads=2, layers=3, ffn_width=64)
    report = import_weights(save(tmp_path / "w.safetensors", published(a_transformer(config))))
    assert report.name == "wan-256x3"
    assert load_transformer("wan-256x3", CPU, FLOAT32)[1] == config


def test_heads_that_cannot_be_told_are_an_error(tmp_path: Path) -> None:
    config = replace(TINY, width=60, heads=2)
    with pytest.raises(WeightsError, match="width of 60 is none of the known sizes'"):
        import_weights(save(tmp_path / "w.safetensors", published(a_transformer(config))))


@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_wans_vae_loads_by_either_names(tmp_path: Path, names: str) -> None:
    torch.manual_seed(0)
    vae = WanVAE(WAN_VAES["tiny"]).requires_grad_(False)
    state = vae.state_dict()
    if names == "diffusers":
        state = convert_wan_vae_to_diffusers(state)
    report = import_weights(save(tmp_path / "w.pth", state))
    assert report.name == "wan-vae-tiny" and not report.new and not report.left
    clip = torch.rand(1, 5, 3, 16, 16)
    loaded = load_codec("wan-vae-tiny", CPU, FLOAT32).requires_grad_(False)
    assert torch.equal(loaded.encode(clip), vae.encode(clip))


def test_the_tiny_vae_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = TinyVAE(TINY_VAES["tiny"]).requires_grad_(False)
    report = import_weights(save(tmp_path / "w.pth", vae.state_dict()))
    assert report.name == "tiny-vae-tiny" and not report.new and not report.left
    clip = torch.rand(1, 5, 3, 16, 16)
    loaded = load_codec(report.path, CPU, FLOAT32).requires_grad_(False)
    assert torch.equal(loaded.encode(clip), vae.encode(clip))


def test_a_codec_is_no_transformer_and_a_transformer_no_codec(tmp_path: Path) -> None:
    codec = save(tmp_path / "c.pth", TinyVAE(TINY_VAES["tiny"]).state_dict())
    with pytest.raises(WeightsError, match=r"c\.pth: expected a transformer, found TAEHV"):
        load_transformer(codec, CPU, FLOAT32)
    transformer = save(tmp_path / "t.pth", published(a_transformer()))
    with pytest.raises(WeightsError, match=r"t\.pth: expected a codec, found Wan's transformer"):
        load_codec(transformer, CPU, FLOAT32)


def sharded(folder: Path, state: State) -> Path:
    names = sorted(state)
    half = len(names) // 2
    places = {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_shards_are_read_by_their_index_or_folder(tmp_path: Path) -> None:
    model = a_transformer()
    source = tmp_path / "shards"
    source.mkdir()
    index = sharded(source, published(model))
    for path in (index, source):
        loaded, _ = load_transformer(path, CPU, FLOAT32)
        assert torch.equal(velocity(loaded), velocity(model))
    assert import_weights(source).name == "tiny"


def test_a_single_shard_leads_to_its_index(tmp_path: Path) -> None:
    index = sharded(tmp_path, published(a_transformer()))
    with pytest.raises(
        WeightsError, match=f"one shard of several, give the index instead: {re.escape(str(index))}"
    ):
        import_weights(tmp_path / "model-00001-of-00002.safetensors")


def test_another_model_is_refused_with_what_it_is_and_what_was_expected(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", {"down_blocks.0.resnets.0.conv1.weight": torch.ones(2)})
    with pytest.raises(
        WeightsError, match=r"w\.safetensors: it looks like a Stable Diffusion UNet; expected .*Wan"
    ):
        import_weights(path)


def test_tensors_of_another_shape_are_told_with_both_shapes(tmp_path: Path) -> None:
    state = published(a_transformer())
    state["blocks.1.ffn.2.weight"] = torch.ones(48, 7)
    path = save(tmp_path / "w.safetensors", state)
    with pytest.raises(WeightsError, match=r"blocks\.1\.ffn\.2\.weight: expected 48×96, found 48×7"):
        import_weights(path)


def test_missing_tensors_are_told(tmp_path: Path) -> None:
    state = published(a_transformer())
    del state["blocks.1.ffn.2.weight"]
    path = save(tmp_path / "w.safetensors", state)
    with pytest.raises(WeightsError, match=r"1 of 73 tensors are missing: blocks\.1\.ffn\.2\.weight"):
        import_weights(path)


def test_quantised_tensors_are_refused(tmp_path: Path) -> None:
    state = published(a_transformer())
    state["blocks.1.ffn.2.weight"] = state["blocks.1.ffn.2.weight"].to(torch.float8_e4m3fn)
    path = save(tmp_path / "w.safetensors", state)
    with pytest.raises(WeightsError, match=r"quantised: blocks\.1\.ffn\.2\.weight is torch\.float8_e4m3fn"):
        import_weights(path)


def test_a_model_is_loaded_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", published(a_transformer()))
    model, _ = load_transformer(path, CPU, torch.bfloat16)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}


def mapped_file(address: int) -> str:
    """The file behind an address of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, end = line.partition(" ")[0].partition("-")
        if int(start, 16) <= address < int(end, 16):
            return line.split(maxsplit=5)[-1]
    return ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("file", ["w.safetensors", "w.pt"])
def test_weights_of_the_right_type_stay_mapped_from_their_file(tmp_path: Path, file: str) -> None:
    path = save(tmp_path / file, published(a_transformer()))
    model, _ = load_transformer(path, CPU, FLOAT32)
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in ADDED}
    assert {mapped_file(tensor.data_ptr()) for tensor in state.values()} == {str(path)}
    before = path.read_bytes()
    model.head.head.weight.data.fill_(7)
    assert path.read_bytes() == before


MEASURE = """
import re, sys, torch
from pathlib import Path
from engine.model.weights import load_transformer

def anonymous_bytes():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

load_transformer(Path(sys.argv[1]), torch.device("cpu"), torch.bfloat16)
before = anonymous_bytes()
model, _ = load_transformer(Path(sys.argv[1]), torch.device("cpu"), torch.bfloat16)
assert model.head.head.weight.dtype == torch.bfloat16
print(anonymous_bytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_in_another_type_takes_memory_for_that_type_alone(tmp_path: Path) -> None:
    """In a process of its own, whose allocator has nothing left over to take the memory from."""
    config = replace(TINY, name="wide", width=128, heads=1, ffn_width=30_000)
    path = save(tmp_path / "w.safetensors", published(a_transformer(config)))
    file_bytes = path.stat().st_size
    assert file_bytes > 60e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    assert 0.4 * file_bytes <= int(done.stdout) <= 0.65 * file_bytes


def test_other_weights_do_not_replace_those_of_the_same_name(tmp_path: Path) -> None:
    model = a_transformer()
    first = save(tmp_path / "first.safetensors", published(model))
    assert import_weights(first).path == import_weights(first).path
    second = save(tmp_path / "second.safetensors", {k: v + 1 for k, v in published(model).items()})
    with pytest.raises(WeightsError, match=r"there are other weights called tiny .*--as"):
        import_weights(second)
    assert import_weights(second, "second").name == "second"


@pytest.mark.parametrize("name", ["", "../up", "With Space", ".hidden"])
def test_a_name_is_a_plain_one(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "w.safetensors", published(a_transformer()))
    if name:
        with pytest.raises(WeightsError, match="a name of weights is of a-z"):
            import_weights(path, name)
    else:
        assert import_weights(path, name).name == "tiny"


def test_the_list_has_the_users_first_and_what_cannot_be_used_with_its_reason(
    tmp_path: Path, folder: Path
) -> None:
    path = save(tmp_path / "w.safetensors", published(a_transformer()))
    import_weights(path, "mini")
    (tmp_path / "bundled").mkdir()
    for name in ("mini", "other"):
        (tmp_path / "bundled" / f"{name}.safetensors").write_bytes((folder / "mini.safetensors").read_bytes())
    (folder / "broken.safetensors").write_bytes(b"nothing of the kind")
    entries = {entry.name: entry for entry in list_weights()}
    assert list(entries) == ["broken", "mini", "other"]
    assert "neither safetensors" in (entries["broken"].problem or "")
    mini = entries["mini"]
    assert mini.path.parent == folder and mini.checkpoint is not None and mini.checkpoint.camera == "plucker"
    assert entries["other"].path.parent == tmp_path / "bundled"


def test_a_name_is_found_before_a_file_of_the_same_name(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    import_weights(save(tmp_path / "w.safetensors", published(a_transformer())))
    Path("tiny").mkdir()
    assert find_weights("tiny") == folder / "tiny.safetensors"
    assert find_weights("./tiny") == Path("tiny")


def test_unknown_weights_are_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there are no weights 'nothing'.*none yet"):
        find_weights("nothing")
    import_weights(save(tmp_path / "w.safetensors", published(a_transformer())), "mine")
    with pytest.raises(WeightsError, match="names: mine"):
        load_transformer("nothing", CPU, FLOAT32)
