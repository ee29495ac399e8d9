"""Recurrent cells: one time step."""
import math

import ntorch

from .. import init
from ..parameter import Parameter
from .module import Module


class RNNCellBase(Module):
    """The weights and checks of a cell with ``num_chunks`` gates."""

    def __init__(self, input_size, hidden_size, bias, num_chunks, device=None, dtype=None):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size

        def make(*shape):
            return Parameter(ntorch.empty(shape, device=device, dtype=dtype))

        self.weight_ih, self.weight_hh = make(rows, input_size), make(rows, hidden_size)
        if bias:
            self.bias_ih, self.bias_hh = make(rows), make(rows)
        else:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw new values, uniform in ``(-k, k)`` with ``k = 1 / sqrt(hidden_size)``."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text

    def _check_dims(self, name, tensor):
        if tensor.dim() not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected {name} to be 1D or 2D, got "
                             f"{tensor.dim()}D instead")

    def _step(self, function, input, hx):
        """One step, with a batch dimension added and taken away where the input has none."""
        self._check_dims("input", input)
        states = None if hx is None else (hx if isinstance(hx, tuple | list) else (hx,))
        if states is not None:
            for i, state in enumerate(states):
                self._check_dims("hidden" if len(states) == 1 else f"hx[{i}]", state)
        batched = input.dim() == 2
        if not batched:
            input = input.unsqueeze(0)
        if states is None:
            zeros = ntorch.zeros(input.size(0), self.hidden_size, dtype=input.dtype,
                                 device=input.device)
            states = (zeros,) * self._states
        elif not batched:
            states = tuple(state.unsqueeze(0) for state in states)
        hx = states[0] if self._states == 1 else states
        answer = function(input, hx, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if batched:
            return answer
        if self._states == 1:
            return answer.squeeze(0)
        return tuple(state.squeeze(0) for state in answer)

    _states = 1


class RNNCell(RNNCellBase):
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu.

    Shapes: input (N, input_size) or (input_size), state (N, hidden_size) or (hidden_size).
    """

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None,
                 dtype=None):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input, hx=None):
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        relu = self.nonlinearity == "relu"
        return self._step(ntorch.ops.rnn_relu_cell if relu else ntorch.ops.rnn_tanh_cell, input,
                          hx)


class LSTMCell(RNNCellBase):
    """One step of ``LSTM``; takes and returns the pair (h, c)."""

    _states = 2

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input, hx=None):
        return self._step(ntorch.ops.lstm_cell, input, hx)


class GRUCell(RNNCellBase):
    """One step of ``GRU``."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input, hx=None):
        return self._step(ntorch.ops.gru_cell, input, hx)
