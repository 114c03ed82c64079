"""Chapter 11: learning word by word, schedules, Adam and lanes; bad input."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from chapter import load
from hypothesis import given
from hypothesis import strategies as st

from rnn.bptt import bptt
from rnn.gradient_check import gradient_error
from rnn.hidden_state import (
    Parameters,
    hidden_states,
    relu,
    sigmoid,
    tanh,
)
from rnn.sgd import (
    DivergenceError,
    Memory,
    Moments,
    PendingUpdates,
    Schedule,
    SoftmaxOutput,
    adagrad_step,
    adagrad_update,
    adam_step,
    adam_update,
    clip,
    cost_and_error,
    lanes,
    learn_online,
    next_schedule,
    sgd_step,
)

ACTIVATIONS = [sigmoid, tanh, relu]
learn_plain = load("sgd", "learn_plain")


def network(seed=0, H=4, N=5, dtype=np.float64):
    """U and V of order one, W of norm about 2, U in Fortran order."""
    rng = np.random.default_rng(seed)
    U, W, V = rng.normal(size=(H, N)), rng.normal(size=(H, H)), rng.normal(size=(N, H))
    matrices = (np.asfortranarray(U), W / np.sqrt(H), V)
    return Parameters(*(matrix.astype(dtype) for matrix in matrices))


def copied(params):
    return Parameters(*(matrix.copy(order="K") for matrix in params))


def text(T, N=5, seed=1):
    return np.random.default_rng(seed).integers(0, N, (2, T))


def same(given, expected, tolerance=1e-12):
    for matrix, reference in zip(given, expected, strict=True):
        assert gradient_error(matrix, reference) <= tolerance


def equal(given, expected):
    return all((a == b).all() for a, b in zip(given, expected, strict=True))


# Steps


def test_a_step_changes_the_very_arrays_and_leaves_the_gradient():
    params, gradient = network(0), network(1)
    before, slopes = copied(params), copied(gradient)
    assert sgd_step(params, gradient, 0.25) is None
    same(params, [m - 0.25 * g for m, g in zip(before, slopes, strict=True)], 0)
    assert equal(gradient, slopes)


def test_a_step_along_an_integer_gradient():
    params = network()
    before = copied(params)
    sgd_step(params, Parameters(*(np.ones(m.shape, int) for m in params)), 0.5)
    same(params, [matrix - 0.5 for matrix in before], 0)


def test_a_step_of_length_zero_changes_nothing():
    params = network()
    before = copied(params)
    sgd_step(params, network(1), 0)
    assert equal(params, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"gradient": network()._replace(W=np.zeros((4, 3)))},
            "gradient.W has shape (4, 3): expected (..., 4, 4)",
        ),
        (
            {"gradient": network()._replace(V=np.zeros((2, 5, 4)))},
            "gradient.V has shape (2, 5, 4) and type float64: "
            "expected (5, 4), of floats, as params.V",
        ),
        (
            {"gradient": network()._replace(U=np.zeros((4, 5), complex))},
            "gradient.U has shape (4, 5) and type complex128: "
            "expected (4, 5), of floats, as params.U",
        ),
        (
            {"gradient": network()._replace(U=np.full((4, 5), np.nan))},
            "gradient.U holds nan: expected finite numbers",
        ),
        ({"alpha": -0.1}, "alpha is -0.1: expected a finite number, 0 or more"),
        ({"alpha": math.nan}, "alpha is nan: expected a finite number, 0 or more"),
        ({"alpha": math.inf}, "alpha is inf: expected a finite number, 0 or more"),
    ],
)
@pytest.mark.parametrize("step", [sgd_step, adam_step, adagrad_step])
def test_what_a_step_refuses(step, change, message):
    arguments = {"params": network(), "gradient": network(1), "alpha": 0.1, **change}
    before = copied(arguments["params"])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        step(**arguments)
    assert equal(arguments["params"], before)


def frozen(name):
    params = network()
    getattr(params, name).flags.writeable = False
    return params


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (frozen("U"), "U"),
        (frozen("V"), "V"),
        (network()._replace(W=np.eye(4, dtype=int)), "W"),
        (network()._replace(V=network().V.tolist()), "V"),
        (network()._replace(W=np.eye(4, dtype=complex)), "W"),
    ],
)
@pytest.mark.parametrize(
    "learn",
    [
        lambda params: sgd_step(params, network(1), 0.1),
        lambda params: adam_step(params, network(1)),
        lambda params: adagrad_step(params, network(1)),
        lambda params: learn_online(params, [0], [1], 0.1, 1),
    ],
)
def test_what_cannot_be_changed_in_place_is_refused(params, name, learn):
    message = (
        f"params.{name} can't be changed in place: expected a writable array of "
        "floats, such as a copy of it"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        learn(params)


def test_parameters_that_are_not_finite_are_refused():
    params = network()
    params.V[2, 1] = np.inf
    with pytest.raises(ValueError, match=r"^params\.V holds inf: expected finite"):
        learn_online(params, [0], [1], 0.1, 1)


def test_clipping_leaves_its_argument_and_its_type():
    error = np.array([[-3.0, 0.5], [2.0, 7.0]], np.float32)
    clipped = clip(error, 2)
    assert clipped.tolist() == [[-2, 0.5], [2, 2]]
    assert clipped.dtype == np.float32
    assert error[0, 0] == -3


# Updates that wait


@given(st.integers(1, 6), st.integers(0, 20))
def test_updates_wait_in_any_number(size, count):
    rng = np.random.default_rng(count)
    V = rng.normal(size=(5, 3))
    whole = V.copy()
    pending = PendingUpdates(V, size)
    for n in range(1, count + 1):
        e, s = rng.normal(size=5), rng.normal(size=3)
        pending.add(e, s)
        whole += np.outer(e, s)
        assert pending.count == n % size
        x, d = rng.normal(size=3), rng.normal(size=5)
        np.testing.assert_allclose(pending.times(x), whole @ x, atol=1e-12)
        np.testing.assert_allclose(pending.transposed_times(d), d @ whole, atol=1e-12)
    pending.settle()
    assert pending.V is V
    assert pending.count == 0
    np.testing.assert_allclose(V, whole, atol=1e-12)


def test_32_updates_are_gathered_unless_told_otherwise():
    V = np.zeros((2, 1))
    pending = PendingUpdates(V)
    for n in range(32):
        assert pending.count == n
        pending.add(np.ones(2), np.ones(1))
        assert not V.any()
    assert pending.count == 0
    assert pending.times(np.ones(1)).tolist() == [32, 32]
    pending.settle()
    assert V.tolist() == [[32], [32]]


def test_a_product_and_an_error_may_be_written_where_the_error_waits():
    rng = np.random.default_rng(4)
    V, s = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    kept, pending = V.copy(), PendingUpdates(V, size=3)
    for row in s:
        z = pending.times(row, out=pending.next_error)
        assert z is not None
        assert np.shares_memory(z, pending.next_error)
        np.testing.assert_allclose(z, kept @ row, rtol=1e-12)
        pending.add(z, row)
        kept += np.outer(kept @ row, row)
    pending.settle()
    np.testing.assert_allclose(V, kept, rtol=1e-12)


def test_updates_are_settled_in_either_order_of_memory():
    rng = np.random.default_rng(2)
    start, errors, states = rng.normal(size=(5, 3)), *rng.normal(size=(2, 4, 5))
    states = states[:, :3]
    for V in (start.copy(order="C"), start.copy(order="F")):
        place = V.ctypes.data
        pending = PendingUpdates(V)
        for e, s in zip(errors, states, strict=True):
            pending.add(e, s)
        pending.settle()
        np.testing.assert_allclose(V, start + errors.T @ states, rtol=1e-12)
        assert V.ctypes.data == place


def test_updates_are_settled_when_a_block_ends_by_an_error():
    V = np.zeros((2, 1))
    with pytest.raises(KeyError), PendingUpdates(V) as pending:  # noqa: PT012
        pending.add(np.ones(2), np.ones(1))
        raise KeyError
    assert V.tolist() == [[1], [1]]


def test_what_is_added_may_change_afterwards():
    V, e, s = np.zeros((2, 1)), np.ones(2), np.ones(1)
    pending = PendingUpdates(V)
    pending.add(e, s)
    e[:], s[:] = 7, 7
    pending.settle()
    assert V.tolist() == [[1], [1]]


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match=r"^size is 0: expected 1 or more$"):
        PendingUpdates(np.zeros((2, 1)), 0)


# Learning after each word


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tau", [0, 1, 4, 50])
@pytest.mark.parametrize("limit", [0.05, 15.0])
def test_learning_follows_the_formulas(activation, tau, limit):
    params, (words, targets) = network(tau), text(50)
    plain, costs = learn_plain(params, words, targets, 0.1, tau, limit, activation)
    before = copied(params)
    given_costs, memory = learn_online(
        params, words, targets, 0.1, tau, limit=limit, activation=activation
    )
    assert not equal(params, before)
    same(params, plain)
    np.testing.assert_allclose(given_costs, costs, rtol=1e-11)
    assert given_costs.dtype == np.float64
    assert memory.words.tolist() == words[50 - tau :].tolist()
    assert memory.states.shape == (tau + 1, 4)


def test_the_sigmoid_and_the_limit_of_15_are_what_is_taken_unless_told():
    params, (words, targets) = network(), text(20)
    params.V[:] *= 300
    given = copied(params)
    learn_online(given, words, targets, 0.01, 3, ceiling=math.inf)
    for limit in (14, 15, 16):
        told = copied(params)
        learn_online(
            told, words, targets, 0.01, 3, None, limit, math.inf, activation=sigmoid
        )
        assert equal(told, given) == (limit == 15)


def test_the_states_in_memory_are_those_of_their_time():
    params, (words, targets) = network(), text(12)
    state, expected, memory = np.zeros(4), [], None
    for t in range(12):
        state = hidden_states(params, words[t : t + 1], state)[0]
        expected.append(state)
        before = copied(params)
        word = words[t : t + 1], targets[t : t + 1]
        _, memory = learn_online(params, *word, 0.3, 3, memory)
        assert not equal(params, before)
        kept = [np.zeros(4), *expected][-min(4, t + 2) :]
        np.testing.assert_allclose(memory.states, kept, rtol=1e-12)
        assert memory.words.tolist() == words[max(0, t - 2) : t + 1].tolist()


@given(
    st.sets(st.integers(1, 39), max_size=12),
    st.integers(0, 6),
    st.sampled_from(ACTIVATIONS),
)
def test_pieces_of_any_length_teach_the_same(cuts, tau, activation):
    params, (words, targets) = network(), text(40)
    whole, pieces, memory, costs = copied(params), copied(params), None, []
    expected, last = learn_online(
        whole, words, targets, 0.1, tau, activation=activation
    )
    for a, b in pairwise([0, *sorted(cuts), 40]):
        piece = words[a:b], targets[a:b], 0.1, tau, memory
        some, memory = learn_online(pieces, *piece, activation=activation)
        costs.extend(some)
    same(pieces, whole)
    np.testing.assert_allclose(costs, expected, rtol=1e-11)
    np.testing.assert_allclose(memory.states, last.states, atol=1e-12)
    assert memory.words.tolist() == last.words.tolist()
    assert memory.cost == pytest.approx(last.cost, rel=1e-12)


def test_pieces_of_32_words_give_the_same_bits():
    params, (words, targets) = network(), text(128)
    whole, memory = copied(params), None
    learn_online(whole, words, targets, 0.1, 4)
    for a, b in ((0, 32), (32, 96), (96, 128)):
        _, memory = learn_online(params, words[a:b], targets[a:b], 0.1, 4, memory)
    assert equal(params, whole)


@pytest.mark.parametrize("tau", [0, 2, 30])
def test_small_rates_follow_the_truncated_gradient(tau):
    params, (words, targets) = network(3), text(30)
    _, gradient, _ = bptt(params, words, targets, tau=tau)
    errors = []
    for alpha in (1e-3, 1e-4):
        moved = copied(params)
        learn_online(moved, words, targets, alpha, tau)
        slopes = [(a - b) / alpha for a, b in zip(params, moved, strict=True)]
        errors.append(max(map(gradient_error, slopes, gradient)))
    assert errors[1] < 0.01
    assert 9 < errors[0] / errors[1] < 11


def test_a_rate_of_zero_changes_nothing_and_costs_what_the_text_costs():
    params, (words, targets) = network(), text(40)
    before = copied(params)
    costs, memory = learn_online(params, words, targets, 0, 3)
    assert equal(params, before)
    assert costs.sum() == pytest.approx(bptt(params, words, targets)[0], rel=1e-12)
    np.testing.assert_allclose(
        memory.states, hidden_states(params, words)[-4:], rtol=1e-13
    )


def test_words_that_do_not_occur_keep_their_columns():
    params = network(N=9)
    before = copied(params)
    learn_online(params, [1, 4, 1], [4, 1, 7], 0.1, 5)
    changed = (params.U != before.U).all(axis=0)
    kept = (params.U == before.U).all(axis=0)
    assert changed.tolist() == [n in (1, 4) for n in range(9)]
    assert (changed | kept).all()
    assert (params.V != before.V).all()  # every word might have come


def test_the_arrays_stay_what_they_are():
    params = network()
    places = [matrix.ctypes.data for matrix in params]
    learn_online(params, *text(20), 0.1, 2)
    assert [matrix.ctypes.data for matrix in params] == places
    assert params.U.flags.f_contiguous


def test_the_order_in_which_u_lies_in_memory_does_not_matter():
    params = network()
    other = params._replace(U=np.ascontiguousarray(params.U))._replace(
        **{name: getattr(params, name).copy() for name in "WV"}
    )
    for net in (params, other):
        learn_online(net, *text(20), 0.1, 2)
    same(other, params)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_the_float_type_is_kept(dtype):
    params, (words, targets) = network(dtype=dtype), text(40)
    plain, plain_costs = learn_plain(network(), words, targets, 0.1, 3)
    costs, memory = learn_online(params, words, targets, 0.1, 3)
    assert {matrix.dtype for matrix in params} == {np.dtype(dtype)}
    assert memory.states.dtype == dtype
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    same(params, plain, tolerance)
    np.testing.assert_allclose(costs, plain_costs, rtol=tolerance)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_words_of_any_integer_type(dtype):
    (words, targets), params, other = text(36), network(), network()
    learn_online(other, words, targets, 0.1, 3)
    memory = None
    for part in (slice(0, 32), slice(32, 36)):
        piece = words[part].astype(dtype), targets[part].astype(dtype)
        _, memory = learn_online(params, *piece, 0.1, 3, memory)
    assert equal(params, other)


def test_words_and_targets_are_left_as_they_are():
    words, targets = text(20)
    kept = words.copy(), targets.copy()
    _, memory = learn_online(network(), words, targets, 0.1, 3)
    memory.words[:] = 0
    memory.states[:] = 0
    assert (words == kept[0]).all()
    assert (targets == kept[1]).all()


def test_w_stays_zero_while_all_states_before_are():
    params, (words, targets) = network(), text(20)
    params.W[:] = 0
    learn_online(params, words[:1], targets[:1], 0.1, 3)
    assert not params.W.any()  # s(-1) is zero


def test_large_logits_cost_what_they_differ_by():
    params = network(H=1, N=3)
    params.U[:], params.W[:], params.V[:] = 0, 0, [[0.0], [2000.0], [1800.0]]
    costs, _ = learn_online(params, [0, 0, 0], [1, 2, 0], 0, 0, ceiling=math.inf)
    assert costs.tolist() == [0, 100, 1000]  # the state is 1/2


# Another output layer


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_output_layer_may_be_given(size):
    start, (words, targets) = network(), text(40)
    params, plain = copied(start), copied(start)
    output = SoftmaxOutput(params.V, size)
    costs, _ = learn_online(params, words, targets, 0.1, 4, output=output)
    expected, _ = learn_online(plain, words, targets, 0.1, 4)
    np.testing.assert_allclose(costs, expected, rtol=1e-12)
    assert output.count == 0  # nothing waits at the end
    same(params, plain)


class Constant:
    """An output layer that sends 1 back, and notes what it is told."""

    def __init__(self):
        self.told = []

    def __enter__(self):
        self.told.append("begin")
        return self

    def __exit__(self, *exception):
        self.told.append("end")

    def predict(self, s, target):
        self.told.append(target)
        return 0.25, np.ones_like(s)

    def learn(self, step):
        self.told.append(step)


def test_the_output_layer_alone_decides_what_costs_and_is_sent_back():
    params, output = network(), Constant()
    before, V = copied(params), params.V.copy()
    costs, memory = learn_online(params, [2], [3], 0.1, 0, output=output)
    assert costs.tolist() == [0.25]
    assert (params.V == V).all()
    s = sigmoid(before.U[:, 2])
    begin, target, step, end = output.told
    assert (begin, target, end) == ("begin", 3, "end")
    np.testing.assert_allclose(step, 0.1 * s, rtol=1e-12)
    np.testing.assert_allclose(memory.states, [s], rtol=1e-12)
    expected = before.U[:, 2] + 0.1 * s * (1 - s)
    np.testing.assert_allclose(params.U[:, 2], expected, rtol=1e-12)


def test_the_output_layer_ends_when_learning_diverges():
    output = Constant()
    with pytest.raises(DivergenceError):
        learn_online(network(), [2], [3], 0.1, 0, ceiling=0.1, output=output)
    assert output.told == ["begin", 3, "end"]  # and nothing was learnt


def test_a_cost_and_an_error_are_those_of_the_softmax():
    z = np.array([1.0, -2.0, 0.5])
    y = np.exp(z) / np.exp(z).sum()
    for shift in (0.0, 1e4, -1e4):
        given = z + shift
        cost, e_o = cost_and_error(given, 1)
        assert cost == pytest.approx(-math.log(y[1]), rel=1e-10)
        np.testing.assert_allclose(e_o, np.eye(3)[1] - y, rtol=1e-10)
        assert e_o is given
        assert type(cost) is float


# Rates that are too large


def constant_cost(cost, N=5):
    """A network that charges the same for word 0 at every step."""
    params = network(H=1, N=N)
    params.U[:], params.W[:] = 0, 0
    x = math.log((math.exp(cost) - 1) / (N - 1))  # the logit of the others
    params.V[:] = 2 * x
    params.V[0] = 0
    return params


def test_the_running_mean_reaches_its_ceiling_word_by_word():
    for above in (1.1, 2.0, 5.0):
        cost, mean, t = math.log(5) + above, math.log(5), 0
        while True:
            mean += (cost - mean) / 300
            if mean >= math.log(5) + 1:
                break
            t += 1
        words = np.zeros(t + 50, int)
        with pytest.raises(DivergenceError) as caught:
            learn_online(constant_cost(cost), words, words, 0, 0)
        assert str(caught.value) == (
            f"alpha is 0: learning diverged at word {t}, the running mean of a word's "
            f"cost reached {mean:.4g} nats; take a smaller alpha"
        )
        _, memory = learn_online(constant_cost(cost), words[:t], words[:t], 0, 2)
        assert memory.cost < math.log(5) + 1
        with pytest.raises(DivergenceError, match="at word 0"):
            learn_online(constant_cost(cost), [0], [0], 0, 0, memory)
        learn_online(constant_cost(cost), words, words, 0, 0, ceiling=math.inf)


def test_less_than_one_nat_above_ignorance_is_let_pass():
    words = np.zeros(3000, int)
    learn_online(constant_cost(math.log(5) + 0.99), words, words, 0, 0)
    with pytest.raises(DivergenceError):
        learn_online(constant_cost(math.log(5) + 0.99), words, words, 0, 0, ceiling=2.5)


def test_a_ceiling_that_is_just_reached_is_reached():
    params = constant_cost(math.log(5) + 300)
    memory = Memory(np.zeros(0, int), np.zeros((1, 1)), 0.0)
    with pytest.raises(DivergenceError) as caught:
        learn_online(params, [1], [1], 0, 0, memory, ceiling=math.log(4) / 300)
    assert "at word 0" in str(caught.value)


def test_what_was_learnt_before_the_end_is_kept():
    params, (words, targets) = network(), text(100)
    plain, memory = copied(params), Memory([], np.zeros((1, 4)), 1.0)
    with pytest.raises(DivergenceError) as caught:
        learn_online(params, words, targets, 0.1, 4, memory, ceiling=1.1)
    assert isinstance(caught.value, ValueError)
    stopped = int(re.search(r"at word (\d+)", str(caught.value))[1])
    assert stopped > 32
    assert stopped % 32  # some updates were waiting
    expected, _ = learn_plain(plain, words[:stopped], targets[:stopped], 0.1, 4)
    same(params, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_overflow_is_named_without_a_warning(activation):
    params, far = network(), Memory([], [[1e200, -1e200, 1e200, 1e200]], 0.0)
    params.W[:] *= 1e200
    params.V[:, 0] = np.nan_to_num(np.inf)
    with pytest.raises(DivergenceError, match=r"reached (inf|nan) nats"):
        learn_online(params, *text(20), 0.1, 2, far, activation=activation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"words": [[0, 1], [2, 3]]},
            "words has shape (2, 2): expected (T,), one text",
        ),
        ({"words": []}, "words is empty: expected at least one word index"),
        ({"words": [0, 5]}, "words holds the index 5 at [1]: expected 0 to 4"),
        ({"targets": [0, -1]}, "targets holds the index -1 at [1]: expected 0 to 4"),
        (
            {"targets": [0, 1, 2]},
            "targets has shape (3,): expected (2,), one per prediction",
        ),
        ({"alpha": -1}, "alpha is -1: expected a finite number, 0 or more"),
        ({"tau": -1}, "tau is -1: expected an integer, 0 or more"),
        ({"tau": 1.0}, "tau is 1.0: expected an integer, 0 or more"),
        ({"tau": True}, "tau is True: expected an integer, 0 or more"),
        ({"tau": None}, "tau is None: expected an integer, 0 or more"),
        ({"limit": 0}, "limit is 0: expected a number above 0"),
        ({"limit": math.nan}, "limit is nan: expected a number above 0"),
        ({"ceiling": 0}, "ceiling is 0: expected a number above 0"),
        ({"ceiling": math.nan}, "ceiling is nan: expected a number above 0"),
        (
            {"memory": Memory(np.array([0, 5]), np.zeros((3, 4)), 1.0)},
            "memory.words holds the index 5 at [1]: expected 0 to 4",
        ),
        (
            {"memory": Memory(np.array([0]), np.zeros((2, 3)), 1.0)},
            "memory.states has shape (2, 3): expected (..., any, 4)",
        ),
        (
            {"memory": Memory(np.array([0]), np.full((2, 4), np.nan), 1.0)},
            "memory.states holds nan: expected finite numbers",
        ),
        (
            {"memory": Memory(np.array([0]), np.zeros((1, 4)), 1.0)},
            "memory has words and states of shapes (1,) and (1, 4), and the cost 1.0: "
            "expected (k,), (k + 1, 4), and 0 or more",
        ),
        (
            {"memory": Memory(np.array([[0]]), np.zeros((2, 4)), 1.0)},
            "memory has words and states of shapes (1, 1) and (2, 4), and the cost "
            "1.0: expected (k,), (k + 1, 4), and 0 or more",
        ),
        (
            {"memory": Memory(np.array([0]), np.zeros((2, 4)), -0.5)},
            "memory has words and states of shapes (1,) and (2, 4), and the cost -0.5: "
            "expected (k,), (k + 1, 4), and 0 or more",
        ),
        (
            {"memory": Memory(np.array([0]), np.zeros((2, 4)), math.nan)},
            "memory has words and states of shapes (1,) and (2, 4), and the cost nan: "
            "expected (k,), (k + 1, 4), and 0 or more",
        ),
    ],
)
def test_what_learning_refuses_before_it_changes_anything(change, message):
    arguments = {"words": [0, 1], "targets": [1, 2], "alpha": 0.1, "tau": 2, **change}
    params = network()
    before = copied(params)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$") as caught:
        learn_online(params, **arguments)
    assert not isinstance(caught.value, DivergenceError)
    assert equal(params, before)


def test_a_memory_may_be_written_by_hand():
    params = network()
    other = copied(params)
    learn_online(params, [0, 1], [1, 2], 0.1, 2)
    nothing = Memory([], [[0, 0, 0, 0]], math.log(5))
    _, memory = learn_online(other, [0, 1], [1, 2], 0.1, 2, nothing)
    assert equal(params, other)
    by_hand = Memory(memory.words.tolist(), memory.states.tolist(), memory.cost)
    learn_online(params, [2], [0], 0.1, 2, memory)
    learn_online(other, [2], [0], 0.1, 2, by_hand)
    assert equal(params, other)


def test_a_larger_tau_goes_back_as_far_as_there_is_memory():
    params, (words, targets) = network(), text(9)
    given = copied(params)
    _, memory = learn_online(given, words[:8], targets[:8], 0.0, 1)
    learn_online(given, words[8:], targets[8:], 0.1, 5, memory)
    expected = copied(params)
    _, memory = learn_online(expected, words[:8], targets[:8], 0.0, 8)
    learn_online(expected, words[8:], targets[8:], 0.1, 1, memory)
    same(given, expected)


# The schedule


def rates(costs, alpha=0.1):
    schedule, given = Schedule(alpha), []
    for cost in costs:
        schedule = next_schedule(schedule, cost)
        given.append(schedule.alpha)
    return given


def test_the_schedule_begins_with_a_tenth():
    assert Schedule() == (0.1, math.inf, False)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([9.0], [1]),
        ([9.0, 8.0, 7.0, 6.0], [1, 1, 1, 1]),
        ([9.0, 8.99, 8.0, 7.0, 6.99], [1, 1 / 2, 1 / 4, 1 / 8, 0]),
        ([9.0, 9.5, 9.0], [1, 1 / 2, 0]),  # no better than the best
        ([9.0, 9.5, 8.9, 8.89], [1, 1 / 2, 1 / 4, 0]),
        ([9.0, 8.0, 8.1, 7.99], [1, 1, 1 / 2, 0]),  # against the best, not the last
        ([9.0, 9.0], [1, 1 / 2]),
        ([1.003, 1.0], [1, 1]),  # a gain of exactly 0.3 %
        ([1.0029999, 1.0], [1, 1 / 2]),
        ([0.0, 0.0], [1, 1]),
        ([9.0, 9.0, 9.0, 1.0], [1, 1 / 2, 0, 0]),
    ],
)
def test_the_rate_falls_after_the_first_failure_and_ends_with_the_second(
    costs, expected
):
    assert rates(costs, 0.8) == [0.8 * share for share in expected]


def test_the_schedule_remembers_the_best():
    schedule = Schedule(0.1, 5.0, False)
    assert next_schedule(schedule, 6.0) == Schedule(0.05, 5.0, True)
    assert next_schedule(schedule, 4.0) == Schedule(0.1, 4.0, False)
    assert next_schedule(schedule._replace(halving=True), 4.0) == (0.05, 4.0, True)
    assert next_schedule(schedule._replace(halving=True), 4.999) == (0, 4.999, True)
    assert next_schedule(schedule._replace(halving=True), 5.1) == (0, 5.0, True)


def test_only_ratios_of_costs_matter():
    costs = [9.0, 8.0, 7.99, 7.0, 6.99]
    assert rates(costs) == rates([1000 * cost for cost in costs])


@pytest.mark.parametrize("cost", [-1.0, math.nan])
def test_a_cost_that_is_none_is_refused(cost):
    with pytest.raises(ValueError, match=f"^cost is {cost}: expected nats, 0 or more$"):
        next_schedule(Schedule(), cost)


# Adam


def scalar_adam(theta, gradients, alpha=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Adam for one number, with Python's floats."""
    m = v = 0.0
    for n, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        root = math.sqrt(v / (1 - beta2**n)) + epsilon
        theta -= alpha * (m / (1 - beta1**n)) / root
    return theta


