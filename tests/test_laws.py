"""Laws that every estimator of the catalogue keeps."""

import inspect

import numpy as np
import pytest
import torch
from catalog import ESTIMATORS
from hypothesis import given
from hypothesis import strategies as st

everyone = pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
SIZES = {"n": st.integers(3, 12), "m": st.integers(3, 12), "d": st.integers(1, 4)}


def those(promise):
    chosen = [e for e in ESTIMATORS if promise(e)]
    return pytest.mark.parametrize("estimator", chosen, ids=repr)


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def call(estimator, x, y, **options):
    if estimator.seeded:
        options.setdefault("generator", 7)
    return estimator(x, y, **options)


def takes(estimator, name):
    return name in inspect.signature(inspect.unwrap(estimator.function)).parameters


@everyone
@given(seed=st.integers(0, 10**6), **SIZES)
def test_numpy_gives_what_torch_gives(estimator, seed, n, m, d):
    x, y = draw(n, d, seed=seed), draw(m, d, seed=seed + 1)
    from_torch = call(estimator, x, y)
    from_numpy = call(estimator, x.numpy(), y.numpy())
    assert isinstance(from_torch, torch.Tensor)
    assert from_torch.shape == ()
    assert isinstance(from_numpy, float)
    assert from_numpy == pytest.approx(from_torch.item(), rel=1e-9, abs=1e-12)


@those(lambda e: e.batched)
def test_batches_equal_loops(estimator):
    x, y = draw(3, 1, 6, 2), draw(2, 5, 2, seed=1) + 0.3
    together = call(estimator, x, y)
    assert together.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            alone = call(estimator, x[i, 0], y[j])
            torch.testing.assert_close(together[i, j], alone, rtol=1e-8, atol=1e-10)


@those(lambda e: e.symmetric)
@given(seed=st.integers(0, 10**6), **SIZES)
def test_symmetric(estimator, seed, n, m, d):
    x, y = draw(n, d, seed=seed), draw(m, d, seed=seed + 1)
    torch.testing.assert_close(call(estimator, x, y), call(estimator, y, x), rtol=1e-8, atol=1e-9)


@everyone
@given(seed=st.integers(0, 10**6), **SIZES)
def test_the_order_of_points_does_not_matter(estimator, seed, n, m, d):
    x, y = draw(n, d, seed=seed), draw(m, d, seed=seed + 1)
    torch.testing.assert_close(
        call(estimator, x.flip(-2), y.roll(1, -2)), call(estimator, x, y), rtol=1e-8, atol=1e-9
    )


@those(lambda e: e.translation)
@given(seed=st.integers(0, 10**6), offset=st.sampled_from([1.0, 1e4, 1e7]), **SIZES)
def test_moving_both_changes_nothing(estimator, seed, offset, n, m, d):
    x, y = draw(n, d, seed=seed), draw(m, d, seed=seed + 1)
    still, moved = call(estimator, x, y), call(estimator, x + offset, y + offset)
    torch.testing.assert_close(moved, still, rtol=1e-6, atol=1e-9 * max(1.0, offset))


@those(lambda e: e.translation)
def test_moving_both_changes_nothing_in_float32(estimator):
    x, y = draw(40, 3), draw(30, 3, seed=1) + 0.5
    moved = [(z + 1e4).float() for z in (x, y)]
    still = call(estimator, *(z.double() - 1e4 for z in moved))  # rounding of the data itself out
    found = call(estimator, *moved)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), still, rtol=2e-3, atol=2e-4)


@those(lambda e: e.degree is not None)
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1e-3, 0.5, 3.0, 1e4]), **SIZES)
def test_scaling(estimator, seed, factor, n, m, d):
    x, y = draw(n, d, seed=seed), draw(m, d, seed=seed + 1)
    expected = call(estimator, x, y) * factor**estimator.degree
    found = call(estimator, factor * x, factor * y)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * factor**estimator.degree)


@those(lambda e: e.zero_at_equality)
@given(seed=st.integers(0, 10**6), **SIZES)
def test_zero_at_equality(estimator, seed, n, m, d):
    x = draw(n, d, seed=seed)
    value = call(estimator, x, x.flip(-2))
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=2e-7)


@those(lambda e: e.weighted)
def test_weights_are_repetitions(estimator):
    if not takes(estimator, "a") or "unbiased" in estimator.options:
        return
    if takes(estimator, "unbiased"):
        estimator = type(estimator)(
            estimator.name, estimator.function, {**estimator.options, "unbiased": False}
        )
    x, y = draw(5, 2), draw(4, 2, seed=1)
    counts = torch.tensor([3, 1, 0, 2, 2])
    weights = counts.double() / counts.sum()
    repeated = x.repeat_interleave(counts, dim=0)
    torch.testing.assert_close(
        call(estimator, x, y, a=weights), call(estimator, repeated, y), rtol=1e-7, atol=1e-9
    )
    torch.testing.assert_close(
        call(estimator, y, x, b=weights), call(estimator, y, repeated), rtol=1e-7, atol=1e-9
    )


