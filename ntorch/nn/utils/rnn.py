"""Sequences of different lengths in one batch: padded and packed."""
import collections

import ntorch

_Fields = collections.namedtuple(
    "PackedSequence", ["data", "batch_sizes", "sorted_indices", "unsorted_indices"],
    defaults=(None, None, None))


def invert_permutation(permutation):
    """The permutation that undoes ``permutation``; None for None."""
    if permutation is None:
        return None
    output = ntorch.empty_like(permutation)
    return output.scatter_(0, permutation, ntorch.arange(permutation.numel(),
                                                         device=permutation.device))


class PackedSequence(_Fields):
    """The steps of all sequences in one tensor: all first steps, then all second steps, ...

    ``batch_sizes[t]`` says how many sequences have a step t; the sequences stand in order of
    decreasing length, ``sorted_indices`` and ``unsorted_indices`` lead there and back.
    """

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:
            if not (isinstance(data, list | tuple) and len(data) == 2):
                raise ValueError("PackedSequence takes data and batch_sizes")
            data, batch_sizes = data
        if batch_sizes.device.type != "cpu":
            raise ValueError("batch_sizes should always be on CPU. Instances of PackedSequence "
                             "should never be created manually. They should be instantiated by "
                             "functions like pack_sequence and pack_padded_sequences in "
                             "nn.utils.rnn.")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _with(self, data):
        if data is self.data:
            return self
        order, back = (None if x is None else x.to(data.device)
                       for x in (self.sorted_indices, self.unsorted_indices))
        return type(self)(data, self.batch_sizes, order, back)

    def to(self, *args, **kwargs):
        """The sequences with their data moved or cast as ``Tensor.to`` does."""
        return self._with(self.data.to(*args, **kwargs))

    def cuda(self, *args, **kwargs):
        """On a CUDA device."""
        return self._with(self.data.cuda(*args, **kwargs))

    def cpu(self):
        """On the CPU."""
        return self._with(self.data.cpu())

    def pin_memory(self):
        """In page-locked memory."""
        return self._with(self.data.pin_memory())

    def double(self):
        """In float64."""
        return self.to(dtype=ntorch.float64)

    def float(self):
        """In float32."""
        return self.to(dtype=ntorch.float32)

    def half(self):
        """In float16."""
        return self.to(dtype=ntorch.float16)

    def long(self):
        """In int64."""
        return self.to(dtype=ntorch.int64)

    def int(self):
        """In int32."""
        return self.to(dtype=ntorch.int32)

    def short(self):
        """In int16."""
        return self.to(dtype=ntorch.int16)

    def char(self):
        """In int8."""
        return self.to(dtype=ntorch.int8)

    def byte(self):
        """In uint8."""
        return self.to(dtype=ntorch.uint8)

    @property
    def is_cuda(self):
        """Whether the data are on a CUDA device."""
        return self.data.is_cuda

    def is_pinned(self):
        """Whether the data are in page-locked memory."""
        return self.data.is_pinned()


def _check_lengths(lengths, batch, steps, enforce_sorted):
    if len(lengths) != batch:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got "
                           f"{len(lengths)} (batch_size={batch})")
    if min(lengths) <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element "
                           "in 'lengths' that is <= 0")
    if enforce_sorted and any(a < b for a, b in zip(lengths, lengths[1:], strict=False)):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You "
            "can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to "
            "sidestep this requirement if you do not need ONNX exportability.")
    if max(lengths) > steps:
        raise RuntimeError(f"pack_padded_sequence: expected every length to be at most {steps}, "
                           f"the number of steps of the input, but got {max(lengths)}")


