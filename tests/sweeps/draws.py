"""Forms of calls that draw numbers: those that a sweep takes over, and those that follow from a seed."""

import torch
from torch import nn
from torch.nn import functional as F

GENERATOR = torch.Generator()


def inputs():
    """Tensors to draw for, by name: types, shapes and layouts, numbers and none."""
    ones = torch.ones(40, 50)
    return {
        "float": ones,
        "double": ones.double(),
        "half": ones.half(),
        "bfloat": ones.bfloat16(),
        "long": ones.long(),
        "bool": ones.bool(),
        "complex": ones.to(torch.complex64),
        "grad": ones.clone().requires_grad_() * 1,
        "half chance": ones * 0.5,
        "empty": torch.ones(0, 3),
        "number": torch.ones(()),
        "vector": torch.ones(30),
        "images": torch.ones(8, 9, 5, 4),
        "volume": torch.ones(3, 4, 5, 2, 2),
        "last": torch.ones(8, 9, 5, 4).to(memory_format=torch.channels_last),
        "transposed": torch.ones(40, 50).t(),
        "sparse": torch.eye(4).to_sparse(),
    }


CHANCES = (0.0, 0.25, 1.0, 0, 1, True, 1.5, -0.5, None, torch.tensor(0.25))


def _dropouts():
    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"):
        function = getattr(F, name)
        yield f"F.{name}(x)", function
        yield f"F.{name}(x, training=False)", lambda x, f=function: f(x, training=False)
        yield f"F.{name}(input=x, p=0.5, training=True)", lambda x, f=function: f(input=x, p=0.5, training=True)
        yield f"F.{name}(x, 0.25, True, True)", lambda x, f=function: f(x, 0.25, True, True)
        yield f"F.{name}(inplace=True), x", lambda x, f=function: (f(x, 0.5, True, inplace=True), x)[1]
        for p in CHANCES:
            yield f"F.{name}(x, {p})", lambda x, f=function, p=p: f(x, p, True)
    for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
        for function in (getattr(torch, name), getattr(torch, name + "_")):
            for p in CHANCES:
                yield f"{function.__name__}(x, {p}, True)", lambda x, f=function, p=p: f(x, p, True)
            yield f"{function.__name__}(x, train=False)", lambda x, f=function: f(x, p=0.5, train=False)
            yield f"{function.__name__}(x)", lambda x, f=function: f(x)
    for made in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout):
        yield f"nn.{made.__name__}(0.5)", made(0.5)
        yield f"nn.{made.__name__}(0.5, inplace=True)", made(0.5, inplace=True)
        yield f"nn.{made.__name__}(0.5).eval()", made(0.5).eval()


def _likes():
    options = [
        {},
        {"dtype": torch.float64},
        {"dtype": torch.float16},
        {"dtype": None, "device": None},
        {"dtype": torch.int64},
        {"dtype": torch.complex64},
        {"device": "cpu"},
        {"device": torch.device("meta")},
        {"requires_grad": True},
        {"requires_grad": False},
        {"layout": torch.strided},
        {"pin_memory": False},
        {"memory_format": torch.contiguous_format},
        {"generator": None},
        {"generator": GENERATOR},
        {"nonsense": 1},
    ]
    for function in (torch.rand_like, torch.randn_like):
        for chosen in options:
            shown = ", ".join(f"{k}={'own' if v is GENERATOR else v}" for k, v in chosen.items())
            yield f"{function.__name__}(x, {shown})", lambda x, f=function, o=chosen: f(x, **o)
        yield f"{function.__name__}(input=x)", lambda x, f=function: f(input=x)
        yield f"{function.__name__}()", lambda x, f=function: f()


def _tosses():
    for p in CHANCES:
        yield f"bernoulli(x, {p})", lambda x, p=p: torch.bernoulli(x, p)
        yield f"bernoulli(x, p={p})", lambda x, p=p: torch.bernoulli(x, p=p)
        yield f"x.bernoulli({p})", lambda x, p=p: x.bernoulli(p)
        yield f"x.bernoulli(p={p})", lambda x, p=p: x.bernoulli(p=p)
        yield f"x.bernoulli_({p})", lambda x, p=p: x.bernoulli_(p)
    yield "bernoulli(x)", torch.bernoulli
    yield "bernoulli(input=x)", lambda x: torch.bernoulli(input=x)
    yield "bernoulli(input=x, p=0.25)", lambda x: torch.bernoulli(input=x, p=0.25)
    yield "bernoulli(x, out=)", lambda x: torch.bernoulli(x, out=torch.empty_like(x))
    yield "bernoulli(x, 0.25, out=)", lambda x: torch.bernoulli(x, 0.25, out=torch.empty_like(x))
    yield "bernoulli(x, generator=None)", lambda x: torch.bernoulli(x, generator=None)
    yield "bernoulli(x, generator=)", lambda x: torch.bernoulli(x, generator=GENERATOR)
    yield "bernoulli(x, 0.25, 3)", lambda x: torch.bernoulli(x, 0.25, 3)
    yield "x.bernoulli()", lambda x: x.bernoulli()


def _attentions():
    square = lambda x: x[..., : x.shape[-2], :]
    masks = {
        "none": lambda x: None,
        "bool": lambda x: torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).tril(),
        "blind": lambda x: torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).triu(1),
        "float": lambda x: torch.zeros(x.shape[-2], x.shape[-2], dtype=x.dtype),
        "long": lambda x: torch.ones(x.shape[-2], x.shape[-2], dtype=torch.long),
    }
    attend = F.scaled_dot_product_attention
    for name, mask in masks.items():
        for p in (0.0, 0.25, 1.0, 1.5):
            for causal in (False, True):
                yield (
                    f"attention({name}, {p}, {causal})",
                    lambda x, m=mask, p=p, c=causal: attend(square(x), square(x), square(x), m(x), p, c),
                )
    yield "attention(scale=)", lambda x: attend(x, x, x, dropout_p=0.5, scale=0.3)
    yield (
        "attention(enable_gqa=)",
        lambda x: attend(x[None, None], x[None, None], x[None, None], dropout_p=0.5, enable_gqa=True),
    )
    yield "attention(other type)", lambda x: attend(x, x.double(), x, dropout_p=0.5)


FORMS = dict([*_dropouts(), *_likes(), *_tosses(), *_attentions()])
