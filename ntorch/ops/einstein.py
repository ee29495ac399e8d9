"""Einstein summation over the batched matrix product.

Operands carry one integer label per dimension. They are contracted two at a time, cheapest result
first; a pair is brought to (batch, left, summed) and (batch, summed, right) by permute and reshape.
"""
from .base import TensorBase, product
from .registry import ops

ELLIPSIS = 1000         # labels from here on stand for dimensions of "...", counted from the right
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _label(letter, where):
    index = _LETTERS.find(letter)
    if index < 0:
        raise RuntimeError(f"einsum(): invalid subscript given at {where}: {letter!r}; "
                           "subscripts must be in [a-zA-Z]")
    return index


def _parse_term(text, where):
    """Labels of one operand in text form; None stands for the ellipsis."""
    labels, i = [], 0
    while i < len(text):
        if text[i] == ".":
            if text[i:i + 3] != "..." or None in labels:
                raise RuntimeError(f"einsum(): found '.' for {where} that is not part of any "
                                   "ellipsis; write '...' once")
            labels.append(None)
            i += 3
        else:
            labels.append(_label(text[i], where))
            i += 1
    return labels


def _parse_equation(equation, count):
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != count:
        words = "more" if count > len(terms) else "fewer"
        raise RuntimeError(f"einsum(): {words} operands were provided than specified in the "
                           f"equation: expected {len(terms)}, got {count}")
    inputs = [_parse_term(term, f"operand {i}") for i, term in enumerate(terms)]
    return inputs, (_parse_term(right, "the output") if arrow else None)


def _sublist(labels):
    result = []
    for label in labels:
        if label is Ellipsis:
            result.append(None)
        elif 0 <= label < len(_LETTERS):
            result.append(int(label))
        else:
            raise RuntimeError("einsum(): expected subscripts to be within range [0, 52), but got "
                               f"{label}")
    return result


def _arguments(args):
    """``(operands, labels of each, labels of the output or None)`` from either calling form."""
    if not args:
        raise ValueError("einsum(): must specify the equation string and at least one operand, "
                         "or at least one operand and its subscripts list")
    if isinstance(args[0], TensorBase):
        operands, inputs, rest = [], [], list(args)
        while len(rest) >= 2:
            operands.append(rest.pop(0))
            inputs.append(_sublist(rest.pop(0)))
        return operands, inputs, (_sublist(rest[0]) if rest else None)
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    if not operands:
        raise ValueError("einsum(): must specify the equation string and at least one operand")
    return (operands, *_parse_equation(equation, len(operands)))


def _expand(labels, tensor, index):
    """Labels with the ellipsis spelled out for this operand."""
    ndim = len(tensor._shape)
    named = [label for label in labels if label is not None]
    spare = ndim - len(named)
    if spare < 0 or (spare > 0 and None not in labels):
        raise RuntimeError(f"einsum(): the number of subscripts in the equation ({len(named)}) "
                           f"does not match the number of dimensions ({ndim}) for operand {index}"
                           + ("" if spare < 0 else " and no ellipsis was given"))
    result = []
    for label in labels:
        if label is None:
            result += range(ELLIPSIS + spare - 1, ELLIPSIS - 1, -1)
        else:
            result.append(label)
    return result


def _implicit_output(inputs):
    """Ellipsis dimensions, then the labels that come once, in alphabetical order."""
    every = [label for labels in inputs for label in labels]
    # capitals sort before small letters, as in the table of letters
    once = sorted({x for x in every if x < ELLIPSIS and every.count(x) == 1})
    return sorted({x for x in every if x >= ELLIPSIS}, reverse=True) + once


def _explicit_output(output, inputs):
    known = {label for labels in inputs for label in labels}
    dots = sorted({x for x in known if x >= ELLIPSIS}, reverse=True)
    result = []
    for label in output:
        if label is None:
            result += dots
        elif label in result:
            raise RuntimeError(f"einsum(): output subscript {_LETTERS[label]} appears more than "
                               "once in the output")
        elif label not in known:
            raise RuntimeError(f"einsum(): output subscript {_LETTERS[label]} does not appear in "
                               "the equation for any input operand")
        else:
            result.append(label)
    return result


def _sizes(operands, inputs):
    sizes = {}
    for i, (tensor, labels) in enumerate(zip(operands, inputs, strict=True)):
        for d, (label, size) in enumerate(zip(labels, tensor._shape, strict=True)):
            have = sizes.get(label, 1)
            if have != 1 and size not in (1, have):
                name = _LETTERS[label] if label < ELLIPSIS else "..."
                raise RuntimeError(
                    f"einsum(): subscript {name} has size {size} for operand {i} dimension {d} "
                    f"which does not broadcast with previously seen size {have}")
            sizes[label] = size if have == 1 else have
    return sizes


