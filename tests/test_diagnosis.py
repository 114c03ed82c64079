"""Diagnosis: every mistake gets its name, a right gradient none."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn import diagnosis
from rnn.bptt import bptt
from rnn.cross_entropy import output_error
from rnn.diagnosis import (
    CLASSIC_MISTAKES,
    GradientReport,
    Mistake,
    check_gradient,
    faulty_gradient,
    fitted_factor,
)
from rnn.gradient_check import gradient_error
from rnn.hidden_state import Parameters, hidden_states, relu, sigmoid, tanh
from rnn.softmax import outputs

BY_NAME = {mistake.name: mistake for mistake in CLASSIC_MISTAKES}


def problem(seed, H=5, N=7, T=6, batch=(), g=1.0):
    """U, V of order one, W's norm about one, s(-1) != 0, a word read twice."""
    rng = np.random.default_rng(seed)
    U, V = rng.normal(size=(H, N)), rng.normal(size=(N, H))
    W = g * rng.normal(size=(H, H)) / np.sqrt(H)
    words, targets = rng.integers(N, size=(2, T, *batch))
    words[1:2] = words[:1]
    return Parameters(U, W, V), words, targets, rng.uniform(0.1, 0.9, size=(*batch, H))


def distance(one, other):
    return max(gradient_error(a, b) for a, b in zip(one, other, strict=True))


def joined(report):
    return " ".join(report.diagnosis.split())


def named(report):
    """What the report says is wrong, the name of each explanation."""
    lines = report.diagnosis.replace("\n  ", " ").splitlines()
    return [line[2:].split(" (")[0] for line in lines if line.startswith("- ")]


def family(T, tau=None, activation=sigmoid):
    """All mistakes that can show with this activation."""
    own = {"slope of sigmoid": sigmoid, "slope of tanh": tanh}
    vain = {"slope taken at s, not a"} if activation is relu else set()  # f(s) = s
    vain |= {name for name, f in own.items() if f is activation}
    made = diagnosis._family(T, tau)
    assert made[0] == Mistake()
    return [mistake for mistake in made[1:] if mistake.name not in vain]


# the pass with no switch turned


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_no_mistake_is_bptt(activation, batch):
    params, words, targets, s_init = problem(1, batch=batch)
    for tau in (None, 0, 1, 3, 5, 9):
        options = s_init, tau, activation
        made = faulty_gradient(params, words, targets, Mistake(), *options)
        assert distance(made, bptt(params, words, targets, *options)[1]) < 1e-13


def test_no_mistake_is_bptt_also_where_one_gradient_overflows():
    params = Parameters(np.full((2, 3), 8e307), np.zeros((2, 2)), np.zeros((3, 2)))
    args = params, [1] * 8, [2] * 8
    with np.errstate(over="ignore"):
        true = bptt(*args, activation=relu)[1]
        made = faulty_gradient(*args, Mistake(), activation=relu)
    assert np.isinf(true.V).all()
    for a, b in zip(made, true, strict=True):
        np.testing.assert_array_equal(a, b)


def test_s_init_is_zero_unless_given_and_one_serves_for_all():
    params, words, targets, s_init = problem(1, batch=(2,))
    for start in (None, s_init[0]):
        made = faulty_gradient(params, words, targets, Mistake(), start)
        assert distance(made, bptt(params, words, targets, start)[1]) < 1e-13
        true = bptt(params, words, targets, start)[1]
        assert check_gradient(params, words, targets, true, start).ok


def test_the_pass_follows_the_float_type_of_its_arguments():
    params, words, targets, s_init = problem(1)
    params = Parameters(*(matrix.astype(np.float32) for matrix in params))
    for start in (None, s_init.astype(np.float32)):
        for mistake in family(6):
            made = faulty_gradient(params, words, targets, mistake, start)
            assert {matrix.dtype for matrix in made} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ({"back": "V"}, r"mistake\.back is 'V': expected 'W\^T' or 'W'$"),
        ({"s_init": "none"}, "mistake.s_init is 'none': expected 'given' or 'zero'$"),
        ({"slope": "relu"}, "mistake.slope is 'relu': expected \"f'\" or "),
        (
            {"previous": "0"},
            r"mistake\.previous is '0': expected 's\(t-1\)' or 's\(t\)'",
        ),
        ({"column": "d"}, r"mistake\.column is 'd': expected 'w\(t\)' or 'd\(t\)' or "),
        ({"transposed": "no"}, "mistake.transposed is 'no': expected False or True$"),
        ({"direct": -2}, "mistake.direct is -2: expected None or -1 or 0 or 1$"),
        ({"recurrent": 7}, "mistake.recurrent is 7: expected None or -1 or 0 or 1$"),
        ({"left_out": (6,)}, r"mistake\.left_out is \(6,\): expected steps of 6$"),
        ({"left_out": (0, -7)}, r"mistake\.left_out is \(0, -7\): expected steps of 6"),
    ],
)
def test_a_switch_at_no_position_is_refused(switch, message):
    params, words, targets, s_init = problem(1)
    with pytest.raises(ValueError, match=message):
        faulty_gradient(params, words, targets, Mistake(**switch), s_init)