def _held(batch_sizes, batch):
    """Flat indices of the (step, sequence) pairs that hold data, of steps x ``batch``."""
    places = ntorch.arange(batch)
    return (places.unsqueeze(0) < batch_sizes.unsqueeze(1)).flatten().nonzero().squeeze(1)


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """Pack a padded batch (T, B, *), or (B, T, *) with ``batch_first``.

    ``lengths`` is a list or a CPU tensor; with ``enforce_sorted`` it must be decreasing.
    ``RuntimeError`` for a length below 1 or above T, or for the wrong number of lengths.
    """
    if not isinstance(lengths, ntorch.Tensor):
        lengths = ntorch.tensor(list(lengths), dtype=ntorch.int64)
    elif lengths.dim() != 1 or lengths.device.type != "cpu" or lengths.dtype != ntorch.int64:
        raise RuntimeError("'lengths' argument should be a 1D CPU int64 tensor, but got "
                           f"{lengths.dim()}D {lengths.device} {lengths.dtype} tensor")
    sorted_indices = None
    if not enforce_sorted:
        lengths, sorted_indices = ntorch.sort(lengths, descending=True, stable=True)
        sorted_indices = sorted_indices.to(input.device)
        input = input.index_select(0 if batch_first else 1, sorted_indices)
    if batch_first:
        input = input.transpose(0, 1)
    if input.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    steps, batch = input.shape[:2]
    _check_lengths(lengths.tolist(), batch, steps, enforce_sorted)
    longest = int(lengths[0])
    times = ntorch.arange(longest)
    batch_sizes = (lengths.unsqueeze(0) > times.unsqueeze(1)).sum(1)
    held = _held(batch_sizes, batch).to(input.device)
    flat = input.reshape(steps * batch, *input.shape[2:])
    return PackedSequence(flat.index_select(0, held), batch_sizes, sorted_indices)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """Undo ``pack_padded_sequence``: the padded batch and the lengths.

    ``total_length`` asks for that many steps; ``ValueError`` if the longest sequence has more.
    """
    longest = sequence.batch_sizes.size(0)
    if total_length is not None and total_length < longest:
        raise ValueError("Expected total_length to be at least the length of the longest sequence "
                         f"in input, but got total_length={total_length} and max sequence length "
                         f"being {longest}")
    data, batch_sizes = sequence.data, sequence.batch_sizes
    batch, steps = int(batch_sizes[0]), total_length or longest
    held = _held(batch_sizes, batch).to(data.device)
    rest = data.shape[1:]
    flat = ntorch.full((steps * batch, *rest), padding_value, dtype=data.dtype, device=data.device)
    padded = flat.index_copy(0, held, data).view(steps, batch, *rest)
    places = ntorch.arange(batch)
    lengths = (batch_sizes.unsqueeze(0) > places.unsqueeze(1)).sum(1)
    if batch_first:
        padded = padded.transpose(0, 1)
    back = sequence.unsorted_indices
    if back is not None:
        return padded.index_select(0 if batch_first else 1, back), lengths[back.cpu()]
    return padded, lengths


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Tensors (L_i, *) as one (T, B, *), or (B, T, *), filled up with ``padding_value``."""
    if padding_side not in ("left", "right"):
        raise RuntimeError("Expected padding_side to be one of left or right, but got "
                           f"{padding_side}.")
    if isinstance(sequences, ntorch.Tensor):
        sequences = sequences.unbind(0)
    elif not isinstance(sequences, collections.abc.Iterable):
        raise RuntimeError("pad_sequence: Expected iterable for input sequences, but got arg of "
                           f"type: {type(sequences)}")
    sequences = tuple(sequences)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    longest, rest = max(s.size(0) for s in sequences), sequences[0].shape[1:]
    columns = []
    for sequence in sequences:
        missing = longest - sequence.size(0)
        if missing:
            filler = sequence.new_full((missing, *rest), padding_value)
            parts = [filler, sequence] if padding_side == "left" else [sequence, filler]
            sequence = ntorch.cat(parts, 0)
        columns.append(sequence)
    return ntorch.stack(columns, 0 if batch_first else 1)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """Undo ``pad_sequence``: a list of tensors without their padding."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [padded[:int(length)] for padded, length in zip(padded_sequences, lengths,
                                                           strict=True)]


def pack_sequence(sequences, enforce_sorted=True):
    """Pack a list of tensors (L_i, *)."""
    lengths = ntorch.tensor([s.size(0) for s in sequences], dtype=ntorch.int64)
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences):
    """Undo ``pack_sequence``: the list of tensors."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
