"""The same learning in PyTorch, in the forms that it is usually written in.

A form of the step, for :class:`TorchStep`, is named by what it is made of: `layer`,
that behind torch.nn.RNN, or `loop`; the gradient of the embedding `sparse` or `dense`;
`chunked`, the loss without all logits at once; `compiled`, by torch.compile.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch.nn import LinearCrossEntropyOptions

from rnn.hidden_state import Parameters

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}


def forms(activation: str) -> Iterator[str]:
    """The names of all forms; only tanh has a layer."""
    for states in ("loop", "layer") if activation == "tanh" else ("loop",):
        yield from (f"{states} sparse", f"{states} dense")
    yield from ("loop dense chunked", "loop dense compiled")


class TorchStep:
    """A step of learning from a chunk: forward, back, clipping, plain SGD.

    Args:
        params: where it begins; copied.
        words: the words that are read, shape (T, B).
        targets: the words that follow them, the same shape.
        activation: the name of f.
        form: what it is made of, see :func:`forms`.
        alpha: the learning rate.
        limit: the norm at which the gradient is clipped.
    """

    def __init__(
        self,
        params: Parameters,
        words: NDArray[Any],
        targets: NDArray[Any],
        activation: str,
        form: str,
        alpha: float,
        limit: float,
    ) -> None:
        self.alpha, self.limit = alpha, limit
        self.words, self.targets = torch.tensor(words), torch.tensor(targets)
        self.U_T, self.W, self.V = (
            torch.tensor(np.ascontiguousarray(array)).requires_grad_()
            for array in (params.U.T, params.W, params.V)
        )
        H = len(params.W)
        self.state = torch.zeros(words.shape[1], H, dtype=self.W.dtype)
        self.identity = torch.eye(H, dtype=self.W.dtype)
        self.activation, self.sparse = ACTIVATIONS[activation], "sparse" in form
        self.options = LinearCrossEntropyOptions() if "chunked" in form else None
        self._states = self._layer if "layer" in form else self._loop
        self._loss = self.loss
        if "compiled" in form:
            torch._dynamo.reset()  # what was compiled for other sizes
            self._loss = torch.compile(self.loss, dynamic=False)
        self._sgd = torch.optim.SGD((self.U_T, self.W, self.V), alpha, foreach=True)

    def _loop(self, inputs: torch.Tensor) -> torch.Tensor:
        """s(t) = f(a(t) + W s(t-1))."""
        s, states, W_T = self.state, [], self.W.T
        for a in inputs.unbind():
            s = self.activation(torch.addmm(a, s, W_T))
            states.append(s)
        return torch.stack(states)

    def _layer(self, inputs: torch.Tensor) -> torch.Tensor:
        """The same by the layer behind torch.nn.RNN, inputs let through by I."""
        weights = [self.identity, self.W]
        states, _ = torch.rnn_tanh(
            inputs, self.state[None], weights, False, 1, 0.0, False, False, False
        )
        return states

    def loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        """E / B, and the last state."""
        inputs = F.embedding(self.words, self.U_T, sparse=self.sparse)
        states = self._states(inputs)
        E = F.linear_cross_entropy(
            states.flatten(0, 1),
            self.V,
            self.targets.flatten(),
            reduction="sum",
            options=self.options,
        )
        return E / len(self.state), states[-1].detach()

    def backward(self) -> torch.Tensor:
        """E / B and its gradient; the state goes on."""
        loss, self.state = self._loss()
        loss.backward()
        return loss

    def step(self) -> None:
        """Learn from the chunk."""
        self.backward()
        matrices = (self.U_T, self.W, self.V)
        if not self.sparse:
            torch.nn.utils.clip_grad_norm_(matrices, self.limit, foreach=True)
            self._sgd.step()
            self._sgd.zero_grad()
            return
        with torch.no_grad():  # clip_grad_norm_ can't take a sparse gradient
            dU = self.U_T.grad.coalesce()
            found, columns = dU.indices()[0], dU.values()
            gradients = [columns, self.W.grad, self.V.grad]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            factor = -self.alpha * min(1, self.limit / norm.item())
            self.W.add_(self.W.grad, alpha=factor)
            self.V.add_(self.V.grad, alpha=factor)
            self.U_T.index_add_(0, found, columns, alpha=factor)
            for matrix in matrices:
                matrix.grad = None

    def gradient(self) -> tuple[float, Parameters]:
        """E / B and its gradient, as arrays, from the present state."""
        loss = self.backward()
        gradient = [matrix.grad for matrix in (self.U_T, self.W, self.V)]
        for matrix in (self.U_T, self.W, self.V):
            matrix.grad = None
        dU, dW, dV = (g.to_dense().numpy() for g in gradient)
        return loss.item(), Parameters(dU.T, dW, dV)


class TorchOnline:
    """Learning word by word: all weights change after each word.

    Args:
        params: where it begins; copied.
        alpha: the learning rate.
        tau: how many steps an error is sent back at most.
        threads: how many PyTorch takes.
    """

    def __init__(
        self, params: Parameters, alpha: float, tau: int, threads: int
    ) -> None:
        self.alpha, self.tau, self.threads = alpha, tau, threads
        self.U_T, self.W, self.V = (
            torch.tensor(np.ascontiguousarray(array))
            for array in (params.U.T, params.W, params.V)
        )

    def _each(
        self, words: NDArray[Any], targets: NDArray[Any], learn: Callable[..., Any]
    ) -> list[float]:
        """Learn from each word by `learn`, given the last words and states."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        s, costs = torch.zeros(len(self.W), dtype=self.W.dtype), []
        states, indices = [s], torch.tensor(words)
        read: list[torch.Tensor] = []
        for word, target in zip(indices, torch.tensor(targets), strict=True):
            states, read = states[-self.tau - 1 :], [*read[-self.tau :], word]
            cost, s = learn(torch.stack(read), target, states)
            costs.append(cost)
            states.append(s)
        torch.set_num_threads(threads)
        return costs

    def autograd(self, words: NDArray[Any], targets: NDArray[Any]) -> list[float]:
        """As usual: the last steps anew from a detached state, backward, SGD."""
        matrices = (self.U_T, self.W, self.V)
        for matrix in matrices:
            matrix.requires_grad_()

        def learn(read: Any, target: Any, states: Any) -> tuple[float, Any]:
            s = states[0]
            for a in F.embedding(read, self.U_T, sparse=True):
                s = torch.sigmoid(torch.addmv(a, self.W, s))
            loss = F.cross_entropy(self.V @ s, target)
            loss.backward()
            with torch.no_grad():
                for matrix in matrices:
                    matrix.add_(matrix.grad, alpha=-self.alpha)
                    matrix.grad = None
            return loss.item(), s.detach()

        return self._each(words, targets, learn)

    @torch.no_grad()
    def compiled(self, words: NDArray[Any], targets: NDArray[Any]) -> list[float]:
        """A word's gradients and updates compiled as a whole, by torch.func."""
        whole = torch.compile(self._step, dynamic=False)

        def learn(read: Any, target: Any, states: Any) -> tuple[float, Any]:
            step = whole if len(read) == self.tau + 1 else self._step
            cost, s = step(read, target, states[0])
            return cost.item(), s

        return self._each(words, targets, learn)

    def _step(self, read: Any, target: Any, state: Any) -> tuple[Any, Any]:
        """Cost and state; the weights change in place."""

        def loss(W: Any, V: Any, inputs: Any) -> tuple[Any, Any]:
            s = state
            for a in inputs.unbind():
                s = torch.sigmoid(torch.addmv(a, W, s))
            return F.cross_entropy(V @ s, target), s

        slopes = torch.func.grad_and_value(loss, argnums=(0, 1, 2), has_aux=True)
        (dW, dV, errors), (cost, s) = slopes(self.W, self.V, self.U_T[read])
        self.W.add_(dW, alpha=-self.alpha)
        self.V.add_(dV, alpha=-self.alpha)
        self.U_T.index_add_(0, read, errors, alpha=-self.alpha)
        return cost, s

    @torch.inference_mode()
    def by_hand(self, words: NDArray[Any], targets: NDArray[Any]) -> list[float]:
        """PyTorch as an array library: the book's gradients, weights in place."""

        def learn(read: Any, target: Any, states: Any) -> tuple[float, Any]:
            s = torch.sigmoid(torch.addmv(self.U_T[read[-1]], self.W, states[-1]))
            e_o = torch.softmax(self.V @ s, 0).neg_()
            cost = -math.log(-e_o[target])
            e_o[target] += 1
            before = torch.stack(states)
            after = torch.stack([*states[1:], s])
            slopes = after * (1 - after)
            errors = torch.empty_like(slopes)
            errors[-1] = error = (e_o @ self.V) * slopes[-1]
            for k in range(len(slopes) - 2, -1, -1):
                errors[k] = error = (error @ self.W) * slopes[k]
            # Of four ways to add e s^T the fastest: in one pass, with no array between
            self.V.addcmul_(e_o[:, None], s, value=self.alpha)
            self.W.addmm_(errors.T, before, alpha=self.alpha)
            self.U_T.index_add_(0, read, errors, alpha=self.alpha)
            return cost, s

        return self._each(words, targets, learn)