# every mistake written out by hand, in loops


def by_hand(name, params, words, targets, s_init, f=sigmoid):
    U, W, V = params
    T, H = len(words), len(W)
    if name == "s(-1) taken as zero":
        s_init = 0 * s_init
    states = hidden_states(params, words, s_init, f)
    e_o = output_error(outputs(params, states), targets)
    slope = [f.slope(s) for s in states]
    if name == "slope taken at s, not a":
        slope = [f(s) * (1 - f(s)) for s in states]
    if name == "slope of tanh":
        slope = [1 - s**2 for s in states]
    if name == "slope of sigmoid":
        slope = [s * (1 - s) for s in states]
    before = [f.slope(s_init), *slope[:-1]]
    after = [*slope[1:], slope[-1]]
    direct = {"slope of step t-1": before, "slope of step t+1": after}.get(name, slope)
    recurrent = after if name == "slope of step t+1 in W^T delta" else direct
    if name in ("slope forgotten", "slope forgotten in e_h"):
        direct = np.ones((T, H))
    if name in ("slope forgotten", "slope forgotten in W^T delta"):
        recurrent = np.ones((T, H))
    dU, dW, dV = np.zeros_like(U), np.zeros_like(W), np.zeros_like(V)
    for t in range(T):
        dV -= np.outer(e_o[t], states[t])
    through = V - 0.05 * dV if name == "V after its update" else V
    delta, dV = np.zeros(H), np.zeros_like(V)
    counted = set()
    for t in reversed(range(T)):
        if name == "first step left out" and t == 0:
            break
        if name == "last step left out" and t == T - 1:
            continue
        sent = (W if name == "W for W^T" else W.T) @ delta
        if name == "truncated at tau = 0":
            sent = 0 * sent
        delta = through.T @ e_o[t] * direct[t] + sent * recurrent[t]
        previous = states[t - 1] if t > 0 else s_init
        if name == "s(-1) taken as zero in dW" and t == 0:
            previous = 0 * previous
        if name == "s(T-1) for s(-1) in dW":
            previous = states[t - 1]  # in Python index -1 is the last
        if name == "s(t) for s(t-1) in dW":
            previous = states[t]
        dV -= np.outer(e_o[t], states[t])
        read = (targets if name == "targets for inputs in dU" else words)[t]
        if name != "word counted once in dU" or read not in counted:
            dU[:, read] -= delta
        counted.add(read)
        dW -= np.outer(delta, previous)
    return dU, dW.T if name == "dW transposed" else dW, dV


@pytest.mark.parametrize("name", [*BY_NAME, "truncated at tau = 0"])
def test_each_mistake_written_by_hand_is_named(name):
    f = tanh if name == "slope of sigmoid" else sigmoid
    params, words, targets, s_init = problem(6)
    made = by_hand(name, params, words, targets, s_init, f)
    mistake = next(m for m in diagnosis._family(6, None) if m.name == name)
    mistake = mistake._replace(updated=0.05) if mistake.updated else mistake
    own = faulty_gradient(params, words, targets, mistake, s_init, None, f)
    assert distance(own, made) < 1e-12
    report = check_gradient(params, words, targets, made, s_init, None, f)
    assert named(report) == [name], report
    assert f"{name} ({mistake.remedy})" in joined(report)
    assert ("alpha = 0.05" in joined(report)) == bool(mistake.updated)
    assert "times" not in report.diagnosis


def test_the_loops_without_a_mistake_are_right():
    args = problem(6)
    assert check_gradient(*args[:3], by_hand("", *args), args[3]).ok


