"""Diagnosis: every mistake gets its name, a right gradient none."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn import diagnosis
from rnn.bptt import bptt
from rnn.cross_entropy import output_error
from rnn.diagnosis import (
    CLASSIC_MISTAKES,
    Backward,
    GradientReport,
    Mistake,
    check_gradient,
    classic_mistakes,
    factor_name,
    faulty_gradient,
    fitted_factor,
    gradient_cosine,
)
from rnn.gradient_check import gradient_error
from rnn.hidden_state import (
    Parameters,
    hand_example,
    hidden_states,
    relu,
    sigmoid,
    tanh,
)
from rnn.softmax import outputs


def problem(seed, H=5, N=7, T=6, batch=(), g=1.0):
    """U, V of order one, W's norm about one, T >= 3, s(-1) != 0, a word read twice."""
    rng = np.random.default_rng(seed)
    U, V = rng.normal(size=(H, N)), rng.normal(size=(N, H))
    W = g * rng.normal(size=(H, H)) / np.sqrt(H)
    words, targets = rng.integers(N, size=(2, T, *batch))
    words[1:2] = words[:1]
    return Parameters(U, W, V), words, targets, rng.uniform(0.1, 0.9, size=(*batch, H))


def by_name(name, T=6, tau=None, activation=sigmoid):
    return next(m for m in classic_mistakes(T, tau, activation) if m.name == name)


def named(report):
    """The names of the mistakes in a report, one set for each explanation."""
    family = classic_mistakes(64, 64) + classic_mistakes(3, 0, tanh)
    text = report.diagnosis.replace("\n  ", " ")
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    return [{m.name for m in family if f"{m.name} (" in line} for line in lines]


def distance(one, other):
    return max(gradient_error(a, b) for a, b in zip(one, other, strict=True))


def shown(mistake, activation):
    """Whether the mistake can show: ReLU of a state is the state."""
    return not (activation is relu and mistake.changes == {"slope": "f'(s)"})


# the pass with its switches as they stand


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("tau", [None, 0, 1, 3, 5, 9])
def test_nothing_switched_is_bptt(activation, batch, tau):
    params, words, targets, s_init = problem(1, batch=batch)
    made = faulty_gradient(
        params, words, targets, Mistake("none", "", {}), s_init, tau, activation
    )
    true = bptt(params, words, targets, s_init, tau, activation)[1]
    assert distance(made, true) < 1e-13


def test_s_init_is_zero_unless_given():
    params, words, targets, s_init = problem(1, batch=(2,))
    right = Mistake("none", "", {})
    made = faulty_gradient(params, words, targets, right)
    assert distance(made, bptt(params, words, targets)[1]) < 1e-13
    made = faulty_gradient(
        params, words, targets, right, s_init[0]
    )  # for all sequences
    assert distance(made, bptt(params, words, targets, s_init[0])[1]) < 1e-13


def test_defaults_of_the_switches():
    assert not Backward().added
    assert Backward(penalty=True).added
    assert Backward(through="update").added


# every mistake gets its own name, and no other


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("tau", [None, 2])
def test_each_mistake_is_named(activation, batch, tau):
    params, words, targets, s_init = problem(2, H=6, batch=batch)
    options = s_init, tau, activation
    for mistake in classic_mistakes(len(words), tau, activation):
        made = faulty_gradient(params, words, targets, mistake, *options)
        report = check_gradient(params, words, targets, made, *options)
        if shown(mistake, activation):
            assert not report.ok
            assert named(report) == [{mistake.name}], report
            assert mistake.remedy in " ".join(report.diagnosis.split())
        else:
            assert report.ok


# what is added has an amount of its own, and a clipped gradient hides its limit
SCALED = [
    m
    for m in classic_mistakes(6)
    if not m.changes.keys() & {"through", "penalty", "clip"}
]


