"""rnn.softmax: exact values, properties, hostile input; chapter 3's own claims."""

import mpmath
import nbformat
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rnn.hidden_state import hand_example, hidden_states, init_parameters, sigmoid, tanh
from rnn.softmax import (
    check_logits,
    check_temperature,
    draw_index,
    generate,
    log_softmax,
    logits,
    outputs,
    softmax,
    tempered_softmax,
)

TINY = np.finfo(np.float64).tiny
QUIET = {"all": "raise", "under": "ignore"}
Y_BY_HAND = [
    [0.4596, 0.3648, 0.1756],
    [0.2289, 0.4322, 0.3389],
    [0.3434, 0.3803, 0.2763],
]

finite = st.floats(-1e4, 1e4)
rows = hnp.arrays(np.float64, st.integers(1, 12), elements=finite)
batches = hnp.arrays(
    np.float64, hnp.array_shapes(max_dims=3, max_side=5), elements=finite
)


def exact_log_softmax(z):
    """One row, the plain formula in 400 digits."""
    with mpmath.workdps(400):
        z = [mpmath.mpf(float(x)) for x in z]
        log_total = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in z))
        return [x - log_total for x in z]


def worst(given_values, exact):
    """Largest relative error of values that normal floats hold; others are nearly 0."""
    errors = [0.0]
    with mpmath.workdps(400):
        for a, b in zip(given_values, exact, strict=True):
            if abs(b) >= TINY:
                errors.append(float(abs(mpmath.mpf(float(a)) / b - 1)))
            else:
                assert abs(a) <= 2 * TINY
    return max(errors)


class Throw:
    """A generator whose every throw is the same number."""

    def __init__(self, u):
        self.u = u

    def random(self):
        return self.u


# softmax and log_softmax: values


@settings(max_examples=60)
@given(rows)
@example(np.array([700.0, 0.0]))
@example(np.array([40.0, 0.0, 0.0]))
@example(np.array([36.7, 0.0]))
@example(np.array([745.5, 0.0]))
@example(np.array([1e4, -1e4]))
@example(np.array([3.0]))
@example(np.zeros(5))
@example(np.array([5e-324, 0.0, -5e-324]))
@example(np.array([7.0, 7.0, -1e4]))
def test_both_forms_keep_their_digits(z):
    exact = exact_log_softmax(z)
    with np.errstate(**QUIET):
        assert worst(log_softmax(z), exact) <= 1e-13
        with mpmath.workdps(400):
            assert worst(softmax(z), [mpmath.exp(x) for x in exact]) <= 1e-13


@pytest.mark.parametrize("scale", [0.1, 1, 10, 100, 1000, 10_000])
def test_random_logits_keep_their_digits(scale):
    rng = np.random.default_rng(int(scale * 10))
    z = rng.normal(size=(5, 30)) * scale
    given_values = log_softmax(z)
    for row, values in zip(z, given_values, strict=True):
        assert worst(values, exact_log_softmax(row)) <= 1e-13


@pytest.mark.parametrize("lead", np.linspace(0.001, 707, 25))
def test_a_leader_keeps_its_digits(lead):
    z = np.append(np.random.default_rng(0).uniform(-1, 0, size=9), lead)
    assert worst(log_softmax(z), exact_log_softmax(z)) <= 1e-13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=40)
