"""The judge: complex_step and gradient_error."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rnn.cross_entropy import loss
from rnn.gradient_check import complex_step, gradient_error
from rnn.hidden_state import hand_example, init_parameters

FINITE = st.floats(-3, 3, allow_subnormal=False)
SHAPES = array_shapes(min_dims=0, max_dims=3, max_side=3)


@settings(deadline=None)
@given(arrays(np.float64, SHAPES, elements=FINITE))
def test_complex_step_is_exact_on_known_derivatives(x):
    for function, true in (
        (lambda z: (z**3).sum(), 3 * x**2),
        (lambda z: np.exp(2 * z).sum(), 2 * np.exp(2 * x)),
        (lambda z: np.tanh(z).sum(), 1 - np.tanh(x) ** 2),
        (lambda z: (z * z).sum() ** 2, 4 * x * (x * x).sum()),
    ):
        derivative = complex_step(function, x)
        assert isinstance(derivative, np.ndarray)
        assert derivative.dtype == np.float64
        assert derivative.shape == x.shape
        np.testing.assert_allclose(derivative, true, rtol=1e-12, atol=1e-14)


def test_complex_step_moves_one_element_by_the_documented_step():
    x, seen = np.array([[1.0, 2.0], [3.0, 4.0]]), []

    def spy(z):
        seen.append(z.copy())
        return z.sum()

    complex_step(spy, x)
    assert [np.argwhere(z.imag).tolist() for z in seen] == [
        [[0, 0]],
        [[0, 1]],
        [[1, 0]],
        [[1, 1]],
    ]
    for z in seen:
        assert z.dtype == np.complex128
        np.testing.assert_array_equal(z.real, x)
        assert z.imag.max() == 1e-30


def test_complex_step_measures_tiny_and_huge_derivatives():
    with np.errstate(all="raise", under="ignore"):
        for scale in (1e-270, 1e-100, 1.0, 1e100, 1e300):
            np.testing.assert_allclose(
                complex_step(lambda z, c=scale: c * z, 2.0), scale, 1e-14
            )


def test_complex_step_leaves_x_alone_whatever_the_function_does():
    x = np.asfortranarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    kept = x.copy()

    def vandal(z):
        result = (z**2).sum()
        z[:] = 7
        return result

    np.testing.assert_allclose(complex_step(vandal, x), 2 * kept, rtol=1e-15)
    np.testing.assert_array_equal(x, kept)


def test_complex_step_does_not_depend_on_memory_order():
    x = np.random.default_rng(0).normal(size=(3, 4))
    weights = np.arange(12.0).reshape(3, 4)
    for same in (
        np.asfortranarray(x),
        np.repeat(x, 2, axis=1)[:, ::2],
        x[::-1][::-1],
        x.tolist(),
    ):
        derivative = complex_step(lambda z: (weights * z**2).sum(), same)
        np.testing.assert_allclose(derivative, 2 * weights * x, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_complex_step_computes_in_float64_whatever_the_type(dtype):
    derivative = complex_step(lambda z: (z**3).sum() / 7, np.array([1, 2], dtype))
    assert derivative.dtype == np.float64
    np.testing.assert_allclose(derivative, [3 / 7, 12 / 7], rtol=1e-15)


def test_complex_step_of_a_number_and_of_nothing():
    assert complex_step(np.exp, 0.0).shape == ()
    assert complex_step(np.exp, 0.0) == 1
    assert complex_step(np.sum, np.zeros((2, 0))).shape == (2, 0)


def test_complex_step_takes_python_numbers_and_arrays_without_axes():
    for result in (complex, lambda z: np.array(complex(z)), lambda z: z[()]):
        assert complex_step(result, 3.0) == 1


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0, np.nan], "x holds nan: expected finite"),
        ([1.0, np.inf], "x holds inf: expected finite"),
        ([1j], "x is complex: expected real"),
        (["a"], "x holds"),
        ([[1.0], [1.0, 2.0]], "x has rows of different lengths"),
    ],
)
def test_complex_step_refuses_x(x, message):
    with pytest.raises(ValueError, match=message):
        complex_step(np.sum, x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda z: z.real.sum(),
            "function returned float64: expected a complex number; let the",
        ),
        (lambda z: abs(z).sum(), "function returned float64: expected a complex"),
        (lambda z: 3, "function returned int64: expected a complex"),
        (lambda z: None, "function returned object: expected a complex"),
        (lambda z: z, r"function returned shape \(2,\): expected one number"),
        (lambda z: z[:1], r"function returned shape \(1,\): expected one number"),
        (
            lambda z: z.sum() * np.nan,
            r"function returned .*nan.*: expected a finite number",
        ),
        (
            lambda z: z.sum() + complex(0, np.inf),
            "function returned .*inf.*: expected a finite",
        ),
    ],
)
def test_complex_step_refuses_what_the_function_returns(function, message):
    with pytest.raises(ValueError, match=message):
        complex_step(function, [1.0, 2.0])


def test_complex_step_agrees_with_central_differences_of_the_loss():
    params, words, targets = hand_example()
    for name in params._fields:
        matrix = getattr(params, name)

        def function(m, name=name):
            return loss(params._replace(**{name: m}), words, targets)

        true = complex_step(function, matrix)
        for j in np.ndindex(matrix.shape):
            step = np.zeros(matrix.shape)
            step[j] = 1e-5
            central = (function(matrix + step) - function(matrix - step)) / 2e-5
            assert abs(central - true[j]) < 1e-9


def test_complex_step_of_fortran_ordered_parameters():
    params = init_parameters(5, 3, np.random.default_rng(0))
    words = np.array([1, 2, 3])
    true = complex_step(lambda U: loss(params._replace(U=U), words, words), params.U)
    again = complex_step(
        lambda U: loss(params._replace(U=U), words, words), params.U.copy("C")
    )
    np.testing.assert_allclose(true, again, rtol=0, atol=1e-16)
    assert not true[:, [0, 4]].any()  # words that do not occur
    assert true[:, 1:4].all()


@pytest.mark.parametrize(
    ("given_", "true", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([1.0, 1.5], [1.0, 2.0], 0.25),
        ([-1.0, 2.0], [1.0, 2.0], 1),
        ([3.0, -4.0], [1.0, -4.0], 0.5),
        ([1.0, 2.0], [-2.0, -4.0], 1.5),
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([0.0, -0.0], [-0.0, 0.0], 0),
        ([0.0, 1e-300], [0.0, 0.0], np.inf),
        ([0.0, -1.0], [0.0, 0.0], np.inf),
        ([0.0, 0.0], [0.0, 1e-300], 1),
        (3.0, 4.0, 0.25),
        ([[1, 2], [3, 8]], [[1, 2], [3, 4]], 1),
        (np.array([0], np.uint8), np.array([1], np.uint8), 1),
        ([], [], 0),
    ],
)
def test_gradient_error_values(given_, true, error):
    result = gradient_error(given_, true)
    assert type(result) is float
    assert repr(result) == repr(float(error))  # tells 0.0 from -0.0, too


@given(
    arrays(np.float64, 5, elements=FINITE),
    arrays(np.float64, 5, elements=FINITE),
    st.sampled_from([0.25, 0.5, 2.0, 1024.0, -4.0]),
)
def test_gradient_error_does_not_depend_on_units_or_order(a, b, factor):
    error = gradient_error(a, b)
    assert error >= 0
    assert gradient_error(factor * a, factor * b) == error
    assert gradient_error(a[::-1], b[::-1]) == error
    assert gradient_error(b, b) == 0
    if b.any():
        assert abs(gradient_error(1.5 * b, b) - 0.5) < 1e-15


def test_gradient_error_in_extremes_says_nothing_else():
    with np.errstate(all="raise", under="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradient_error([1.7e308], [-1.7e308]) == np.inf
        assert gradient_error([1.0], [5e-324]) == np.inf
        assert gradient_error([1e-310], [1.0]) == 1
        assert gradient_error(np.float32([3e38]), np.float32([-3e38])) == 2


def test_gradient_error_of_float32_is_measured_in_float64():
    x = np.float32([0.1, 0.2])
    assert 1e-9 < gradient_error(x, [0.1, 0.2]) < 1e-7


def test_gradient_error_leaves_its_arguments_alone():
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    gradient_error(a, b)
    assert [a.tolist(), b.tolist()] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("given_", "true", "message"),
    [
        (
            [1.0],
            [1.0, 2.0],
            r"given has shape \(1,\): expected \(2,\), the shape of true",
        ),
        ([[1.0, 2.0]], [1.0, 2.0], r"given has shape \(1, 2\): expected \(2,\)"),
        (
            np.zeros((2, 3)),
            np.zeros((3, 2)),
            r"given has shape \(2, 3\): expected \(3, 2\)",
        ),
        ([np.nan], [1.0], "given holds nan"),
        ([1.0], [np.nan], "true holds nan"),
        ([-np.inf], [1.0], "given holds -inf"),
        ([1.0], [np.inf], "true holds inf"),
        ([1j], [1.0], "given is complex: expected real"),
        ([1.0], [1 + 0j], "true is complex: expected real"),
        ([None], [1.0], "given holds"),
    ],
)
def test_gradient_error_refuses(given_, true, message):
    with pytest.raises(ValueError, match=message):
        gradient_error(given_, true)
