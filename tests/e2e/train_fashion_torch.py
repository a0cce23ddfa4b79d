"""Trains fashion.torch_model and saves weights/fashion_torch.npz: python tests/e2e/train_fashion_torch.py [epochs]."""

from __future__ import annotations

import sys

import numpy as np
import torch
from fashion import WEIGHTS, load, torch_model
from torch.nn import functional

BATCH = 128


def main(epochs: int) -> None:
    """Adam with a one-cycle rate, mirrored images, a fixed seed."""
    torch.manual_seed(1)
    x, y = (torch.from_numpy(a) for a in load("train"))
    tx, ty = (torch.from_numpy(a) for a in load("t10k"))
    x, tx = x[:, None], tx[:, None]
    model = torch_model()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = epochs * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(x))
        for i in range(0, len(x) - BATCH + 1, BATCH):
            pick = order[i : i + BATCH]
            batch = x[pick]
            mirror = torch.rand(BATCH) < 0.5
            batch = torch.where(mirror[:, None, None, None], batch.flip(3), batch)
            optimizer.zero_grad()
            functional.cross_entropy(model(batch), y[pick]).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum(
                int((model(a).argmax(1) == b).sum()) for a, b in zip(tx.split(1000), ty.split(1000), strict=True)
            )
        print(f"epoch {epoch + 1}: {right / len(tx):.2%} of the test images", flush=True)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    np.savez_compressed(WEIGHTS / "fashion_torch.npz", **state)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