@pytest.mark.parametrize("mistake", SCALED, ids=lambda m: m.name)
@pytest.mark.parametrize("c", [-1.0, 1 / 6, -0.03])
def test_each_mistake_is_named_with_a_factor_on_top(mistake, c):
    params, words, targets, s_init = problem(3)
    made = faulty_gradient(params, words, targets, mistake, s_init)
    report = check_gradient(params, words, targets, [c * m for m in made], s_init)
    assert named(report) == [{mistake.name}], report
    assert f"{c:.6g} times what it should be" in " ".join(report.diagnosis.split())


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
def test_every_pair_can_be_told_apart(activation):
    family = [m for m in classic_mistakes(5, None, activation) if shown(m, activation)]
    for seed in range(4):
        params, words, targets, s_init = problem(seed, H=8, T=5)
        options = s_init, None, activation
        made = {
            m.name: faulty_gradient(params, words, targets, m, *options) for m in family
        }
        made["right"] = bptt(params, words, targets, *options)[1]
        for one, other in combinations(made, 2):
            nearest = min(
                distance(made[one], made[other]), distance(made[other], made[one])
            )
            assert nearest > 1e-5, (one, other, seed)


@pytest.mark.parametrize(
    "names",
    [
        ("W for W^T", "s(t) for s(t-1) in dE/dW"),
        ("W for W^T", "dE/dW transposed"),
        ("the slope forgotten", "a repeated word counted once in dE/dU"),
        ("the targets' columns in dE/dU", "dE/dW transposed"),
        ("the last step left out", "W for W^T"),
        ("truncated at tau = 1", "the slope of s(t-1) in e_h"),
        ("y (1 - y) multiplied into e_o", "the step's own error overwritten"),
        ("s(-1) taken as zero", "the first step left out"),
    ],
)
def test_two_mistakes_at_once(names):
    params, words, targets, s_init = problem(4)
    changes = {}
    for name in names:
        changes |= by_name(name).changes
    made = faulty_gradient(params, words, targets, Mistake("two", "", changes), s_init)
    report = check_gradient(params, words, targets, made, s_init)
    assert set(names) in named(report), report


def test_different_mistakes_in_different_matrices():
    params, words, targets, s_init = problem(5)
    one = faulty_gradient(params, words, targets, by_name("W for W^T"), s_init)
    other = faulty_gradient(
        params, words, targets, by_name("the slope forgotten"), s_init
    )
    report = check_gradient(params, words, targets, (one.U, other.W, one.V), s_init)
    assert named(report) == [{"W for W^T"}, {"the slope forgotten"}]
    assert "Probably, in dE/dU:" in report.diagnosis
    assert "Probably, in dE/dW:" in report.diagnosis


def test_a_mistake_in_one_matrix_only():
    params, words, targets, s_init = problem(5)
    true = bptt(params, words, targets, s_init)[1]
    made = faulty_gradient(
        params, words, targets, by_name("the first step left out"), s_init
    )
    report = check_gradient(params, words, targets, true._replace(V=made.V), s_init)
    assert named(report) == [{"the first step left out"}]
    # in W alone it is the same as s(-1) taken as zero there, which spoils nothing else
    report = check_gradient(params, words, targets, true._replace(W=made.W), s_init)
    assert named(report) == [{"s(-1) taken as zero in dE/dW"}]


# nine of them written out by hand, in loops


def by_hand(mistake, params, words, targets, s_init):
    U, W, V = params
    T, H = len(words), len(W)
    states = hidden_states(params, words, s_init)
    e_o = output_error(outputs(params, states), targets)
    slope = [s * (1 - s) for s in states]
    dU, dW, dV = np.zeros_like(U), np.zeros_like(W), np.zeros_like(V)
    delta = np.zeros(H)
    for t in reversed(range(T)):
        if mistake == "the first step left out" and t == 0:
            break
        if mistake == "the last step left out" and t == T - 1:
            continue
        sent = (W if mistake == "W for W^T" else W.T) @ delta
        if mistake == "truncated at tau = 0":
            sent = 0 * sent
        direct = V.T @ e_o[t]
        here = slope[t]
        if mistake == "the slope forgotten in the recursion":
            delta = direct * here + sent
        elif mistake == "the slope of s(t+1) in the recursion":
            delta = direct * here + sent * slope[min(t + 1, T - 1)]
        else:
            delta = (direct + sent) * here
        before = states[t - 1] if t > 0 else s_init
        if mistake == "s(t) for s(t-1) in dE/dW":
            before = states[t]
        if mistake == "the last state taken for s(-1)":
            before = states[t - 1]
        dV -= np.outer(e_o[t], states[t])
        dU[:, (targets if "targets' columns" in mistake else words)[t]] -= delta
        dW -= np.outer(delta, before)
    return dU, dW, dV


