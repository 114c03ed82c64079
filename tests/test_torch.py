"""Loss, states and gradients against PyTorch in float64, where PyTorch is installed."""

import numpy as np
import pytest

from rnn.bptt import bptt
from rnn.gradient_check import gradient_error
from rnn.hidden_state import (
    Parameters,
    hidden_states,
    init_parameters,
    relu,
    sigmoid,
    tanh,
)

torch = pytest.importorskip(
    "torch",
    reason="PyTorch is optional: `pip install torch==2.13.0` to compare with it",
)

ACTIVATIONS = {sigmoid: torch.sigmoid, tanh: torch.tanh, relu: torch.relu}


def case(seed, T, batch, H=7, N=9, g=1.0):
    """A random network, a text and s(-1), with one batch axis or none."""
    rng = np.random.default_rng(seed)
    U, W, V = rng.normal(size=(H, N)), rng.normal(size=(H, H)), rng.normal(size=(N, H))
    words, targets = rng.integers(0, N, (2, T, *batch))
    return (
        Parameters(U, g * W / np.sqrt(H), V),
        words,
        targets,
        rng.uniform(0.2, 0.8, (*batch, H)),
    )


def tensors(params):
    return [torch.tensor(np.ascontiguousarray(x), requires_grad=True) for x in params]


def cross_entropy(z, targets):
    targets = torch.as_tensor(np.asarray(targets))
    return torch.nn.functional.cross_entropy(
        z.reshape(-1, z.shape[-1]), targets.reshape(-1), reduction="sum"
    )


def assert_agree(gradient, matrices):
    for given, matrix in zip(gradient, matrices, strict=True):
        assert gradient_error(given, matrix.grad.numpy()) <= 1e-12


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("T", [1, 2, 12])
def test_autograd(activation, batch, T):
    params, words, targets, s_init = case(T, T, batch)
    U, W, V = matrices = tensors(params)
    s, states = torch.tensor(s_init), []
    for t in range(T):
        s = ACTIVATIONS[activation](U.T[torch.as_tensor(words[t])] + s @ W.T)
        states.append(s)
    states = torch.stack(states)
    E = cross_entropy(states @ V.T, targets)
    E.backward()
    given, gradient, last = bptt(params, words, targets, s_init, activation=activation)
    ours = hidden_states(params, words, s_init, activation)
    assert abs(given - E.item()) <= 1e-12 * given
    assert np.abs(ours - states.detach().numpy()).max() <= 1e-12
    assert np.abs(last - states[-1].detach().numpy()).max() <= 1e-12
    assert_agree(gradient, matrices)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_its_own_recurrent_layer(name):
    """torch.nn.RNN without biases: weight_ih is U, weight_hh is W, inputs 1-of-N."""
    params, words, targets, s_init = case(1, 20, (4,))
    H, N = params.U.shape
    layer = torch.nn.RNN(N, H, nonlinearity=name, bias=False).double()
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor(params.U))
        layer.weight_hh_l0.copy_(torch.tensor(params.W))
    V = torch.tensor(params.V, requires_grad=True)
    inputs = torch.nn.functional.one_hot(torch.as_tensor(words), N).double()
    states, _ = layer(inputs, torch.tensor(s_init)[None])
    E = cross_entropy(states @ V.T, targets)
    E.backward()
    activation = {"tanh": tanh, "relu": relu}[name]
    given, gradient, _ = bptt(params, words, targets, s_init, activation=activation)
    assert abs(given - E.item()) <= 1e-12 * given
    ours = hidden_states(params, words, s_init, activation)
    assert np.abs(ours - states.detach().numpy()).max() <= 1e-12
    assert_agree(gradient, (layer.weight_ih_l0, layer.weight_hh_l0, V))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("tau", [0, 1, 3, 7])
def test_each_error_stopped_after_tau_steps(activation, tau):
    """Per-step truncation by autograd: each step begins at a detached state."""
    params, words, targets, s_init = case(2, 9, ())
    fixed = [
        torch.tensor(s_init),
        *torch.tensor(hidden_states(params, words, s_init, activation)),
    ]
    U, W, V = matrices = tensors(params)
    E = 0
    for t in range(9):
        first = max(t - tau, 0)
        s = fixed[first]  # the state before step `first`
        for r in range(first, t + 1):
            s = ACTIVATIONS[activation](U[:, words[r]] + W @ s)
        E = E + cross_entropy(V @ s, targets[t])
    E.backward()
    given, gradient, _ = bptt(params, words, targets, s_init, tau, activation)
    assert abs(given - E.item()) <= 1e-12 * given
    assert_agree(gradient, matrices)


@pytest.mark.parametrize("g", [0.1, 1.0])
def test_long_and_small(g):
    params, words, targets, s_init = case(3, 50, (2,), H=12, N=12, g=g)
    for net in (params, init_parameters(12, 12, np.random.default_rng(0))):
        U, W, V = matrices = tensors(net)
        s, E = torch.tensor(s_init), 0
        for t in range(50):
            s = torch.sigmoid(U.T[torch.as_tensor(words[t])] + s @ W.T)
            E = E + cross_entropy(s @ V.T, targets[t])
        E.backward()
        given, gradient, _ = bptt(net, words, targets, s_init)
        assert abs(given - E.item()) <= 1e-12 * given
        assert_agree(gradient, matrices)