@those(lambda e: e.differentiable)
def test_gradients(estimator):
    x, y = draw(5, 2).requires_grad_(), (draw(6, 2, seed=1) * 1.3 + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: call(estimator, x, y), (x, y), atol=1e-6)


@those(lambda e: e.differentiable)
def test_gradients_are_finite_at_ties_and_at_equality(estimator):
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [2.0, 1.0]]).double().requires_grad_()
    y = x.detach().clone().requires_grad_()
    call(estimator, x, y).backward()
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()


@everyone
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtype_is_kept(estimator, dtype):
    x, y = draw(30, 3), draw(25, 3, seed=1) + 0.7
    found = call(estimator, x.to(dtype), y.to(dtype))
    exact = call(estimator, x.to(dtype).double(), y.to(dtype).double())
    assert found.dtype == dtype
    tolerance = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance / 10)


@everyone
@given(seed=st.integers(0, 10**6), ties=st.integers(1, 3))
def test_finite_on_tied_data(estimator, seed, ties):
    x = draw(8, 2, seed=seed).round(decimals=0) % ties
    y = draw(9, 2, seed=seed + 1).round(decimals=0) % ties
    assert call(estimator, x, y).isfinite()


@everyone
def test_constant_data(estimator):
    x, y = torch.ones(4, 2).double(), torch.ones(5, 2).double()
    value = call(estimator, x, y)
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-7)


@everyone
def test_integers_are_converted(estimator):
    x, y = np.arange(12).reshape(6, 2), np.arange(10).reshape(5, 2) ** 2
    expected = call(estimator, x.astype(float), y.astype(float))
    assert call(estimator, x, y) == pytest.approx(expected)


@those(lambda e: e.seeded)
def test_the_seed_decides_and_the_global_state_is_left_alone(estimator):
    x, y = draw(10, 3), draw(12, 3, seed=1)
    before = torch.random.get_rng_state()
    first = estimator(x, y, generator=3)
    again = estimator(x, y, generator=torch.Generator().manual_seed(3))
    other = estimator(x, y, generator=4)
    estimator(x, y)
    assert first == again
    assert first != other
    assert torch.equal(before, torch.random.get_rng_state())


BAD = {
    "nan": (lambda x, y: (x * float("nan"), y), ValueError, "holds nan at row 0, column 0"),
    "infinite": (lambda x, y: (x, y / 0.0), ValueError, "inf"),
    "columns": (lambda x, y: (x, y[:, :1]), ValueError, "column"),
    "empty": (lambda x, y: (x[:0], y), ValueError, "x has 0 points"),
    "no columns": (lambda x, y: (x[:, :0], y[:, :0]), ValueError, "no columns"),
    "mixed": (lambda x, y: (x.numpy(), y), TypeError, "together with"),
    "complex": (lambda x, y: (x + 1j, y), TypeError, "complex"),
    "text": (lambda x, y: ([["a", "b"]], y.numpy()), TypeError, "numbers"),
    "objects": (lambda x, y: (np.array([[None, 1]]), y.numpy()), TypeError, "numbers"),
    "ragged": (lambda x, y: ([[1.0], [1.0, 2.0]], y.numpy()), ValueError, "rectangular"),
    "batches": (lambda x, y: (x.expand(2, -1, -1), y.expand(3, -1, -1)), ValueError, "broadcast"),
}


@everyone
@pytest.mark.parametrize("case", BAD)
def test_bad_samples_are_refused(estimator, case):
    spoil, error, message = BAD[case]
    x, y = spoil(draw(6, 2), draw(5, 2, seed=1))
    with pytest.raises(error, match=message):
        call(estimator, x, y)


@those(lambda e: e.minimum > 1)
def test_too_few_points(estimator):
    with pytest.raises(ValueError, match=f"at least {estimator.minimum} are needed"):
        call(estimator, draw(1, 2), draw(5, 2))


@those(lambda e: e.weighted)
def test_bad_weights(estimator):
    if not takes(estimator, "a"):
        return
    x, y = draw(4, 2), draw(5, 2, seed=1)
    for a, message in [
        (torch.ones(4).double(), "sums to 4, not to 1"),
        (torch.tensor([1.5, -0.5, 0.0, 0.0]).double(), "negative"),
        (torch.full((3,), 1 / 3).double(), "one weight per point"),
        (torch.tensor([float("nan"), 1.0, 0.0, 0.0]).double(), "nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(estimator, x, y, a=a)
