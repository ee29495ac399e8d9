"""RNN, LSTM and GRU over whole sequences, and their cells, in torch's own forms.

Layers, directions, dropout between layers and packed sequences are made here from the single layers
of ``recurrent_layers``, so their gradients come from the tape.
"""
from ...runtime import dtypes
from ..base import TensorBase
from ..composite import composite, overloaded
from ..recurrent_plan import check_sizes
from ..registry import ops


class _Rows:
    """A batch of sequences, padded or packed, as the layers take it."""

    def __init__(self, op, data, sizes, batch_first=False):
        self.op, self.data, self.sizes, self.batch_first = op, data, sizes, batch_first

    @classmethod
    def padded(cls, op, input, batch_first):
        if len(input._shape) != 3:
            raise RuntimeError(f"{op}: Expected input to be 3-dimensional (sequence, batch, "
                               f"features), got shape {list(input._shape)}")
        if batch_first:
            input = ops.transpose(input, 0, 1)
        steps, batch, _ = input._shape
        if not steps:
            raise RuntimeError(f"{op}: Expected sequence length to be larger than 0 in RNN")
        return cls(op, input, (batch,) * steps, batch_first)

    @classmethod
    def packed(cls, op, data, batch_sizes):
        sizes = tuple(batch_sizes.tolist())
        if len(data._shape) != 2 or not sizes:
            raise RuntimeError(f"{op}: Expected packed data to be 2-dimensional with at least one "
                               f"batch size, got shape {list(data._shape)} and {len(sizes)} sizes")
        check_sizes(op, sizes, data._shape[0], sizes[0])
        return cls(op, data, sizes)

    def restore(self, output):
        """The last layer's output in the order of dimensions of the input."""
        return ops.transpose(output, 0, 1) if self.batch_first else output


def _stacked(rows, states, params, layer, per_layer, num_layers, dropout, train, bidirectional):
    """Run all layers; ``layer(data, state, params, sizes, reverse)`` gives (output, finals)."""
    directions = 2 if bidirectional else 1
    count = num_layers * directions
    if len(params) < count * per_layer:
        raise RuntimeError(f"{rows.op}: got an incorrect number of RNN parameters: expected "
                           f"{count * per_layer}, got {len(params)}")
    for state in states:
        if len(state._shape) != 3 or state._shape[0] != count:
            raise RuntimeError(f"{rows.op}: Expected hidden size ({count}, {rows.sizes[0]}, ...), "
                               f"got {list(state._shape)}")
    if count == 1:      # the layer takes and gives states with the dimension of layers, too
        out, final = layer(rows.data, states, params[:per_layer], rows.sizes, False)
        return rows.restore(out), *final
    data, finals = rows.data, []
    if directions == 2:     # else each direction brings the rows in order for itself
        data = ops.contiguous(data)
    for number in range(num_layers):
        outputs = []
        for direction in range(directions):
            k = number * directions + direction
            out, final = layer(data, [ops.select(s, 0, k) for s in states],
                               params[k * per_layer:(k + 1) * per_layer], rows.sizes,
                               direction == 1)
            outputs.append(out)
            finals.append(final)
        data = outputs[0] if directions == 1 else ops.cat(outputs, -1)
        if dropout and train and number < num_layers - 1:
            data = ops.dropout(data, dropout, True)
    return rows.restore(data), *(ops.stack(f, 0) for f in zip(*finals, strict=True))


def _in_float32(function, tensors):
    """Run ``function`` on float32 copies of half tensors, and its results back in their type."""
    wide = [None if t is None else ops.to_dtype(t, dtypes.float32) for t in tensors]
    return tuple(ops.to_dtype(r, tensors[0].dtype) for r in function(wide))


def _with_bias(params, has_biases):
    """(w_ih, w_hh, b_ih, b_hh, rest): biases None where there are none."""
    if has_biases:
        return *params[:4], params[4:]
    return *params[:2], None, None, params[2:]


