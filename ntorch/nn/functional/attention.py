"""Attention: scaled dot products, and many heads of them (arXiv 1706.03762)."""
import math

import ntorch


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0,
                                 is_causal=False, scale=None, enable_gqa=False):
    """``softmax(Q K^T scale + mask) V``.

    Shapes: query (*, Hq, L, E), key (*, H, S, E), value (*, H, S, Ev) to (*, Hq, L, Ev). A boolean
    mask is True where a key may be seen, a float one is added; ``is_causal`` hides later keys.
    ``scale`` is ``1 / sqrt(E)`` by default. With ``enable_gqa`` Hq may be a multiple of H. A query
    that may see no key gives zeros. ``RuntimeError`` for a mask together with ``is_causal``.
    """
    _check_sdpa(query, key, value, attn_mask, is_causal)
    if query.dtype in (ntorch.float16, ntorch.bfloat16):    # rounded once, in each direction
        if attn_mask is not None and attn_mask.dtype == query.dtype:
            attn_mask = attn_mask.float()
        return scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask, dropout_p, is_causal, scale,
            enable_gqa).to(query.dtype)
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    scale = 1.0 / math.sqrt(query.size(-1)) if scale is None else scale
    scores = ntorch.matmul(query * scale, key.transpose(-2, -1))
    if is_causal:
        ones = ntorch.ones(query.size(-2), key.size(-2), dtype=ntorch.bool, device=query.device)
        scores = scores.masked_fill(ones.tril().logical_not(), float("-inf"))
    elif attn_mask is not None:
        if attn_mask.dtype == ntorch.bool:
            scores = scores.masked_fill(attn_mask.logical_not(), float("-inf"))
        else:
            scores = scores + attn_mask
    weights = ntorch.softmax(scores, -1)
    if attn_mask is not None:
        blind = (scores == float("-inf")).all(-1, keepdim=True)
        weights = weights.masked_fill(blind, 0.0)
    if dropout_p > 0.0:
        weights = ntorch.ops.dropout(weights, dropout_p, True)
    return ntorch.matmul(weights, value)


def _check_sdpa(query, key, value, attn_mask, is_causal):
    if not query.dtype == key.dtype == value.dtype:
        raise RuntimeError(
            "Expected query, key, and value to have the same dtype, but got query.dtype: "
            f"{query.dtype} key.dtype: {key.dtype} and value.dtype: {value.dtype} instead.")
    if not query.device == key.device == value.device:
        raise RuntimeError(
            "Expected query, key, and value to have the same device type, but got query.device: "
            f"{query.device} key.device: {key.device} and value.device: {value.device} instead.")
    if min(query.dim(), key.dim(), value.dim()) < 2:
        raise RuntimeError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: "
            f"{query.dim()}, key.dim: {key.dim()} and value.dim: {value.dim()} instead.")
    if attn_mask is None:
        return
    if is_causal:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set "
                           "when is_causal=True")
    if attn_mask.dtype != ntorch.bool and attn_mask.dtype != query.dtype:
        raise RuntimeError(
            "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
            f"attn_mask.dtype: {attn_mask.dtype} and  query.dtype: {query.dtype} instead.")


def _float_mask(mask, name, other, other_name, dtype):
    """A boolean mask (True hides) as 0 and -inf; a float one as it is."""
    if mask is None:
        return None
    if mask.dtype != ntorch.bool and not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    if other is not None and mask.dtype != other.dtype:
        import warnings
        warnings.warn(f"Support for mismatched {name} and {other_name} is deprecated. Use same "
                      "type for both instead.", stacklevel=4)
    if mask.is_floating_point():
        return mask
    zeros = ntorch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(mask, float("-inf"))


