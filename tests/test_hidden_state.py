"""The hidden state: what chapter 2 does not show."""

import math
from functools import cache
from pathlib import Path

import mpmath
import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn.hidden_state import (
    Activation,
    Parameters,
    check_array,
    check_parameters,
    hand_example,
    hidden_states,
    init_parameters,
    relu,
    sigmoid,
    tanh,
    with_slope,
)

CHAPTER = Path(__file__).parent.parent / "book" / "02_hidden_state.ipynb"
ACTIVATIONS = (sigmoid, tanh, relu)
SCALAR = {
    sigmoid: lambda z: 1 / (1 + math.exp(-z)),
    tanh: math.tanh,
    relu: lambda z: max(0.0, z),
}
seeds = st.integers(0, 2**32 - 1)
floats = st.floats(-600, 600)


@cache
def from_chapter(name):
    """A function that the chapter defines and does not export."""
    cells = nbformat.read(CHAPTER, as_version=4).cells
    (source,) = [cell.source for cell in cells if f"def {name}(" in cell.source]
    namespace = {"np": np}
    exec(source, namespace)
    return namespace[name]


def random_case(seed, batch=(), dtype=np.float64, T=4, H=3, N=5):
    rng = np.random.default_rng(seed)
    params = Parameters(
        *(rng.normal(size=shape).astype(dtype) for shape in ((H, N), (H, H), (N, H)))
    )
    s_init = rng.normal(size=(*batch, H)).astype(dtype)
    return params, rng.integers(N, size=(T, *batch)), s_init


# Arguments


def test_check_array_returns_the_array_itself():
    for dtype in (np.float16, np.float32, np.float64, np.complex64, np.complex128):
        array = np.ones((2, 3), dtype)
        assert check_array("x", array, (2, 3)) is array
        assert check_array("x", array, (None, 3)) is array
        assert check_array("x", array, (3,)) is array
        assert check_array("x", array, (None,)) is array
        assert check_array("x", array, ()) is array


def test_check_array_makes_integers_float64():
    for array in ([1, 2], np.array([1, 2], np.uint8), np.array([1, 2], np.int32)):
        checked = check_array("x", array, (2,))
        assert checked.dtype == np.float64
        assert checked.tolist() == [1.0, 2.0]
    assert check_array("x", 3, ()).shape == ()


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (np.ones(3), (2,), r"x has shape \(3,\): expected \(..., 2\)"),
        (np.ones((3, 2)), (3,), r"x has shape \(3, 2\): expected \(..., 3\)"),
        (np.ones(2), (1, 2), r"x has shape \(2,\): expected \(..., 1, 2\)"),
        (np.ones(2), (2, None), r"x has shape \(2,\): expected \(..., 2, any\)"),
        (np.ones((2, 2)), (3, None), r"x has shape \(2, 2\): expected \(..., 3, any\)"),
        (1.0, (None,), r"x has shape \(\): expected \(..., any\)"),
        ([1.0, np.nan], (2,), "x holds nan: expected finite numbers"),
        ([[1.0], [-np.inf]], (1,), "x holds -inf: expected finite numbers"),
        ([complex(0, np.inf)], (1,), "x holds infj: expected finite numbers"),
        ([True, False], (2,), "x holds bool: expected an array of numbers"),
        (["a", "b"], (2,), "x holds <U1: expected an array of numbers"),
        ([None, 1.0], (2,), "x holds object: expected an array of numbers"),
        (
            [[1.0], [1.0, 2.0]],
            (2,),
            "x has rows of different lengths: expected an array",
        ),
    ],
)
def test_check_array_says_what_is_wrong(array, shape, message):
    with pytest.raises(ValueError, match=message):
        check_array("x", array, shape)


def test_check_parameters_accepts_a_tuple_and_copies_nothing():
    params, _, _ = hand_example()
    checked = check_parameters(tuple(params))
    assert isinstance(checked, Parameters)
    assert all(a is b for a, b in zip(checked, params, strict=True))
    assert check_parameters(([[1, 2]], [[3]], [[4], [5]])).U.dtype == np.float64


