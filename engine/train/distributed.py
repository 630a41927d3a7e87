"""Several processes that train one model: torchrun starts them, FSDP2 shards the weights among them.

NCCL between GPUs, gloo between CPUs. Without torchrun there is one process, and nothing here communicates.
Knows nothing of losses, data or files.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from engine.model.dit import PairTransformer

T = TypeVar("T")
Precision = Literal["fp32", "bf16"]

ENTRANCES = ("encode_text", "encode_source", "denoise", "denoise_behind")  # of the transformer, from outside


@dataclass(frozen=True, slots=True)
class World:
    """This process among all. ``device`` is where its model lives, ``dtype`` what its products are made in:
    weights and what the optimiser remembers are float32 either way.
    """

    rank: int
    size: int
    device: torch.device
    dtype: torch.dtype = torch.float32

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def precision(self) -> AbstractContextManager[Any]:
        """In which a network's passes run."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def any(self, *here: bool) -> list[bool]:
        """Whether each is true in at least one process: what all must agree on before they act on it."""
        if self.size == 1:
            return list(here)
        flags = torch.tensor(here, dtype=torch.int32, device=self.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return [bool(flag) for flag in flags]

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Over the processes."""
        numbers = torch.stack([value.detach().float() for value in values.values()])
        if self.size > 1:
            dist.all_reduce(numbers)
        return dict(zip(values, (numbers / self.size).tolist(), strict=True))

    def from_first(self, value: T) -> T:
        """The first process's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined_world(precision: Precision) -> Iterator[World]:
    """Among the processes that torchrun started; alone without it."""
    has_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1, torch.device("cuda" if has_gpu else "cpu"), dtype)
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if has_gpu else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device, dtype)
        dist.barrier()  # nobody leaves while another still talks to them
    finally:
        gc.collect()  # a group that a forgotten model still holds would end with the interpreter: too late
        dist.destroy_process_group()


def fast_precision() -> Precision:
    """bfloat16 on a GPU and on a processor with AMX: others take two to four times as long in it."""
    return "bf16" if torch.cuda.is_available() or torch.cpu._is_amx_tile_supported() else "fp32"


def shard(model: PairTransformer, world: World) -> None:
    """Each process keeps its part of every tensor, of gradients and of what the optimiser remembers.

    The whole tensors stay from the forward to the backward pass, since a block is entered several times
    in between (text, source, target): weights of these sizes fit a GPU, optimisers do not.
    """
    if world.size == 1:
        return
    # it warns of in-place changes to what a block returns, of which there are none
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=False)
        register_fsdp_forward_method(block, "text_keys_values")
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for name in ENTRANCES:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


def compile_blocks(model: PairTransformer) -> None:
    """Each of them at its first pass of each shape, which takes a minute the first time on a machine: not for
    a rollout, where every filling of the caches is another shape.
    """
    for block in model.blocks:
        block.compile(dynamic=False)


def gathered_again(model: nn.Module) -> None:
    """Forgets whole tensors that a pass without gradients has left: they are out of date once the shards
    change.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded; every process must ask."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
