"""Recurrent layers over whole sequences."""
import math
import numbers
import warnings

import ntorch

from .. import init
from ..parameter import Parameter
from ..utils.rnn import PackedSequence
from .module import Module

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def apply_permutation(tensor, permutation, dim=1):
    """Deprecated: ``tensor.index_select(dim, permutation)``."""
    warnings.warn("apply_permutation is deprecated, please use tensor.index_select(dim, "
                  "permutation) instead", FutureWarning, stacklevel=2)
    return tensor.index_select(dim, permutation)


def _permuted(tensor, permutation):
    return tensor if permutation is None else tensor.index_select(1, permutation)


class RNNBase(Module):
    """What RNN, LSTM and GRU share: the weights of all layers and directions, and the checks.

    Layer k has ``weight_ih_lk`` (gates * hidden, input), ``weight_hh_lk`` (gates * hidden, hidden
    or proj_size), the biases ``bias_ih_lk`` and ``bias_hh_lk``, with ``_reverse`` for the other
    direction; all start uniform in ``(-k, k)``, ``k = 1 / sqrt(hidden_size)``.
    """

    def __init__(self, mode, input_size, hidden_size, num_layers=1, bias=True, batch_first=False,
                 dropout=0.0, bidirectional=False, proj_size=0, device=None, dtype=None):
        super().__init__()
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = float(dropout), bidirectional, proj_size
        self._check_settings(dropout)
        self._flat_weights_names, self._all_weights = [], []
        for layer in range(num_layers):
            for direction in range(2 if bidirectional else 1):
                self._add_layer(layer, direction, device, dtype)
        self._flat_weights_names = [name for names in self._all_weights for name in names]
        self._init_flat_weights()
        self.reset_parameters()

    def _check_settings(self, dropout):
        if (not isinstance(dropout, numbers.Number) or isinstance(dropout, bool)
                or not 0 <= dropout <= 1):
            raise ValueError("dropout should be a number in range [0, 1] representing the "
                             "probability of an element being zeroed")
        if dropout > 0 and self.num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so "
                          "non-zero dropout expects num_layers greater than 1, but got dropout="
                          f"{dropout} and num_layers={self.num_layers}", stacklevel=4)
        for name, kind in (("bias", bool), ("batch_first", bool), ("input_size", int),
                           ("hidden_size", int)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: "
                                f"{type(value).__name__}")
        if self.input_size <= 0:
            raise ValueError("input_size must be greater than zero")
        if self.hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if self.num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if self.proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable "
                             "projections")
        if self.proj_size >= self.hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if self.mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + self.mode)

    def _add_layer(self, layer, direction, device, dtype):
        gates = _GATES[self.mode] * self.hidden_size
        out = self.proj_size or self.hidden_size
        entering = self.input_size if layer == 0 else out * (2 if self.bidirectional else 1)
        suffix = f"_l{layer}" + ("_reverse" if direction else "")
        shapes = {"weight_ih": (gates, entering), "weight_hh": (gates, out)}
        if self.bias:
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            setattr(self, name + suffix,
                    Parameter(ntorch.empty(shape, device=device, dtype=dtype)))
        self._all_weights.append([name + suffix for name in shapes])

    def _init_flat_weights(self):
        self._flat_weights = [getattr(self, name, None) for name in self._flat_weights_names]
        self.flatten_parameters()

    def __setattr__(self, name, value):
        own = self.__dict__
        if name in own.get("_flat_weights_names", ()) and "_flat_weights" in own:
            self._flat_weights[self._flat_weights_names.index(name)] = value
        super().__setattr__(name, value)

    def flatten_parameters(self):
        """Nothing to do: the kernels take each weight where it is."""

    def _apply(self, fn, recurse=True):
        answer = super()._apply(fn, recurse)
        self._init_flat_weights()
        return answer

    def reset_parameters(self):
        """Draw new values for all weights and biases."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    @property
    def all_weights(self):
        """The parameters, one list per layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("proj_size", 0)
        self._init_flat_weights()

    def __getstate__(self):
        state = self.__dict__.copy()
        state.pop("_flat_weights", None)       # made anew from the parameters
        return state

    def __deepcopy__(self, memo):
        import copy
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    # Checks of the input

    def check_input(self, input, batch_sizes):
        """Raise ``RuntimeError`` for an input of the wrong rank or size."""
        if input.dtype != self._flat_weights[0].dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype "
                             f"({self._flat_weights[0].dtype}). Convert input: "
                             f"input.to({self._flat_weights[0].dtype}), or convert model: "
                             f"model.to({input.dtype})")
        wanted = 2 if batch_sizes is not None else 3
        if input.dim() != wanted:
            raise RuntimeError(f"input must have {wanted} dimensions, got {input.dim()}")
        if input.size(-1) != self.input_size:
            raise RuntimeError("input.size(-1) must be equal to input_size. Expected "
                               f"{self.input_size}, got {input.size(-1)}")

    def _hidden_shape(self, input, batch_sizes, size):
        if batch_sizes is not None:
            batch = int(batch_sizes[0])
        else:
            batch = input.size(0) if self.batch_first else input.size(1)
        return self.num_layers * (2 if self.bidirectional else 1), batch, size

    def get_expected_hidden_size(self, input, batch_sizes):
        """The shape that the initial hidden state must have."""
        return self._hidden_shape(input, batch_sizes, self.proj_size or self.hidden_size)

    def check_hidden_size(self, hx, expected_hidden_size,
                          msg="Expected hidden size {}, got {}"):
        """Raise ``RuntimeError`` if ``hx`` has another shape than expected."""
        if tuple(hx.size()) != tuple(expected_hidden_size):
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.size())))

    def check_forward_args(self, input, hidden, batch_sizes):
        """Check the input and the initial state together."""
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden, self.get_expected_hidden_size(input, batch_sizes))

    def permute_hidden(self, hx, permutation):
        """The state with its batch entries in another order."""
        return _permuted(hx, permutation)

    # Running

    def _unpack(self, input):
        """``data, batch_sizes, sorted and unsorted indices`` of a packed or padded input."""
        if isinstance(input, PackedSequence):
            return input
        if input.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got "
                             f"{input.dim()}D instead")
        return input, None, None, None

    def _run(self, function, input, batch_sizes, hx):
        weights = self._flat_weights
        if batch_sizes is None:
            return function(input, hx, weights, self.bias, self.num_layers, self.dropout,
                            self.training, self.bidirectional, self.batch_first)
        return function(input, batch_sizes, hx, weights, self.bias, self.num_layers, self.dropout,
                        self.training, self.bidirectional)

    def _zero_state(self, input, batch_sizes):
        shape = self._hidden_shape(input, batch_sizes, self.proj_size or self.hidden_size)
        return ntorch.zeros(shape, dtype=input.dtype, device=input.device)

    def forward(self, input, hx=None):
        """Run the layers; returns the output of the last one and the last state of each."""
        data, batch_sizes, order, back = self._unpack(input)
        batched = batch_sizes is not None or data.dim() == 3
        if not batched:
            data = data.unsqueeze(0 if self.batch_first else 1)
        if hx is None:
            self.check_input(data, batch_sizes)
            hx = self._zero_state(data, batch_sizes)
        else:
            hx = self._initial_state(hx, data, batch_sizes, order, batched)
            self.check_forward_args(data, hx, batch_sizes)
        output, *state = self._run(self._function(), data, batch_sizes, hx)
        state = tuple(state) if len(state) > 1 else state[0]
        if batch_sizes is not None:
            return (PackedSequence(output, batch_sizes, order, back),
                    self.permute_hidden(state, back))
        if not batched:
            output = output.squeeze(0 if self.batch_first else 1)
            return output, self._squeeze_state(state)
        return output, self.permute_hidden(state, back)

    def _squeeze_state(self, state):
        return state.squeeze(1)

    def _initial_state(self, hx, data, batch_sizes, order, batched):
        if batch_sizes is None:
            wanted = 3 if batched else 2
            if hx.dim() != wanted:
                kind = "batched 3-D" if batched else "unbatched 2-D"
                raise RuntimeError(f"For {kind} input, hx should also be {wanted}-D but got "
                                   f"{hx.dim()}-D tensor")
            hx = hx if batched else hx.unsqueeze(1)
        return self.permute_hidden(hx, order)

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size != 0:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if self.batch_first is not False:
            text += f", batch_first={self.batch_first}"
        if self.dropout != 0:
            text += f", dropout={self.dropout}"
        if self.bidirectional is not False:
            text += f", bidirectional={self.bidirectional}"
        return text