@pytest.mark.parametrize(
    "constants",
    [
        {},
        {"alpha": 0.3, "beta1": 0.5, "beta2": 0.7, "epsilon": 0.1},
        {"alpha": 0.3, "beta1": 0.0, "beta2": 0.0},
    ],
)
def test_adam_is_the_scalar_rule_for_each_element(constants):
    params, gradients, moments = (
        network(),
        [network(seed) for seed in range(1, 8)],
        None,
    )
    start = copied(params)
    gradients[2].U[0, 0] = 0  # one that vanishes for a step
    for gradient in gradients:
        kept = copied(gradient)
        moments = adam_step(params, gradient, moments, **constants)
        assert equal(gradient, kept)
    assert moments.steps == 7
    for i in range(3):
        for place in np.ndindex(start[i].shape):
            slopes = [float(gradient[i][place]) for gradient in gradients]
            expected = scalar_adam(float(start[i][place]), slopes, **constants)
            assert params[i][place] == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_the_constants_are_the_usual_ones():
    params, other, moments, same_moments = network(), network(), None, None
    for seed in range(1, 4):
        moments = adam_step(params, network(seed), moments)
        same_moments = adam_step(
            other, network(seed), same_moments, 0.001, 0.9, 0.999, 1e-8
        )
    assert equal(params, other)


