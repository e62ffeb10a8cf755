"""Integrate-and-fire against a float64 loop, frame by frame; and each known trap of public versions (FACTS 2)."""

import numpy
import pytest
import torch

from xllm.speech.cif import CIF, integrate_and_fire

REST = 1e-9  # a sum this close to an integer has reached it


def loop(hidden, alphas, target=None, tail=0.5):
    """One row in float64: list of token vectors, as differentiable sums, and fire positions in frames."""
    if target is not None:
        alphas = alphas * (target / alphas.sum().clamp(min=1e-4))
    tokens, fires = [], []
    held, weight = torch.zeros_like(hidden[0]), torch.zeros((), dtype=torch.float64)
    last = 0
    for t in range(len(alphas)):
        left = alphas[t]
        if float(left.detach()) > 0:
            last = t + 1
        while float((weight + left).detach()) >= 1.0 - REST and (target is None or len(tokens) < target):
            part = 1.0 - weight
            tokens.append(held + part * hidden[t])
            left = left - part
            fires.append(t + 1 - float((left / alphas[t]).detach()))
            held, weight = torch.zeros_like(held), torch.zeros_like(weight)
        held, weight = held + left * hidden[t], weight + left
    if target is None and float(weight.detach()) > tail:
        tokens.append(held / weight)
        fires.append(float(last))
    return tokens, fires


def random_rows(rows=6, frames=40, width=5, scale=0.6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, frames, width, generator=generator, dtype=dtype)
    alphas = scale * torch.rand(rows, frames, generator=generator, dtype=dtype)
    return hidden, alphas


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("scale", [0.05, 0.6, 3.5], ids=["slow", "speech", "several-per-frame"])
def test_equals_the_loop_forward_and_backward(scaled, scale):
    hidden, alphas = random_rows(scale=scale)
    targets = torch.tensor([12, 1, 7, 0, 60, 3]) if scaled else None
    hidden.requires_grad_(), alphas.requires_grad_()
    out = integrate_and_fire(hidden, alphas, targets=targets)
    mix = torch.randn(out.embeddings.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((out.embeddings * mix).sum(), (hidden, alphas))
    total = 0
    for row in range(len(hidden)):
        tokens, fires = loop(hidden[row], alphas[row], None if targets is None else int(targets[row]))
        assert int(out.lengths[row]) == len(tokens)
        assert out.fires[row, : len(fires)].tolist() == pytest.approx(fires, abs=1e-4)
        assert not out.embeddings[row, len(tokens) :].any() and not out.fires[row, len(tokens) :].any()
        for i, token in enumerate(tokens):
            torch.testing.assert_close(out.embeddings[row, i], token, atol=1e-9, rtol=1e-9)
            total = total + (token * mix[row, i]).sum()
    expected = torch.autograd.grad(total, (hidden, alphas), allow_unused=True)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("targets", [None, torch.tensor([3, 5])], ids=["free", "scaled"])
def test_gradcheck(targets):
    hidden, alphas = random_rows(rows=2, frames=9, width=3, seed=4)
    hidden.requires_grad_(), alphas.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, a: integrate_and_fire(h, a, targets=targets).embeddings, (hidden, alphas))


