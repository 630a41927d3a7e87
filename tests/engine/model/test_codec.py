"""What every codec promises, on each of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from engine.model.codec import Codec, PixelCodec
from engine.model.config import SIZES
from engine.model.tiny_vae import TINY_VAES, TinyVAE
from engine.model.wan_vae import WAN_VAES, WanVAE

CODECS: dict[str, Callable[[], Codec]] = {
    "pixel": lambda: PixelCodec(4),
    "wan-vae": lambda: WanVAE(WAN_VAES["tiny"]),
    "tiny-vae": lambda: TinyVAE(TINY_VAES["tiny"]),
}
LATENT_FRAMES = 5
ROWS, COLUMNS = 8, 16
TOLERANCE = 1e-5


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(0)
    made = CODECS[request.param]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5).add_(0.05 * torch.randn_like(parameter))
        # Contrast low and grey in the middle, since clamping would hide errors.
        if isinstance(made, TinyVAE):
            made.decoder[-1].weight.mul_(0.1)
            made.decoder[-1].bias.fill_(0.5)
        if isinstance(made, WanVAE):
            made.decoder.head[-1].weight.mul_(0.1)
    return made


@pytest.fixture(autouse=True)
def _plain_forward_passes() -> Iterator[None]:
    """On one thread: the tensors are so small that more would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


def clip(codec: Codec, latent_frames: int = LATENT_FRAMES, seed: int = 1) -> Tensor:
    """As many frames as the encoder needs for so many latent frames."""
    torch.manual_seed(seed)
    frames = codec.frames_to_encode(latent_frames, at_start=True)
    return torch.rand(2, frames, 3, ROWS, COLUMNS) * 2 - 1