def _diagonals(tensor, labels, index):
    """The operand with each label once."""
    labels = list(labels)
    for label in sorted(set(labels)):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            if tensor._shape[i] != tensor._shape[j]:
                name = _LETTERS[label] if label < ELLIPSIS else "..."
                raise RuntimeError(f"einsum(): subscript {name} is repeated for operand {index} "
                                   f"but the sizes don't match, {tensor._shape[j]} != "
                                   f"{tensor._shape[i]}")
            tensor = ops.diagonal(tensor, 0, i, j)
            del labels[j], labels[i]
            labels.append(label)
    return tensor, labels


def _sum_unused(tensor, labels, used):
    """Sum over the labels that nobody else has."""
    gone = [d for d, label in enumerate(labels) if label not in used]
    if not gone:
        return tensor, labels
    return ops.sum(tensor, gone), [label for label in labels if label in used]


def _drop_ones(tensor, labels, sizes):
    """Without the dimensions of size 1 that stand for a broadcast one."""
    ones = [d for d, label in enumerate(labels) if tensor._shape[d] == 1 and sizes[label] != 1]
    for d in reversed(ones):
        tensor = ops.select(tensor, d, 0)
    return tensor, [label for d, label in enumerate(labels) if d not in ones]


def _arranged(tensor, labels, groups):
    """Permute to the order of the groups of labels and merge each group into one dimension."""
    order = [labels.index(label) for group in groups for label in group]
    moved = tensor if order == list(range(len(order))) else ops.permute(tensor, order)
    sizes = [moved._shape[i] for i in range(len(order))]
    shape, at = [], 0
    for group in groups:
        shape.append(product(sizes[at:at + len(group)]))
        at += len(group)
    return ops.reshape(moved, shape)


def _contract(a, labels_a, b, labels_b, used):
    """One pair: the tensor and labels that are left after summing what nobody else uses."""
    shared = [label for label in labels_a if label in labels_b]
    batch = [label for label in shared if label in used]
    summed = [label for label in shared if label not in used]
    left = [label for label in labels_a if label not in shared]
    right = [label for label in labels_b if label not in shared]
    size = dict(zip(labels_b, b._shape, strict=True)) | dict(zip(labels_a, a._shape, strict=True))
    shape = [size[label] for label in (*batch, *left, *right)]
    if not batch:
        result = ops.mm(_arranged(a, labels_a, (left, summed)),
                        _arranged(b, labels_b, (summed, right)))
    elif not summed and not left and not right:
        result = ops.mul(a, _arranged_like(b, labels_b, labels_a))
        return result, labels_a
    else:
        result = ops.bmm(_arranged(a, labels_a, (batch, left, summed)),
                         _arranged(b, labels_b, (batch, summed, right)))
    return ops.reshape(result, shape), [*batch, *left, *right]


def _arranged_like(tensor, labels, order):
    return ops.permute(tensor, [labels.index(label) for label in order])


def _next_pair(terms, output):
    """Indices of the pair whose result is smallest beside its inputs: a greedy path."""
    if len(terms) == 2:
        return 0, 1
    best = None
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            (a, la), (b, lb) = terms[i], terms[j]
            size = dict(zip((*la, *lb), (*a._shape, *b._shape), strict=True))
            others = {x for n, (_, t) in enumerate(terms) if n not in (i, j) for x in t}
            others |= set(output)
            result = product(n for label, n in size.items() if label in others)
            work = product(size.values())
            score = (result - product(a._shape) - product(b._shape), work)
            if best is None or score < best[0]:
                best = score, i, j
    return best[1:]


def einsum_of(*args):
    """``einsum`` for either calling form; see the entry."""
    operands, inputs, output = _arguments(args)
    inputs = [_expand(labels, tensor, i)
              for i, (labels, tensor) in enumerate(zip(inputs, operands, strict=True))]
    output = _implicit_output(inputs) if output is None else _explicit_output(output, inputs)
    pairs = [_diagonals(t, labels, i)
             for i, (t, labels) in enumerate(zip(operands, inputs, strict=True))]
    sizes = _sizes([t for t, _ in pairs], [labels for _, labels in pairs])
    terms = [_drop_ones(t, labels, sizes) for t, labels in pairs]
    while len(terms) > 1:
        i, j = _next_pair(terms, output)
        (a, la), (b, lb) = terms[i], terms[j]
        rest = [term for n, term in enumerate(terms) if n not in (i, j)]
        used = {label for _, labels in rest for label in labels} | set(output)
        a, la = _sum_unused(a, la, used | set(lb))
        b, lb = _sum_unused(b, lb, used | set(la))
        terms = [*rest, _contract(a, la, b, lb, used)]
    tensor, labels = _sum_unused(*terms[0], set(output))
    return _in_order(tensor, labels, output)


def _in_order(tensor, labels, output):
    """Permuted to the output's order; labels that every operand had with size 1 come back."""
    order = [labels.index(label) for label in output if label in labels]
    if order != list(range(len(order))):
        tensor = ops.permute(tensor, order)
    for d, label in enumerate(output):
        if label not in labels:
            tensor = ops.unsqueeze(tensor, d)
    return tensor