@given(z=batches)
def test_rows_are_distributions(dtype, z):
    z = z.astype(dtype)
    few = 100 * np.finfo(dtype).eps
    with np.errstate(**QUIET):
        y, log_y = softmax(z), log_softmax(z)
    assert y.shape == log_y.shape == z.shape
    assert y.dtype == log_y.dtype == dtype
    assert (y >= 0).all()
    assert (log_y <= 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=few)
    np.testing.assert_allclose(
        np.exp(log_y), y, rtol=1e4 * few, atol=np.finfo(dtype).tiny
    )
    largest = np.take_along_axis(y, z.argmax(axis=-1, keepdims=True), axis=-1)[..., 0]
    np.testing.assert_array_equal(largest, y.max(axis=-1))


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-4), (np.float64, 1e-13)])
def test_ten_thousand_either_way_raises_no_alarm(dtype, bound):
    rng = np.random.default_rng(2)
    z = np.vstack(
        [rng.uniform(-1e4, 1e4, (50, 40)), 1e4 * np.eye(40), -1e4 * np.eye(40)]
    )
    z = np.vstack([z, np.full((1, 40), 1e4), np.full((1, 40), -1e4)]).astype(dtype)
    with np.errstate(**QUIET):
        y, log_y = softmax(z), log_softmax(z)
    assert np.isfinite(log_y).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=bound)
    np.testing.assert_array_equal(y[50:90], np.eye(40))
    np.testing.assert_allclose(y[90:130], (1 - np.eye(40)) / 39, rtol=bound)
    np.testing.assert_allclose(y[130:], 1 / 40, rtol=bound)
    np.testing.assert_allclose(log_y[130:], -np.log(40), rtol=bound)


@settings(max_examples=40)
@given(
    hnp.arrays(np.int64, st.integers(1, 9), elements=st.integers(-800, 800)),
    st.integers(-8_000, 8_000),
)
def test_shift_changes_no_bit(eighths, c):
    np.testing.assert_array_equal(softmax((eighths + c) / 8), softmax(eighths / 8))
    np.testing.assert_array_equal(
        log_softmax((eighths + c) / 8), log_softmax(eighths / 8)
    )


@settings(max_examples=30)
@given(rows, st.randoms(use_true_random=False))
def test_permuted_words_have_permuted_outputs(z, random):
    order = random.sample(range(len(z)), len(z))
    np.testing.assert_allclose(softmax(z[order]), softmax(z)[order], rtol=1e-14)
    np.testing.assert_allclose(log_softmax(z[order]), log_softmax(z)[order], rtol=1e-14)


@pytest.mark.parametrize(
    "form", [softmax, log_softmax, lambda z: tempered_softmax(z, 0.7)]
)
def test_batches_are_their_rows(form):
    z = np.random.default_rng(4).normal(size=(3, 2, 4, 6))
    whole = form(z)
    for index in np.ndindex(3, 2, 4):
        np.testing.assert_allclose(whole[index], form(z[index]), rtol=1e-14)
    np.testing.assert_allclose(form(np.asfortranarray(z)), whole, rtol=1e-14)
    assert form(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    "form", [softmax, log_softmax, lambda z: tempered_softmax(z, 0.7)]
)
def test_the_argument_is_left_alone(form):
    z = np.random.default_rng(5).normal(size=(2, 5))
    before = z.copy()
    assert not np.shares_memory(form(z), z)
    np.testing.assert_array_equal(z, before)


def test_one_word_is_certain():
    for z in ([0.0], [-1e4], [1e308]):
        np.testing.assert_array_equal(softmax(z), [1])
        np.testing.assert_array_equal(log_softmax(z), [0])