@pytest.mark.parametrize(
    "params", [None, 3, (np.ones((2, 3)), np.ones((2, 2))), (1, 2, 3, 4)]
)
def test_check_parameters_wants_three_arrays(params):
    with pytest.raises(
        ValueError, match=r"params is a \w+: expected three arrays \(U, W, V\)"
    ):
        check_parameters(params)


@pytest.mark.parametrize(
    ("name", "matrix", "message"),
    [
        (
            "U",
            np.ones(3),
            r"params.U has shape \(3,\): expected \(hidden_size, vocab_size\)",
        ),
        (
            "U",
            np.ones((2, 3, 1)),
            r"params.U has shape \(2, 3, 1\): expected \(hidden_size",
        ),
        ("U", np.ones((0, 3)), r"params.U has shape \(0, 3\): expected \(hidden_size"),
        ("U", np.ones((2, 0)), r"params.U has shape \(2, 0\): expected \(hidden_size"),
        ("U", np.ones((3, 2)), r"params.W has shape \(2, 2\): expected \(3, 3\)"),
        (
            "W",
            np.ones((2, 3)),
            r"params.W .* expected \(2, 2\), to fit params.U of shape \(2, 3\)",
        ),
        ("W", np.ones((1, 2, 2)), r"params.W has shape \(1, 2, 2\): expected \(2, 2\)"),
        ("V", np.ones((2, 3)), r"params.V has shape \(2, 3\): expected \(3, 2\)"),
        ("U", np.full((2, 3), "a"), "params.U holds <U1: expected an array of numbers"),
        (
            "W",
            np.ones((2, 2), bool),
            "params.W holds bool: expected an array of numbers",
        ),
        ("V", [[1], [1, 2], [3]], "params.V has rows of different lengths"),
    ],
)
def test_check_parameters_names_the_matrix(name, matrix, message):
    params, words, _ = hand_example()
    wrong = params._replace(**{name: matrix})
    with pytest.raises(ValueError, match=message):
        check_parameters(wrong)
    with pytest.raises(ValueError, match=message):
        hidden_states(wrong, words)


