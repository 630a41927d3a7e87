"""What a model will cost before anybody has its weights: counted work, counted bytes, and the floor
that a device's own limits set. Arithmetic only; measuring is elsewhere.

Work is in FLOP, a multiplication and an addition counting as two, as PyTorch's counter has it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from engine.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A device's published limits: dense bf16 with float32 accumulation, and its memory."""

    name: str
    flops: float
    bytes_per_s: float
    memory_bytes: float


DEVICES = (
    Device(name="H100 SXM", flops=989e12, bytes_per_s=3.35e12, memory_bytes=80e9),
    Device(name="RTX 5090", flops=209.5e12, bytes_per_s=1.79e12, memory_bytes=32e9),
    Device(name="RTX 4090", flops=165.2e12, bytes_per_s=1.01e12, memory_bytes=24e9),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """FLOP of one chunk by part, with the window full."""

    source_pass: int
    steps: int
    cache_write: int
    encode: int
    decode: int

    @property
    def transformer(self) -> int:
        return self.source_pass + self.steps + self.cache_write

    @property
    def total(self) -> int:
        return self.transformer + self.encode + self.decode


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecCost:
    """Of encoding and decoding one chunk, and of what both streams remember between chunks."""

    encode_flops: int = 0
    decode_flops: int = 0
    state_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """``weight_bytes`` are the transformer's, ``codec_bytes`` what the codec's streams remember."""

    parameters: int
    weight_bytes: int
    cache_bytes: int
    codec_bytes: int
    frames_per_chunk: int
    passes: int  # over the weights, for each chunk
    work: Work

    def floor_s(self, device: Device) -> float:
        """Seconds for a chunk that no program can beat there: by arithmetic, or by reading the weights
        once in each pass and the cache once in each step, whichever takes longer.
        """
        read = self.passes * (self.weight_bytes + self.cache_bytes)
        return max(self.work.total / device.flops, read / device.bytes_per_s)

    def as_json(self, devices: tuple[Device, ...] = DEVICES) -> dict[str, object]:
        floors = {device.name: self.floor_s(device) for device in devices}
        return {
            "parameters": self.parameters,
            "weight_bytes": self.weight_bytes,
            "cache_bytes": self.cache_bytes,
            "codec_bytes": self.codec_bytes,
            "frames_per_chunk": self.frames_per_chunk,
            "tflop_per_chunk": {part: flop / 1e12 for part, flop in asdict(self.work).items()}
            | {"transformer": self.work.transformer / 1e12, "total": self.work.total / 1e12},
            "floor": {
                name: {"ms_per_chunk": 1000 * floor, "fps": self.frames_per_chunk / floor}
                for name, floor in floors.items()
            },
        }


def estimate(
    config: ModelConfig,
    width: int,
    height: int,
    *,
    steps: int,
    window: int,
    parameters: int,
    codec: CodecCost = CodecCost(),
    bytes_per_number: int = 2,
) -> Estimate:
    """For pictures of that size."""
    tokens = config.tokens_per_frame(width, height)
    seen = window + config.attention_sink  # pairs, the chunk's own included
    own = config.chunk * tokens
    source_pass = pass_flops(config, own, seen * tokens, target=False)
    target_pass = pass_flops(config, own, 2 * seen * tokens, target=True)
    remembered = config.attention_sink + window - config.chunk
    return Estimate(
        parameters=parameters,
        weight_bytes=parameters * bytes_per_number,
        cache_bytes=2 * 2 * config.layers * remembered * tokens * config.width * bytes_per_number,
        codec_bytes=codec.state_bytes,
        frames_per_chunk=config.chunk * config.stride[0],
        passes=steps + 2,
        work=Work(
            source_pass=source_pass,
            steps=steps * target_pass,
            cache_write=target_pass,
            encode=codec.encode_flops,
            decode=codec.decode_flops,
        ),
    )


def pass_flops(config: ModelConfig, tokens: int, keys: int, *, target: bool) -> int:
    """One pass of that many tokens through the transformer, attending to ``keys`` keys, own included."""
    width = config.width
    projections = 4 * width * width + 2 * width * width + 2 * width * config.ffn_width  # of a token
    attended = 2 * width * (keys + config.text_length)
    layer = 2 * tokens * (projections + attended)
    patch = math.prod(config.patch)
    ends = 2 * tokens * width * patch * config.latent_channels
    if target:
        ends *= 2
        if config.camera == "plucker":
            ends += 2 * tokens * width * patch * 6
        ends += 2 * tokens * width * patch * config.hint_channels
    time = 2 * config.chunk * (config.frequency_width * width + 7 * width * width)
    return config.layers * layer + ends + time
