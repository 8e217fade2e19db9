"""A small MNIST classifier whose last hidden layer is the feature space of FID and its kin on digits."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ASSETS = Path(__file__).parent / "assets"
WEIGHTS = ASSETS / "mnist_classifier.safetensors"


class ClassifierFeatures(nn.Module):
    """The shipped MNIST classifier, frozen: images ``(N, 1, 32, 32)`` in [-1, 1] to features ``(N, 128)``.

    The features are the activations, after the ReLU, of the last hidden layer: what Inception's ``pool3`` is
    to FID on photographs. They are non-negative. Inception itself knows no digits, so that distances in its
    features say little about MNIST; a network trained on the data is the usual substitute.

    The weights never change and the module stays in evaluation mode whatever ``train()`` is told, but
    gradients reach the images, for metrics and attacks that follow them. It computes in float32, under
    autocast too.

    Source: the network is our own, trained by ``python -m ganlib.metrics.train_classifier``; its accuracy on
    the test set stands in the metadata of its file.
    """

    dimension = 128

    def __init__(self) -> None:
        from safetensors.torch import load_file

        super().__init__()
        # Without storage: initial weights, drawn to be overwritten, would advance the global generator.
        with torch.device("meta"):
            self.network = build_network()
        stored = load_file(WEIGHTS)
        weights = {k: v.float() if v.is_floating_point() else v for k, v in stored.items()}
        self.network.load_state_dict(weights, assign=True)
        self.network.to(memory_format=torch.channels_last)  # half the time on CPUs
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 128)`` of images ``(N, 1, 32, 32)`` in [-1, 1]; 28 pixels are padded with black.

        Raises:
            ValueError: for another shape or an integer dtype. The range is not looked at: on a GPU that would
                stall.
        """
        return self._run(self.network[:-1], images)

    def logits(self, images: Tensor) -> Tensor:
        """Class logits ``(N, 10)``; their softmax is p(class | image)."""
        return self._run(self.network, images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The likeliest digit of each image: int64 ``(N,)``. Works in batches, without gradients."""
        return torch.cat([self.logits(batch).argmax(1) for batch in images.split(500)])

    def train(self, mode: bool = True) -> "ClassifierFeatures":
        """Does nothing: batch statistics of what is measured must not enter the measure."""
        return super().train(False)

    def _run(self, network: nn.Module, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 1 or tuple(images.shape[2:]) not in ((28, 28), (32, 32)):
            raise ValueError(f"images must be (N, 1, 28, 28) or (N, 1, 32, 32), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point in [-1, 1], got {images.dtype}")
        if images.shape[-1] == 28:
            images = F.pad(images, (2, 2, 2, 2), value=-1.0)
        with torch.autocast(images.device.type, enabled=False):
            return network(images.to(self.network[0].weight.dtype))


def build_network() -> nn.Sequential:
    """Strided convolutions with batch norm, side 32 -> 16 -> 8 -> 8 -> 4; 128 hidden units; 10 logits."""

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *convolution(1, 24, 5, 2, 2),
        *convolution(24, 48, 4, 2, 1),
        *convolution(48, 64, 3, 1, 1),
        *convolution(64, 96, 4, 2, 1),
        nn.Flatten(),
        nn.Linear(96 * 4 * 4, ClassifierFeatures.dimension),
        nn.ReLU(),
        nn.Linear(ClassifierFeatures.dimension, 10),
    )