def _no_projection(proj_size):
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(RNNBase):
    """``h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)``, or relu with ``nonlinearity="relu"``.

    Shapes: input (L, N, input_size), with ``batch_first`` (N, L, input_size), without N unbatched,
    or a ``PackedSequence``; output (L, N, D hidden_size), state (D num_layers, N, hidden_size),
    where D is 2 if ``bidirectional``. ``dropout`` acts between layers.
    """

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True,
                 batch_first=False, dropout=0.0, bidirectional=False, device=None, dtype=None,
                 proj_size=None):
        _no_projection(proj_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or "
                             "'relu'.")
        self.nonlinearity = nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias,
                         batch_first, dropout, bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity

    def _function(self):
        return ntorch.ops.rnn_tanh if self.mode == "RNN_TANH" else ntorch.ops.rnn_relu


class GRU(RNNBase):
    """Gated recurrent unit (arXiv 1406.1078).

    ``r, z = sigmoid(W x + b + U h + c)``, ``n = tanh(W_n x + b_n + r (U_n h + c_n))``,
    ``h' = (1 - z) n + z h``. Shapes as in ``RNN``.
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False,
                 dropout=0.0, bidirectional=False, device=None, dtype=None, proj_size=None):
        _no_projection(proj_size)
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, 0, device, dtype)

    def _function(self):
        return ntorch.ops.gru


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter & Schmidhuber 1997).

    ``i, f, o = sigmoid(..)``, ``g = tanh(..)``, ``c' = f c + i g``, ``h' = o tanh(c')``; with
    ``proj_size`` the state is ``W_hr h'`` (arXiv 1402.1128). Shapes as in ``RNN``; the state is the
    pair (h, c), h of size ``proj_size`` where there is one.
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False,
                 dropout=0.0, bidirectional=False, proj_size=0, device=None, dtype=None):
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, proj_size, device, dtype)

    def _function(self):
        return ntorch.ops.lstm

    def _zero_state(self, input, batch_sizes):
        hidden = super()._zero_state(input, batch_sizes)
        if not self.proj_size:
            return hidden, hidden           # nobody writes them: one serves as both
        cell = self.get_expected_cell_size(input, batch_sizes)
        return hidden, ntorch.zeros(cell, dtype=input.dtype, device=input.device)

    def get_expected_cell_size(self, input, batch_sizes):
        """The shape that the initial cell state must have."""
        return self._hidden_shape(input, batch_sizes, self.hidden_size)

    def check_forward_args(self, input, hidden, batch_sizes):
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden[0], self.get_expected_hidden_size(input, batch_sizes),
                               "Expected hidden[0] size {}, got {}")
        self.check_hidden_size(hidden[1], self.get_expected_cell_size(input, batch_sizes),
                               "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx, permutation):
        return _permuted(hx[0], permutation), _permuted(hx[1], permutation)

    def _squeeze_state(self, state):
        return state[0].squeeze(1), state[1].squeeze(1)

    def _initial_state(self, hx, data, batch_sizes, order, batched):
        if batch_sizes is None:
            wanted = 3 if batched else 2
            if hx[0].dim() != wanted or hx[1].dim() != wanted:
                kind = "batched 3-D" if batched else "unbatched 2-D"
                raise RuntimeError(f"For {kind} input, hx and cx should also be {wanted}-D but "
                                   f"got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors")
            hx = hx if batched else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        return self.permute_hidden(hx, order)
