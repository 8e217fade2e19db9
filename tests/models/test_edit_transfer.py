"""Edit transfer: warps against scipy, flows against the motions that made the images, the energy by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.registration import optical_flow_tvl1

from ganlib.models import edit_transfer
from ganlib.models.edit_transfer import Flow, dense_flow, energy, transfer, warp

SIDE, MARGIN = 32, 8
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)


@pytest.fixture(scope="module")
def texture():
    """A smooth random picture in [-1, 1] with a margin around it."""
    noise = np.random.default_rng(0).standard_normal((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN))
    picture = ndimage.gaussian_filter(noise, 2.0)
    return picture / np.abs(picture).max()


def seen(texture, u=0.0, v=0.0):
    """The texture read at (x + u, y + v), by cubic splines: not how the flow's own warp reads."""
    rows, columns = np.broadcast_arrays(Y + MARGIN + v, X + MARGIN + u)
    return tensor(ndimage.map_coordinates(texture, [rows, columns], order=3))


def tensor(array):
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)[None, None]


def random_flow(n=2, c=3, side=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    motion = torch.randn(n, 2, side, side, generator=rng) * 2
    return Flow(motion, torch.randn(n, c, c + 1, side, side, generator=rng))


def inside(maps, border=4):
    return maps[..., border:-border, border:-border]


def error(flow, u, v):
    """Mean distance of the found from the true motion in pixels, away from the border."""
    off = flow.motion[0].double().numpy() - np.stack(np.broadcast_arrays(u + 0 * X, v + 0 * X))
    return inside(np.hypot(*off)).mean()


MOTIONS = {
    "translation": (1.5, -1.0),
    "far": (4.0, 3.0),
    "affine": (0.08 * (X - 15.5) + 0.1 * (Y - 15.5) + 0.5, -0.06 * (X - 15.5) + 0.05 * (Y - 15.5)),
}


def test_warping_is_bilinear_with_the_border_held():
    images, flow = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)), random_flow()
    moved = warp(images, flow.motion)
    y, x = np.mgrid[:12, :12]
    for n in range(2):
        u, v = flow.motion[n].double().numpy()
        for c in range(3):
            exact = ndimage.map_coordinates(
                images[n, c].double().numpy(), [y + v, x + u], order=1, mode="nearest"
            )
            # grid_sample wants places in [-1, 1]: float32 rounds them by about 1e-6 of a pixel.
            np.testing.assert_allclose(moved[n, c].numpy(), exact, atol=2e-5)


def test_the_energy_is_the_slides():
    flow = random_flow(n=1)
    rng = torch.Generator().manual_seed(2)
    target, source = torch.randn(2, 1, 3, 12, 12, generator=rng)
    value = energy(target, source, flow, 0.3, 0.7).item()
    y, x = np.mgrid[:12, :12]
    u, v = flow.motion[0].double().numpy()
    moved = [
        ndimage.map_coordinates(s, [y + v, x + u], order=1, mode="nearest")
        for s in source[0].double().numpy()
    ]
    a = flow.colour[0].double().numpy()
    predicted = np.einsum("ijhw,jhw->ihw", a[:, :3], np.stack(moved)) + a[:, 3]
    data = ((target[0].double().numpy() - predicted) ** 2).sum()

    def rough(field):
        return (np.diff(field, axis=-1) ** 2).sum() + (np.diff(field, axis=-2) ** 2).sum()

    # Sums of a few thousand squares in float32.
    assert value == pytest.approx(data + 0.3 * (rough(u) + rough(v)) + 0.7 * rough(a), rel=1e-4)


@pytest.mark.parametrize("name", MOTIONS)
def test_known_motions_are_found(texture, name):
    u, v = MOTIONS[name]
    source, target = seen(texture), seen(texture, u, v)
    flow = dense_flow(target, source, smoothness=0.005)
    # A tenth of a pixel; an affine motion pays for its slope, which the energy wants to be small.
    assert error(flow, u, v) < (0.25 if name == "affine" else 0.1)
    # What is motion is not explained by colours.
    assert inside(flow.colour[0, 0, 0] - 1).abs().mean() < 0.1
    assert inside(flow.colour[0, 0, 1]).abs().mean() < 0.02
    # No worse a minimum than the motion that made the images.
    exact = torch.as_tensor(np.stack(np.broadcast_arrays(u + 0 * X, v + 0 * X)), dtype=torch.float32)
    true = Flow(exact[None], edit_transfer._no_flow(source).colour)
    pair = (target, source)
    assert energy(*pair, flow, 0.005, 0.5) <= energy(*pair, true, 0.005, 0.5)


def test_it_finds_what_skimage_finds(texture):
    u, v = MOTIONS["translation"]
    source, target = seen(texture), seen(texture, u, v)
    theirs = optical_flow_tvl1(target[0, 0].numpy(), source[0, 0].numpy())[::-1]  # theirs is (v, u)
    ours = dense_flow(target, source, smoothness=0.005).motion[0].numpy()
    # Two energies, one with absolute values: they share the motion, to a fifth of a pixel.
    assert inside(np.hypot(*(ours - theirs))).mean() < 0.2


def test_a_change_of_brightness_is_colour_and_not_motion(texture):
    source = seen(texture)
    flow = dense_flow(0.7 * source + 0.1, source)
    assert flow.motion.abs().max() < 1e-3
    torch.testing.assert_close(flow.colour[0, 0].mean((1, 2)), torch.tensor([0.7, 0.1]), atol=1e-3, rtol=0)
    assert flow.colour[0, 0].std((1, 2)).max() < 1e-3