# every mistake gets its own name, and no other


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
@pytest.mark.parametrize(("batch", "tau"), [((), None), ((3,), 2)])
def test_each_mistake_is_named_also_with_a_factor(activation, batch, tau):
    params, words, targets, s_init = problem(2, H=6, batch=batch)
    options = s_init, tau, activation
    for mistake in family(len(words), tau, activation):
        made = faulty_gradient(params, words, targets, mistake, *options)
        report = check_gradient(params, words, targets, made, *options)
        assert not report.ok
        assert named(report) == [mistake.name], report
        assert "times" not in report.diagnosis
        if not mistake.updated:
            scaled = [-0.03 * g for g in made]
            report = check_gradient(params, words, targets, scaled, *options)
            assert named(report) == [mistake.name], report
            assert "; -0.03 times what it should be, an update" in joined(report)


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
def test_every_pair_can_be_told_apart(activation):
    for seed in range(3):
        params, words, targets, s_init = problem(seed, H=8, T=5)
        made = {
            m.name: faulty_gradient(params, words, targets, m, s_init, None, activation)
            for m in [Mistake(), *family(5, None, activation)]
        }
        for one, other in combinations(made, 2):
            nearest = distance(made[one], made[other])
            assert nearest > 1e-5, (one, other, seed)


def test_mistakes_in_float32_are_named():
    params, words, targets, s_init = problem(11)
    for mistake in family(3):
        made = faulty_gradient(params, words[:3], targets[:3], mistake, s_init)
        made = [g.astype(np.float32) for g in made]
        report = check_gradient(params, words[:3], targets[:3], made, s_init)
        assert named(report) == [mistake.name], report
        assert "times" not in report.diagnosis


def test_what_is_left_right_decides():
    params, words, targets, s_init = problem(5)
    true = bptt(params, words, targets, s_init)[1]
    left_out = BY_NAME["first step left out"]
    made = faulty_gradient(params, words, targets, left_out, s_init)
    # in W alone it is s(-1) taken as zero there, which spoils nothing else
    report = check_gradient(params, words, targets, true._replace(W=made.W), s_init)
    assert named(report) == ["s(-1) taken as zero in dW"]
    # in V alone no mistake explains all, so the matrix is explained by itself
    report = check_gradient(params, words, targets, true._replace(V=made.V), s_init)
    assert named(report) == ["first step left out"]
    assert report.diagnosis.startswith("In dE/dV, probably:\n- ")


def test_different_mistakes_in_different_matrices():
    params, words, targets, s_init = problem(5)
    one, other = (
        faulty_gradient(params, words, targets, BY_NAME[name], s_init)
        for name in ("W for W^T", "slope forgotten")
    )
    report = check_gradient(params, words, targets, (one.U, other.W, one.V), s_init)
    assert named(report) == ["W for W^T", "slope forgotten"]
    assert "In dE/dU, probably:\n- W" in report.diagnosis
    assert "\nIn dE/dW, probably:\n- slope" in report.diagnosis


def test_several_that_fit_are_all_reported():
    params, words, targets, s_init = problem(18, T=1)
    mistake = BY_NAME["slope forgotten in e_h"]
    made = faulty_gradient(params, words, targets, mistake, s_init)
    report = check_gradient(params, words, targets, made, s_init)
    assert named(report) == ["slope forgotten in e_h", "slope forgotten"]
    assert (
        "In dE/dU and dE/dW, probably one of these, which fit equally well: -"
        in joined(report)
    )


def test_truncation_by_tau():
    params, words, targets, s_init = problem(12)
    true = bptt(params, words, targets, s_init)[1]
    for tau in (5, 6, 100):
        assert check_gradient(params, words, targets, true, s_init, tau).ok
    report = check_gradient(params, words, targets, true, s_init, 4)
    assert named(report) == ["not truncated"]
    assert "(send each error back 4 steps)" in joined(report)
    made = bptt(params, words, targets, s_init, 4)[1]
    report = check_gradient(params, words, targets, made, s_init)
    assert named(report) == ["truncated at tau = 4"]
    assert "(send each error back 5 steps)" in joined(report)
    names = [m.name for m in diagnosis._family(3, 7)]
    assert names[-2:] == ["truncated at tau = 0", "truncated at tau = 1"]
    assert [m.name for m in diagnosis._family(3, 1)][-2:] == [
        "truncated at tau = 0",
        "not truncated",
    ]


