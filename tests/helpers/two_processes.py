"""What a process of a gloo group computes in `tests/train/test_distributed.py`."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from evit_cli.train.distributed import Group, synchronise_batch_norm


def batches() -> torch.Tensor:
    """Both processes' batches, (2, B, C, H, W); the two differ in mean and spread."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 3, 4, 5, 6, generator=generator)
    return x * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1) + torch.tensor([0.0, 2.0]).view(
        2, 1, 1, 1, 1
    )


def layer() -> nn.Sequential:
    """A norm whose scale and shift are not the trivial ones."""
    norm = nn.BatchNorm2d(4, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 4))
        norm.bias.copy_(torch.linspace(-1, 1, 4))
    return nn.Sequential(norm)


def loss_of(out: torch.Tensor) -> torch.Tensor:
    """A sum in which every element has another weight."""
    return (out * torch.arange(out[0].numel()).view_as(out[0]).cos()).pow(2).sum()


def work(rank: int, port: int, folder: str) -> None:
    """Run the layer on this process's batch and save all it computes."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    group = Group(rank, 2, torch.device("cpu"))
    model = synchronise_batch_norm(layer(), group).train()
    x = batches()[rank].clone().requires_grad_()
    out = model(x)
    loss_of(out).backward()
    low = model(batches()[rank].bfloat16())
    evaluated = model.eval()(x.detach())
    dist.barrier()
    own = layer()
    own[0].running_mean.fill_(rank + 5)
    group.align(own)
    found = {
        "aligned": own[0].running_mean,
        "out": out.detach(),
        "x": x.grad,
        "weight": model[0].weight.grad,
        "bias": model[0].bias.grad,
        "low": low.detach(),
        "evaluated": evaluated.detach(),
        "shares": torch.tensor(group.share(range(5))),
        "sum": group.sum(torch.tensor([rank + 1.0])),
        **model.state_dict(),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