# Activations


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.complex64, np.complex128]
)
def test_activations_keep_dtype_and_shape(activation, dtype):
    for shape in ((), (3,), (2, 0), (2, 3, 4)):
        z = np.linspace(-2, 2, math.prod(shape)).reshape(shape).astype(dtype)
        s = activation(z)
        assert (s.dtype, s.shape) == (dtype, shape)
        slope = activation.slope(s)
        assert (slope.dtype, slope.shape) == (dtype, shape)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_take_numbers_lists_and_integers(activation):
    expected = [SCALAR[activation](z) for z in (-2.0, 0.0, 3.0)]
    for z in ([-2, 0, 3], (-2.0, 0.0, 3.0), np.array([-2, 0, 3], np.int8)):
        assert activation(z).dtype == np.float64
        np.testing.assert_allclose(activation(z), expected, rtol=1e-15)
    assert isinstance(activation(1), np.float64)
    assert isinstance(activation(-1.0), np.float64)
    np.testing.assert_allclose(
        activation(np.array([200], np.uint8)), SCALAR[activation](200.0), rtol=1e-15
    )
    assert activation.slope([0]).dtype == np.float64


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_refuse_what_is_not_a_number(activation):
    with pytest.raises(ValueError, match="z holds <U1: expected an array of numbers"):
        activation("a")
    with pytest.raises(ValueError, match="s has rows of different lengths"):
        activation.slope([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_let_nan_through(activation):
    assert np.isnan(activation([1.0, np.nan])).tolist() == [False, True]


def test_activations_leave_their_argument_alone():
    for activation in ACTIVATIONS:
        z = np.array([-1.0, 2.0])
        s = activation(z)
        assert not np.shares_memory(s, z)
        assert z.tolist() == [-1.0, 2.0]
        kept = s.copy()
        activation.slope(s)
        assert (s == kept).all()


@given(floats)
def test_sigmoid_keeps_its_digits(z):
    with mpmath.workdps(50):
        exact = 1 / (1 + mpmath.exp(-mpmath.mpf(z)))
        assert abs(mpmath.mpf(float(sigmoid(z))) / exact - 1) < 2e-15


@given(st.floats(-86, 86, width=32))
def test_sigmoid_keeps_its_digits_in_float32(z):
    with mpmath.workdps(50):
        exact = 1 / (1 + mpmath.exp(-mpmath.mpf(z)))
        assert abs(mpmath.mpf(float(sigmoid(np.float32(z)))) / exact - 1) < 1e-6


@given(floats)
def test_sigmoid_is_symmetric_and_related_to_tanh(z):
    assert abs(sigmoid(z) + sigmoid(-z) - 1) < 1e-15
    assert abs(tanh(z) - (2 * sigmoid(2 * z) - 1)) < 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_activations_at_the_extremes(dtype):
    largest = (
        [1e4]
        if np.dtype(dtype).itemsize == 4 or dtype == np.complex64
        else [1e4, 1e308]
    )
    with np.errstate(all="raise", under="ignore"):
        for x in largest:
            z = np.array([x, -x], dtype)
            assert sigmoid(z).tolist() == [1, 0]
            assert tanh(z).tolist() == [1, -1]
            assert relu(z).tolist() == [z[0], 0]
            for activation in ACTIVATIONS:
                slope = activation.slope(activation(z))
                assert slope.tolist() == [1.0 if activation is relu else 0.0, 0.0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_complex_step_at_the_extremes(activation):
    with np.errstate(all="raise", under="ignore"):
        s = activation(np.array([-1e4 + 1e-30j, 1e4 + 1e-30j, -700 + 1e-30j]))
    assert np.isfinite(s).all()
    if activation is not relu:
        assert s[1].real == 1
        assert abs(s.imag / 1e-30).max() < 1e-300
    if activation is sigmoid:
        assert s[2].imag / s[2].real == pytest.approx(1e-30, rel=1e-13)


def test_sigmoid_of_the_infinities():
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid([-np.inf, np.inf]).tolist() == [0, 1]
        assert tanh([-np.inf, np.inf]).tolist() == [-1, 1]
        assert relu([-np.inf, np.inf]).tolist() == [0, np.inf]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(z=st.floats(-30, 30).filter(lambda z: abs(z) > 1e-9))
def test_slopes_against_the_complex_step(activation, z):
    derivative = activation(z + 1e-30j).imag / 1e-30
    assert abs(activation.slope(activation(z)) - derivative) < 1e-15


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_slopes_differentiate_too(activation):
    """The slope as a function of z has the derivative of a difference quotient."""
    z, h = np.array([-1.3, -0.4, 0.7, 2.0]), 1e-5
    slope = [activation.slope(activation(x)) for x in (z - h, z + 1e-30j, z + h)]
    quotient = (slope[2] - slope[0]) / (2 * h)
    np.testing.assert_allclose(slope[1].imag / 1e-30, quotient, atol=1e-8)


def test_relu_at_zero():
    assert relu([0.0, -0.0, 5e-324]).tolist() == [0, 0, 5e-324]
    assert relu.slope([0.0, -0.0, 5e-324]).tolist() == [0, 0, 1]
    assert relu.slope(np.array([0j, 1 + 1j])).tolist() == [0, 1]
    assert relu(np.array([1e-30j, 1 + 1e-30j, -1 + 1e-30j])).tolist() == [
        0,
        1 + 1e-30j,
        0,
    ]


def test_largest_slopes():
    z = np.linspace(-5, 5, 1001)
    assert sigmoid.slope(sigmoid(z)).max() == sigmoid.slope(sigmoid(0.0)) == 0.25
    assert tanh.slope(tanh(z)).max() == tanh.slope(tanh(0.0)) == 1


def test_activation_of_ones_own():
    @with_slope(lambda s: (1 - abs(s)) ** 2)
    def softsign(z):
        """Softsign."""
        return z / (1 + abs(z))

    assert isinstance(softsign, Activation)
    assert (repr(softsign), softsign.__name__, softsign.__doc__) == (
        "softsign",
    ) * 2 + ("Softsign.",)
    assert softsign([1, -1]).tolist() == [0.5, -0.5]
    assert softsign.slope([0.5, -0.5]).tolist() == [0.25, 0.25]
    params, words, _ = hand_example()
    assert hidden_states(params, words, activation=softsign)[0].tolist() == [0.5, 0.0]


def test_activations_name_their_equations():
    assert [repr(activation) for activation in ACTIVATIONS] == [
        "sigmoid",
        "tanh",
        "relu",
    ]
    for activation in ACTIVATIONS:
        assert f":eq:`eq-{activation!r}`" in activation.__doc__
        assert f":eq:`eq-slope-{activation!r}`" in activation.__doc__


# Parameters


def test_init_parameters_shapes_order_and_spread():
    params = init_parameters(300, 40, np.random.default_rng(0))
    assert [matrix.shape for matrix in params] == [(40, 300), (40, 40), (300, 40)]
    assert params.U.flags.f_contiguous
    for matrix in params:
        assert matrix.dtype == np.float64
        assert abs(matrix.mean()) < 0.01
        assert abs(matrix.std() - 0.1) < 0.005
    assert init_parameters(1, 1, np.random.default_rng(0)).W.shape == (1, 1)
    assert init_parameters(
        np.int64(2), np.int32(3), np.random.default_rng(0)
    ).U.shape == (3, 2)


def test_init_parameters_draws_the_same_numbers_in_every_dtype():
    double = init_parameters(7, 3, np.random.default_rng(5))
    single = init_parameters(7, 3, np.random.default_rng(5), np.float32)
    rng = np.random.default_rng(5)
    drawn = [rng.normal(0, 0.1, shape) for shape in ((7, 3), (3, 3), (7, 3))]
    for a, b, c in zip(double, single, (drawn[0].T, *drawn[1:]), strict=True):
        assert (a == c).all()
        assert b.dtype == np.float32
        assert (a.astype(np.float32) == b).all()
    assert single.U.flags.f_contiguous


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None, (2,), np.float64(2)])
def test_init_parameters_refuses_sizes(size):
    rng = np.random.default_rng(0)
    with pytest.raises(
        ValueError, match=r"vocab_size is .*: expected an integer, 1 or more"
    ):
        init_parameters(size, 2, rng)
    with pytest.raises(
        ValueError, match=r"hidden_size is .*: expected an integer, 1 or more"
    ):
        init_parameters(2, size, rng)


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0), np.random])
def test_init_parameters_wants_a_generator(rng):
    with pytest.raises(
        TypeError, match=r"rng is a \w+: expected np.random.default_rng\(seed\)"
    ):
        init_parameters(2, 2, rng)


