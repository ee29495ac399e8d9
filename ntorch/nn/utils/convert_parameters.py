"""All parameters as one vector, and back."""
import ntorch


def _check_device(parameter, seen):
    device = parameter.device
    if seen is not None and device != seen:
        raise TypeError("Found two parameters on different devices, this is currently not "
                        "supported.")
    return device


def parameters_to_vector(parameters):
    """One vector of all the values, one parameter after the other."""
    parts, device = [], None
    for parameter in parameters:
        device = _check_device(parameter, device)
        parts.append(parameter.view(-1))
    return ntorch.cat(parts)


def vector_to_parameters(vec, parameters):
    """Set the parameters to the values in ``vec``; they share its memory afterwards."""
    if not isinstance(vec, ntorch.Tensor):
        raise TypeError(f"expected ntorch.Tensor, but got: {type(vec).__name__}")
    start, device = 0, None
    for parameter in parameters:
        device = _check_device(parameter, device)
        end = start + parameter.numel()
        parameter.data = vec[start:end].view_as(parameter).data
        start = end
