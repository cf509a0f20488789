"""Kinds of warnings."""


class IdleWarning(UserWarning):
    """Warns of mechanisms that have no effect, and of fields of the configuration that apply to no layer.

    Example:
        >>> import warnings
        >>> net = torch.nn.Linear(3, 2)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", category=IdleWarning)
        ...     handle = attach(torch.optim.SGD(net.parameters(), lr=0.1), net, ["crystallize"])
    """


class DaleWarning(UserWarning):
    """Warns that Dale's principle holds by weight matrix, or not for some weights.

    The first where it is not known which unit feeds which weights; the second where what a weight reads has no single
    sign, as units arrive mixed, or together with an input of the model.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always")
        ...     net = BioConverter(apply_dales_principle=True)(torch.nn.Linear(3, 2))
        >>> [one.category.__name__ for one in seen]
        ['DaleWarning']
    """