@pytest.mark.parametrize(
    "name",
    [
        "W for W^T",
        "the first step left out",
        "the last step left out",
        "the slope forgotten in the recursion",
        "the slope of s(t+1) in the recursion",
        "s(t) for s(t-1) in dE/dW",
        "the last state taken for s(-1)",
        "the targets' columns in dE/dU",
        "truncated at tau = 0",
    ],
)
def test_against_loops_written_by_hand(name):
    params, words, targets, s_init = problem(6)
    made = by_hand(name, params, words, targets, s_init)
    assert (
        distance(faulty_gradient(params, words, targets, by_name(name), s_init), made)
        < 1e-12
    )
    assert named(check_gradient(params, words, targets, made, s_init)) == [{name}]


def test_the_loops_without_a_mistake_are_right():
    params, words, targets, s_init = problem(6)
    assert check_gradient(
        params, words, targets, by_hand("", params, words, targets, s_init), s_init
    ).ok


def test_output_errors_by_hand():
    params, words, targets, s_init = problem(7)
    states = hidden_states(params, words, s_init)
    y, d, w = outputs(params, states), np.eye(7)[targets], np.eye(7)[words]
    J = [np.diag(row) - np.outer(row, row) for row in y]
    expected = {
        "the input word taken for the target": w - y,
        "1 subtracted from every output": 1 - y,
        "the error of the target only": d * (1 - y),
        "y (1 - y) multiplied into e_o": y * (1 - y) * (d - y),
        "the squared error's gradient": np.array([J[t] @ (d - y)[t] for t in range(6)]),
    }
    for name, e_o in expected.items():
        made = faulty_gradient(params, words, targets, by_name(name), s_init)
        assert gradient_error(made.V, -e_o.T @ states) < 1e-12, name


def test_the_squared_error_is_a_gradient():
    """J (d - y) is minus the derivative of |d - y|^2 / 2 by the logits."""
    params, words, targets, s_init = problem(7)
    made = faulty_gradient(
        params, words, targets, by_name("the squared error's gradient"), s_init
    )
    d, h = np.eye(7)[targets], 1e-6

    def squared(V):
        y = outputs(params._replace(V=V), hidden_states(params, words, s_init))
        return 0.5 * ((d - y) ** 2).sum()

    for i in np.ndindex(params.V.shape):
        step = np.zeros_like(params.V)
        step[i] = h
        slope = (squared(params.V + step) - squared(params.V - step)) / (2 * h)
        assert abs(slope - made.V[i]) < 1e-8


def test_v_after_its_update():
    params, words, targets, s_init = problem(8)
    true = bptt(params, words, targets, s_init)[1]
    states = hidden_states(params, words, s_init)
    e_o = output_error(outputs(params, states), targets)
    updated = params.V - 0.05 * true.V
    delta, W = (e_o @ updated) * states * (1 - states), params.W
    for t in reversed(range(5)):
        delta[t] += (delta[t + 1] @ W) * states[t] * (1 - states[t])
    dU = np.zeros_like(params.U)
    np.subtract.at(dU.T, words, delta)
    previous = np.concatenate([[s_init], states[:-1]])
    report = check_gradient(
        params, words, targets, (dU, -delta.T @ previous, true.V), s_init
    )
    assert named(report) == [{"the error sent through V after its update"}]
    assert "with the factor 0.05" in " ".join(report.diagnosis.split())


def test_penalty():
    params, words, targets, s_init = problem(8)
    true = bptt(params, words, targets, s_init)[1]
    made = [g + 1e-6 * p for g, p in zip(true, params, strict=True)]
    report = check_gradient(params, words, targets, made, s_init)
    assert named(report) == [{"an L2 penalty added"}]
    assert "with the factor 1e-06" in " ".join(report.diagnosis.split())
    amount = faulty_gradient(
        params, words, targets, by_name("an L2 penalty added"), s_init, amount=1e-6
    )
    assert distance(amount, made) < 1e-14


def test_clipping():
    params, words, targets, s_init = problem(8)
    true = bptt(params, words, targets, s_init)[1]
    limit = 0.5 * max(np.abs(g).max() for g in true)
    made = [np.clip(g, -limit, limit) for g in true]
    assert named(check_gradient(params, words, targets, made, s_init)) == [
        {"large elements clipped"}
    ]
    clipped = faulty_gradient(
        params, words, targets, by_name("large elements clipped"), s_init, amount=0.25
    )
    for part, whole in zip(clipped, true, strict=True):
        assert np.abs(part).max() == pytest.approx(0.75 * np.abs(whole).max())


# factors


