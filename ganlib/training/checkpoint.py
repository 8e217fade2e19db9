"""Checkpoints that survive a kill at any moment, in one safetensors file.

Everything that resuming needs is in one file, so that no two files can disagree: ``game.*`` (weights and
buffers), ``ema.*``, ``optimizer.*``, ``random.*`` as tensors, the step and the history as metadata. A new
checkpoint is written beside the old one, forced to disk and renamed into place; the old one is kept as
``checkpoint.previous.safetensors`` for the case that the new one is damaged later.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from ganlib.training.game import Game

NAME = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another game."""


def save(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a checkpoint into ``folder`` atomically and keep the one before it."""
    folder.mkdir(parents=True, exist_ok=True)
    # Cloned, because safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    partial = folder / f".{NAME}.partial"
    text = json.dumps(metadata)
    save_file(tensors, partial, metadata={"ganlib": text, "crc32": str(_checksum(text, tensors))})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    current = folder / NAME
    if current.exists():
        current.replace(folder / PREVIOUS)
    partial.replace(current)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the newest sound checkpoint of ``folder``: the current one, or with a warning the previous one.

    Raises:
        CheckpointError: if neither is there and sound.
    """
    reasons = []
    for name in (NAME, PREVIOUS):
        path = folder / name
        if not path.exists():
            reasons.append(f"{name} does not exist")
            continue
        try:
            tensors, metadata = read(path)
        except CheckpointError as error:
            reasons.append(str(error))
            print(f"ganlib: {error}; looking for the one before it", file=sys.stderr)
            continue
        if reasons:
            print(f"ganlib: using {name}, step {metadata['step']}", file=sys.stderr)
        return tensors, metadata
    raise CheckpointError(f"no usable checkpoint in {folder}: {'; '.join(reasons)}")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read and verify one checkpoint file.

    Raises:
        CheckpointError: if it is truncated, altered, or no checkpoint of ganlib.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            text, crc = header["ganlib"], header["crc32"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path.name} is truncated or no checkpoint ({error})") from error
    if crc != str(_checksum(text, tensors)):
        raise CheckpointError(f"{path.name} is damaged (its checksum does not match)")
    return tensors, json.loads(text)


def load_run(game: Game, folder: str | Path) -> int:
    """Load the newest checkpoint of ``folder`` into ``game``, averaged weights where there are any.

    Returns:
        The step of the checkpoint.

    Raises:
        CheckpointError: if there is no sound checkpoint, or it is of another game.
    """
    tensors, metadata = load(Path(folder))
    averages = under("ema", tensors)
    try:
        game.load_state_dict(under("game", tensors))
        # A player may be made of several of the game's modules, and need not be an attribute of it.
        for name, player in game.players.items():
            if average := under(name, averages):
                player.load_state_dict(average)
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint in {folder} is of another game: {error}") from error
    return metadata["step"]


def save_weights(module: nn.Module, path: str | Path) -> None:
    """Write a module's weights and buffers alone, in half precision: for sharing, not for resuming."""
    state = module.state_dict()
    save_file(
        {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in state.items()}, path
    )


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load what :func:`save_weights` wrote.

    Raises:
        CheckpointError: if the file is missing, damaged, or of another module.
    """
    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{Path(path).name} cannot be loaded: {error}") from error


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named ``prefix.*``, without the prefix."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def remove(folder: Path) -> None:
    """Delete every checkpoint in ``folder``, half-written ones too."""
    for name in (NAME, PREVIOUS, f".{NAME}.partial"):
        (folder / name).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether ``folder`` holds a checkpoint, sound or not."""
    return any((folder / name).exists() for name in (NAME, PREVIOUS))


def _checksum(text: str, tensors: dict[str, Tensor]) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy(), crc)
    return crc