def _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads):
    """Whether the input has a batch dimension; AssertionError if ranks do not fit together."""
    rank = query.dim()
    if rank not in (2, 3):
        raise AssertionError("query should be unbatched 2D or batched 3D tensor but received "
                             f"{rank}-D query tensor")
    kind = "batched (3-D)" if rank == 3 else "unbatched (2-D)"
    if key.dim() != rank or value.dim() != rank:
        raise AssertionError(f"For {kind} `query`, expected `key` and `value` to be {rank}-D but "
                             f"found {key.dim()}-D and {value.dim()}-D tensors respectively")
    if key_padding_mask is not None and key_padding_mask.dim() != rank - 1:
        raise AssertionError(f"For {kind} `query`, expected `key_padding_mask` to be `None` or "
                             f"{rank - 1}-D but found {key_padding_mask.dim()}-D tensor instead")
    if attn_mask is not None and attn_mask.dim() not in (2, 3):
        raise AssertionError(f"For {kind} `query`, expected `attn_mask` to be `None`, 2-D or 3-D "
                             f"but found {attn_mask.dim()}-D tensor instead")
    if rank == 2 and attn_mask is not None and attn_mask.dim() == 3:
        wanted = (num_heads, query.shape[0], key.shape[0])
        if tuple(attn_mask.shape) != wanted:
            raise AssertionError(f"Expected `attn_mask` shape to be {wanted} but got "
                                 f"{attn_mask.shape}")
    return rank == 3


def _packed_projection(q, k, v, weight, bias):
    """Query, key and value through one weight; a single product where the inputs are the same."""
    size = q.size(-1)
    linear = ntorch.nn.functional.linear
    if k is v and q is k:
        return linear(q, weight, bias).chunk(3, -1)
    if k is v:
        w_q, w_kv = weight.split([size, 2 * size])
        b_q, b_kv = (None, None) if bias is None else bias.split([size, 2 * size])
        return (linear(q, w_q, b_q), *linear(k, w_kv, b_kv).chunk(2, -1))
    weights = weight.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return tuple(linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True))


def _separate_projection(q, k, v, weights, bias, size):
    expected = ((size, size), (size, k.size(-1)), (size, v.size(-1)))
    for name, weight, shape in zip(("query", "key", "value"), weights, expected, strict=True):
        if tuple(weight.shape) != shape:
            raise AssertionError(f"expecting {name} weights shape of {shape}, but got "
                                 f"{weight.shape}")
    biases = (None, None, None) if bias is None else bias.chunk(3)
    linear = ntorch.nn.functional.linear
    return tuple(linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True))


def _checked_attn_mask(attn_mask, heads, length, source):
    if attn_mask is None:
        return None
    wanted = (length, source) if attn_mask.dim() == 2 else (heads, length, source)
    if tuple(attn_mask.shape) != wanted:
        raise RuntimeError(f"The shape of the {attn_mask.dim()}D attn_mask is "
                           f"{tuple(attn_mask.shape)}, but should be {wanted}.")
    return attn_mask.unsqueeze(0) if attn_mask.dim() == 2 else attn_mask


def _extend(mask, by):
    """One more visible column at the end of ``mask``."""
    return None if mask is None else ntorch.nn.functional.pad(mask, (0, by))


def _checked_causal_hint(attn_mask, is_causal, key_padding_mask, need_weights):
    """``attn_mask`` and ``is_causal`` as attention takes them: one of the two."""
    if not is_causal:
        return attn_mask, False
    if attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    if key_padding_mask is None and not need_weights:
        return None, True
    return attn_mask, False