@pytest.mark.parametrize(
    ("c", "words"),
    [
        (-1, "the sign reversed"),
        (1 / 6, "the mean over the T = 6 steps, not the sum"),
        (1 / 4, "the mean over the 4 sequences, not the sum"),
        (1 / 24, "the mean over the 24 words, not the sum"),
        (
            -1 / 6,
            "(e_o and delta are minus a derivative), the mean over the T = 6",
        ),
        (2, "counted twice"),
        (0.5, "halved"),
        (1 / np.log(2), "in bits, not in nats"),
        (-0.1, "an update, -alpha dE with alpha = 0.1, not the gradient"),
        (0.3, "a constant factor"),
        (0, "all zero: nothing was added up"),
    ],
)
def test_factors_are_fitted_and_named(c, words):
    params, w, d, s_init = problem(9, batch=(4,))
    true = bptt(params, w, d, s_init)[1]
    report = check_gradient(params, w, d, [c * g for g in true], s_init)
    assert words in " ".join(report.diagnosis.split())
    assert report.diagnosis.startswith("Probably, in dE/dU and dE/dW and dE/dV:\n- ")
    assert report.diagnosis.count("\n- ") == 1


def test_factors_of_single_matrices():
    params, words, targets, s_init = problem(9)
    U, W, V = bptt(params, words, targets, s_init)[1]
    report = check_gradient(params, words, targets, (U, W, V / 6), s_init)
    assert report.diagnosis.startswith(
        "Probably, in dE/dV:\n- 0.166667 times what it should be"
    )
    report = check_gradient(params, words, targets, (U, -W, V / 6), s_init)
    text = " ".join(report.diagnosis.split())
    assert "in dE/dW -1 times what it should be: the sign reversed" in text
    assert (
        "; in dE/dV 0.166667 times what it should be: the mean over the T = 6" in text
    )


def test_factor_names():
    assert factor_name(1, 5, 2) == ""
    assert factor_name(0.2, 5) == (
        "0.2 times what it should be: the mean over the T = 5 steps, not the sum"
    )
    assert factor_name(0.5, 2, 2).endswith("the mean over the T = 2 steps, not the sum")
    assert factor_name(-2, 5, 1).endswith("minus a derivative), counted twice")


# right gradients


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    H=st.integers(1, 20),
    N=st.integers(2, 30),
    T=st.integers(1, 50),
    g=st.sampled_from([0.0, 0.1, 1.0]),
    activation=st.sampled_from([sigmoid, tanh, relu]),
    batch=st.sampled_from([(), (1,), (3,), (2, 2)]),
    single=st.booleans(),
    tau=st.sampled_from([None, 0, 1, 4]),
)
def test_a_right_gradient_is_never_accused(
    seed, H, N, T, g, activation, batch, single, tau
):
    params, words, targets, s_init = problem(seed, H, N, T, batch, g)
    if single:
        params = Parameters(*(m.astype(np.float32) for m in params))
        s_init = s_init.astype(np.float32)
    # renumbered hidden units: the same sums in another order
    p = np.random.default_rng(seed).permutation(H)
    U, W, V = params
    other = Parameters(U[p], W[np.ix_(p, p)], V[:, p])
    U, W, V = bptt(other, words, targets, s_init[..., p], tau, activation)[1]
    q = np.argsort(p)
    gradient = U[q], W[np.ix_(q, q)], V[:, q]
    assert gradient[0].dtype == (np.float32 if single else np.float64)
    report = check_gradient(params, words, targets, gradient, s_init, tau, activation)
    assert report.ok, report
    assert report.diagnosis == ""
    assert report.tolerance == (1e-4 if single else 1e-9)


def test_tolerances_on_both_sides():
    params, words, targets, s_init = problem(10)
    true = bptt(params, words, targets, s_init)[1]
    for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 1e-4)):
        for factor, ok in ((0.5, True), (2.0, False)):
            made = [g.copy() for g in true]
            i = np.unravel_index(np.abs(made[1]).argmax(), made[1].shape)
            made[1][i] *= 1 + factor * tolerance
            made = [g.astype(dtype) for g in made]
            report = check_gradient(params, words, targets, made, s_init)
            assert report.ok is ok
            assert report.tolerance == tolerance


def test_one_float32_matrix_sets_the_tolerance():
    params, words, targets, s_init = problem(10)
    U, W, V = bptt(params, words, targets, s_init)[1]
    report = check_gradient(
        params, words, targets, (U, W.astype(np.float32), V), s_init
    )
    assert report.ok
    assert report.tolerance == 1e-4