def test_leaders_share():
    np.testing.assert_array_equal(softmax([900.0, 900.0, -900.0]), [0.5, 0.5, 0])
    np.testing.assert_allclose(
        log_softmax([5.0, 5.0, 5.0, -900.0])[:3], -np.log(3), rtol=1e-15
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_integers_are_read_as_float64(dtype):
    z = np.array([0, 127, 3], dtype)
    assert (
        softmax(z).dtype
        == log_softmax(z).dtype
        == tempered_softmax(z, 2).dtype
        == np.float64
    )
    np.testing.assert_array_equal(softmax(z), softmax(z.astype(float)))
    np.testing.assert_array_equal(log_softmax(z), log_softmax(z.astype(float)))
    y = softmax(np.array([-128, 127], np.int8))  # their difference is no int8
    np.testing.assert_allclose(y, [np.exp(-255), 1], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_whole_float_range_raises_no_alarm(dtype):
    big = np.finfo(dtype).max
    z = np.array([big, -big, 0], dtype)
    with np.errstate(**QUIET):
        np.testing.assert_array_equal(softmax(z), [1, 0, 0])
        np.testing.assert_array_equal(log_softmax(z), [0, -np.inf, -big])
        np.testing.assert_array_equal(softmax(z + 0j), [1, 0, 0])
        np.testing.assert_array_equal(log_softmax(z + 0j).real, [0, -np.inf, -big])
        for temperature in (0, 1e-320, 1e-3, 1, 1e3):
            np.testing.assert_array_equal(tempered_softmax(z, temperature), [1, 0, 0])


# complex numbers pass through


@pytest.mark.parametrize("scale", [0.5, 5, 50])
def test_the_complex_step_runs_through_both(scale):
    rng = np.random.default_rng(6)
    z, direction, h = rng.normal(size=(3, 8)) * scale, rng.normal(size=(3, 8)), 1e-30
    y = softmax(z)
    mean = (y * direction).sum(axis=-1, keepdims=True)
    for form, derivative in (
        (softmax, y * (direction - mean)),
        (log_softmax, direction - mean),
    ):
        result = form(z + 1j * h * direction)
        np.testing.assert_allclose(result.real, form(z), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(result.imag / h, derivative, rtol=0, atol=1e-14)


def test_the_imaginary_part_keeps_its_digits_when_one_leads():
    z = np.array([40.0, 1e-30j])
    np.testing.assert_allclose(log_softmax(z).imag[0] / 1e-30, -np.exp(-40), rtol=1e-14)
    np.testing.assert_allclose(softmax(z).imag[1] / 1e-30, np.exp(-40), rtol=1e-14)


def test_the_complex_step_runs_through_outputs():
    params, words, _ = hand_example()
    states, h = hidden_states(params, words), 1e-30
    y = outputs(params, states)
    slope = (
        outputs(params._replace(V=params.V + 1j * h * np.eye(3, 2)), states).imag / h
    )
    direction = states @ np.eye(2, 3)
    expected = y * (direction - (y * direction).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-14)
    assert outputs(params, states.astype(np.complex64)).dtype == np.complex128
    assert softmax(np.zeros(2, np.complex64)).dtype == np.complex64


def test_a_tie_in_the_real_parts_is_no_matter():
    z = np.array([1 + 1e-30j, 1, 1 - 2e-30j])
    np.testing.assert_allclose(softmax(z).real, 1 / 3)
    np.testing.assert_allclose(
        log_softmax(z).imag / 1e-30, [4 / 3, 1 / 3, -5 / 3], rtol=1e-14
    )


# logits and outputs


def test_the_example_done_by_hand():
    params, words, _ = hand_example()
    states = hidden_states(params, words)
    np.testing.assert_allclose(outputs(params, states), Y_BY_HAND, rtol=0, atol=5e-5)
    np.testing.assert_allclose(
        logits(params, states[0]), [0.7311, 0.5, -0.2311], atol=5e-5
    )


@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (4, 3, 2), (0,), (0, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_logits_and_outputs_by_loops(shape, dtype):
    rng = np.random.default_rng(7)
    params = init_parameters(6, 5, rng)
    params = params._replace(V=rng.normal(size=(6, 5)).astype(dtype))
    states = rng.normal(size=(*shape, 5)).astype(dtype)
    z, y = logits(params, states), outputs(params, states)
    assert z.shape == y.shape == (*shape, 6)
    assert z.dtype == y.dtype == dtype
    for index in np.ndindex(*shape):
        by_loops = [
            sum(params.V[m, j] * states[index][j] for j in range(5)) for m in range(6)
        ]
        np.testing.assert_allclose(z[index], by_loops, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            y[index], softmax(np.array(by_loops)), rtol=1e-4, atol=1e-6
        )


def test_the_same_vector_on_every_row_of_v_changes_nothing():
    rng = np.random.default_rng(8)
    params = init_parameters(6, 5, rng)
    states = rng.normal(size=(4, 5))
    moved = params._replace(V=params.V + rng.normal(size=5))
    np.testing.assert_allclose(
        outputs(moved, states), outputs(params, states), rtol=1e-14
    )


# temperature


@settings(max_examples=40)
@given(
    hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(-50, 50)),
    st.floats(0.05, 50),
)
def test_temperature_divides_the_logits(z, temperature):
    with mpmath.workdps(400):
        exact = [mpmath.mpf(float(x)) / mpmath.mpf(temperature) for x in z]
        total = mpmath.fsum(mpmath.exp(x) for x in exact)
        exact = [mpmath.exp(x) / total for x in exact]
    assert worst(tempered_softmax(z, temperature), exact) <= 5e-13


def test_temperature_one_changes_nothing():
    z = np.random.default_rng(9).normal(size=(3, 5))
    np.testing.assert_allclose(tempered_softmax(z, 1), softmax(z), rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_limits_of_temperature(dtype):
    z = np.array([1, 3, -2, 3], dtype)
    with np.errstate(**QUIET):
        for temperature in (0, 0.0, 1e-320, 1e-50, 1e-5):
            y = tempered_softmax(z, temperature)
            np.testing.assert_array_equal(y, [0, 0.5, 0, 0.5])
            assert y.dtype == dtype
        np.testing.assert_allclose(tempered_softmax(z, 1e300), 0.25, rtol=1e-6)
        closest = np.array([1, 1 + np.finfo(dtype).eps], dtype)
        np.testing.assert_array_equal(tempered_softmax(closest, 0), [0, 1])


@pytest.mark.parametrize(
    "temperature", [-1, -1e-300, np.nan, np.inf, -np.inf, "1", None, 1j, [1]]
)
def test_a_wrong_temperature_is_named(temperature):
    params, _, _ = hand_example()
    for call in (
        lambda: check_temperature(temperature),
        lambda: tempered_softmax([0.0], temperature),
        lambda: generate(params, np.random.default_rng(0), 0, temperature=temperature),
    ):
        with pytest.raises(
            ValueError, match=r"^temperature is .*expected a finite number, 0 or"
        ):
            call()


@pytest.mark.parametrize("temperature", [0, 2, 0.5, np.float32(0.5), np.int64(3)])
def test_a_right_temperature_becomes_a_float(temperature):
    assert check_temperature(temperature) == temperature
    assert type(check_temperature(temperature)) is float


# draws


@pytest.mark.parametrize(
    ("u", "m"),
    [(0, 0), (0.2499, 0), (0.25, 2), (0.5, 2), (0.7499, 2), (0.75, 3), (0.9999, 3)],
)
def test_the_word_that_the_throw_hits(u, m):
    assert draw_index([0.25, 0, 0.5, 0.25, 0], Throw(u)) == m
    assert draw_index([1, 0, 2, 1, 0], Throw(u)) == m
    assert type(draw_index([1.0], Throw(u))) is int


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.float64,
        st.integers(1, 30),
        elements=st.sampled_from([0, 1e-300, 1e-17, 0.1, 1]),
    ),
    st.floats(0, 1, exclude_max=True),
)
@example(np.full(10, 0.1), np.nextafter(1, 0))
@example(np.array([0, 0.1, 0.2, 0.7, 0]), np.nextafter(1, 0))
@example(np.array([0, 1.0]), 0)
def test_no_throw_hits_probability_zero(y, u):
    if y.any():
        m = draw_index(y, Throw(u))
        assert 0 <= m < len(y)
        assert y[m] > 0


def test_the_largest_throw_hits_in_float32():
    y = softmax(np.random.default_rng(10).normal(size=10_000).astype(np.float32))
    assert draw_index(y, Throw(np.nextafter(1, 0))) == 9_999


def test_shares_of_many_draws():
    y, n = np.array([0.5, 0.05, 0, 0.45]), 20_000
    rng = np.random.default_rng(11)
    shares = np.bincount([draw_index(y, rng) for _ in range(n)], minlength=4) / n
    assert (abs(shares - y) <= 4.5 * np.sqrt(y * (1 - y) / n)).all()


@pytest.mark.parametrize("y", [[0.0, 0.0], [0.5, -0.1, 0.6], [-1.0]])
def test_what_is_no_distribution_is_refused(y):
    with pytest.raises(
        ValueError, match=r"^y has a negative probability or none above 0"
    ):
        draw_index(y, np.random.default_rng(0))


@pytest.mark.parametrize("y", [np.ones((2, 3)), np.ones(3) + 0j])
def test_one_real_row_is_drawn_from(y):
    with pytest.raises(
        ValueError, match=r"^y is .* of shape .*expected real numbers, shape \(N,\)"
    ):
        draw_index(y, np.random.default_rng(0))


# generate


def peaked(seed=0, vocab_size=7, hidden_size=5):
    """Parameters of order one, so that the state matters for the next word."""
    rng = np.random.default_rng(seed)
    params = init_parameters(vocab_size, hidden_size, rng)
    return params._replace(V=params.V * 30, U=params.U * 20, W=params.W * 10)


@pytest.mark.parametrize("temperature", [0, 0.3, 1, 2.5])
@pytest.mark.parametrize("activation", [sigmoid, tanh])
@pytest.mark.parametrize("s_init", [None, np.array([0.5, -1, 2, 0, -0.5])])
def test_generate_is_reading_and_drawing_by_turns(temperature, activation, s_init):
    params, prompt = peaked(), [3, 1, 4]
    drawn = generate(
        params, np.random.default_rng(12), 20, prompt, temperature, s_init, activation
    )
    assert drawn.shape == (20,)
    assert drawn.dtype == np.int64
    rng, read = np.random.default_rng(12), list(prompt)
    for word in drawn:  # the whole text anew for each word, no state carried
        z = logits(params, hidden_states(params, read, s_init, activation)[-1])
        y = tempered_softmax(z, temperature)
        expected = (
            z.argmax()
            if temperature == 0
            else np.searchsorted(np.cumsum(y), rng.random())
        )
        assert word == expected
        read.append(word)


def test_generate_starts_from_the_end_of_a_line_with_temperature_one():
    params = peaked(1)
    spelled = generate(
        params, np.random.default_rng(1), 30, [0], 1.0, np.zeros(5), sigmoid
    )
    np.testing.assert_array_equal(
        generate(params, np.random.default_rng(1), 30), spelled
    )
    np.testing.assert_array_equal(
        generate(params, np.random.default_rng(1), np.int64(30)), spelled
    )
    other = generate(params, np.random.default_rng(2), 30)
    assert (other != spelled).any()


def test_no_temperature_no_randomness():
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    generate(peaked(), rng, 5, temperature=0)
    assert rng.bit_generator.state == before
    tied = peaked()._replace(V=np.zeros((7, 5)))
    np.testing.assert_array_equal(generate(tied, rng, 4, temperature=0), [0, 0, 0, 0])


def test_nothing_more_is_nothing():
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    assert generate(peaked(), rng, 0).shape == (0,)
    assert rng.bit_generator.state == before


def test_draws_of_generate_have_the_probabilities_of_outputs():
    params, _, _ = hand_example()
    rng = np.random.default_rng(13)
    n = 4_000
    first = np.concatenate([generate(params, rng, 1) for _ in range(n)])
    y = outputs(params, hidden_states(params, [0]))[0]
    shares = np.bincount(first, minlength=3) / n
    assert (abs(shares - y) <= 4.5 * np.sqrt(y * (1 - y) / n)).all()


def test_generate_in_float32_and_with_huge_weights():
    params = peaked()
    small = type(params)(*(array.astype(np.float32) for array in params))
    with np.errstate(**QUIET):
        assert generate(small, np.random.default_rng(0), 20).max() < 7
        huge = params._replace(V=params.V * 1e300)
        for temperature in (0, 1e-300, 1, 1e300):
            assert (
                generate(
                    huge, np.random.default_rng(0), 5, temperature=temperature
                ).max()
                < 7
            )


@pytest.mark.parametrize("count", [-1, 1.0, 2.5, "3", None, np.nan, [1]])
def test_a_wrong_count_is_named(count):
    with pytest.raises(
        ValueError, match=r"^count is .*: expected an integer, 0 or more"
    ):
        generate(peaked(), np.random.default_rng(0), count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": []}, "^prompt is empty"),
        ({"prompt": [7]}, "^prompt holds the index 7"),
        ({"prompt": [-1]}, "^prompt holds the index -1"),
        ({"prompt": [0.5]}, "^prompt "),
        ({"prompt": 3}, "^prompt "),
        ({"prompt": [[0, 1], [2, 3]]}, r"^prompt has shape \(2, 2\): expected \(T,\)"),
        ({"s_init": np.zeros(4)}, "^s_init has shape"),
        ({"s_init": np.zeros((2, 5))}, "^s_init has shape"),
        ({"s_init": np.full(5, np.nan)}, "^s_init holds nan"),
    ],
)
def test_what_generate_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(peaked(), np.random.default_rng(0), 3, **arguments)


# hostile input


@pytest.mark.parametrize(
    "form", [softmax, log_softmax, check_logits, lambda z: tempered_softmax(z, 1)]
)
@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.nan, r"^z has shape \(\)"),
        ([0, np.nan], "^z holds nan: expected finite numbers"),
        ([np.inf, 0], "^z holds inf"),
        ([[0.0], [-np.inf]], "^z holds -inf"),
        ([1, complex(0, np.nan)], "^z holds"),
        ([], r"^z has shape \(0,\): expected at least one logit in the last axis"),
        (np.zeros((3, 0)), r"^z has shape \(3, 0\): expected at least one logit"),
        (["a"], "^z holds"),
        ([True], "^z holds bool"),
        ([[1], [1, 2]], "^z has rows of different lengths"),
    ],
)
def test_wrong_logits_are_named(form, z, message):
    with pytest.raises(ValueError, match=message):
        form(z)


