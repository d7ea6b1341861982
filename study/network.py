"""A small convolutional network, lens or not; the same seed gives the same network on the same machine."""

import numpy as np
import torch
from torch import nn

from study.pixels import seen

WIDTHS = (24, 32, 48, 64)
BATCH = 64
RATE = 3e-3


def build() -> nn.Module:
    layers: list[nn.Module] = []
    for before, width in zip((3, *WIDTHS), WIDTHS):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(WIDTHS[-1] * 9, 32), nn.ReLU(), nn.Linear(32, 1))


def train(stamp: np.ndarray, lens: np.ndarray, epochs: int, seed: int) -> nn.Module:
    """Learned from stamps (n, 3, side, side) and which of them are lenses; turned and mirrored by lot, both classes of equal weight."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng(seed)
    model = build().to(memory_format=torch.channels_last)
    x, y = torch.from_numpy(seen(stamp)), torch.from_numpy(lens.astype(np.float32))
    loss = nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum() / y.sum())
    steps = len(y) // BATCH
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * steps)
    model.train()
    for _ in range(epochs):
        order = rng.permutation(len(y))
        for k in range(steps):
            some = torch.from_numpy(order[k * BATCH : (k + 1) * BATCH])
            turned = torch.rot90(x[some], int(rng.integers(4)), (2, 3))
            turned = turned.flip(3) if rng.integers(2) else turned
            optimiser.zero_grad(set_to_none=True)
            loss(model(turned.contiguous(memory_format=torch.channels_last))[:, 0], y[some]).backward()
            optimiser.step()
            rate.step()
    return model.eval()


@torch.no_grad()
def scores(model: nn.Module, stamp: np.ndarray) -> np.ndarray:
    """The logit of each stamp, higher for a lens."""
    parts = [model(torch.from_numpy(seen(stamp[k : k + 512])))[:, 0].numpy() for k in range(0, len(stamp), 512)]
    return np.concatenate(parts).astype(float)