def test_mistakes_in_float32_are_named():
    params, words, targets, s_init = problem(11)
    for mistake in CLASSIC_MISTAKES:
        made = faulty_gradient(params, words, targets, mistake, s_init)
        made = [g.astype(np.float32) for g in made]
        report = check_gradient(params, words, targets, made, s_init)
        assert {mistake.name} in named(report), report


def test_a_chaotic_problem_cannot_tell():
    rng = np.random.default_rng(0)
    H, N, T = 64, 10, 50
    params = Parameters(
        rng.normal(size=(H, N)), rng.normal(size=(H, H)), rng.normal(size=(N, H))
    )
    words, targets = rng.integers(N, size=(2, T))
    p = rng.permutation(H)
    U, W, V = params
    other = Parameters(U[p], W[np.ix_(p, p)], V[:, p])
    U, W, V = bptt(other, words, targets, None, None, tanh)[1]
    q = np.argsort(p)
    gradient = U[q], W[np.ix_(q, q)], V[:, q]
    report = check_gradient(params, words, targets, gradient, None, None, tanh)
    assert not report.ok
    assert report.diagnosis.startswith("This problem cannot tell right from wrong")
    assert "smaller W or fewer steps" in " ".join(report.diagnosis.split())


def test_tau_of_t_minus_1_and_more_is_exact():
    params, words, targets, s_init = problem(12)
    true = bptt(params, words, targets, s_init)[1]
    for tau in (5, 6, 100):
        assert check_gradient(params, words, targets, true, s_init, tau).ok
    report = check_gradient(params, words, targets, true, s_init, 4)
    assert named(report) == [{"not truncated"}]
    assert "tau = 4 was asked for" in report.diagnosis
    made = bptt(params, words, targets, s_init, 4)[1]
    report = check_gradient(params, words, targets, made, s_init)
    assert named(report) == [{"truncated at tau = 4"}]
    assert "send each error back all the way" in " ".join(report.diagnosis.split())
    report = check_gradient(params, words, targets, made, s_init, 1)
    assert "send each error back 1 step)" in " ".join(report.diagnosis.split())


# what is in no family


def test_an_unknown_mistake():
    params, words, targets, s_init = problem(13)
    U, W, V = bptt(params, words, targets, s_init)[1]
    turned = np.zeros_like(W)
    turned[0] = [0, 0, 0, 0, 1]
    turned -= W * (turned * W).sum() / (W * W).sum()  # at right angles to W
    report = check_gradient(params, words, targets, (U, turned, V), s_init)
    assert "no known mistake. It points 90 degrees away" in " ".join(
        report.diagnosis.split()
    )
    noisy = [
        g * (1 + 1e-6 * np.sin(np.arange(g.size).reshape(g.shape))) for g in (U, W, V)
    ]
    report = check_gradient(params, words, targets, noisy, s_init)
    assert not report.ok
    assert report.diagnosis.count("float32 arithmetic") == 3


def test_float32_numbers_given_as_float64():
    params, words, targets, s_init = problem(13)
    true = bptt(params, words, targets, s_init)[1]
    rounded = [g.astype(np.float32).astype(np.float64) for g in true]
    report = check_gradient(params, words, targets, rounded, s_init)
    assert not report.ok
    assert "float32 arithmetic" in report.diagnosis


def test_large_vocabulary():
    params, words, targets, s_init = problem(14, H=3, N=3000, T=5)
    true = bptt(params, words, targets, s_init)[1]
    assert check_gradient(params, words, targets, true, s_init).ok
    odd = next(
        n for n in range(1, 3000) if n % 11 and n not in words and n not in targets
    )
    for name, index in (("U", (1, odd)), ("V", (odd, 1))):
        made = Parameters(*(g.copy() for g in true))
        getattr(made, name)[index] += 0.3
        report = check_gradient(params, words, targets, made, s_init)
        wrong = {n for n, error in report.errors.items() if error > 1e-9}
        assert wrong == {name}
        assert "no known mistake" in report.diagnosis
    for mistake in CLASSIC_MISTAKES:
        made = faulty_gradient(params, words, targets, mistake, s_init)
        assert named(check_gradient(params, words, targets, made, s_init)) == [
            {mistake.name}
        ]