def test_one_array_takes_the_same_step_with_the_same_constants():
    params = network()
    gradient = Parameters(*(np.cos(matrix) for matrix in params))
    V, m, v = params.V.copy(), np.zeros((5, 4)), np.zeros((5, 4))
    moments = None
    for n in (1, 2, 3):
        adam_update(V, gradient.V, m, v, n, 0.1)
        moments = adam_step(params, gradient, moments, 0.1)
    np.testing.assert_allclose(V, params.V, rtol=1e-12)
    np.testing.assert_allclose(m, moments.mean.V, rtol=1e-12)
    np.testing.assert_allclose(v, moments.square.V, rtol=1e-12)
    tiny, before = np.full(1, 1e-8), np.zeros(1)  # where epsilon counts
    adam_update(before, tiny, np.zeros(1), np.zeros(1), 1, 0.1)
    assert before == pytest.approx(-0.05, rel=1e-12)


def test_epsilon_keeps_a_weight_without_gradient_where_it_is():
    params = network()
    before = copied(params)
    adam_step(params, Parameters(*(np.zeros_like(matrix) for matrix in params)))
    assert equal(params, before)


def test_the_default_epsilon_counts_where_gradients_are_tiny():
    params = network()
    before = copied(params)
    tiny = Parameters(*(np.full(matrix.shape, 1e-8) for matrix in params))
    adam_step(params, tiny, alpha=0.5)
    for matrix, old in zip(params, before, strict=True):
        np.testing.assert_allclose(old - matrix, 0.25, rtol=1e-9)  # g / (g + epsilon)


