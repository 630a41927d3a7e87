"""What a codec is: pictures to latents and back, as streams that remember where they are.

A codec itself remembers nothing; the streams it opens do, so one codec serves many. However a
stream's frames are portioned into calls, the result is the same.

When frames come, with s = ``stride[0]``: the first latent frame of a stream stands for one picture
frame, each later one for the next s. So F latent frames decode to 1 + (F − 1)·s frames at the start
of a stream and to F·s after it. To encode F latent frames takes as many, and at the start
``lookahead`` more: by so many frames the encoder waits beyond what a latent frame stands for.

Knows nothing of noise, tokens or cameras. Shapes: B batch, T frames, H W rows and columns of a
picture; F latent frames, C latent channels, h w latent rows and columns. Video is B T 3 H W in
[−1, 1], red first; latents are B F C h w, normalised as the transformer wants them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

COLOURS = 3


class Codec(nn.Module, ABC):
    """Both directions. ``stride`` is in time, height and width."""

    latent_channels: int
    stride: tuple[int, int, int]
    lookahead: int

    @abstractmethod
    def encoder_stream(self) -> EncoderStream:
        """A new stream, at its start. Open it when the codec is on its device and of its type."""

    @abstractmethod
    def decoder_stream(self) -> DecoderStream:
        """A new stream, at its start. Open it when the codec is on its device and of its type."""

    def frames_to_encode(self, latent_frames: int, *, at_start: bool) -> int:
        """How many picture frames make so many latent frames."""
        extra = self.lookahead if at_start and latent_frames else 0
        return self.frames_decoded(latent_frames, at_start=at_start) + extra

    def frames_decoded(self, latent_frames: int, *, at_start: bool) -> int:
        """How many picture frames so many latent frames make."""
        spared = self.stride[0] - 1 if at_start and latent_frames else 0
        return latent_frames * self.stride[0] - spared

    def encode(self, video: Tensor) -> Tensor:
        """A whole clip in one go: B T 3 H W → B F C h w, T = 1 + (F − 1)·s.

        Where the encoder looks ahead, the last frame is taken to stand still.
        """
        frames, step = video.shape[1], self.stride[0]
        if frames % step != 1 % step:
            raise ValueError(f"a clip for this codec has 1 + n·{step} frames, found {frames}")
        still = video[:, -1:].expand(-1, self.lookahead, -1, -1, -1)
        return self.encoder_stream().encode(torch.cat([video, still], dim=1))

    def decode(self, latents: Tensor) -> Tensor:
        """A whole clip in one go: B F C h w → B T 3 H W, T = 1 + (F − 1)·s."""
        return self.decoder_stream().decode(latents)


class EncoderStream(ABC):
    """Turns one video into latents as its frames come. With gradients on, what it remembers carries
    them from call to call.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.reset()

    def reset(self) -> None:
        """Back to the start of a stream."""
        self._at_start = True
        self._waiting: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Of all that it remembers."""
        return self._state_bytes() + (0 if self._waiting is None else self._waiting.nbytes)

    def frames_missing(self, latent_frames: int = 1) -> int:
        """How many picture frames ``encode`` must yet be given to make so many latent frames."""
        waiting = 0 if self._waiting is None else self._waiting.shape[1]
        return self._codec.frames_to_encode(latent_frames, at_start=self._at_start) - waiting

    def encode(self, video: Tensor) -> Tensor:
        """Any number of frames B T 3 H W → every latent frame they complete, B F C h w; F may be 0.

        Frames that complete none wait for the next call: fewer than one latent frame needs.
        """
        _, down, across = self._codec.stride
        rows, columns = video.shape[-2:]
        if video.shape[2] != COLOURS or rows % down or columns % across:
            raise ValueError(
                f"video must be B T 3 H W with H divisible by {down} and W by {across}, "
                f"found {tuple(video.shape)}"
            )
        if self._waiting is not None:
            video = torch.cat([self._waiting, video], dim=1)
        latent_frames = self._complete(video.shape[1])
        used = self._codec.frames_to_encode(latent_frames, at_start=self._at_start)
        self._waiting = video[:, used:].clone() if used < video.shape[1] else None
        if not latent_frames:
            shape = (len(video), 0, self._codec.latent_channels, rows // down, columns // across)
            return video.new_empty(shape)
        latents = self._encode(video[:, :used])
        self._at_start = False
        return latents

    def _complete(self, frames: int) -> int:
        """How many latent frames so many frames make: the inverse of ``frames_to_encode``."""
        if self._at_start:
            frames += self._codec.stride[0] - 1 - self._codec.lookahead
        return max(0, frames // self._codec.stride[0])

    def _state_bytes(self) -> int:
        """Of what its network remembers, if it has one."""
        return 0

    @abstractmethod
    def _encode(self, video: Tensor) -> Tensor:
        """Frames that make whole latent frames, at least one."""


class DecoderStream(ABC):
    """Turns one stream of latents into video."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.reset()

    def reset(self) -> None:
        """Back to the start of a stream."""
        self._at_start = True

    @property
    def nbytes(self) -> int:
        """Of all that it remembers."""
        return self._state_bytes()

    def decode(self, latents: Tensor) -> Tensor:
        """B F C h w → all of their frames, B T 3 H W."""
        if latents.shape[2] != self._codec.latent_channels:
            raise ValueError(
                f"latents must be B F C h w with C = {self._codec.latent_channels}, "
                f"found {tuple(latents.shape)}"
            )
        if not latents.shape[1]:
            _, down, across = self._codec.stride
            batch, rows, columns = len(latents), latents.shape[3] * down, latents.shape[4] * across
            return latents.new_empty(batch, 0, COLOURS, rows, columns)
        video = self._decode(latents)
        self._at_start = False
        return video

    def _state_bytes(self) -> int:
        """Of what its network remembers, if it has one."""
        return 0

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """At least one latent frame."""


class PixelCodec(Codec):
    """No network: a latent frame is a picture, its patches folded into channels. Exact.

    Latent channel (c·patch + y)·patch + x is colour c at row y and column x of the patch.
    """

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.latent_channels = COLOURS * patch**2
        self.stride = (1, patch, patch)
        self.lookahead = 0

    def encoder_stream(self) -> EncoderStream:
        return _PixelEncoderStream(self)

    def decoder_stream(self) -> DecoderStream:
        return _PixelDecoderStream(self)


class _PixelEncoderStream(EncoderStream):
    def _encode(self, video: Tensor) -> Tensor:
        return nn.functional.pixel_unshuffle(video, self._codec.stride[1])


class _PixelDecoderStream(DecoderStream):
    def _decode(self, latents: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(latents, self._codec.stride[1])