@pytest.mark.parametrize("form", [logits, outputs])
def test_wrong_parameters_and_states_are_named(form):
    params, words, _ = hand_example()
    states = hidden_states(params, words)
    wrong_v = params.V.copy()
    wrong_v[1, 0] = np.inf
    for changed, given_states, message in (
        (params._replace(V=wrong_v), states, "^params.V holds inf"),
        (
            params._replace(V=params.V.T),
            states,
            r"^params.V has shape \(2, 3\): expected \(3, 2\)",
        ),
        (params, states * np.nan, "^states holds nan"),
        (params, states[:, :1], r"^states has shape \(3, 1\): expected \(..., 2\)"),
        (params, 1.0, r"^states has shape \(\)"),
        (
            params._replace(V=params.V * 1e308),
            states * 1e3,
            "^params.V times states holds",
        ),
        (
            params._replace(V=params.V * 1e308),
            states * 0 + 1e3,
            "^params.V times states holds",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            form(changed, given_states)


# the chapter


def test_the_naive_form_of_the_chapter_overflows_where_it_says():
    cells = nbformat.read(ROOT / "book" / "03_softmax.ipynb", as_version=4).cells
    (source,) = (
        cell.source for cell in cells if cell.source.startswith("def naive_softmax")
    )
    names = {"np": np}
    exec(source, names)
    naive_softmax = names["naive_softmax"]
    z = np.random.default_rng(14).normal(size=(4, 6))
    np.testing.assert_allclose(naive_softmax(z), softmax(z), rtol=1e-14)
    for dtype, limit in ((np.float32, 88.7), (np.float64, 709.7)):
        for logit in (limit, limit + 0.2):
            z = np.array([logit, 0], dtype)
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                assert np.isfinite(naive_softmax(z)).all() == (logit == limit)
            assert np.isfinite(softmax(z)).all()
