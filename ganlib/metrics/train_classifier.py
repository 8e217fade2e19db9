"""Train the classifier of ``ClassifierFeatures``: ``python -m ganlib.metrics.train_classifier``.

Writes the weights (half precision, half the size) and the moments of the features of both MNIST splits into
``ganlib/metrics/assets/``. A few minutes on two cores. The test set is used once, to report the accuracy.
"""

import argparse
import math
import time

import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.data import mnist
from ganlib.metrics.classifier import ASSETS, WEIGHTS, ClassifierFeatures, build_network
from ganlib.metrics.frechet import MOMENTS, feature_moments


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned by up to 10 degrees, scaled by up to 10 % and moved by up to 2 of its 32 pixels."""
    angle, scale, dx, dy = torch.rand(4, len(images), generator=generator) * 2 - 1
    angle, scale, shift = angle * math.radians(10), 1 + 0.1 * scale, torch.stack([dx, dy], 1) * 2 / 16
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    grid = F.affine_grid(torch.cat([turn, shift[:, :, None]], 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def train(images: Tensor, labels: Tensor, seed: int, epochs: int, batch_size: int = 128) -> nn.Sequential:
    """AdamW on one cycle of the learning rate, cross-entropy; returns the network in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = len(images) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for rows in order[: steps * batch_size].split(batch_size):
            batch = jitter(images[rows], generator).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {time.perf_counter() - start:.1f} s",
            flush=True,
        )
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ganlib.metrics.train_classifier", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()

    network = train(*mnist("train"), arguments.seed, arguments.epochs)
    ASSETS.mkdir(exist_ok=True)
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    save_file(weights, WEIGHTS)
    features = ClassifierFeatures()
    images, labels = mnist("test")
    accuracy = (features.predict(images) == labels).double().mean().item()
    print(f"test accuracy {accuracy:.2%}")
    about = {
        "content": "MNIST classifier of ganlib.metrics.ClassifierFeatures",
        "command": f"{parser.prog} --seed {arguments.seed} --epochs {arguments.epochs}",
        "seed": str(arguments.seed),
        "test_accuracy": f"{accuracy:.4f}",
        "versions": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
        "licence": "MIT; trained on MNIST by LeCun, Cortes and Burges, CC BY-SA 3.0",
    }
    save_file(weights, WEIGHTS, about)
    stored = {}
    for split in ("train", "test"):
        moments = feature_moments(mnist(split).images, features)
        stored |= {f"{split}.n": torch.tensor(moments.n), f"{split}.mean": moments.mean}
        stored[f"{split}.covariance"] = moments.covariance
    save_file(
        stored, MOMENTS, about | {"content": "moments of ClassifierFeatures on the two splits of MNIST"}
    )
    print(
        f"{WEIGHTS.name}: {WEIGHTS.stat().st_size:,} bytes; {MOMENTS.name}: {MOMENTS.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
