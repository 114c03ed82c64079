"""What must hold for the gradient of every network: properties, with Hypothesis."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rnn.bptt import bptt
from rnn.cross_entropy import loss, output_error
from rnn.gradient_check import gradient_error
from rnn.hidden_state import Parameters, hidden_states, relu, sigmoid, tanh
from rnn.softmax import outputs

quick = settings(deadline=None, max_examples=60, derandomize=True)


@st.composite
def cases(draw, batch=None, longest=8):
    """Arguments of bptt: a random network, a text, s(-1) != 0, any activation."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    H, N, T = (
        draw(st.integers(1, 6)),
        draw(st.integers(2, 7)),
        draw(st.integers(1, longest)),
    )
    if batch is None:
        batch = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    g = draw(st.sampled_from([0.1, 0.5, 1.0]))
    U, W, V = rng.normal(size=(H, N)), rng.normal(size=(H, H)), rng.normal(size=(N, H))
    words, targets = rng.integers(0, N, (2, T, *batch))
    return {
        "params": Parameters(U, g * W / np.sqrt(H), V),
        "words": words,
        "targets": targets,
        "s_init": rng.uniform(0.2, 0.8, (*batch, H)),
        "activation": draw(st.sampled_from([sigmoid, tanh, relu])),
    }


def assert_same(gradient, expected, tolerance=1e-12):
    """Each matrix within the tolerance, relative to its greatest element or to 1e-3."""
    for name, a, b in zip("UWV", gradient, expected, strict=True):
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3), name


@quick
@given(cases())
def test_output_errors_and_columns_of_dv_sum_to_zero(case):
    params = case["params"]
    states = hidden_states(params, case["words"], case["s_init"], case["activation"])
    e_o = output_error(outputs(params, states), case["targets"])
    assert np.abs(e_o.sum(axis=-1)).max() <= 1e-14
    _, gradient, _ = bptt(**case)
    size = max(1, np.abs(states).sum())
    assert np.abs(gradient.V.sum(axis=0)).max() <= 1e-14 * size


@quick
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_the_vocabulary(case, random):
    """Word n becomes word place[n]."""
    U, W, V = case["params"]
    order = np.array(
        random.sample(range(len(V)), len(V))
    )  # new word m is the old word order[m]
    place = np.argsort(order)
    E, gradient, last = bptt(**case)
    turned = case | {
        "params": Parameters(U[:, order], W, V[order]),
        "words": place[case["words"]],
        "targets": place[case["targets"]],
    }
    turned_E, turned_gradient, turned_last = bptt(**turned)
    assert abs(E - turned_E) <= 1e-13 * E
    np.testing.assert_allclose(last, turned_last, rtol=1e-12, atol=1e-14)
    expected = gradient.U[:, order], gradient.W, gradient.V[order]
    assert_same(turned_gradient, expected)


@quick
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_the_hidden_units(case, random):
    U, W, V = case["params"]
    order = np.array(random.sample(range(len(W)), len(W)))
    E, gradient, last = bptt(**case)
    turned = case | {
        "params": Parameters(U[order], W[np.ix_(order, order)], V[:, order]),
        "s_init": case["s_init"][..., order],
    }
    turned_E, turned_gradient, turned_last = bptt(**turned)
    assert abs(E - turned_E) <= 1e-13 * E
    np.testing.assert_allclose(last[..., order], turned_last, rtol=1e-12, atol=1e-14)
    expected = gradient.U[order], gradient.W[np.ix_(order, order)], gradient.V[:, order]
    assert_same(turned_gradient, expected)


@quick
@given(cases(), st.integers(0, 100))
def test_the_same_vector_added_to_every_row_of_v(case, seed):
    params = case["params"]
    vector = np.random.default_rng(seed).normal(size=params.V.shape[1])
    E, gradient, _ = bptt(**case)
    shifted_E, shifted, _ = bptt(
        **case | {"params": params._replace(V=params.V + vector)}
    )
    assert abs(E - shifted_E) <= 1e-12 * max(E, 1)
    assert_same(shifted, gradient)