def test_float32_is_close_to_the_float64_loop():
    hidden, alphas = random_rows(rows=4, frames=200, scale=0.5, dtype=torch.float32)
    out = integrate_and_fire(hidden, alphas)
    for row in range(4):
        tokens, _ = loop(hidden[row].double(), alphas[row].double())
        assert len(tokens) == int(out.lengths[row])
        torch.testing.assert_close(out.embeddings[row, : len(tokens)].double(), torch.stack(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_never_loses_the_last_fire(dtype):
    """cumsum and floor after scaling lose it in half of the rows; a loop with beta 1.0 miscounts a third."""
    hidden, alphas = random_rows(rows=400, frames=60, width=2, dtype=dtype)
    targets = torch.arange(400) % 40
    out = integrate_and_fire(hidden, alphas, targets=targets)
    assert torch.equal(out.lengths, targets)
    weights = integrate_and_fire(torch.ones_like(hidden), alphas, targets=targets).embeddings[..., 0]
    mask = torch.arange(weights.shape[1]) < targets[:, None]
    torch.testing.assert_close(weights[mask], torch.ones_like(weights[mask]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", [0, 1, 7])
def test_the_tail_fires_with_and_without_padding(padding):
    hidden = torch.arange(1.0, 5.0)[None, :, None]
    alphas = torch.tensor([[0.5, 0.5, 0.4, 0.2]])
    padded = [torch.nn.functional.pad(hidden, (0, 0, 0, padding)), torch.nn.functional.pad(alphas, (0, padding))]
    out = integrate_and_fire(*padded)
    assert out.lengths.tolist() == [2] and out.fires[0].tolist() == pytest.approx([2.0, 4.0])
    assert out.embeddings[0, :, 0].tolist() == pytest.approx([1.5, (0.4 * 3 + 0.2 * 4) / 0.6])
    assert integrate_and_fire(padded[0], padded[1] * 0.9).lengths.tolist() == [1], "a rest of 0.44 is no token"


def test_a_frame_that_fires_several_times_by_hand():
    out = integrate_and_fire(torch.tensor([[[1.0], [10.0]]]), torch.tensor([[0.5, 2.7]]))
    assert out.lengths.tolist() == [3] and out.quantity.tolist() == pytest.approx([3.2])
    assert out.embeddings[0, :, 0].tolist() == pytest.approx([5.5, 10.0, 10.0])
    assert out.fires[0].tolist() == pytest.approx([1 + 0.5 / 2.7, 1 + 1.5 / 2.7, 1 + 2.5 / 2.7])


def test_true_zeros_are_frames_like_others():
    """A token of zero vectors is a token: lengths come from weights, never from sums of features."""
    out = integrate_and_fire(torch.zeros(1, 6, 3), torch.full((1, 6), 0.5))
    assert out.lengths.tolist() == [3]
    hidden, alphas = random_rows(rows=1, frames=12)
    alphas[0, 3:6] = 0
    tokens, _ = loop(hidden[0], alphas[0])
    torch.testing.assert_close(integrate_and_fire(hidden, alphas).embeddings[0], torch.stack(tokens))


@pytest.mark.parametrize("scaled", [False, True])
def test_gradient_of_a_weight_that_is_exactly_zero(scaled):
    """It says what a little weight there would do, at the end of a scaled row too, whichever way its sum rounds."""
    hidden, alphas = random_rows(rows=30, frames=12)
    alphas[:, [4, 5, 10, 11]] = 0
    targets = torch.arange(30) % 5 + 1 if scaled else None
    alphas.requires_grad_()
    value = integrate_and_fire(hidden, alphas, targets=targets, tail_threshold=0.0).embeddings.sum((1, 2))
    slope = torch.autograd.grad(value.sum(), alphas)[0]
    for frame in (4, 5, 10, 11):
        little = torch.zeros(12, dtype=torch.float64)
        little[frame] = 1e-7
        moved = integrate_and_fire(hidden, alphas.detach() + little, targets=targets, tail_threshold=0.0)
        torch.testing.assert_close(
            slope[:, frame], (moved.embeddings.sum((1, 2)) - value.detach()) / 1e-7, atol=1e-4, rtol=1e-4
        )


def test_rows_without_any_fire():
    hidden = torch.randn(3, 8, 4, requires_grad=True)
    alphas = torch.zeros(3, 8, requires_grad=True)
    out = integrate_and_fire(hidden, alphas)
    assert out.embeddings.shape == (3, 0, 4) and out.lengths.tolist() == [0, 0, 0]
    assert out.starts.shape == out.fires.shape == (3, 0)
    (out.embeddings.sum() + out.quantity.sum()).backward()
    assert not hidden.grad.any() and torch.equal(alphas.grad, torch.ones(3, 8))
    out = integrate_and_fire(hidden, alphas + 0.3, targets=torch.tensor([0, 2, 0]))
    assert out.lengths.tolist() == [0, 2, 0]
    (out.embeddings.sum() + out.quantity.sum()).backward()
    assert torch.isfinite(alphas.grad).all() and torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6])
def test_weights_near_nothing_have_finite_gradients(size):
    hidden = torch.randn(2, 10, 3, requires_grad=True)
    alphas = torch.full((2, 10), size, requires_grad=True)
    out = integrate_and_fire(hidden, alphas, targets=torch.tensor([4, 2]))
    assert out.lengths.tolist() == [4, 2]
    out.embeddings.pow(2).sum().backward()
    assert torch.isfinite(alphas.grad).all() and torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_do_not_move_a_fire(dtype):
    hidden, alphas = random_rows(rows=8, frames=500, dtype=torch.float32)
    exact = integrate_and_fire(hidden, alphas)
    with torch.autocast("cpu", torch.bfloat16):
        half = integrate_and_fire(hidden.to(dtype), alphas)
    assert half.embeddings.dtype == dtype
    assert torch.equal(half.lengths, exact.lengths) and torch.equal(half.fires, exact.fires)
    rounded = integrate_and_fire(hidden.to(dtype).float(), alphas)
    assert torch.equal(half.embeddings, rounded.embeddings.to(dtype)), "weights are never rounded to half precision"


def test_a_long_row_counts_like_float64():
    _, alphas = random_rows(rows=20, frames=3000, width=1, scale=0.4, dtype=torch.float32)
    out = integrate_and_fire(torch.zeros(20, 3000, 1), alphas)
    sums = alphas.double().sum(1)
    assert torch.equal(out.lengths, sums.floor().long() + (sums % 1 > 0.5))


def test_starts_follow_a_pause():
    """After a pause a token starts where speech resumes, not where the last one fired."""
    alphas = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 0.5]])
    out = integrate_and_fire(torch.randn(1, 7, 2), alphas)
    assert out.fires[0].tolist() == pytest.approx([2, 7]) and out.starts[0].tolist() == pytest.approx([0.2, 5.2])


