"""The dimension of a weight that belongs to its inputs."""

from torch import nn

from funcbio.anatomy._choice import INPUT_FIRST, LAYERS, Chosen

TORCH_WEIGHTS = {
    "weight": (*LAYERS, *INPUT_FIRST),
    "weight_ih": (nn.RNNBase, nn.RNNCellBase),
    "weight_hh": (nn.RNNBase, nn.RNNCellBase),
    "weight_hr": (nn.RNNBase,),
    "in_proj_weight": (nn.MultiheadAttention,),
    "q_proj_weight": (nn.MultiheadAttention,),
    "k_proj_weight": (nn.MultiheadAttention,),
    "v_proj_weight": (nn.MultiheadAttention,),
}
"""Names of weights, without the number of a recurrent layer, and the classes of torch that have them."""


def is_torch_weight(module: nn.Module, attribute: str) -> bool:
    """Returns True if torch's own layer has a weight of that name: its layout is known."""
    return isinstance(module, TORCH_WEIGHTS.get(attribute.partition("_l")[0], ()))


def input_dim(one: Chosen) -> int | None:
    """Returns the dimension of a weight that belongs to its inputs; None if it is not known.

    The user's word counts, then the class of the layer. Shapes are no evidence: a square weight fits both layouts.

    Raises:
        ValueError: If the user says another dimension than one of torch's layers has, or the weight has no such one.
    """
    given, usual = one.inputs, _of_class(one)
    if given is None:
        return usual
    dims = one.weight.ndim
    if not -dims <= given < dims:
        raise ValueError(
            f"synapses should give a dimension of {one.name}, of shape {tuple(one.weight.shape)}; found {given}"
        )
    if usual not in (None, given % dims) and type(one.module).__module__.startswith("torch."):
        raise ValueError(
            f"synapses should give {usual} for {one.name}, the inputs of a {type(one.module).__name__}; found {given}"
        )
    return given % dims


def _of_class(one: Chosen) -> int | None:
    module = one.module
    if is_torch_weight(module, one.attribute):
        return 0 if isinstance(module, INPUT_FIRST) else 1
    # The layer of GPT-2 in Transformers, which is a linear one with a transposed weight.
    sizes = getattr(module, "nx", None), getattr(module, "nf", None)
    named = any(kind.__name__ == "Conv1D" for kind in type(module).__mro__)
    return 0 if named and one.attribute == "weight" and tuple(one.weight.shape) == sizes else None