def _lstm(rows, hx, params, has_biases, num_layers, dropout, train, bidirectional):
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise RuntimeError("lstm expects two hidden states")
    projects = hx[0]._shape[-1] != hx[1]._shape[-1]

    def layer(data, states, params, sizes, reverse):
        w_ih, w_hh, b_ih, b_hh, rest = _with_bias(params, has_biases)
        tensors = [data, *states, w_ih, w_hh, b_ih, b_hh, rest[0] if projects else None]

        def compute(tensors):
            return ops._lstm_layer(*tensors, sizes, reverse)[:3]
        out, *final = _in_float32(compute, tensors) if data.dtype.is_half else compute(tensors)
        return out, final

    per_layer = 2 + 2 * bool(has_biases) + projects
    return _stacked(rows, hx, params, layer, per_layer, num_layers, dropout, train, bidirectional)


def _single_state(kernel, rows, hx, params, has_biases, num_layers, dropout, train, bidirectional):
    def layer(data, states, params, sizes, reverse):
        w_ih, w_hh, b_ih, b_hh, _ = _with_bias(params, has_biases)
        tensors = [data, *states, w_ih, w_hh, b_ih, b_hh]

        def compute(tensors):
            return kernel(tensors, sizes, reverse)
        out, final = _in_float32(compute, tensors) if data.dtype.is_half else compute(tensors)
        return out, (final,)

    per_layer = 2 + 2 * bool(has_biases)
    return _stacked(rows, [hx], params, layer, per_layer, num_layers, dropout, train, bidirectional)


def _gru(rows, *arguments):
    def kernel(tensors, sizes, reverse):
        return ops._gru_layer(*tensors, sizes, reverse)[:2]
    return _single_state(kernel, rows, *arguments)


def _rnn(relu):
    def over_rows(rows, *arguments):
        def kernel(tensors, sizes, reverse):
            return ops._rnn_layer(*tensors, sizes, reverse, relu)
        return _single_state(kernel, rows, *arguments)
    return over_rows


def _padded_form(input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
                 batch_first):
    return ((input, batch_first),
            (hx, params, has_biases, num_layers, dropout, train, bidirectional))


def _packed_form(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train,
                 bidirectional):
    return ((data, batch_sizes),
            (hx, params, has_biases, num_layers, dropout, train, bidirectional))


def _is_packed(arguments, keywords):
    """Whether a call is ``(data, batch_sizes, hx, params, ...)``: there the params come fourth."""
    if "data" in keywords or "batch_sizes" in keywords:
        return True
    third = arguments[2] if len(arguments) > 2 else keywords.get("params")
    return (len(arguments) > 2 and isinstance(arguments[1], TensorBase)
            and (isinstance(third, TensorBase) or isinstance(arguments[3], (tuple, list))))