def test_adam_keeps_the_float_type_and_the_arrays():
    params = network(dtype=np.float32)
    places = [matrix.ctypes.data for matrix in params]
    moments = adam_step(params, network(1, dtype=np.float32))
    again = adam_step(params, network(2, dtype=np.float32), moments)
    assert [matrix.ctypes.data for matrix in params] == places
    arrays = (*params, *again.mean, *again.square)
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    assert again.mean.U is moments.mean.U


@pytest.mark.parametrize(
    "constants",
    [
        {"beta1": 1.0},
        {"beta1": -0.1},
        {"beta2": 1.0},
        {"beta2": -0.1},
        {"epsilon": 0.0},
        {"epsilon": math.nan},
    ],
)
def test_constants_out_of_range_are_refused(constants):
    with pytest.raises(
        ValueError, match=r"^beta1, beta2, epsilon are .*: expected 0 <="
    ):
        adam_step(network(), network(1), **constants)


@pytest.mark.parametrize("step", [sgd_step, adam_step, adagrad_step])
def test_a_gradient_of_two_matrices_is_refused(step):
    params = network()
    before = copied(params)
    with pytest.raises(ValueError, match="shorter"):
        step(params, network(1)[:2], alpha=0.1)
    assert equal(params, before)


def test_moments_of_two_matrices_are_refused():
    moments = adam_step(network(), network(1))
    with pytest.raises(ValueError, match="shorter"):
        adam_step(network(), network(1), moments._replace(square=moments.square[:2]))


