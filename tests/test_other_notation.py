"""The converters of the page "Other people's notation", against PyTorch itself."""

from pathlib import Path

import nbformat
import numpy as np
import pytest

from rnn.bptt import bptt
from rnn.gradient_check import gradient_error
from rnn.hidden_state import Parameters, relu, sigmoid, tanh

PAGE = Path(__file__).resolve().parent.parent / "book" / "other_notation.ipynb"


@pytest.fixture(scope="module")
def page():
    """What the page's cells tagged `converter` define."""
    names = {"np": np, "Parameters": Parameters}
    for cell in nbformat.read(PAGE, as_version=4).cells:
        if "converter" in cell.metadata.get("tags", []):
            exec(cell.source, names)
    return names


def problem(seed, batch=(3,), H=5, N=7, T=6):
    rng = np.random.default_rng(seed)
    U, V = rng.normal(size=(H, N)), rng.normal(size=(N, H))
    params = Parameters(U, rng.normal(size=(H, H)) / np.sqrt(H), V)
    words, targets = rng.integers(N, size=(2, T, *batch))
    return params, words, targets, rng.uniform(-0.9, 0.9, size=(*batch, H))


def run_torch(state, words, targets, s_init, activation):
    """Loss, and the gradient of each array, as PyTorch computes them in float64."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    H, D = state["rnn.weight_ih_l0"].shape
    N = len(state["linear.weight"])
    net = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(N, D),
            "rnn": torch.nn.RNN(D, H, nonlinearity=activation.__name__),
            "linear": torch.nn.Linear(H, N),
        }
    ).double()
    net.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    h_0 = torch.tensor(s_init)[None]
    rows, _ = net["rnn"](net["embedding"](torch.tensor(words)), h_0)
    logits = net["linear"](rows)
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, N), torch.tensor(targets).reshape(-1), reduction="sum"
    )
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
    return loss.item(), gradients


@pytest.mark.parametrize("activation", [tanh, relu])
def test_to_torch(page, activation):
    params, words, targets, s_init = problem(0)
    E, gradient, _ = bptt(params, words, targets, s_init, activation=activation)
    loss, theirs = run_torch(
        page["to_torch"](params), words, targets, s_init, activation
    )
    assert abs(loss - E) <= 1e-12 * E
    assert gradient_error(theirs["embedding.weight"].T, gradient.U) < 1e-12
    assert gradient_error(theirs["rnn.weight_hh_l0"], gradient.W) < 1e-12
    assert gradient_error(theirs["linear.weight"], gradient.V) < 1e-12


@pytest.mark.parametrize("activation", [tanh, relu])
def test_from_torch_with_biases_and_an_embedding_of_another_length(page, activation):
    params, words, targets, s_init = problem(1)
    rng = np.random.default_rng(2)
    state = {
        name: rng.normal(size=array.shape)
        for name, array in page["to_torch"](params).items()
    }
    state["embedding.weight"] = rng.normal(size=(7, 4))
    state["rnn.weight_ih_l0"] = rng.normal(size=(5, 4))
    larger = page["from_torch"](state, activation)
    larger_init = np.concatenate([s_init, np.zeros((3, 1))], axis=1)
    E, gradient, _ = bptt(larger, words, targets, larger_init, activation=activation)
    loss, theirs = run_torch(state, words, targets, s_init, activation)
    assert abs(loss - E) <= 1e-12 * E
    converted = page["gradient_to_torch"](gradient, state, activation)
    assert converted.keys() == theirs.keys()
    for name, given in converted.items():
        assert gradient_error(given, theirs[name]) < 1e-12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tau", [0, 2, 5, 9])
def test_wildml_style(page, seed, tau):
    params, words, targets, _ = problem(seed, batch=())
    loss, gradients = page["wildml_style"](params, words, targets, tau)
    E, gradient, _ = bptt(params, words, targets, tau=tau, activation=tanh)
    assert abs(loss - E) <= 1e-12 * E
    for given, true in zip(page["from_wildml"](*gradients), gradient, strict=True):
        assert gradient_error(given, true) < 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_d2l_and_min_char_rnn_agree_with_each_other(page, seed):
    params, words, targets, s_init = problem(seed, batch=(1,))
    rng = np.random.default_rng(seed)
    b_h, b_q = rng.normal(size=5), rng.normal(size=7)
    matrices = page["to_d2l"](params)
    X = np.eye(7)[words]
    mean, rows = page["d2l_style"](*matrices, b_h, b_q, X, targets, s_init)
    columns = b_h[:, None], b_q[:, None]
    loss, cols = page["min_char_style"](
        *params, *columns, words[:, 0], targets[:, 0], s_init.T
    )
    assert abs(6 * mean - loss) < 1e-12 * loss
    for given, true in zip(rows, cols, strict=True):
        assert gradient_error(6 * given.T, true.reshape(given.T.shape)) < 1e-12


def test_there_and_back(page):
    params, *_ = problem(4)
    U, W, _ = params
    for given, true in zip(page["from_joined"](np.hstack([U, W])), (U, W), strict=True):
        assert (given == true).all()
    assert (page["to_joined"](U, W) == np.hstack([U, W])).all()
    for given in (
        page["from_min_char_rnn"](*page["to_min_char_rnn"](params)[:3]),
        page["from_d2l"](*page["to_d2l"](params)),
        page["from_wildml"](*page["to_wildml"](params)),
    ):
        for matrix, true in zip(given, params, strict=True):
            assert (matrix == true).all()
    update = page["update_from_gradient"](U, 0.5)
    assert (update == -0.5 * U).all()
    assert (page["gradient_from_update"](update, 0.5) == U).all()


@pytest.mark.parametrize("activation", [sigmoid, tanh, relu])
def test_without_biases_keeps_the_constant_unit_constant(page, activation):
    from rnn.hidden_state import hidden_states

    params, words, _, s_init = problem(3)
    b_h, b_q = np.arange(5.0), np.arange(7.0)
    larger = page["without_biases"](params, b_h, b_q, activation)
    first = np.concatenate([s_init, np.full((3, 1), 0.3)], axis=1)
    states = hidden_states(larger, words, first, activation)
    assert (states[..., -1] == page["CONSTANT_UNIT"][activation.__name__][1]).all()
    assert not larger.W[-1].any()
    assert not larger.W[:, -1].any()