def test_init_parameters_wants_a_float_type():
    for dtype in (int, complex, bool):
        with pytest.raises(ValueError, match=r"dtype is \w+: expected a float type"):
            init_parameters(2, 2, np.random.default_rng(0), dtype)


# States


def test_hand_example_by_hand():
    params, words, targets = hand_example()
    assert params.U.tolist() == [[1, -1, 0], [0, 1, -1]]
    assert params.W.tolist() == [[0.5, -1], [1, 0.5]]
    assert params.V.tolist() == [[1, 0], [0, 1], [-1, 1]]
    assert params.U.flags.f_contiguous
    assert (words.tolist(), targets.tolist()) == ([0, 1, 2], [1, 2, 0])
    by_hand = [[0.7311, 0.5], [0.2433, 0.8788], [0.3193, 0.4213]]
    np.testing.assert_allclose(hidden_states(params, words), by_hand, atol=5e-5)


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([(), (1,), (3,), (2, 3)]), st.sampled_from(ACTIVATIONS))
def test_states_against_loops(seed, batch, activation):
    states_by_element = from_chapter("states_by_element")
    T, H, N = np.random.default_rng(seed).integers(1, 6, size=3)
    params, words, s_init = random_case(seed, batch, T=T, H=H, N=N)
    states = hidden_states(params, words, s_init, activation)
    assert states.shape == (T, *batch, H)
    for b in np.ndindex(*batch):
        expected = states_by_element(
            params, words[:, *b], s_init[b], SCALAR[activation]
        )
        bound = 1e-12 * np.abs(expected).max(initial=1)
        assert np.abs(states[:, *b] - expected).max() <= bound


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_no_s_init_is_zero(batch):
    params, words, s_init = random_case(1, batch)
    expected = hidden_states(params, words, np.zeros_like(s_init))
    assert (hidden_states(params, words) == expected).all()
    assert (hidden_states(params, words, None) == expected).all()