def test_moments_of_other_parameters_are_refused():
    moments = adam_step(network(H=3), network(1, H=3))
    assert isinstance(moments, Moments)
    message = (
        r"^moments has mean\.U of shape \(3, 5\): expected \(4, 5\), the moments of "
        r"these params$"
    )
    with pytest.raises(ValueError, match=message):
        adam_step(network(), network(1), moments)


# AdaGrad


def blocks(shape, shared):
    """The places of a matrix, cut into blocks."""
    places = list(np.ndindex(shape))
    if not shared:
        return [[place] for place in places]
    return [[place for place in places if place[0] == i] for i in range(shape[0])]


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_adagrad_is_the_rule_for_each_block(alpha):
    params, sums = network(), None
    start, gradients = copied(params), [network(seed) for seed in range(1, 8)]
    gradients[0].V[2] = 0  # a row whose first gradient comes late
    gradients[3].U[0, 0] = 0
    for gradient in gradients:
        kept = copied(gradient)
        sums = adagrad_step(params, gradient, sums, alpha)
        assert equal(gradient, kept)
    assert [h.shape for h in sums] == [(4, 5), (4, 1), (5, 1)]
    for i, shared in enumerate((False, True, True)):
        for block in blocks(start[i].shape, shared):
            theta, h = [float(start[i][place]) for place in block], 0.0
            for gradient in gradients:
                g = [float(gradient[i][place]) for place in block]
                h += math.fsum(x * x for x in g)
                step = alpha / math.sqrt(h) if h else 0.0
                theta = [x - step * slope for x, slope in zip(theta, g, strict=True)]
            for place, expected in zip(block, theta, strict=True):
                assert params[i][place] == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_one_array_takes_the_same_step_of_adagrad():
    params, sums = network(), None
    V, W, h_V, h_W = (
        params.V.copy(),
        params.W.copy(),
        np.zeros((5, 1)),
        np.zeros((4, 4)),
    )
    for seed in (1, 2, 3):
        gradient = network(seed)
        adagrad_update(V, gradient.V, h_V, 0.1)
        adagrad_update(W, gradient.W, h_W, 0.1)
        sums = adagrad_step(params, gradient, sums, 0.1)
    np.testing.assert_allclose(V, params.V, rtol=1e-12)
    np.testing.assert_allclose(h_V, sums.V, rtol=1e-12)
    np.testing.assert_allclose(h_W.sum(axis=1, keepdims=True), sums.W, rtol=1e-12)
    assert not np.allclose(W, params.W)  # an h for each element is another rule


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_first_step_of_adagrad_has_the_length_of_the_rate(dtype):
    for size in (1e-12, 1.0, 1e12):
        params, before = network(dtype=dtype), network(dtype=dtype)
        gradient = Parameters(*(dtype(size) * g for g in network(1, dtype=dtype)))
        adagrad_step(params, gradient, alpha=0.5)
        moved = [b - a for a, b in zip(params, before, strict=True)]
        lengths = abs(moved[0]), *(np.linalg.norm(m, axis=1) for m in moved[1:])
        for found in lengths:
            np.testing.assert_allclose(found, 0.5, rtol=1e-5)
        for step, g in zip(moved, gradient, strict=True):
            assert (np.sign(step) == np.sign(g)).all()


