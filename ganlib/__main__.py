"""The command line: ``ganlib systems | train | sample | evaluate | reproduce | grade``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ganlib.grading import cli


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 for an error of the user's making, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"ganlib: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ganlib: interrupted", file=sys.stderr)
        return 130
    finally:
        _leave_process_group()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ganlib", description="Train and measure the GANs of the lectures.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("systems", help="list what can be trained")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(command=_systems)

    train = commands.add_parser(
        "train", help="train a system and write samples, history, metrics, checkpoint"
    )
    train.add_argument("name", help="a name from `ganlib systems`")
    train.add_argument("--budget", choices=["smoke", "cpu", "gpu"], help="default: gpu with CUDA, else cpu")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, help="the run's folder (default: runs/NAME)")
    train.add_argument("--steps", type=int, help="rounds, in place of the recipe's")
    begun = train.add_mutually_exclusive_group()
    begun.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    begun.add_argument("--overwrite", action="store_true", help="replace a run in the folder")
    train.add_argument(
        "--dry-run", action="store_true", help="say what would be trained and what it would cost, and stop"
    )
    train.add_argument(
        "--device", metavar="NAME", help="estimate costs for a t4, a100 or h100 (default: time this device)"
    )
    train.add_argument(
        "--data", metavar="NAME", help="a torchvision set, or `folder` for images, not the recipe's data"
    )
    train.add_argument("--root", type=Path, metavar="DIR", help="where they lie (default for a set: data)")
    train.add_argument(
        "--size", type=int, help="side of their images (default: 32); with --dry-run also without --data"
    )
    train.set_defaults(command=_train)

    sample = commands.add_parser("sample", help="draw a grid of samples from a run")
    sample.add_argument("run", type=Path, help="the run's folder")
    sample.add_argument("-n", type=int, default=64, help="how many (default: 64)")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, default=Path("grid.png"), help="default: grid.png")
    sample.set_defaults(command=_sample)

    evaluate = commands.add_parser("evaluate", help="compute a run's metrics again")
    evaluate.add_argument("run", type=Path, help="the run's folder")
    evaluate.set_defaults(command=_evaluate)

    reproduce = commands.add_parser("reproduce", help="run the stored experiments again and update results/")
    reproduce.add_argument("names", nargs="*", metavar="NAME", help="systems and studies (default: all)")
    reproduce.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2, and a study's own")
    reproduce.add_argument("--cells", nargs="+", metavar="CELL", help="of the one study named (default: all)")
    reproduce.add_argument("--missing", action="store_true", help="leave what is stored already as it is")
    reproduce.add_argument("--out", type=Path, default=Path("results"), help="default: results")
    reproduce.add_argument("--list", action="store_true", help="list the studies and their cells, and stop")
    reproduce.set_defaults(command=_reproduce)

    cli.add_command(commands)
    return parser


def _systems(options: argparse.Namespace) -> int:
    from ganlib import systems

    rows = [
        {
            "name": s.name,
            "title": s.title,
            "paper": s.paper,
            "lectures": list(s.lectures),
            "notebook": s.notebook,
        }
        for s in systems.all_systems()
    ]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:{width}}  {row['title']}\n{'':{width}}  {row['paper']}")
        print(
            f"{'':{width}}  lectures: {'; '.join(row['lectures'])}\n{'':{width}}  notebook: {row['notebook']}"
        )
    return 0


def _train(options: argparse.Namespace) -> int:
    from ganlib import runs
    from ganlib.training import Budget

    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    if options.size is not None and options.size < 1:
        raise ValueError(f"--size must be at least 1, got {options.size}")
    if not options.dry_run and options.size is not None and options.data is None:
        raise ValueError("--size needs --data, whose images have that size (or --dry-run, for an estimate)")
    if not options.dry_run and options.device is not None:
        raise ValueError("--device needs --dry-run: training takes the device that is there")
    run = runs.Run(
        options.name,
        Budget(options.budget) if options.budget else Budget.current(),
        options.seed,
        options.out or Path("runs") / options.name,
        options.data,
        options.root,
        32 if options.size is None else options.size,
        options.steps,
    )
    if options.dry_run:
        made_up = options.size if options.data is None else None
        for key, value in runs.describe(run, made_up, options.device).items():
            print(f"{key}: {value}")
        return 0
    finished = runs.train(run, resume=options.resume, overwrite=options.overwrite)
    if _is_first():
        about = json.loads((run.out / "metrics.json").read_text(encoding="utf-8"))
        for name, value in about["metrics"].items():
            print(f"{name}: {value:.4g}")
        print(f"{about['steps']} steps in {about['seconds']:.0f} s, written to {run.out}")
        if not finished:
            print("stopped early; add --resume to go on", file=sys.stderr)
    return 0 if finished else 130


def _sample(options: argparse.Namespace) -> int:
    import torch

    from ganlib import runs

    _, experiment, _ = runs.read(options.run)

    def draw(n: int, seed: int) -> torch.Tensor:
        return experiment.game.sample(n, torch.Generator().manual_seed(seed))

    runs.save_samples(draw, options.out, options.seed, options.n, experiment.smiles)
    print(f"{options.n} samples written to {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from ganlib import runs

    figures = runs.evaluate(options.run)
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    if not figures:
        print(
            "no figures: this recipe's are of its own data; for the FID of other images see "
            "ganlib.metrics.InceptionFeatures"
        )
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from ganlib import runs

    if options.list:
        from ganlib import studies
        from ganlib.training import Budget

        for study in studies.all_studies():
            cells = " ".join(cell.name for cell in study.cells(Budget.CPU))
            print(f"{study.name}: {study.title}\n  {study.paper}\n  notebook: {study.notebook}")
            print(f"  cells: {cells}")
        return 0
    seeds = None if options.seeds is None else tuple(options.seeds)
    done = runs.reproduce(options.names, seeds, options.out, options.cells, options.missing)
    return 0 if done else 130


def _is_first() -> bool:
    from ganlib.random import place

    return place()[0] == 0


def _leave_process_group() -> None:
    # Without torch imported there can be no process group, and importing it to find out would be slow.
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