def _entry(name, over_rows, states, doc):
    """Register the two overloads of a network under ``name``."""
    def function(*arguments, **keywords):
        if _is_packed(arguments, keywords):
            (data, sizes), rest = _packed_form(*arguments, **keywords)
            return over_rows(_Rows.packed(name, data, sizes), *rest)
        (input, batch_first), rest = _padded_form(*arguments, **keywords)
        return over_rows(_Rows.padded(name, input, batch_first), *rest)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{doc}

    ``{name}(input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
    batch_first)`` with input (T, B, I), or (B, T, I) if batch_first; or ``{name}(data, batch_sizes,
    hx, params, has_biases, num_layers, dropout, train, bidirectional)`` with a packed sequence.
    ``params`` holds per layer and direction weight_ih (G H, I), weight_hh (G H, H) and, with
    has_biases, bias_ih, bias_hh (G H). hx {states}.

    Returns the output, features of both directions side by side, and the final states. float32 and
    float64; half types are computed in float32.

    Raises RuntimeError where shapes or types do not fit together.
    """
    overloaded(name, method=False)(function)


_entry("lstm", _lstm, "(h, c), each (layers * directions, B, H); (.., B, P) with projections",
       "Long short-term memory over whole sequences; see ``kernels/lstm.py`` for the formulas.")
_entry("gru", _gru, "(layers * directions, B, H)",
       "Gated recurrent units over whole sequences; see ``kernels/gru.py`` for the formulas.")
_entry("rnn_tanh", _rnn(False), "(layers * directions, B, H)",
       "Elman network over whole sequences: ``h' = tanh(x W_ih^T + b_ih + h W_hh^T + b_hh)``.")
_entry("rnn_relu", _rnn(True), "(layers * directions, B, H)",
       "Elman network over whole sequences: ``h' = relu(x W_ih^T + b_ih + h W_hh^T + b_hh)``.")


# Cells: layers of one step ----------------------------------------------------------------------

def _check_cell(op, gates, input, states, w_ih, w_hh):
    for name, tensor in (("input", input), *((f"hidden{k}", s) for k, s in enumerate(states))):
        if len(tensor._shape) != 2:
            raise IndexError(f"{op}: Expected {name} to be 2-dimensional (batch, features), got "
                             f"shape {list(tensor._shape)}")
    if input._shape[1] != w_ih._shape[1]:
        raise RuntimeError(f"{op}: input has inconsistent input_size: got {input._shape[1]} "
                           f"expected {w_ih._shape[1]}")
    size = w_hh._shape[1]
    for k, state in enumerate(states):
        if state._shape[0] != input._shape[0]:
            raise RuntimeError(f"{op}: Input batch size {input._shape[0]} doesn't match hidden{k} "
                               f"batch size {state._shape[0]}")
        if state._shape[1] != size:
            raise RuntimeError(f"{op}: hidden{k} has inconsistent hidden_size: got "
                               f"{state._shape[1]}, expected {size}")
    for name, weight in (("weight_ih", w_ih), ("weight_hh", w_hh)):
        if weight._shape[0] != gates * size:
            raise RuntimeError(f"{op}: {name} first dim must be {gates} * hidden_size = "
                               f"{gates * size}, but got {weight._shape[0]}")


def _one_step(function, tensors):
    """A layer over one step: its final states."""
    sizes = (tensors[0]._shape[0],)

    def compute(tensors):
        return function(tensors, sizes)
    return _in_float32(compute, tensors) if tensors[0].dtype.is_half else compute(tensors)


@composite("lstm_cell(Tensor input, Tensor[] hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
           "Tensor? b_hh=None) -> (Tensor, Tensor)", method=False)
def lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh):
    """One step of an LSTM: input (B, I), hx = (h, c) each (B, H); returns the new (h, c)."""
    if len(hx) != 2:
        raise RuntimeError("lstm_cell expects two hidden states")
    _check_cell("lstm_cell", 4, input, hx, w_ih, w_hh)
    return _one_step(lambda t, sizes: ops._lstm_layer(*t, None, sizes, False)[1:3],
                     (input, *hx, w_ih, w_hh, b_ih, b_hh))


@composite("gru_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
           "Tensor? b_hh=None) -> Tensor", method=False)
def gru_cell(input, hx, w_ih, w_hh, b_ih, b_hh):
    """One step of a GRU: input (B, I), hx (B, H); returns the new h."""
    _check_cell("gru_cell", 3, input, (hx,), w_ih, w_hh)
    return _one_step(lambda t, sizes: ops._gru_layer(*t, sizes, False)[1:2],
                     (input, hx, w_ih, w_hh, b_ih, b_hh))[0]


@composite("rnn_tanh_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
           "Tensor? b_hh=None) -> Tensor", method=False)
def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih, b_hh):
    """``tanh(x W_ih^T + b_ih + h W_hh^T + b_hh)``: input (B, I), hx (B, H)."""
    _check_cell("rnn_tanh_cell", 1, input, (hx,), w_ih, w_hh)
    return _one_step(lambda t, sizes: ops._rnn_layer(*t, sizes, False, False)[1:2],
                     (input, hx, w_ih, w_hh, b_ih, b_hh))[0]


@composite("rnn_relu_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
           "Tensor? b_hh=None) -> Tensor", method=False)
def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih, b_hh):
    """``relu(x W_ih^T + b_ih + h W_hh^T + b_hh)``: input (B, I), hx (B, H)."""
    _check_cell("rnn_relu_cell", 1, input, (hx,), w_ih, w_hh)
    return _one_step(lambda t, sizes: ops._rnn_layer(*t, sizes, False, True)[1:2],
                     (input, hx, w_ih, w_hh, b_ih, b_hh))[0]