def test_a_truncation_that_hardly_shows_is_still_told_from_its_neighbours():
    params, words, targets, s_init = problem(12, T=12, g=0.3)
    true = bptt(params, words, targets, s_init)[1]
    for tau in range(11):
        made = bptt(params, words, targets, s_init, tau)[1]
        report = check_gradient(params, words, targets, made, s_init)
        assert report.ok == (distance(made, true) <= 1e-9)
        assert report.ok or named(report) == [f"truncated at tau = {tau}"]


# factors


@pytest.mark.parametrize(
    ("c", "text"),
    [
        (-1, "-1 times what it should be, the sign (e_o and delta are minus deriv"),
        (1 / 6, "0.1667 times what it should be, the mean over 6 steps."),
        (1 / 4, "the mean over 4 sequences."),
        (1 / 24, "the mean over 24 words."),
        (-1 / 6, "-0.1667 times what it should be, the sign, and the mean over 6 st"),
        (2, "2 times what it should be, counted twice."),
        (0.5, "halved."),
        (-0.1, "-0.1 times what it should be, an update, -alpha dE with alpha = 0.1."),
        (0.3, "0.3 times what it should be, a constant factor."),
        (0, "0 times what it should be, nothing added up."),
    ],
)
def test_factors_are_fitted_and_named(c, text):
    params, w, d, s_init = problem(9, batch=(4,))
    true = bptt(params, w, d, s_init)[1]
    report = check_gradient(params, w, d, [c * g for g in true], s_init)
    assert text in joined(report)
    assert joined(report).startswith("In dE/dU and dE/dW and dE/dV, probably: - ")
    assert len(named(report)) == 1


def test_factors_that_have_two_names():
    assert diagnosis._factor_name(0.5, 2, 1).endswith("the mean over 2 steps or halved")
    assert diagnosis._factor_name(0.5, 3, 2).endswith("over 2 sequences or halved")
    assert diagnosis._factor_name(0.2, 5, 1).endswith(", the mean over 5 steps")
    assert diagnosis._factor_name(0.25, 2, 2).endswith(", the mean over 4 words")
    assert diagnosis._factor_name(0.25, 1, 4).endswith(
        "4 sequences or the mean over 4 words"
    )


def test_a_factor_is_fitted_also_at_a_single_step():
    params, words, targets, s_init = problem(9, T=1, batch=(4,))
    true = bptt(params, words, targets, s_init)[1]
    report = check_gradient(params, words, targets, [g / 4 for g in true], s_init)
    assert joined(report).endswith(
        "the mean over 4 sequences or the mean over 4 words."
    )


def test_a_factor_near_one_is_no_mean_over_one_sequence():
    params, words, targets, s_init = problem(9)
    true = bptt(params, words, targets, s_init)[1]
    made = [(1 + 1e-6) * g for g in true]
    report = check_gradient(params, words, targets, made, s_init)
    assert joined(report).endswith(" times what it should be, a constant factor.")


def test_factors_of_single_matrices():
    params, words, targets, s_init = problem(9)
    U, W, V = bptt(params, words, targets, s_init)[1]
    report = check_gradient(params, words, targets, (U, W, V / 6), s_init)
    assert report.diagnosis == (
        "In dE/dV, probably:\n"
        "- 0.1667 times what it should be, the mean over 6 steps, in dE/dV."
    )
    report = check_gradient(params, words, targets, (-U, -W, V / 6), s_init)
    assert "minus derivatives), in dE/dU and dE/dW; 0.1667 times" in joined(report)
    assert joined(report).endswith("6 steps, in dE/dV.")


def test_a_mistake_beside_a_factor_in_another_matrix():
    params, words, targets, s_init = problem(9)
    made = faulty_gradient(params, words, targets, BY_NAME["W for W^T"], s_init)
    report = check_gradient(params, words, targets, made._replace(V=made.V / 6), s_init)
    assert named(report) == ["W for W^T"]
    assert joined(report).endswith("steps, in dE/dV.")


def test_an_exact_fit_goes_before_a_factor():
    params, words, targets, s_init = problem(15, H=1)  # any factor fits one number
    mistake = BY_NAME["s(t) for s(t-1) in dW"]
    made = faulty_gradient(params, words, targets, mistake, s_init)
    report = check_gradient(params, words, targets, made, s_init)
    assert named(report) == [mistake.name]