def test_one_number_is_not_explained_by_fitting():
    params, words, targets, s_init = problem(15, H=1)
    U, W, V = bptt(params, words, targets, s_init)[1]
    report = check_gradient(params, words, targets, (U, 0.7 * W, V), s_init)
    assert report.diagnosis == (
        "Probably, in dE/dW:\n- 0.7 times what it should be: a constant factor."
    )
    assert any("H = 1" in note for note in report.notes)


# notes


def notes(params, words, targets, s_init=None, tau=None, activation=sigmoid):
    true = bptt(params, words, targets, s_init, tau, activation)[1]
    report = check_gradient(params, words, targets, true, s_init, tau, activation)
    assert report.ok
    return report.notes


def test_a_good_problem_gets_no_notes():
    assert notes(*problem(16)) == ()
    assert notes(*problem(16, T=3)) == ()
    assert notes(*problem(16, H=2)) == ()


def test_notes_name_what_cannot_show():
    params, words, targets, s_init = problem(16)
    U, W, V = params

    def has(text, *case):
        found = [note for note in notes(*case) if text in note]
        return len(found) == 1

    assert has("s(-1) = 0", params, words, targets)
    assert has("s(-1) = 0", params, words, targets, 0 * s_init)
    assert has("T = 2 hides", params, words[:2], targets[:2], s_init)
    assert has("T = 1 hides", params, words[:1], targets[:1], s_init)
    assert has("comes back through W", Parameters(U, 0 * W, V), words, targets, s_init)
    assert has(
        "comes back through W", Parameters(U, 1e-12 * W, V), words, targets, s_init
    )
    assert not has("comes back through W", params, words, targets, s_init, 0)
    assert has("W is symmetric", Parameters(U, W + W.T, V), words, targets, s_init)
    assert has("no word is read twice", params, np.arange(6), targets, s_init)
    assert has("words and targets are equal", params, words, words, s_init)
    assert has("dE/dW is exactly zero", params, words[:1], targets[:1])
    zero = Parameters(U, W, 0 * V)
    assert has("dE/dU is exactly zero", zero, words, targets, s_init)
    assert has("at t = 0, 1, 2, 3, 4, ..", zero, words, targets, s_init)
    assert has("H = 1", *problem(16, H=1))


def test_silent_steps_are_listed():
    params, words, targets, s_init = problem(17, H=2)
    U = params.U.copy()
    U[:, words[3]] = -50  # every ReLU unit is off at the steps that read this word
    params = params._replace(U=U)
    off = np.flatnonzero(words == words[3])
    found = [
        n for n in notes(params, words, targets, s_init, None, relu) if "no error" in n
    ]
    assert found
    assert all(str(t) in found[0] for t in off[:5])


def test_notes_stand_beside_a_diagnosis():
    params, words, targets = hand_example()
    true = bptt(params, words, targets)[1]
    report = check_gradient(params, words, targets, [-g for g in true])
    assert "the sign reversed" in report.diagnosis
    assert any("s(-1) = 0" in note for note in report.notes)


# hostile input


def case():
    params, words, targets, s_init = problem(18)
    return params, words, targets, bptt(params, words, targets, s_init)[1], s_init


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda U, W, V: (U.T, W, V),
            r"gradient\.U has shape \(7, 5\): expected \(5, 7\) \(transp",
        ),
        (
            lambda U, W, V: (U, W, V.T),
            r"gradient\.V has shape \(5, 7\): expected \(7, 5\) \(transp",
        ),
        (
            lambda U, W, V: (U, V, W),
            r"gradient\.W has shape \(7, 5\): .* \(in the order U, W, V\?\)",
        ),
        (
            lambda U, W, V: (U, W[:2], V),
            r"gradient\.W has shape \(2, 5\): expected \(5, 5\)$",
        ),
        (
            lambda U, W, V: (U, W[0], V),
            r"gradient\.W has shape \(5,\): expected \(5, 5\)$",
        ),
        (lambda U, W, V: (U, W * np.nan, V), r"gradient\.W holds nan: expected finite"),
        (lambda U, W, V: (U, W, V + np.inf), r"gradient\.V holds inf"),
        (
            lambda U, W, V: (U, [[1, 2], [3]], V),
            r"gradient\.W has rows of different lengths",
        ),
        (
            lambda U, W, V: (U + 1j, W, V),
            r"gradient\.U is complex128: expected float32",
        ),
        (
            lambda U, W, V: (U, W.astype(np.float16), V),
            r"gradient\.W is float16: expected",
        ),
        (lambda U, W, V: (U, W.astype(str), V), r"gradient\.W holds"),
        (lambda U, W, V: (U, W), r"gradient holds 2 arrays: expected three"),
    ],
)
def test_bad_gradients_are_refused(change, message):
    params, words, targets, gradient, s_init = case()
    with pytest.raises(ValueError, match=message):
        check_gradient(params, words, targets, change(*gradient), s_init)