def test_words_and_params_may_be_lists():
    params, words, _ = hand_example()
    expected = hidden_states(params, words)
    assert (hidden_states(params, words.tolist()) == expected).all()
    assert (hidden_states(params, words.astype(np.uint8)) == expected).all()
    assert (
        hidden_states(tuple(matrix.tolist() for matrix in params), words) == expected
    ).all()
    integers = Parameters(
        params.U.astype(int), (2 * params.W).astype(int), params.V.astype(int)
    )
    states = hidden_states(integers, words, [0, 0])
    assert states.dtype == np.float64
    assert (states == hidden_states(params._replace(W=2 * params.W), words)).all()


def test_one_s_init_for_all_or_one_for_each():
    params, words, s_init = random_case(2, (2, 3))
    each = hidden_states(params, words, s_init)
    assert not np.allclose(
        each[:, 0, 0], hidden_states(params, words, s_init[0, 1])[:, 0, 0]
    )
    for one in (s_init[0, 1], s_init[:1, :1], s_init[0]):
        everywhere = np.broadcast_to(one, s_init.shape)
        np.testing.assert_allclose(
            hidden_states(params, words, one),
            hidden_states(params, words, everywhere),
            rtol=1e-14,
        )


@pytest.mark.parametrize(
    ("batch", "shape", "message"),
    [
        ((), (2,), r"s_init has shape \(2,\): expected \(..., 3\)"),
        ((), (), r"s_init has shape \(\): expected \(..., 3\)"),
        (
            (),
            (1, 3),
            r"s_init has shape \(1, 3\): expected \(3,\), to fit words of shape \(4,\)",
        ),
        (
            (5,),
            (4, 3),
            r"s_init has shape \(4, 3\): expected \(5, 3\), to fit words of shape",
        ),
        ((5,), (4, 5, 3), r"s_init has shape \(4, 5, 3\): expected \(5, 3\)"),
        (
            (2, 5),
            (5, 2, 3),
            r"s_init .* expected \(2, 5, 3\), to fit words of shape \(4, 2, 5\)",
        ),
    ],
)
def test_s_init_must_fit(batch, shape, message):
    params, words, _ = random_case(0, batch)
    with pytest.raises(ValueError, match=message):
        hidden_states(params, words, np.zeros(shape))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_states_follow_the_dtypes(activation):
    params, words, s_init = random_case(3)
    expected = hidden_states(params, words, s_init, activation)
    for dtype in (np.float32, np.float64, np.complex64, np.complex128):
        cast = Parameters(*(matrix.astype(dtype) for matrix in params))
        states = hidden_states(cast, words, s_init.astype(dtype), activation)
        assert states.dtype == dtype
        np.testing.assert_allclose(states, expected, rtol=1e-5)
        assert hidden_states(cast, words, activation=activation).dtype == dtype
    for name in "UW":
        mixed = params._replace(**{name: getattr(params, name) + 0j})
        states = hidden_states(mixed, words, s_init, activation)
        assert states.dtype == np.complex128
        np.testing.assert_allclose(states, expected, rtol=1e-14)
        assert hidden_states(mixed, words, activation=activation).dtype == np.complex128
    assert hidden_states(params, words, s_init + 0j, activation).dtype == np.complex128
    assert hidden_states(params._replace(V=params.V + 0j), words).dtype == np.float64


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_complex_step_through_the_states(activation):
    params, words, s_init = random_case(4)
    h = 1e-6
    for name in ("U", "W"):
        matrix = getattr(params, name)
        change = np.random.default_rng(0).normal(size=matrix.shape)
        up, down, along = (
            hidden_states(
                params._replace(**{name: matrix + x * change}),
                words,
                s_init,
                activation,
            )
            for x in (h, -h, 1e-30j)
        )
        np.testing.assert_allclose(along.imag / 1e-30, (up - down) / (2 * h), atol=1e-8)


@given(seeds, st.integers(1, 3))
def test_reading_in_two_parts(seed, cut):
    params, words, s_init = random_case(seed, (2,))
    whole = hidden_states(params, words, s_init)
    first = hidden_states(params, words[:cut], s_init)
    second = hidden_states(params, words[cut:], first[-1])
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-14)


