"""Weight splitting: several synapses for each connection."""

from collections.abc import Callable, Mapping

from torch import Size, Tensor

from funcbio._checks import brief, is_number
from funcbio.anatomy._synapses import Synapse, require_layout, unit_axis
from funcbio.tensors._outputs import on_values
from funcbio.tensors._sharding import cuts, joined, shard_like


def identity(output: Tensor) -> Tensor:
    """Returns its input: the activation that changes nothing. Unlike ``nn.Identity()``, it equals its pickled copy."""
    return output


def grouped(values: Tensor, gamma: int, *, dim: int) -> Tensor:
    """Sums every run of ``gamma`` neighbours along ``dim``."""
    return values.unflatten(dim, (values.shape[dim] // gamma, gamma)).sum(dim + 1)


def repeated(values: Tensor, gamma: int, *, dim: int) -> Tensor:
    """Puts ``gamma`` copies of every entry along ``dim`` side by side."""
    return values.repeat_interleave(gamma, dim, output_size=gamma * values.shape[dim])


def sum_groups(values: Tensor, gamma: int, *, dim: int) -> Tensor:
    """Replaces every run of ``gamma`` neighbours along ``dim`` by ``gamma`` copies of their sum."""
    dim = unit_axis(values, dim)
    check_divides(gamma, values.shape[dim])
    if cuts(values, gamma, dim):
        return shard_like(sum_groups(joined(values, dim), gamma, dim=dim), values)
    return repeated(grouped(values, gamma, dim=dim), gamma, dim=dim)


def has_summable_rows(synapse: Synapse, shape: Size, gamma: int) -> bool:
    """Returns True if the units of every group have the same inputs, so that the sum of their rows is a row."""
    return (synapse.post_units(shape) // synapse.groups) % gamma == 0


def check_gamma(gamma: object) -> None:
    """Raises ValueError if a value is not a number of sub-synapses."""
    if not isinstance(gamma, int) or not is_number(gamma) or gamma < 0:
        raise ValueError(f"gamma should be an integer >= 0; found {brief(gamma)}")


def check_divides(gamma: int, features: int, layer: str = "") -> None:
    """Raises ValueError if ``features`` units do not make whole groups of ``gamma``."""
    if features % gamma:
        where = f" of {layer}" if layer else ""
        raise ValueError(
            f"weight_splitting_Gamma ({gamma}) must evenly divide the number of features ({features}){where}"
        )


def split_output(
    output: Tensor, gamma: int, *, activation: Callable[[Tensor], Tensor] | None = None, dim: int = -1
) -> Tensor:
    r"""Applies weight splitting to a layer's output: units in runs of $\Gamma$ are sub-synapses that act together.

    $$ y_i \leftarrow \sum_{j \in \mathrm{group}(i)} \phi(y_j) $$

    Args:
        output: A layer's output, any number of leading dimensions. It may be nested, in examples of different
            lengths, or quantized: its sums then get a scale of their own.
        gamma: $\Gamma$, the number of sub-synapses; 0 and 1 change nothing.
        activation: $\phi$, applied to every sub-synapse before the sum; None is the identity.
        dim: The dimension of the units.

    Returns:
        Tensor of the same shape.

    Raises:
        ValueError: If $\Gamma$ does not divide the number of units, or ``dim`` is none that all examples share.

    Example:
        >>> split_output(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2)
        tensor([3., 3., 7., 7.])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    check_gamma(gamma)
    if activation is not None and not callable(activation):
        raise ValueError(f"activation should be callable; found {brief(activation)}")
    dim = unit_axis(output, dim, "output") - output.ndim
    if gamma <= 1:
        return output

    def split(values: Tensor) -> Tensor:
        return sum_groups(values if activation is None else activation(values), gamma, dim=dim)

    return on_values(split, output)


def split_weights(params: Mapping[str, Tensor], gamma: int, *, synapses: Mapping[str, Synapse]) -> dict[str, Tensor]:
    r"""Applies weight splitting to the weights: every row, and bias, becomes the sum of its group.

    For the identity activation this equals ``split_output`` on every layer but the read-out, and touches
    weights instead of the usually larger activations. Differentiable: put it inside the loss.

    Args:
        params: Parameters by name, weights and biases.
        gamma: $\Gamma$, the number of sub-synapses; 0 and 1 change nothing.
        synapses: Description of the model, from ``funcbio.synapses``.

    Returns:
        The parameters to call the model with; read-out and other parameters as given.

    Raises:
        ValueError: If $\Gamma$ does not divide a layer's number of units, or a group of a grouped
            convolution: the sum of rows with different inputs is no row, use ``split_output`` there. Or if nothing
            says which dimension of a weight belongs to the inputs.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        >>> params = split_weights(dict(model.named_parameters()), 2, synapses=synapses(model))
        >>> bool((params["0.weight"][0] == params["0.weight"][1]).all())
        True

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    check_gamma(gamma)
    result = dict(params)
    missing = [name for name in synapses if name not in result]
    if missing:
        raise ValueError(f"params should hold every weight that synapses names; found no {missing[0]}")
    for name, synapse in synapses.items():
        if gamma <= 1 or synapse.readout:
            continue
        require_layout(synapse, "gamma")
        weight = params[name]
        check_divides(gamma, synapse.post_units(weight.shape), name)
        if not has_summable_rows(synapse, weight.shape, gamma):
            raise ValueError(
                f"gamma should divide the units of every group of {name} to split its weights; "
                f"found gamma={gamma}, {synapse.groups} groups; use split_output for this layer"
            )
        result[name] = sum_groups(weight, gamma, dim=synapse.post)
        if synapse.bias is not None:
            result[synapse.bias] = sum_groups(params[synapse.bias], gamma, dim=0)
    return result