@quick
@given(cases(), st.sampled_from([None, 0, 1]))
def test_words_that_do_not_occur_have_no_gradient(case, tau):
    words = case["words"] // 2  # the upper half of the vocabulary does not occur
    _, gradient, _ = bptt(**case | {"words": words}, tau=tau)
    absent = np.setdiff1d(np.arange(len(case["params"].V)), words)
    assert len(absent)
    assert not gradient.U[:, absent].any()


@quick
@given(cases(batch=()))
def test_without_w_the_loss_splits_by_token(case):
    """The bigram model: a word and its target, whatever stood before."""
    params = case["params"]._replace(W=np.zeros_like(case["params"].W))
    E, gradient, _ = bptt(**case | {"params": params})
    total, U, V = 0, 0, 0
    for word, target in zip(case["words"], case["targets"], strict=True):
        token = {"words": [word], "targets": [target], "params": params, "s_init": None}
        E_t, gradient_t, _ = bptt(**case | token)
        total, U, V = total + E_t, U + gradient_t.U, V + gradient_t.V
    assert abs(E - total) <= 1e-13 * E
    for given_sum, expected in ((gradient.U, U), (gradient.V, V)):
        assert np.abs(given_sum - expected).max() <= 1e-13 * max(
            1, np.abs(expected).max()
        )


@quick
@given(cases())
def test_without_v_every_word_costs_log_n(case):
    params = case["params"]._replace(V=np.zeros_like(case["params"].V))
    E, gradient, _ = bptt(**case | {"params": params})
    expected = case["words"].size * np.log(len(params.V))
    assert abs(E - expected) <= 1e-13 * expected
    assert not gradient.U.any()
    assert not gradient.W.any()


@quick
@given(cases(), st.integers(1, 7))
def test_loss_adds_over_chunks_with_the_state_carried(case, cut):
    E, _, last = bptt(**case)
    first = case | {"words": case["words"][:cut], "targets": case["targets"][:cut]}
    total, _, state = bptt(**first)
    if cut < len(case["words"]):
        second = {
            "words": case["words"][cut:],
            "targets": case["targets"][cut:],
            "s_init": state,
        }
        E_2, _, state = bptt(**case | second)
        total += E_2
    assert abs(E - total) <= 1e-13 * E
    np.testing.assert_allclose(last, state, rtol=1e-13, atol=1e-15)


@quick
@given(cases())
def test_a_small_step_downhill_lowers_the_loss(case):
    """By the length of the gradient times that of the step, to first order."""
    E, gradient, _ = bptt(**case)
    length = np.sqrt(sum((matrix**2).sum() for matrix in gradient))
    assume(length > 1e-3)  # where all units of a ReLU are off, it is exactly 0
    step = 1e-6 / length
    moved = Parameters(
        *(p - step * g for p, g in zip(case["params"], gradient, strict=True))
    )
    assert E - 1.1e-6 * length < loss(**case | {"params": moved}) < E - 0.9e-6 * length


@quick
@given(cases(), st.integers(0, 3))
def test_tau_from_t_minus_1_on_is_exact(case, more):
    _, exact, _ = bptt(**case)
    _, gradient, _ = bptt(**case, tau=len(case["words"]) - 1 + more)
    assert max(gradient_error(a, b) for a, b in zip(gradient, exact, strict=True)) == 0


@quick
@given(cases(batch=(3,)), st.sampled_from([None, 0, 1, 2]))
def test_a_batch_equals_its_sequences_one_by_one(case, tau):
    E, gradient, last = bptt(**case, tau=tau)
    total, parts = 0, []
    for b in range(3):
        one = {name: case[name][:, b] for name in ("words", "targets")}
        E_b, gradient_b, last_b = bptt(
            **case | one | {"s_init": case["s_init"][b]}, tau=tau
        )
        np.testing.assert_allclose(last[b], last_b, rtol=1e-12, atol=1e-14)
        total, parts = total + E_b, [*parts, gradient_b]
    assert abs(E - total) <= 1e-13 * E
    assert_same(gradient, [sum(matrices) for matrices in zip(*parts, strict=True)])