def test_a_wholly_transposed_triple_gets_both_hints():
    params, words, targets, (U, W, V), s_init = case()
    with pytest.raises(ValueError, match=r"\(transposed\? in the order U, W, V\?\)"):
        check_gradient(params, words, targets, (U.T, W, V.T), s_init)


def test_bad_arguments_are_refused():
    params, words, targets, gradient, s_init = case()
    with pytest.raises(ValueError, match="words holds"):
        check_gradient(params, words + 7, targets, gradient, s_init)
    with pytest.raises(ValueError, match="targets has shape"):
        check_gradient(params, words, targets[:-1], gradient, s_init)
    with pytest.raises(ValueError, match="s_init has shape"):
        check_gradient(params, words, targets, gradient, s_init[:-1])
    with pytest.raises(ValueError, match="tau is -1"):
        check_gradient(params, words, targets, gradient, s_init, -1)
    with pytest.raises(ValueError, match=r"params\.W has shape"):
        check_gradient(
            params._replace(W=params.W[:2]), words, targets, gradient, s_init
        )
    with pytest.raises(ValueError, match=r"params\.W is complex: expected real"):
        check_gradient(
            params._replace(W=params.W + 0j), words, targets, gradient, s_init
        )
    mistake = by_name("the input word taken for the target")
    with pytest.raises(ValueError, match="targets"):
        faulty_gradient(params, words, targets + 7, mistake, s_init)
    with pytest.raises(ValueError, match="targets"):
        faulty_gradient(params, words, targets[:-1], mistake, s_init)
    with pytest.raises(ValueError, match="s_init"):
        faulty_gradient(params, words, targets, mistake, s_init[:-1])


def test_integers_and_lists_are_accepted():
    params, words, targets, gradient, s_init = case()
    lists = [g.tolist() for g in gradient]
    assert check_gradient(
        tuple(m.tolist() for m in params), words.tolist(), targets, lists, s_init
    ).ok
    report = check_gradient(
        params, words, targets, [np.zeros(g.shape, int) for g in gradient], s_init
    )
    assert report.diagnosis.endswith("- all zero: nothing was added up.")


def test_arguments_are_left_unchanged():
    params, words, targets, gradient, s_init = case()
    gradient = [-g for g in gradient]
    arrays = [*params, words, targets, *gradient, s_init]
    copies = [array.copy() for array in arrays]
    check_gradient(params, words, targets, gradient, s_init)
    for array, copy in zip(arrays, copies, strict=True):
        assert (array == copy).all()


def test_extremes():
    params, words, targets, _, s_init = case()
    with np.errstate(all="raise", under="ignore"):
        large = Parameters(*(50 * m for m in params))
        true = bptt(large, words, targets, s_init)[1]
        assert check_gradient(large, words, targets, true, s_init).ok
        zero = Parameters(*(0 * m for m in params))
        true = bptt(zero, words, targets, s_init)[1]
        assert check_gradient(zero, words, targets, true, s_init).ok


# the report


def test_report_reads_well():
    params, words, targets, gradient, s_init = case()
    report = check_gradient(params, words, targets, gradient, s_init)
    assert isinstance(report, GradientReport)
    assert str(report) == repr(report)
    assert str(report).splitlines() == [
        f"dE/d{name}  right, error below 1e-09" for name in "UWV"
    ]
    assert set(report.errors) == {"U", "W", "V"}
    report = check_gradient(params, words, targets, gradient._replace(W=-gradient.W))
    lines = str(report).splitlines()
    assert all(len(line) <= 79 for line in lines)
    assert any(line.startswith("Note: s(-1) = 0") for line in lines)
    report = check_gradient(
        params, words, targets, gradient._replace(W=-gradient.W), s_init
    )
    assert str(report).splitlines()[1] == "dE/dW  WRONG, error 2"
    assert report.errors["W"] == pytest.approx(2)
    assert max(report.errors["U"], report.errors["V"]) < 1e-12