# right gradients


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    H=st.integers(1, 20),
    N=st.integers(2, 30),
    T=st.integers(1, 50),
    g=st.sampled_from([0.0, 0.1, 1.0]),
    activation=st.sampled_from([sigmoid, tanh, relu]),
    batch=st.sampled_from([(), (1,), (3,), (2, 2)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    tau=st.sampled_from([None, 0, 1, 4]),
)
def test_a_right_gradient_is_never_accused(
    seed, H, N, T, g, activation, batch, dtype, tau
):
    params, words, targets, s_init = problem(seed, H, N, T, batch, g)
    U, W, V = (m.astype(dtype) for m in params)
    s_init = s_init.astype(dtype)
    # renumbered hidden units: the same sums in another order
    p = np.random.default_rng(seed).permutation(H)
    q = np.argsort(p)
    other = Parameters(U[p], W[np.ix_(p, p)], V[:, p])
    dU, dW, dV = bptt(other, words, targets, s_init[..., p], tau, activation)[1]
    gradient = dU[q], dW[np.ix_(q, q)], dV[:, q]
    report = check_gradient(
        (U, W, V), words, targets, gradient, s_init, tau, activation
    )
    assert report.ok, report
    assert report.diagnosis == ""
    assert report.tolerance == (1e-4 if dtype == np.float32 else 1e-9)


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
            assert ok == (report.diagnosis == "")


def test_an_error_of_the_tolerance_itself_is_right(monkeypatch):
    params, words, targets, s_init = problem(10)
    true = bptt(params, words, targets, s_init)[1]
    W = true.W.copy()
    W[np.unravel_index(np.abs(W).argmax(), W.shape)] *= 1.001
    tolerance = gradient_error(W, true.W)
    monkeypatch.setitem(diagnosis._TOLERANCES, "float64", tolerance)
    report = check_gradient(params, words, targets, true._replace(W=W), s_init)
    assert report.errors["W"] == report.tolerance == tolerance
    assert report.ok
    assert report.diagnosis == ""
    assert "WRONG" not in str(report)
    # nor is W accused when U is wrong
    made = true._replace(U=-true.U, W=W)
    report = check_gradient(params, words, targets, made, s_init)
    assert str(report).count("WRONG") == 1
    assert report.diagnosis.startswith("In dE/dU, probably:\n- -1 times")
    assert joined(report).endswith(", in dE/dU.")


def test_an_explanation_leaves_a_tenth_of_the_error_at_most():
    params, words, targets, s_init = problem(5)
    true = bptt(params, words, targets, s_init)[1]
    mistake = BY_NAME["V after its update"]
    shift = faulty_gradient(params, words, targets, mistake, s_init).W - true.W
    alpha = 5e-9 * np.abs(true.W).max() / np.abs(shift).max()  # dE/dW is off by 5e-9
    mistake = mistake._replace(updated=alpha)
    least = np.unravel_index(np.abs(shift).argmin(), shift.shape)
    for share, unexplained in ((0.095, 0), (0.105, 1)):
        made = faulty_gradient(params, words, targets, mistake, s_init)
        made.W[least] += share * 5e-9 * np.abs(true.W).max()
        report = check_gradient(params, words, targets, made, s_init)
        assert report.errors["W"] == pytest.approx(5e-9)
        assert named(report)[0] == "V after its update"
        assert report.diagnosis.count("no single mistake") == unexplained


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_rounding_stays_far_below_the_tolerance(dtype, limit):
    for T, f in product((2, 10, 50), (sigmoid, tanh, relu)):
        params, words, targets, s_init = problem(T, H=20, N=30, T=T)
        U, W, V = (matrix.astype(dtype) for matrix in params)
        s_init, p = s_init.astype(dtype), np.random.default_rng(T).permutation(20)
        other, q = Parameters(U[p], W[np.ix_(p, p)], V[:, p]), np.argsort(p)
        dU, dW, dV = bptt(other, words, targets, s_init[p], None, f)[1]
        wide = Parameters(*(matrix.astype(float) for matrix in (U, W, V)))
        true = bptt(wide, words, targets, s_init.astype(float), None, f)[1]
        assert distance((dU[q], dW[np.ix_(q, q)], dV[:, q]), true) < limit


def test_float32_hides_a_small_mistake_and_says_so():
    params, words, targets, s_init = problem(12, g=0.5)
    made = bptt(params, words, targets, s_init, 4)[1]
    note = "float32 hides errors below 1e-4: pass float64"
    report = check_gradient(params, words, targets, made, s_init)
    assert not report.ok
    assert report.notes == ()
    made = made._replace(V=made.V.astype(np.float32))
    report = check_gradient(params, words, targets, made, s_init)
    assert report.ok
    assert report.notes == (note,)
    assert str(report).splitlines()[-1] == f"Note: {note}."


def test_one_float32_matrix_sets_the_tolerance():
    params, words, targets, s_init = problem(10)
    for name in "UWV":
        made = bptt(params, words, targets, s_init)[1]
        made = made._replace(**{name: getattr(made, name).astype(np.float32)})
        report = check_gradient(params, words, targets, made, s_init)
        assert report.ok
        assert report.tolerance == 1e-4


def test_candidates_are_made_only_when_something_is_wrong(monkeypatch):
    monkeypatch.setattr(diagnosis, "faulty_gradient", None)
    params, words, targets, s_init = problem(18)
    true = bptt(params, words, targets, s_init)[1]
    assert check_gradient(params, words, targets, true, s_init).ok
    with pytest.raises(TypeError):
        check_gradient(params, words, targets, [-g for g in true], s_init)


# what is in no family


def test_an_unknown_mistake():
    params, words, targets, s_init = problem(13, N=30)
    true = bptt(params, words, targets, s_init)[1]
    noise = 1 + 1e-6 * np.sin(np.arange(25).reshape(5, 5))
    report = check_gradient(
        params, words, targets, true._replace(W=true.W * noise), s_init
    )
    assert not report.ok
    assert named(report) == [
        "no single mistake of the family: take T = 1, then T = 2, then more"
    ]
    assert "float32, finite differences, or rounding" in joined(report)
    # what nothing explains is said once, after what something does
    made = Parameters(true.U * (1 + noise.max()), true.W * noise, true.V)
    made.U[:, words[0]] = 0
    report = check_gradient(params, words, targets, made._replace(V=-true.V), s_init)
    assert report.diagnosis.splitlines()[:3] == [
        "In dE/dV, probably:",
        "- -1 times what it should be, the sign (e_o and delta are minus derivatives).",
        "In dE/dU and dE/dW:",
    ]
    assert report.diagnosis.count("no single mistake") == 1
    # a number in a column of U that must be zero is seen
    unread = max(n for n in range(30) if n not in words and n not in targets)
    made = true._replace(U=-true.U)
    made.U[2, unread] = 1.0
    report = check_gradient(params, words, targets, made, s_init)
    assert named(report)[0].startswith("no single mistake")


def test_a_candidate_that_overflows_explains_nothing():
    params, words, targets, s_init = problem(3, T=40)
    params = params._replace(W=1e9 * params.W)
    true = bptt(params, words, targets, s_init)[1]
    with np.errstate(all="raise", under="ignore"):
        report = check_gradient(params, words, targets, [-g for g in true], s_init)
    assert "the sign" in report.diagnosis


def test_huge_numbers_explain_nothing():
    params, words, targets, s_init = problem(3)
    true = bptt(params, words, targets, s_init)[1]
    with np.errstate(all="raise", under="ignore"):
        made = [np.where(g > 0, 1e307, -1e307) for g in true]
        report = check_gradient(params, words, targets, made, s_init)
    assert not report.ok
    assert named(report) == [
        "no single mistake of the family: take T = 1, then T = 2, then more"
    ]


# notes


def notes(params, words, targets, s_init=None):
    true = bptt(params, words, targets, s_init)[1]
    report = check_gradient(params, words, targets, true, s_init)
    assert report.ok
    return report.notes


def test_notes_name_what_cannot_show():
    params, words, targets, s_init = problem(16)
    U, W, V = params
    zero, once = "s(-1) = 0 hides", "no word is read twice"
    case = words, targets, s_init
    one_zero_s, one_zero_W = s_init.copy(), W.copy()
    one_zero_s[0] = one_zero_W[0, 0] = 0  # hides nothing
    for found, expected in (
        (notes(params, *case), []),
        (notes(params, words, targets, one_zero_s), []),
        (notes(Parameters(U, one_zero_W, V), *case), []),
        (notes(*problem(16, T=3)), []),
        (notes(*problem(16, T=2)), ["T = 2 hides mistakes that need three steps"]),
        (notes(params, words, targets), [zero]),
        (notes(params, words, targets, 0 * s_init), [zero]),
        (notes(Parameters(U, 0 * W, V), *case), ["W = 0 hides mistakes in the recurs"]),
        (notes(params, np.arange(6), targets, s_init), [once]),
        (
            notes(params, words[:1], targets[:1]),
            ["T = 1 hides", zero, once, "dE/dW should be zero, which tests nothing"],
        ),
        (
            notes(Parameters(U, W, 0 * V), *case),
            ["dE/dU should be zero", "dE/dW should be zero"],
        ),
    ):
        assert len(found) == len(expected), found
        assert all(a.startswith(b) for a, b in zip(found, expected, strict=True))


# hostile input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda U, W, V: (U.T, W, V),
            r"gradient\.U has shape \(7, 5\): expected \(5, 7\) \(transposed\?\)$",
        ),
        (
            lambda U, W, V: (U, W, V.T),
            r"gradient\.V has shape \(5, 7\): expected \(7, 5\) \(transposed\?\)$",
        ),
        (
            lambda U, W, V: (U, W[:2], V),
            r"gradient\.W has shape \(2, 5\): expected \(5, 5\)$",
        ),
        (lambda U, W, V: (U, W[0], V), r"gradient\.W has shape \(5,\): expected"),
        (lambda U, W, V: (U, W * np.nan, V), r"gradient\.W holds nan: expected finite"),
        (lambda U, W, V: (U, W, V + np.inf), r"gradient\.V holds inf"),
        (lambda U, W, V: (U, [[1, 2], [3]], V), r"gradient\.W has rows of different"),
        (lambda U, W, V: (U + 1j, W, V), r"gradient\.U is complex128: expected float"),
        (lambda U, W, V: (U, W.astype(np.float16), V), r"gradient\.W is float16: exp"),
        (lambda U, W, V: (U, W.astype(str), V), r"gradient\.W holds"),
        (lambda U, W, V: (U, None, V), r"gradient\.W holds object"),
        (lambda U, W, V: (U, W), r"gradient holds 2 arrays: expected U, W and V"),
    ],
)
def test_bad_gradients_are_refused(change, message):
    params, words, targets, s_init = problem(18)
    gradient = change(*bptt(params, words, targets, s_init)[1])
    with pytest.raises(ValueError, match=message):
        check_gradient(params, words, targets, gradient, s_init)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, w, d, s: (p, w + 7, d, s, None), "words holds"),
        (lambda p, w, d, s: (p, w, d[:-1], s, None), "targets has shape"),
        (lambda p, w, d, s: (p, w, d, s[:-1], None), "s_init has shape"),
        (lambda p, w, d, s: (p, w, d, s + 0j, None), "s_init is complex128: expected"),
        (lambda p, w, d, s: (p, w, d, s, -1), "tau is -1"),
        (lambda p, w, d, s: (p[:2], w, d, s, None), "params is a tuple: expected"),
        (
            lambda p, w, d, s: (p._replace(W=p.W + 0j), w, d, s, None),
            r"params\.W is complex128: expected float32 or float64",
        ),
    ],
)
def test_bad_arguments_are_refused(change, message):
    args = problem(18)
    gradient = bptt(*args)[1]
    params, words, targets, s_init, tau = change(*args)
    with pytest.raises(ValueError, match=message):
        check_gradient(params, words, targets, gradient, s_init, tau)


