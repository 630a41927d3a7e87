"""The shapes of every model: one table of named sizes. Nothing reads a config inside ``forward``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.errors import ConfigError

CodecName = Literal["pixel", "wan-vae", "tiny-vae"]
CameraName = Literal["plucker", "recammaster"]
HeadName = Literal["velocity", "mixture"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """One transformer and how it streams.

    Lengths in time are latent frames. ``window`` counts the source/target pairs that a chunk sees,
    its own included; the first ``attention_sink`` pairs of the stream stay visible beyond it. The
    teacher, who knows the whole clip, sees ``reach`` pairs to either side of each.
    Of the ``hint_channels``, the last ``guide_channels`` say something about the hints before them; a
    head of kind "mixture" chooses for each pixel between those hints and a colour of its own.
    ``stride`` is the codec's in time, height and width. ``size`` is the picture's default width and
    height. ``timesteps`` are the student's, before the schedule's ``shift``.
    """

    name: str
    width: int
    heads: int
    ffn_width: int
    layers: int
    patch: tuple[int, int, int]
    latent_channels: int
    stride: tuple[int, int, int]
    codec: CodecName
    text_length: int
    text_width: int
    frequency_width: int
    camera: CameraName
    hint_channels: int
    guide_channels: int
    head: HeadName
    chunk: int
    window: int
    attention_sink: int
    reach: int
    size: tuple[int, int]
    timesteps: tuple[float, ...]
    shift: float

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"{self.name}: width {self.width} does not split into {self.heads} even heads")
        if self.window < 2 * self.chunk:
            raise ValueError(
                f"{self.name}: a window of {self.window} does not hold two chunks of {self.chunk}"
            )
        pictures = self.hint_channels - self.guide_channels
        if self.head == "mixture" and (
            self.codec != "pixel" or pictures <= 0 or pictures % self.latent_channels
        ):
            raise ValueError(f"{self.name}: a mixture needs whole hints, each a picture in pixels")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def latent_size(self, width: int, height: int) -> tuple[int, int]:
        """Latent width and height of a picture. Raises :class:`ConfigError` if it does not divide."""
        step_x, step_y = self.stride[2] * self.patch[2], self.stride[1] * self.patch[1]
        if width % step_x or height % step_y:
            raise ConfigError(
                f"{self.name} needs a width that {step_x} divides and a height that {step_y} divides, "
                f"found {width}x{height}; the nearest is "
                f"{max(1, round(width / step_x)) * step_x}x{max(1, round(height / step_y)) * step_y}"
            )
        return width // self.stride[2], height // self.stride[1]

    def tokens_per_frame(self, width: int, height: int) -> int:
        """Of one latent frame, in one stream."""
        latent_width, latent_height = self.latent_size(width, height)
        return (latent_width // self.patch[2]) * (latent_height // self.patch[1])


SIZES = {
    config.name: config
    for config in (
        ModelConfig(
            name="wan-1.3b",
            width=1536,
            heads=12,
            ffn_width=8960,
            layers=30,
            patch=(1, 2, 2),
            latent_channels=16,
            stride=(4, 8, 8),
            codec="tiny-vae",
            text_length=512,
            text_width=4096,
            frequency_width=256,
            camera="plucker",
            hint_channels=0,
            guide_channels=0,
            head="velocity",
            chunk=3,
            window=6,
            attention_sink=1,
            reach=20,  # all of the 21 that 81 pictures make
            size=(832, 480),
            timesteps=(1000.0, 750.0, 500.0, 250.0),
            shift=5.0,
        ),
        ModelConfig(
            name="wan2.2-5b",
            width=3072,
            heads=24,
            ffn_width=14336,
            layers=30,
            patch=(1, 2, 2),
            latent_channels=48,
            stride=(4, 16, 16),
            codec="tiny-vae",
            text_length=512,
            text_width=4096,
            frequency_width=256,
            camera="plucker",
            hint_channels=0,
            guide_channels=0,
            head="velocity",
            chunk=3,
            window=6,
            attention_sink=1,
            reach=20,
            size=(1280, 704),
            timesteps=(1000.0, 750.0, 500.0, 250.0),
            shift=5.0,
        ),
        ModelConfig(
            name="mini",
            width=192,
            heads=3,
            ffn_width=768,
            layers=6,
            patch=(1, 1, 1),
            latent_channels=192,  # 8×8 pixels of 3 colours
            stride=(1, 8, 8),
            codec="pixel",
            text_length=1,
            text_width=64,
            frequency_width=256,
            camera="plucker",
            hint_channels=2 * 192 + 64,  # warped by rotation, warped by depth, and where that was seen
            guide_channels=64,
            head="mixture",
            chunk=1,
            window=6,
            attention_sink=1,
            reach=2,
            size=(112, 64),
            timesteps=(1000.0, 500.0),
            shift=1.0,
        ),
        ModelConfig(
            name="tiny",
            width=48,
            heads=2,
            ffn_width=96,
            layers=2,
            patch=(1, 2, 2),
            latent_channels=48,  # 4×4 pixels of 3 colours
            stride=(1, 4, 4),
            codec="pixel",
            text_length=5,
            text_width=20,
            frequency_width=32,
            camera="plucker",
            hint_channels=0,
            guide_channels=0,
            head="velocity",
            chunk=2,
            window=4,
            attention_sink=2,
            reach=1,
            size=(32, 24),
            timesteps=(1000.0, 500.0),
            shift=5.0,
        ),
    )
}


def model_config(name: str) -> ModelConfig:
    if name not in SIZES:
        raise ConfigError(f"there is no model size {name!r}; there are: {', '.join(SIZES)}")
    return SIZES[name]