def latents(codec: Codec, frames: int = LATENT_FRAMES, seed: int = 2) -> Tensor:
    torch.manual_seed(seed)
    _, down, across = codec.stride
    return 0.5 * torch.randn(2, frames, codec.latent_channels, ROWS // down, COLUMNS // across)


def portions(x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """``x`` cut along its second axis, the last size over and over."""
    cut = []
    at = 0
    while at < x.shape[1]:
        size = sizes[min(len(cut), len(sizes) - 1)]
        cut.append(x[:, at : at + size])
        at += size
    return cut


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("sizes", [[1], [2], [3], [1, 4], [4], [1, 12], [5, 1]])
def test_encoding_in_any_portions_equals_encoding_in_one_go(codec: Codec, sizes: list[int]) -> None:
    video = clip(codec)
    whole = codec.encoder_stream().encode(video)
    assert whole.shape[1] == LATENT_FRAMES
    stream = codec.encoder_stream()
    parts = torch.cat([stream.encode(part) for part in portions(video, sizes)], dim=1)
    assert relative_error(parts, whole) <= TOLERANCE


@pytest.mark.parametrize("sizes", [[1], [2], [3], [1, 3]])
def test_decoding_in_any_portions_equals_decoding_in_one_go(codec: Codec, sizes: list[int]) -> None:
    given = latents(codec)
    whole = codec.decoder_stream().decode(given)
    if not isinstance(codec, PixelCodec):
        assert (whole.abs() < 1).float().mean() > 0.9, "clamping hides errors"
    stream = codec.decoder_stream()
    parts = torch.cat([stream.decode(part) for part in portions(given, sizes)], dim=1)
    assert relative_error(parts, whole) <= TOLERANCE


def test_a_whole_clip_is_one_call_on_a_new_stream(codec: Codec) -> None:
    frames = codec.frames_decoded(LATENT_FRAMES, at_start=True)
    video = clip(codec)[:, :frames]
    still = video[:, -1:].repeat(1, codec.lookahead, 1, 1, 1)
    encoded = codec.encode(video)
    assert torch.equal(encoded, codec.encoder_stream().encode(torch.cat([video, still], dim=1)))
    assert torch.equal(codec.decode(encoded), codec.decoder_stream().decode(encoded))
    assert codec.decode(encoded).shape == video.shape


def test_the_decoder_gives_one_frame_for_the_first_latent_and_a_stride_of_frames_after(codec: Codec) -> None:
    stream = codec.decoder_stream()
    counts = [stream.decode(latents(codec, frames)).shape[1] for frames in (1, 1, 3)]
    step = codec.stride[0]
    assert counts == [1, step, 3 * step]
    assert counts == [codec.frames_decoded(n, at_start=i == 0) for i, n in enumerate((1, 1, 3))]


def test_a_latent_comes_with_the_very_frame_that_completes_it(codec: Codec) -> None:
    stream = codec.encoder_stream()
    for frame in clip(codec).split(1, dim=1):
        missing = stream.frames_missing()
        assert missing >= 1
        assert stream.encode(frame).shape[1] == (missing == 1)


def test_the_frames_that_are_missing_are_the_needed_ones_less_those_that_came(codec: Codec) -> None:
    stream = codec.encoder_stream()
    video = clip(codec)
    needed = stream.frames_missing(3)
    came = stream.encode(video[:, :2]).shape[1]
    assert stream.frames_missing(3 - came) == needed - 2
    assert stream.encode(video[:, 2:needed]).shape[1] == 3 - came


@pytest.mark.parametrize("codec", ["wan-vae", "tiny-vae"], indirect=True)
def test_what_a_stream_remembers_shows(codec: Codec) -> None:
    """Else the agreement of portions with the whole would prove nothing."""
    given = latents(codec)
    stream = codec.decoder_stream()
    stream.decode(given[:, :2])
    going_on = stream.decode(given[:, 2:])
    stream.reset()
    stream.decode(given[:, 1:2])
    assert relative_error(stream.decode(given[:, 2:]), going_on) > 100 * TOLERANCE


def test_no_latents_decode_to_no_frames(codec: Codec) -> None:
    stream = codec.decoder_stream()
    assert stream.decode(latents(codec, 0)).shape == (2, 0, 3, ROWS, COLUMNS)
    assert stream.decode(latents(codec, 1)).shape[1] == 1


def test_a_reset_stream_equals_a_new_one(codec: Codec) -> None:
    video, given = clip(codec), latents(codec)
    encoder, decoder = codec.encoder_stream(), codec.decoder_stream()
    encoder.encode(clip(codec, seed=3)[:, :-1])
    decoder.decode(latents(codec, seed=4))
    encoder.reset()
    decoder.reset()
    assert torch.equal(encoder.encode(video), codec.encoder_stream().encode(video))
    assert torch.equal(decoder.decode(given), codec.decoder_stream().decode(given))


def test_streams_of_one_codec_do_not_disturb_each_other(codec: Codec) -> None:
    ours, theirs = latents(codec, 4, seed=5), latents(codec, 4, seed=6)
    alone = codec.decoder_stream().decode(ours)
    stream, other = codec.decoder_stream(), codec.decoder_stream()
    mixed = []
    for number in range(4):
        mixed.append(stream.decode(ours[:, number : number + 1]))
        other.decode(theirs[:, number : number + 1])
    assert relative_error(torch.cat(mixed, dim=1), alone) <= TOLERANCE


def test_a_later_frame_changes_no_earlier_latent(codec: Codec) -> None:
    video = clip(codec)
    changed = video.clone()
    changed[:, -1] *= -1
    before, after = codec.encoder_stream().encode(video), codec.encoder_stream().encode(changed)
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def live_tensor_bytes() -> int:
    gc.collect()
    storages = {
        thing.untyped_storage().data_ptr(): thing.untyped_storage().nbytes()
        for thing in gc.get_objects()
        if type(thing) is Tensor
    }
    return sum(storages.values())


def test_a_long_stream_remembers_no_more_than_a_short_one(codec: Codec) -> None:
    encoder, decoder = codec.encoder_stream(), codec.decoder_stream()
    video = torch.zeros(1, 6, 3, ROWS, COLUMNS)

    def go_on(calls: int) -> int:
        for _ in range(calls):
            decoder.decode(encoder.encode(video))
        return live_tensor_bytes()

    early = go_on(4)
    counted = encoder.nbytes + decoder.nbytes
    assert go_on(20) == early
    assert encoder.nbytes + decoder.nbytes == counted
    before = live_tensor_bytes()
    encoder.reset()
    decoder.reset()
    assert before - live_tensor_bytes() == counted


@pytest.mark.parametrize("shape", [(1, 13, 3, 16, 22), (1, 13, 3, 18, 24), (1, 13, 4, 16, 24)])
def test_a_picture_that_does_not_divide_or_has_other_colours_is_refused(
    codec: Codec, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"divisible by . and W by ., found"):
        codec.encoder_stream().encode(torch.zeros(shape))


def test_latents_of_another_codec_are_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match=f"C = {codec.latent_channels}, found"):
        codec.decoder_stream().decode(torch.zeros(1, 1, codec.latent_channels + 1, 2, 3))


def test_a_clip_that_ends_within_a_latent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1 \+ n·4 frames, found 12"):
        WanVAE(WAN_VAES["tiny"]).encode(torch.zeros(1, 12, 3, 16, 24))


@pytest.mark.parametrize("patch", [1, 4, 8])
def test_pixels_come_back_bit_for_bit(patch: int) -> None:
    video = torch.rand(2, 3, 3, 16, 24) * 2 - 1
    codec = PixelCodec(patch)
    encoded = codec.encode(video)
    assert encoded.shape == (2, 3, 3 * patch**2, 16 // patch, 24 // patch)
    assert torch.equal(codec.decode(encoded), video)


def test_a_pixel_latent_holds_colour_row_and_column_in_this_order() -> None:
    video = torch.rand(1, 1, 3, 16, 24)
    colour, y, x = 2, 1, 3
    assert torch.equal(
        PixelCodec(4).encode(video)[0, 0, (colour * 4 + y) * 4 + x], video[0, 0, colour, y::4, x::4]
    )


@pytest.mark.parametrize(
    ("size", "codec_made"),
    [
        ("tiny", lambda: PixelCodec(4)),
        ("mini", lambda: PixelCodec(8)),
        ("wan-1.3b", lambda: WanVAE(WAN_VAES["wan2.1"])),
        ("wan-1.3b", lambda: TinyVAE(TINY_VAES["taew2_1"])),
        ("wan2.2-5b", lambda: TinyVAE(TINY_VAES["taew2_2"])),
    ],
)
def test_each_size_of_the_model_has_a_codec_that_fits(size: str, codec_made: Callable[[], Codec]) -> None:
    with torch.device("meta"):
        codec = codec_made()
    assert (codec.latent_channels, codec.stride) == (SIZES[size].latent_channels, SIZES[size].stride)