def test_integers_and_lists_are_accepted():
    params, words, targets, s_init = problem(18)
    gradient = bptt(params, words, targets, s_init)[1]
    lists = [g.tolist() for g in gradient]
    matrices = tuple(m.tolist() for m in params)
    assert check_gradient(
        matrices, words.tolist(), targets.tolist(), lists, s_init.tolist()
    ).ok
    zeros = [np.zeros(g.shape, int) for g in gradient]
    report = check_gradient(params, words.tolist(), targets.tolist(), zeros, s_init)
    assert report.diagnosis.endswith("nothing added up.")
    assert report.tolerance == 1e-9


def test_arguments_are_left_unchanged():
    params, words, targets, s_init = problem(18)
    gradient = [-g for g in bptt(params, words, targets, s_init)[1]]
    arrays = [*params, words, targets, *gradient, s_init]
    copies = [array.copy() for array in arrays]
    check_gradient(params, words, targets, gradient, s_init)
    for array, copy in zip(arrays, copies, strict=True):
        assert (array == copy).all()


def test_extremes():
    params, words, targets, s_init = problem(18)
    with np.errstate(all="raise", under="ignore"):
        for factor in (50, 0):
            scaled = Parameters(*(factor * m for m in params))
            true = bptt(scaled, words, targets, s_init)[1]
            assert check_gradient(scaled, words, targets, true, s_init).ok
        # where the right gradient is zero, what was given cannot be c times right
        made = true._replace(U=true.U + 1)
        report = check_gradient(scaled, words, targets, made, s_init)
    assert report.errors["U"] == np.inf
    assert named(report)[0].startswith("no single mistake")