@given(seeds)
def test_permuting_hidden_units_permutes_the_states(seed):
    params, words, s_init = random_case(seed)
    order = np.random.default_rng(seed).permutation(3)
    permuted = Parameters(
        params.U[order], params.W[np.ix_(order, order)], params.V[:, order]
    )
    np.testing.assert_allclose(
        hidden_states(permuted, words, s_init[order]),
        hidden_states(params, words, s_init)[:, order],
        rtol=1e-12,
    )


@given(seeds, st.sampled_from([(sigmoid, 0.25), (tanh, 1.0), (relu, 1.0)]))
def test_a_trace_fades_as_the_bound_says(seed, case):
    activation, slope = case
    params, words, s_init = random_case(seed)
    a = hidden_states(params, words, s_init, activation)
    b = hidden_states(params, words, -s_init, activation)
    distance = np.linalg.norm([2 * s_init, *(a - b)], axis=-1)
    bound = slope * np.linalg.norm(params.W, 2) * distance[:-1]
    assert (distance[1:] <= bound + 1e-12 * (1 + distance.max())).all()


def test_arguments_are_left_alone():
    params, words, s_init = random_case(5, (2,))
    for array in (*params, words, s_init):
        array.flags.writeable = False
    first = hidden_states(params, words, s_init)
    assert first.flags.writeable
    assert (hidden_states(params, words, s_init) == first).all()


def test_only_the_columns_in_use_are_looked_at():
    params, words, _ = hand_example()
    U, V = params.U.copy(), np.full_like(params.V, np.nan)
    U[:, 2] = np.nan
    broken = Parameters(U, params.W, V)
    assert (hidden_states(broken, [0, 1]) == hidden_states(params, [0, 1])).all()
    with pytest.raises(
        ValueError, match=r"params.U\[:, words\] holds nan: expected finite"
    ):
        hidden_states(broken, words)


def test_numbers_that_are_not_finite():
    params, words, _ = hand_example()
    W = params.W.copy()
    W[0, 1] = -np.inf
    with pytest.raises(
        ValueError, match=r"params.W holds -inf: expected finite numbers"
    ):
        hidden_states(params._replace(W=W), words)
    with pytest.raises(ValueError, match="s_init holds nan: expected finite numbers"):
        hidden_states(params, words, [0.0, np.nan])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "words is empty"),
        ([0, 3], "words holds the index 3"),
        ([0, -1], "words holds the index -1"),
        ([0.0, 1.0], "words"),
        (1, "words"),
    ],
)
def test_words_that_are_not_indices(words, message):
    params, _, _ = hand_example()
    with pytest.raises(ValueError, match=message):
        hidden_states(params, words)


def overflowing(scale):
    """Parameters with ReLU states of about scale^t after step t, in the first unit."""
    W = np.array([[scale, 0.0], [0.0, 0.0]])
    return Parameters(np.ones((2, 1)), W, np.ones((1, 2)))


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_overflow_says_at_which_step(batch):
    words = np.zeros((6, *batch), int)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(
            hidden_states(overflowing(1e100), words[:4], activation=relu)
        ).all()
        for step, scale in ((2, 1e155), (4, 1e100), (5, 1e70)):
            message = (
                f"overflow at step {step}, .*params.W: scale params.W down, or take"
            )
            with pytest.raises(ValueError, match=message):
                hidden_states(overflowing(scale), words, activation=relu)
        s_init = np.zeros((*batch, 2))
        s_init[(*(0,) * len(batch), 0)] = 1e300
        with pytest.raises(ValueError, match="overflow at step 0"):
            hidden_states(overflowing(1e10), words, s_init, activation=relu)
        assert np.isfinite(hidden_states(overflowing(1e308), words)).all()


def test_an_error_names_the_first_number_that_is_not_finite():
    with pytest.raises(ValueError, match="x holds inf"):
        check_array("x", [1.0, np.inf, np.nan], (3,))


def test_relu_has_no_slope_where_only_the_imaginary_part_is_positive():
    assert relu.slope(np.array([1e-30j]))[0] == 0