def multi_head_attention_forward(
        query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k,
        bias_v, add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True,
        key_padding_mask=None, need_weights=True, attn_mask=None, use_separate_proj_weight=False,
        q_proj_weight=None, k_proj_weight=None, v_proj_weight=None, static_k=None, static_v=None,
        average_attn_weights=True, is_causal=False):
    """What ``nn.MultiheadAttention`` computes, with all weights given.

    Shapes: query (L, N, E), key and value (S, N, *), without N unbatched; returns the output
    (L, N, E) and the weights (N, L, S), (N, heads, L, S) unless averaged, or None.
    """
    batched = _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        memo = {}       # inputs that are one tensor stay one tensor
        query, key, value = (memo.setdefault(id(t), t.unsqueeze(1)) for t in (query, key, value))
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    length, batch, size = query.shape
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    if key_padding_mask is not None and key_padding_mask.shape != (batch, key.shape[0]):
        raise AssertionError(f"Expected key_padding_mask of shape {(batch, key.shape[0])}, one "
                             f"flag for each key, but got {tuple(key_padding_mask.shape)}")
    padding = _float_mask(key_padding_mask, "key_padding_mask", attn_mask, "attn_mask",
                          query.dtype)
    attn_mask, is_causal = _checked_causal_hint(attn_mask, is_causal, padding, need_weights)
    attn_mask = _checked_attn_mask(_float_mask(attn_mask, "attn_mask", None, "", query.dtype),
                                   batch * num_heads, length, key.shape[0])
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = _separate_projection(query, key, value, weights, in_proj_bias, size)
    else:
        q, k, v = _packed_projection(query, key, value, in_proj_weight, in_proj_bias)
    if bias_k is not None and bias_v is not None:
        k = ntorch.cat([k, bias_k.expand(1, batch, -1)])
        v = ntorch.cat([v, bias_v.expand(1, batch, -1)])
        attn_mask, padding = _extend(attn_mask, 1), _extend(padding, 1)
    q = _heads(q, num_heads)
    k = _heads(k, num_heads) if static_k is None else _static(static_k, batch, num_heads)
    v = _heads(v, num_heads) if static_v is None else _static(static_v, batch, num_heads)
    if add_zero_attn:
        k, v = (ntorch.cat([t, t.new_zeros((*t.shape[:2], 1, t.shape[3]))], 2) for t in (k, v))
        attn_mask, padding = _extend(attn_mask, 1), _extend(padding, 1)
    mask = _merged(attn_mask, padding, batch, num_heads)
    if need_weights:
        output, weights = _attend(q, k, v, mask, dropout_p if training else 0.0)
    else:
        output, weights = scaled_dot_product_attention(
            q, k, v, mask, dropout_p if training else 0.0, is_causal), None
    output = output.permute(2, 0, 1, 3).reshape(length, batch, size)
    output = ntorch.nn.functional.linear(output, out_proj_weight, out_proj_bias)
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    if not batched:
        output = output.squeeze(1)
        weights = None if weights is None else weights.squeeze(0)
    return output, weights


def _check_sizes(query, key, value, expected, num_heads, separate):
    size = query.shape[-1]
    if size != expected:
        raise AssertionError(f"was expecting embedding dimension of {expected}, but got {size}")
    if size % num_heads != 0:
        raise AssertionError(f"embed_dim {size} not divisible by num_heads {num_heads}")
    if separate:
        if key.shape[:2] != value.shape[:2]:
            raise AssertionError(f"key's sequence and batch dims {key.shape[:2]} do not match "
                                 f"value's {value.shape[:2]}")
    elif key.shape != value.shape:
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")


def _heads(x, num_heads):
    """(S, N, heads * d) to (N, heads, S, d)."""
    length, batch, size = x.shape
    return x.reshape(length, batch, num_heads, size // num_heads).permute(1, 2, 0, 3)


def _static(x, batch, num_heads):
    """(N * heads, S, d) to (N, heads, S, d)."""
    if x.size(0) != batch * num_heads:
        raise AssertionError(f"expecting static key or value size(0) of {batch * num_heads}, but "
                             f"got {x.size(0)}")
    return x.view(batch, num_heads, *x.shape[1:])


def _merged(attn_mask, padding, batch, num_heads):
    """Both masks as one that broadcasts to (N, heads, L, S)."""
    if attn_mask is not None:
        if attn_mask.size(0) == 1 and attn_mask.dim() == 3:
            attn_mask = attn_mask.unsqueeze(0)
        else:
            attn_mask = attn_mask.view(batch, num_heads, *attn_mask.shape[1:])
    if padding is None:
        return attn_mask
    padding = padding.view(batch, 1, 1, -1)
    return padding if attn_mask is None else attn_mask + padding


def _attend(q, k, v, mask, dropout_p):
    """Attention that gives the weights too; a query that sees no key gives NaN here."""
    scores = ntorch.matmul(q * math.sqrt(1.0 / q.size(-1)), k.transpose(-2, -1))
    if mask is not None:
        scores = scores + mask
    weights = ntorch.softmax(scores, -1)
    if dropout_p > 0.0:
        weights = ntorch.ops.dropout(weights, dropout_p, True)
    return ntorch.matmul(weights, v), weights