# the report


def test_report_reads_well():
    params, words, targets, s_init = problem(18)
    gradient = bptt(params, words, targets, s_init)[1]
    report = check_gradient(params, words, targets, gradient, s_init)
    assert isinstance(report, GradientReport)
    assert str(report) == repr(report)
    assert str(report).splitlines() == [
        f"dE/d{name}  right, error below 1e-09" for name in "UWV"
    ]
    assert list(report.errors) == ["U", "W", "V"]
    swapped = faulty_gradient(params, words, targets, BY_NAME["W for W^T"], s_init)
    report = check_gradient(params, words, targets, swapped)
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 79
    assert any(line.startswith("Note: s(-1) = 0") for line in lines)
    wrong = gradient._replace(W=-gradient.W)
    report = check_gradient(params, words, targets, wrong, s_init)
    assert str(report).splitlines() == [
        "dE/dU  right, error below 1e-09",
        "dE/dW  WRONG, error 2",
        "dE/dV  right, error below 1e-09",
        "In dE/dW, probably:",
        "- -1 times what it should be, the sign (e_o and delta are minus derivatives),",
        "  in dE/dW.",
    ]
    assert report.errors["W"] == pytest.approx(2)
    one = check_gradient(params, words, targets, wrong)
    assert one.notes
    assert not one.ok