def test_several_that_fit_are_all_reported():
    params, words, targets, _, s_init = case()
    one = params, words[:1], targets[:1]
    made = faulty_gradient(*one, by_name("s(t) for s(t-1) in dE/dW"), s_init)
    report = check_gradient(*one, made, s_init)
    assert named(report) == [
        {"s(t) for s(t-1) in dE/dW"},
        {"the last state taken for s(-1)"},
    ]
    assert "one of these 2, which fit equally well" in report.diagnosis


# the family


def test_the_family():
    assert len(CLASSIC_MISTAKES) >= 30
    for T in (1, 2, 5, 100):
        family = classic_mistakes(T)
        names = [m.name for m in family]
        assert len(set(names)) == len(names)
        assert sum("tau" in name for name in names) == min(T - 1, 64)
        assert sum("chunks" in name for name in names) == max(0, min(T, 64) - 2)
        for mistake in family:
            Backward(**mistake.changes)  # no unknown switch
            assert mistake.remedy
            assert not mistake.remedy.endswith(".")
    names = [m.name for m in classic_mistakes(5, 2)]
    assert "not truncated" in names
    assert "truncated at tau = 2" not in names
    assert "truncated at tau = 3" in names
    assert "not truncated" not in [m.name for m in classic_mistakes(5, 4)]
    assert "the slope of tanh" in [m.name for m in classic_mistakes(3)]
    assert "the slope of sigmoid" not in [m.name for m in classic_mistakes(3)]
    assert "the slope of sigmoid" in [m.name for m in classic_mistakes(3, None, tanh)]


def test_candidates_are_made_only_when_something_is_wrong(monkeypatch):
    params, words, targets, gradient, s_init = case()

    def never(*args):
        raise AssertionError("a candidate was made")

    monkeypatch.setattr(diagnosis, "_candidate", never)
    assert check_gradient(params, words, targets, gradient, s_init).ok


# the two measures


@given(
    st.lists(st.floats(-10, 10), min_size=2, max_size=6),
    st.floats(-5, 5).filter(lambda c: abs(c) > 1e-3),
)
def test_fitted_factor_finds_the_factor(candidate, c):
    candidate = np.array([1.0, *candidate])
    assert fitted_factor(c * candidate, candidate) == pytest.approx(c)
    assert abs(abs(gradient_cosine(c * candidate, candidate)) - 1) < 1e-12
    assert np.sign(gradient_cosine(c * candidate, candidate)) == np.sign(c)


def test_fitted_factor_is_least_squares():
    rng = np.random.default_rng(0)
    A, K = rng.normal(size=(2, 3, 4))
    c = fitted_factor(A, K)
    losses = [
        ((A - k * K) ** 2).sum() for k in (c - 0.1, c - 0.01, c, c + 0.01, c + 0.1)
    ]
    assert all(a > b for a, b in pairwise(losses[:3]))
    assert all(a < b for a, b in pairwise(losses[2:]))
    rest = A - c * K
    assert abs((rest * K).sum()) < 1e-12
    cosine = gradient_cosine(A, K)
    assert np.linalg.norm(rest) == pytest.approx(
        np.linalg.norm(A) * np.sqrt(1 - cosine**2)
    )


def test_measures_of_zero():
    zero, one = np.zeros((2, 2)), np.ones((2, 2))
    assert fitted_factor(one, zero) == 0
    assert fitted_factor(zero, one) == 0
    assert gradient_cosine(one, zero) == 0
    assert gradient_cosine(zero, one) == 0
    assert gradient_cosine(one, one) == 1
    assert isinstance(fitted_factor(one, one), float)
    assert isinstance(gradient_cosine(one, one), float)


@pytest.mark.parametrize("mistake", CLASSIC_MISTAKES, ids=lambda m: m.name)
def test_cosine_says_whether_the_loss_falls(mistake):
    params, words, targets, s_init = problem(19)
    E, true, _ = bptt(params, words, targets, s_init)
    made = faulty_gradient(params, words, targets, mistake, s_init)
    cosine = gradient_cosine(
        np.concatenate([g.ravel() for g in made]),
        np.concatenate([g.ravel() for g in true]),
    )
    stepped = Parameters(*(p - 1e-7 * g for p, g in zip(params, made, strict=True)))
    assert (bptt(stepped, words, targets, s_init)[0] < E) == (cosine > 0)