def test_colours_mix_by_a_matrix(texture):
    """Three channels, of which the last two change places and the first is halved."""
    source = torch.cat([seen(texture, 3 * i) for i in (-1, 0, 1)], 1)
    mixed = torch.stack([0.5 * source[:, 0], source[:, 2], source[:, 1]], 1)
    flow = dense_flow(mixed, source, rounds=20, iterations=60)
    # To a few hundredths: how fast conjugate gradients tell three smooth channels apart.
    torch.testing.assert_close(flow(source), mixed, atol=0.05, rtol=0)
    assert flow.motion.abs().mean() < 0.1


def test_each_pair_of_a_batch_is_solved_alone_and_every_round_lowers_the_energy(texture):
    source = torch.cat([seen(texture), seen(texture, 1.0)])
    target = torch.cat([seen(texture, 1.0, 1.0), 0.5 * seen(texture, 1.0)])
    both = dense_flow(target, source)
    for i in range(2):
        alone = dense_flow(target[i : i + 1], source[i : i + 1])
        # The same sums in another order.
        torch.testing.assert_close(both.motion[i : i + 1], alone.motion, atol=2e-3, rtol=0)
    flow, energies = edit_transfer._no_flow(target), []
    for _ in range(6):
        energies.append(energy(target, source, flow, 0.05, 0.5))
        flow = edit_transfer._improved(flow, target, source, 0.05, 0.5, 30)
    assert (torch.stack(energies).diff(dim=0) <= 0).all()
    assert (energies[-1] < 0.2 * energies[0]).all()


def test_a_step_that_would_raise_the_energy_is_shortened():
    """Between two pictures of noise the linearisation is worth little, and a whole step leads astray."""
    target, source = torch.randn(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    flow, energies = edit_transfer._no_flow(target), []
    for _ in range(4):
        energies.append(energy(target, source, flow, 0.01, 0.5))
        flow = edit_transfer._improved(flow, target, source, 0.01, 0.5, 30)
    assert (torch.stack(energies).diff(dim=0) <= 0).all()


def test_conjugate_gradients_solve_the_system():
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(2, 12, 12, generator=rng, dtype=torch.float64)
    matrix = root @ root.mT + 0.5 * torch.eye(12)
    right = torch.randn(2, 3, 2, 2, generator=rng, dtype=torch.float64)

    def product(x):
        return (matrix @ x.flatten(1).unsqueeze(2)).view_as(x)

    diagonal = matrix.diagonal(dim1=1, dim2=2).reshape(2, 3, 2, 2)
    solved = edit_transfer._solve(product, right, diagonal, 40)
    exact = np.linalg.solve(matrix.numpy(), right.flatten(1).numpy()[..., None])
    np.testing.assert_allclose(solved.flatten(1).numpy(), exact[..., 0], atol=1e-8)  # float64


def test_flows_join_into_one():
    """On linear ramps, which bilinear reading reproduces exactly, one joint flow is both, one by one."""
    ramp = torch.stack([0.1 * tensor(X)[0, 0], 0.2 * tensor(Y)[0, 0]])[None]
    first = Flow(0.05 * torch.cat([tensor(X), -tensor(Y)], 1) - 0.5, torch.zeros(1, 2, 3, SIDE, SIDE))
    first.colour[:] = torch.tensor([[0.5, 0.2, 0.3], [0.0, 2.0, -0.1]])[..., None, None]
    second = Flow(torch.full((1, 2, SIDE, SIDE), 1.25), torch.zeros(1, 2, 3, SIDE, SIDE))
    second.colour[:] = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.5, 0.2]])[..., None, None]
    joint = second.after(first)
    torch.testing.assert_close(inside(joint(ramp)), inside(second(first(ramp))), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        joint.motion[0, 0, 10, 10], torch.tensor(1.25 + 0.05 * (10 + 1.25) - 0.5), atol=1e-5, rtol=0
    )


def test_nothing_happens_where_nothing_happened(texture):
    frames = seen(texture).expand(3, 1, 1, SIDE, SIDE)
    original = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # grid_sample's rounding of places, times steps of up to 2 between neighbouring pixels.
    torch.testing.assert_close(transfer(frames, original), original, atol=2e-5, rtol=0)


def test_the_edit_reaches_the_original_with_its_detail(texture):
    """Frames that move by (1, 0.5) twice, and get darker, move and darken a photo with detail they lack."""
    detail = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(texture.shape), 1.0)
    photo = texture + 0.3 * detail / np.abs(detail).max()
    moves = [(0.0, 0.0), (-1.0, -0.5), (-2.0, -1.0)]
    frames = torch.stack([seen(texture, *move) - 0.1 * i for i, move in enumerate(moves)])
    result = transfer(frames, seen(photo), smoothness=0.005)
    wanted = seen(photo, *moves[-1]) - 0.2
    off = inside(result - wanted).square().mean().sqrt()
    untouched = inside(seen(photo) - wanted).square().mean().sqrt()
    without_detail = inside(frames[-1] - wanted).square().mean().sqrt()
    # Below half of what a reader would see if the detail were lost, which reading once costs a part of.
    assert off < 0.5 * without_detail < 0.5 * untouched


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dense_flow(x, x[..., :-1]), "one shape"),
        (lambda x: dense_flow(x, x, smoothness=0.0), "smoothness must be positive, got 0"),
        (lambda x: dense_flow(x, x, colour_smoothness=-1.0), "colour_smoothness must be positive"),
        (lambda x: warp(x, torch.zeros(1, 2, 3, 3)), r"motion must be \(1, 2, 8, 8\)"),
        (lambda x: transfer(x[None], x), "at least two"),
        (lambda x: transfer(x.expand(2, 1, 1, 8, 8), x[..., :-1]), "at least two of"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 1, 8, 8))
