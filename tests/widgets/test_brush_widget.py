"""The manifold brush without a browser: messages, strokes, pictures, and what there is without a kernel."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from torch import nn

from ganlib.losses import NonSaturating
from ganlib.models.dcgan import Discriminator, Encoder, Generator
from ganlib.models.igan import InteractiveGAN, paint
from ganlib.widgets.brush import REALISM, TOOLS, ManifoldBrush, trace

SIDE = 16


@pytest.fixture
def sent(monkeypatch):
    """What widgets send to the browser."""
    messages = []
    monkeypatch.setattr(
        ManifoldBrush, "send", lambda self, content, buffers=None: messages.append((content, buffers))
    )
    return messages


def widget(channels=1, **options):
    torch.manual_seed(0)
    networks = (
        Generator(4, 4, channels, SIDE),
        Discriminator(4, channels, SIDE),
        Encoder(4, 4, channels, SIDE),
    )
    game = InteractiveGAN(*networks, NonSaturating(), depth=2)
    for parameter in game.generator.parameters():  # untrained weights draw next to nothing
        nn.init.normal_(parameter, std=0.3)
    images = torch.rand(3, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return ManifoldBrush(game, images, **{"steps": 3, **options})


def ask(brush, **content):
    """A message from the browser."""
    brush._handle_custom_msg(content, [])


def pull(brush, points, stroke=1, tool="white", done=True, radius=1.5, number=1):
    ask(brush, do="stroke", stroke=stroke, tool=tool, radius=radius, points=points, done=done, number=number)


def test_the_sample_follows_the_brush_and_the_kernel_answers(sent):
    brush = widget()
    anchor, before, result = brush.anchor, brush.sample, brush.result
    wish = paint(trace([(3, 4), (12, 4)], 1.5, (SIDE, SIDE)), 1.0)
    pull(brush, [[3, 4], [12, 4]], number="a 7")
    assert sent[-1][0] == {"kind": "answer", "number": "a 7"}
    assert wish(brush.sample) < wish(before)
    assert torch.equal(brush.anchor, anchor) and not torch.equal(brush.result, result)
    # What it does is what the game's own edit does, and what G makes of it.
    expected = brush.game.edit(anchor, [wish], smoothness=brush.smoothness, realism=REALISM, steps=3)
    assert torch.equal(brush.code, expected)
    assert torch.equal(brush.sample, brush.game.generate(expected))
    assert "1 stroke, missed by" in brush.status
    # The next stroke goes on from there, still held by the photo's latent.
    pull(brush, [[3, 10]], stroke=2, tool="black")
    wishes = [wish, paint(trace([(3, 10)], 1.5, (SIDE, SIDE)), -1.0)]
    options = {"smoothness": brush.smoothness, "realism": REALISM, "steps": 3}
    assert torch.equal(brush.code, brush.game.edit(expected, wishes, anchor=anchor, **options))


def test_points_of_one_stroke_are_joined_and_the_transfer_waits_for_its_end(sent):
    brush = widget()
    result = brush.result
    pull(brush, [[3, 4]], done=False)
    pull(brush, [[12, 4]], done=False)
    assert brush.result is result
    pull(brush, [[12, 9]])
    assert brush.result is not result
    assert len(brush.strokes) == 1
    assert torch.equal(brush.strokes[0].mask, trace([(3, 4), (12, 4), (12, 9)], 1.5, (SIDE, SIDE)))
    pull(brush, [[2, 2]], stroke=2, tool="black")
    assert [stroke.tool for stroke in brush.strokes] == ["white", "black"]
    constraints = [wish for stroke in brush.strokes for wish in stroke.constraints]
    assert [wish.target.item() for wish in constraints] == [1, -1]


def test_frames_hold_the_pictures_and_what_was_asked_for(sent):
    brush = widget(channels=3)
    pull(brush, [[3, 4], [6, 4]])
    pull(brush, [[10, 10]], stroke=2, tool="black")
    pull(brush, [[3, 12], [7, 13]], stroke=3, tool="drag")
    content, buffers = next((c, b) for c, b in reversed(sent) if c["kind"] == "frame")
    assert content == {"kind": "frame", "height": SIDE, "width": SIDE, "channels": 3}
    for picture, image in zip(buffers[:3], (brush.photo, brush.sample, brush.result), strict=True):
        levels = np.frombuffer(picture, np.uint8).reshape(SIDE, SIDE, 3).transpose(2, 0, 1) / 127.5 - 1
        np.testing.assert_allclose(levels, image[0].clamp(-1, 1), atol=0.5001 / 127.5)  # rounded to bytes
    asked = np.frombuffer(buffers[3], np.uint8).reshape(SIDE, SIDE)
    expected = np.zeros((SIDE, SIDE))
    expected[trace([(3, 4), (6, 4)], 1.5, (SIDE, SIDE))] = 1
    expected[trace([(10, 10)], 1.5, (SIDE, SIDE))] = 2
    expected[trace([(7, 13)], 1.5, (SIDE, SIDE))] = 3  # where the patch shall be, not where it was
    np.testing.assert_array_equal(asked, expected)


def test_a_dragged_patch_is_the_samples_at_the_time(sent, monkeypatch):
    brush = widget()
    pull(brush, [[3, 4], [6, 4]])
    sample = brush.sample
    pull(brush, [[5, 5], [6, 5]], stroke=2, tool="drag", done=False)
    ends, edit = [], brush.game.edit

    def watched(start, wishes, **options):
        ends.append(wishes[-2].mask[0, 0])  # the patch's colours, before its outlines
        return edit(start, wishes, **options)

    monkeypatch.setattr(brush.game, "edit", watched)
    pull(brush, [[9, 4]], stroke=2, tool="drag")
    # On its way it is asked for pixel by pixel, and at the end once more.
    assert [end.nonzero().float().mean(0).tolist() for end in ends] == [[5, 7], [4, 8], [4, 9], [4, 9]]
    stroke = brush.strokes[-1]
    assert stroke.sample is sample and stroke.shift == (4, -1)
    colours = stroke.constraints[0]
    assert torch.equal(colours.mask[0, 0].bool(), trace([(9, 4)], 1.5, (SIDE, SIDE)))
    assert colours.target[0, 0, 4, 9] == sample[0, 0, 5, 5]


def test_undo_clear_and_another_image(sent):
    brush = widget()
    first = brush.sample
    pull(brush, [[3, 4]])
    ask(brush, do="undo", number=2)
    assert brush.strokes == [] and torch.equal(brush.sample, first)
    torch.testing.assert_close(brush.result, brush.photo, atol=2e-5, rtol=0)  # grid_sample's rounding
    pull(brush, [[3, 4]], stroke=2)
    pull(brush, [[3, 9]], stroke=3)
    ask(brush, do="clear", number=5)
    assert brush.strokes == [] and torch.equal(brush.code, brush.anchor)
    brush.number = 2
    assert torch.equal(brush.photo, brush.images[2:3])
    assert torch.equal(
        brush.anchor, brush.game.optimise(brush.photo, brush.game.predict(brush.photo), steps=60)
    )
    sent.clear()
    brush.smoothness = 0.1
    ask(brush, do="ready", number=6)
    assert [content["kind"] for content, _ in sent] == ["frame", "frame", "answer"]


def test_what_makes_no_sense_changes_nothing_but_is_answered(sent):
    brush = widget()
    code = brush.code
    for bad, message in (
        ({"tool": "spray"}, "tool must be one of"),
        ({"radius": 0}, "radius must be positive"),
    ):
        news = {"do": "stroke", "stroke": 1, "tool": "white", "radius": 1, "points": [[3, 4]], "done": True}
        with pytest.raises(ValueError, match=message):
            brush._on_message(None, {**news, **bad, "number": 9}, None)
        assert sent[-1][0] == {"kind": "answer", "number": 9}  # or the hand would wait for ever
    with pytest.raises(ValueError, match="finite"):
        brush.stroke("white", [(3, float("nan"))])
    assert brush.strokes == [] and torch.equal(brush.code, code)
    with pytest.raises(ValueError, match="number must be below 3, got 3"):
        brush.number = 3
    with pytest.raises(ValueError, match="1 or 3"):
        ManifoldBrush(brush.game, torch.zeros(2, 2, SIDE, SIDE))


def test_a_trace_is_what_lies_within_the_radius():
    line, radius = [(2.0, 3.0), (9.5, 6.0), (9.5, 12.0)], 1.7
    dense = np.concatenate([np.linspace(a, b, 400) for a, b in pairwise(line)])
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(x[..., None] - dense[:, 0], y[..., None] - dense[:, 1]).min(-1)
    np.testing.assert_array_equal(trace(line, radius, (SIDE, SIDE)), distance <= radius)
    disc = np.hypot(x - 4, y - 5) <= 2
    np.testing.assert_array_equal(trace([(4, 5)], 2, (SIDE, SIDE)), disc)
    with pytest.raises(ValueError, match="points must be"):
        trace([], 1.0, (SIDE, SIDE))


def test_without_a_kernel_there_is_a_picture():
    brush = widget()
    brush.stroke("black", [(4, 4), (8, 8)])
    data, _ = brush._repr_mimebundle_()
    assert data["image/png"].startswith("iVBOR")  # base64 of a PNG's first bytes
    assert data["text/plain"] == "ManifoldBrush: image 0 of 3, 1 strokes" == repr(brush)
    assert not plt.get_fignums()
    assert list(brush.tools) == list(TOOLS)
