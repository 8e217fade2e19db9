"""Two Gaussians on sliders, and what every divergence makes of them."""

from __future__ import annotations

import io

import ipywidgets

from ganlib.plots.divergence import MEASURES, draw

__all__ = ["EXAMPLES", "gaussians"]

EXAMPLES = {
    "MIT: distance 2": (0.0, 1.0, 2.0, 1.0),
    "MIT: distance 4": (0.0, 1.0, 4.0, 1.0),
    "MIT: far apart": (-5.0, 1.0, 5.0, 1.0),
    "UBC: N(0, 1), N(1, 1)": (0.0, 1.0, 1.0, 1.0),
    "narrow fakes": (0.0, 2.0, 0.0, 0.5),
}
"""Pairs worth a look, as (mean, std) of the data and (mean, std) of the fakes, by their button's name."""


def gaussians(
    mean_p: float = 0.0, std_p: float = 1.0, mean_q: float = 2.0, std_q: float = 1.0
) -> ipywidgets.VBox:
    """Sliders for the means and stds of data and fakes, over :func:`ganlib.plots.divergence.draw`.

    The figure is a PNG in an ``ipywidgets.Image`` of class ``ganlib-figure``: it needs no interactive backend
    of matplotlib, and where no widget can run, ``draw`` with the same numbers is the same figure.

    Args:
        mean_p: the data's mean at the start, in [-5, 5].
        std_p: the data's std at the start, in [0.3, 3].
        mean_q: the fakes' mean, likewise.
        std_q: the fakes' std, likewise.

    Returns:
        The widget; show it by making it the last line of a cell.

    Raises:
        ValueError: for a start outside of the sliders.
    """
    start = {"mean of p": mean_p, "std of p": std_p, "mean of q": mean_q, "std of q": std_q}
    sliders = [_slider(name, number) for name, number in start.items()]
    image = ipywidgets.Image(format="png", layout={"max_width": "100%"})
    image.add_class("ganlib-figure")
    table = ipywidgets.HTML()
    figure = draw(*start.values())

    def redraw(_: object = None) -> None:
        pair = [slider.value for slider in sliders]
        draw(*pair, figure=figure)
        with io.BytesIO() as file:
            figure.savefig(file, format="png", pil_kwargs={"compress_level": 1})
            image.value = file.getvalue()
        table.value = _table(pair)

    def show(pair: tuple[float, ...]) -> None:
        # Observers are away while the four change, so that one picture is drawn and not four.
        for slider, number in zip(sliders, pair, strict=True):
            slider.unobserve(redraw, "value")
            slider.value = number
            slider.observe(redraw, "value")
        redraw()

    buttons = [ipywidgets.Button(description=name, layout={"width": "auto"}) for name in EXAMPLES]
    for button in buttons:
        button.on_click(lambda clicked: show(EXAMPLES[clicked.description]))
    show(tuple(start.values()))
    controls = [ipywidgets.VBox(sliders[:2]), ipywidgets.VBox(sliders[2:]), table]
    return ipywidgets.VBox([ipywidgets.HBox(buttons), ipywidgets.HBox(controls), image])


def _slider(name: str, number: float) -> ipywidgets.FloatSlider:
    low, high = (-5.0, 5.0) if name.startswith("mean") else (0.3, 3.0)
    if not low <= number <= high:
        raise ValueError(f"{name} must start in [{low:g}, {high:g}], got {number}")
    return ipywidgets.FloatSlider(value=number, min=low, max=high, step=0.1, description=name)


def _table(pair: list[float]) -> str:
    head = "".join(f"<th style='padding:0 .7em'>{name}</th>" for name in ("", *MEASURES))
    rows = [
        f"<tr><td>{label}</td>"
        + "".join(f"<td style='text-align:center'>{function(*pair) + 0:.3f}</td>" for function in functions)
        + "</tr>"
        for label, functions in (
            ("value", [measure.value for measure in MEASURES.values()]),
            ("pull", [measure.slope for measure in MEASURES.values()]),
        )
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