def test_the_usual_rate_of_adagrad_is_one():
    params, other = network(), network()
    adagrad_step(params, network(1))
    adagrad_step(other, network(1), alpha=1.0)
    assert equal(params, other)
    assert not equal(params, network())


def test_a_block_without_gradient_stays_where_it_is():
    params = network()
    before = copied(params)
    sums = adagrad_step(params, Parameters(*map(np.zeros_like, params)))
    assert equal(params, before)
    assert not any(h.any() for h in sums)


def test_adagrad_keeps_the_float_type_and_the_arrays():
    params = network(dtype=np.float32)
    places = [matrix.ctypes.data for matrix in params]
    sums = adagrad_step(params, network(1, dtype=np.float32))
    again = adagrad_step(params, network(2, dtype=np.float32), sums)
    assert [matrix.ctypes.data for matrix in params] == places
    assert {array.dtype for array in (*params, *again)} == {np.dtype(np.float32)}
    assert all(a is b for a, b in zip(again, sums, strict=True))


def test_sums_of_other_parameters_are_refused():
    sums, params = adagrad_step(network(H=3), network(1, H=3)), network()
    before = copied(params)
    message = (
        "sums have shapes [(3, 5), (3, 1), (5, 1)]: expected "
        "[(4, 5), (4, 1), (5, 1)], the sums of these params"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        adagrad_step(params, network(1), sums)
    assert equal(params, before)


# Lanes


@given(st.integers(1, 40), st.data())
def test_lanes_hold_the_text_in_order(length, data):
    count = data.draw(st.integers(1, length))
    words = np.arange(length)
    given = lanes(words, count)
    assert given.shape == (length // count, count)
    assert given.T.ravel().tolist() == words[: length // count * count].tolist()


def test_lanes_of_the_largest_index():
    largest = np.iinfo(np.int64).max - 1
    assert lanes([largest, 0], 2).tolist() == [[largest, 0]]


@pytest.mark.parametrize(
    ("indices", "count", "message"),
    [
        ([[0, 1]], 1, "indices has shape (1, 2): expected (T,), one text"),
        ([0, -1], 1, "indices holds the index -1 at [1]: expected 0 to"),
        ([0, 1, 2], 0, "count is 0: expected an integer, 1 to 3"),
        ([0, 1, 2], 4, "count is 4: expected an integer, 1 to 3"),
        ([0, 1, 2], 1.5, "count is 1.5: expected an integer, 1 to 3"),
        ([0, 1, 2], True, "count is True: expected an integer, 1 to 3"),
        ([0, 1, 2], None, "count is None: expected an integer, 1 to 3"),
    ],
)
def test_what_lanes_refuse(indices, count, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        lanes(indices, count)


@pytest.fixture
def torch():
    return pytest.importorskip(
        "torch", reason="PyTorch is optional: `pip install torch` to compare with it"
    )


def test_adagrad_agrees_with_pytorch_where_each_element_is_a_block(torch):
    params, sums = network(), None
    tensor = torch.tensor(params.U.copy(), requires_grad=True)
    adagrad = torch.optim.Adagrad([tensor], lr=0.2, eps=1e-300)
    for seed in range(1, 30):
        gradient = network(seed)
        tensor.grad = torch.tensor(gradient.U.copy())
        adagrad.step()
        sums = adagrad_step(params, gradient, sums, 0.2)
    np.testing.assert_allclose(params.U, tensor.detach().numpy(), rtol=1e-12)


def test_adam_agrees_with_pytorch(torch):
    params, moments = network(), None
    tensors = [torch.tensor(matrix.copy(), requires_grad=True) for matrix in params]
    adam = torch.optim.Adam(tensors, lr=0.02, betas=(0.8, 0.95), eps=1e-3)
    for seed in range(1, 30):
        gradient = network(seed)
        for tensor, slope in zip(tensors, gradient, strict=True):
            tensor.grad = torch.tensor(slope.copy())
        adam.step()
        moments = adam_step(params, gradient, moments, 0.02, 0.8, 0.95, 1e-3)
    same(params, [tensor.detach().numpy() for tensor in tensors])