def test_predictor_ignores_padding_and_batch_equals_single():
    torch.manual_seed(0)
    cif = CIF(8, 16).eval()
    hidden, lengths = torch.randn(3, 50, 8), torch.tensor([50, 21, 9])
    together = cif(hidden, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = cif(hidden[row : row + 1, :length], lengths[row : row + 1])
        count = int(alone.lengths[0])
        assert count == int(together.lengths[row])
        torch.testing.assert_close(together.embeddings[row, :count], alone.embeddings[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.quantity[row], alone.quantity[0])


@pytest.mark.parametrize("scaled", [False, True])
def test_positions_are_ordered_and_read_off_the_running_sum(scaled):
    _, alphas = random_rows(rows=8, frames=80)
    targets = torch.arange(8) * 5 if scaled else None
    out = integrate_and_fire(torch.zeros(8, 80, 1), alphas, targets=targets)
    for row, count in enumerate(out.lengths.tolist()):
        weights = alphas[row] * (count / alphas[row].sum()) if scaled else alphas[row]
        sums = numpy.concatenate([[0.0], weights.cumsum(0).numpy()])
        for found, weight in ((out.starts, 0.1), (out.fires, 1.0)):
            # Past its end `interp` answers the last edge, which is where a tail fires.
            expected = numpy.interp(numpy.arange(count) + weight, sums, numpy.arange(81.0))
            assert found[row, :count].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
        walk = torch.stack([out.starts[row, :count], out.fires[row, :count]], 1).flatten()
        assert (walk.diff() > 0).all(), "every token starts after the last one fired, and fires after it started"


@pytest.mark.parametrize("targets", [None, torch.tensor([9, 30])], ids=["free", "scaled"])
def test_padding_changes_no_bit(targets):
    hidden, alphas = random_rows(rows=2, frames=40, dtype=torch.float32)
    alphas[1, 25:] = 0
    together = integrate_and_fire(hidden, alphas, targets=targets)
    alone = integrate_and_fire(hidden[1:, :25], alphas[1:, :25], targets=None if targets is None else targets[1:])
    count = int(alone.lengths[0])
    assert count == int(together.lengths[1]) and torch.equal(alone.quantity, together.quantity[1:])
    for batched, single in zip(
        (together.embeddings, together.starts, together.fires),
        (alone.embeddings, alone.starts, alone.fires),
        strict=True,
    ):
        assert torch.equal(batched[1, :count], single[0])


def test_a_gradient_that_is_one_value_expanded():
    """`sum().backward()` hands over a gradient with strides of 0; each frame's is then its scaled weight."""
    hidden, alphas = random_rows(rows=3, frames=20)
    hidden.requires_grad_()
    targets = torch.tensor([4, 9, 2])
    integrate_and_fire(hidden, alphas, targets=targets).embeddings.sum().backward()
    weights = alphas * (targets / alphas.sum(1))[:, None]
    torch.testing.assert_close(hidden.grad, weights[..., None].expand_as(hidden))


def test_quantity_is_the_raw_sum_and_positions_carry_no_gradient():
    hidden, alphas = random_rows(rows=3, frames=20)
    alphas.requires_grad_()
    out = integrate_and_fire(hidden, alphas, targets=torch.tensor([4, 9, 2]))
    torch.testing.assert_close(out.quantity, alphas.detach().sum(1).float())
    (out.quantity - 4).abs().sum().backward()
    assert torch.equal(alphas.grad, torch.sign(out.quantity.detach() - 4).double()[:, None].expand(3, 20))
    assert not out.starts.requires_grad and not out.fires.requires_grad


@pytest.mark.parametrize("frames", [0, 5])
def test_a_row_without_frames(frames):
    alphas = torch.zeros(2, frames)
    alphas[0] = 0.9
    out = integrate_and_fire(torch.randn(2, frames, 3), alphas, targets=torch.tensor([2, 3]))
    assert out.lengths.tolist() == [2, 3]
    assert not out.embeddings[1].any() and not out.fires[1].any() and not out.starts[1].any()


def test_predictor_reads_nothing_from_the_padding():
    torch.manual_seed(0)
    cif = CIF(8, 16)
    hidden, lengths = torch.randn(3, 30, 8), torch.tensor([30, 11, 0])
    other = hidden.clone()
    other[1, 11:], other[2] = 1e3, torch.nan
    other.requires_grad_()
    targets = torch.tensor([6, 2, 0])
    for kwargs in ({}, {"targets": targets}):
        clean, dirty = cif(hidden, lengths, **kwargs), cif(other, lengths, **kwargs)
        assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
        assert dirty.lengths[2] == 0
    (dirty.embeddings.pow(2).sum() + dirty.quantity.sum()).backward()
    assert other.grad[0].any() and not other.grad[1, 11:].any() and not other.grad[2].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in cif.parameters())


def test_predictor_fires_alike_under_autocast():
    torch.manual_seed(0)
    cif = CIF(8, 16)
    hidden, lengths = torch.randn(4, 200, 8), torch.full((4,), 200)
    exact = cif(hidden, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        cast = cif(hidden, lengths)
    assert torch.equal(cast.fires, exact.fires) and torch.equal(cast.embeddings, exact.embeddings)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd"):
        CIF(8, 16, kernel=4)


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda h, a: integrate_and_fire(h, a[:, 1:]), "do not match the frames"),
        (lambda h, a: integrate_and_fire(h, a, targets=torch.tensor([1])), "do not match a batch"),
        (lambda h, a: integrate_and_fire(h, -a), "not negative"),
        (lambda h, a: integrate_and_fire(h, a * torch.nan), "finite"),
    ],
)
def test_what_cannot_be_integrated_raises(bad, message):
    with pytest.raises(ValueError, match=message):
        bad(*random_rows(rows=2))