def test_a_report_cannot_be_changed():
    params, words, targets, s_init = problem(18)
    gradient = bptt(params, words, targets, s_init)[1]
    report = check_gradient(params, words, targets, gradient, s_init)
    with pytest.raises(AttributeError):
        report.ok = False


def test_lines_of_the_diagnosis_are_filled_up_to_79_characters():
    params, words, targets, s_init = problem(2, H=6)
    longest = 0
    for mistake in family(6):
        made = faulty_gradient(params, words, targets, mistake, s_init)
        half = [g / 2 for g in made]
        report = check_gradient(params, words, targets, half, s_init)
        lines = report.diagnosis.splitlines()
        longest = max(longest, *map(len, lines))
        for line, following in pairwise(lines):
            if following.startswith("  "):  # its first word found no room before
                assert len(f"{line} {following.split()[0]}") > 79
    assert longest == 79


def test_the_family():
    assert 16 <= len(CLASSIC_MISTAKES) <= 20
    assert len(BY_NAME) == len(CLASSIC_MISTAKES)
    for T in (1, 2, 5, 100):
        names = [m.name for m in diagnosis._family(T, None)]
        assert len(set(names)) == len(names)
        assert sum("tau" in name for name in names) == T - 1
    for mistake in CLASSIC_MISTAKES:
        assert mistake.remedy
        assert not mistake.remedy.endswith(".")


# the fitted factor


@given(
    st.lists(st.floats(-10, 10), min_size=2, max_size=6),
    st.floats(-5, 5).filter(lambda c: abs(c) > 1e-3),
)
def test_fitted_factor_finds_the_factor(candidate, c):
    candidate = np.array([1.0, *candidate])
    assert fitted_factor(c * candidate, candidate) == pytest.approx(c)


def test_fitted_factor_is_least_squares():
    A, K = np.random.default_rng(0).normal(size=(2, 3, 4))
    c = fitted_factor(A, K)
    losses = [((A - k * K) ** 2).sum() for k in (c - 0.1, c - 0.01, c, c + 0.01, c + 1)]
    assert all(a > b for a, b in pairwise(losses[:3]))
    assert all(a < b for a, b in pairwise(losses[2:]))
    assert fitted_factor(A.tolist(), K.tolist()) == c
    assert fitted_factor(A / 10, K / 10) == pytest.approx(c)
    assert isinstance(c, float)


def test_fitted_factor_of_zeros():
    zero, one = np.zeros((2, 2)), np.ones((2, 2))
    assert fitted_factor(one, zero) == 0
    assert fitted_factor(zero, one) == 0
