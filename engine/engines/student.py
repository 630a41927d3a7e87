"""The causal diffusion student as an engine: frames and poses in, re-rendered frames out.

Joins codec, transformer and rollout, and owns what they remember of the stream. For the sizes that are
conditioned on source and camera alone; those with geometric hints are the engine ``mini``'s. Knows nothing of
processes or queues. Runs in bfloat16 on a GPU and in float32 elsewhere; between the upload of the
frames and the download of the result nothing waits for the GPU.

Shapes: B batch (1), T frames of a step, F latent frames, H W rows and columns.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engine.camera.geometry import Pose
from engine.diffusion.rollout import Chunk, Stream, rollout
from engine.diffusion.schedule import Schedule
from engine.engines.base import (
    NOTHING_TO_REPORT,
    EngineSettings,
    Following,
    Progress,
    Rendered,
    Report,
    nothing_follows,
)
from engine.errors import EngineError
from engine.frames import Pixels
from engine.model.camera_encoder import plucker_rays
from engine.model.codec import Codec
from engine.model.codecs import make_codec, trained_codec
from engine.model.config import ModelConfig, model_config
from engine.model.dit import PairTransformer

log = logging.getLogger(__name__)

SEED = 0


class StudentEngine:
    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._config = model_config(settings.model)
        if self._config.hint_channels:
            raise EngineError(
                f"{settings.model} is painted over what geometry knows, which this engine has none of: "
                "it is run by engine.engines.mini, as build_engine does"
            )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        self._streams_as(self._config)

    def _streams_as(self, config: ModelConfig) -> None:
        """Weights may have been trained for another chunk, window or schedule than their size's usual one."""
        self._config = config
        self._schedule = Schedule.few_step(config.timesteps, config.shift)
        self.chunk = config.chunk * config.stride[0]
        self.size: tuple[int, int] | None = config.size

    def warmup(self, progress: Progress) -> None:
        """Builds, loads and runs one chunk, so that the first live one is as fast as the rest."""
        try:
            progress(0.0, f"building {self._config.name} on {self._device}")
            torch.manual_seed(SEED)
            self._model = self._load(progress)
            config = self._config
            self._codec = self._load_codec()
            self._noise = torch.Generator(self._device).manual_seed(SEED)
            width, height = config.size
            self._latent_size = config.latent_size(width, height)
            with torch.inference_mode():
                prompt = self._load_prompt()
                self._stream = Stream.start(self._model, config, self._latent_size, prompt=prompt)
            self.reset()
            progress(0.6, "first chunk" + (" (compiling takes minutes)" if self._settings.compile else ""))
            still = [np.zeros((height, width, 3), np.uint8)] * self.chunk
            self.step(still, [Pose()] * self.chunk)
            self.reset()
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        progress(1.0, "ready")

    def step(
        self, frames: Sequence[Pixels], poses: Sequence[Pose], following: Following = nothing_follows
    ) -> list[Rendered]:
        try:
            with torch.inference_mode():
                pictures = self._step(self._video(frames), poses)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        return [Rendered(pixels, pose) for pixels, pose in zip(pictures, poses, strict=True)]

    def reset(self) -> None:
        self._stream.reset()
        self._encoder = self._codec.encoder_stream()
        self._decoder = self._codec.decoder_stream()
        self._waiting: list[Chunk] = []
        self._chunks = rollout(self._model, self._stream, self._feed(), self._schedule, self._fresh)
        self._started = self._config.stride[0] == 1  # else the codec's first latent frame is of one picture

    def report(self) -> Report:
        return NOTHING_TO_REPORT

    def _step(self, video: Tensor, poses: Sequence[Pose]) -> list[Pixels]:
        if not self._started:
            self._prime(video[:, :1], poses[0])
        # a latent frame shows the last of its pictures
        step = self._config.stride[0]
        made = self._render(self._encoder.encode(video), poses[step - 1 :: step])
        pictures = self._decoder.decode(made)
        return list(((pictures[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())

    def _prime(self, first: Tensor, pose: Pose) -> None:
        """Takes the codec past its special first latent frame with a still picture. For a whole chunk, as in
        training: what the attention sink keeps of it is seen as long as the stream runs.
        """
        chunk = self._config.chunk
        still = first.expand(-1, self._encoder.frames_missing(chunk), -1, -1, -1)
        self._decoder.decode(self._render(self._encoder.encode(still), [pose] * chunk))
        self._started = True

    def _render(self, source: Tensor, poses: Sequence[Pose]) -> Tensor:
        """The latents of one chunk as seen from the poses."""
        rays, extrinsics = self._camera(poses, source)
        self._waiting.append(Chunk(source, self._fresh(source), rays=rays, extrinsics=extrinsics))
        return next(self._chunks)

    def _feed(self) -> Iterator[Chunk]:
        while True:
            yield self._waiting.pop()

    def _fresh(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._noise, device=like.device, dtype=like.dtype)

    def _video(self, frames: Sequence[Pixels]) -> Tensor:
        """B T 3 H W in [−1, 1], uploaded without waiting."""
        pixels = torch.from_numpy(np.stack(frames))
        if self._device.type == "cuda":
            pixels = pixels.pin_memory()
        video = pixels.to(self._device, non_blocking=True).to(self._dtype)
        return (video / 127.5 - 1).permute(0, 3, 1, 2)[None]

    def _camera(self, poses: Sequence[Pose], like: Tensor) -> tuple[Tensor, Tensor | None]:
        """The virtual cameras as training tells them: their rays, with focal lengths of their own, B F 6 h w,
        and their matrices, B F 12, to the sizes that are told those.
        """
        fx = 0.5 / math.tan(self._settings.horizontal_fov / 2)
        fy = fx * self._settings.aspect
        stacked = np.stack([np.column_stack([pose.matrix(), pose.translation]) for pose in poses])
        matrices = torch.from_numpy(stacked).float()  # F 3 4
        lenses = torch.tensor([[fx * pose.zoom, fy * pose.zoom, 0.5, 0.5] for pose in poses])
        rays = plucker_rays(matrices, lenses, *like.shape[-2:])[None]
        extrinsics = matrices.flatten(1)[None] if self._config.camera == "recammaster" else None
        return (
            rays.to(like.device, like.dtype, non_blocking=True),
            None if extrinsics is None else extrinsics.to(like.device, like.dtype, non_blocking=True),
        )

    def _load(self, progress: Progress) -> PairTransformer:
        if self._settings.weights is not None:
            from engine.model.weights import load_transformer

            progress(0.1, f"loading {self._settings.weights}")
            model, found = load_transformer(self._settings.weights, self._device, self._dtype)
            if found.name != self._config.name:
                raise EngineError(
                    f"the weights {self._settings.weights} are of size {found.name}, "
                    f"and the session asks for {self._config.name}: give one or the other"
                )
            self._streams_as(found)
        else:
            log.warning("%s has random weights: the picture is noise", self._config.name)
            model = PairTransformer(self._config).to(self._device, self._dtype)
        model.eval().requires_grad_(False)
        if self._settings.fp8:
            _to_fp8(model)
        if self._settings.compile:
            mode = "max-autotune" if self._device.type == "cuda" else "default"
            model.encode_source = torch.compile(model.encode_source, mode=mode)  # type: ignore[method-assign]
            model.denoise = torch.compile(model.denoise, mode=mode)  # type: ignore[method-assign]
        return model

    def _load_codec(self) -> Codec:
        settings = self._settings
        if settings.weights is None and settings.codec is None:  # to see how fast it is, which noise shows
            return make_codec(self._config).to(self._device, self._dtype).eval()
        return trained_codec(self._config, settings.codec, self._device, self._dtype)

    def _load_prompt(self) -> Tensor | None:
        """The embedding of a prompt, made elsewhere: the text encoder is larger than all of this."""
        path = self._settings.prompt
        if path is None:
            return None
        shape = (self._config.text_length, self._config.text_width)
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise EngineError(f"the prompt's embedding {path} cannot be read: {error}") from error
        if set(found) != {"prompt"} or tuple(found["prompt"].shape) != shape:
            there = {name: tuple(tensor.shape) for name, tensor in found.items()}
            raise EngineError(
                f"{path} should hold one tensor, prompt, of {shape[0]} x {shape[1]} numbers; it holds {there}"
            )
        return found["prompt"][None].to(self._device, self._dtype)

    def _out_of_memory(self) -> EngineError:
        from engine.model.estimate import estimate

        width, height = self._config.size
        needed = estimate(
            self._config,
            width,
            height,
            steps=len(self._schedule.sigmas),
            window=self._config.window,
            parameters=sum(parameter.numel() for parameter in self._model.parameters()),
        )
        gigabytes = (needed.weight_bytes + needed.cache_bytes) / 1e9
        return EngineError(
            f"{self._config.name} did not fit into the memory of {self._device}: its weights and caches "
            f"alone take {gigabytes:.1f} GB, and a chunk's work comes on top. Close what else uses the GPU "
            f"(OBS's preview, a game), or use a smaller model: engine: {{name: student, model: mini}}"
        )


def _to_fp8(model: PairTransformer) -> None:
    """The blocks' linear layers in 8 bit floating point, on cards that have it (Ada, Hopper and later)."""
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_
    except ImportError as error:
        raise EngineError("fp8 needs the package torchao: pip install torchao into .venv") from error
    quantize_(model.blocks, Float8DynamicActivationFloat8WeightConfig())
