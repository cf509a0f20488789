"""Transformers and mixers: values are owned, queries and keys are mixed by the softmax."""

import torch
import torch.nn.functional as F
from answers import Answer, Net, alone, last, met, mixed
from torch import nn


class PreNorm(nn.Module):
    """A block of a Transformer with projections of their own, between an embedding and a read-out."""

    def __init__(self):
        super().__init__()
        self.embed, self.ln1, self.ln2, self.head = nn.Linear(2, 4), nn.LayerNorm(4), nn.LayerNorm(4), nn.Linear(4, 1)
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4, bias=False) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(4, 3), nn.Linear(3, 4)

    def forward(self, x):
        x = self.embed(x)
        h = self.ln1(x)
        q, k, v = (layer(h).unflatten(-1, (2, 2)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(x + self.fc2(F.gelu(self.fc1(self.ln2(x)))))


class Attention(nn.Module):
    """Torch's own attention."""

    def __init__(self):
        super().__init__()
        self.embed, self.attn = nn.Linear(2, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        x = self.embed(x)
        return self.head(self.attn(x, x, x)[0])


class AddMm(nn.Module):
    """The linear layer of GPT-2, whose weight is (in, out)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Gpt(nn.Module):
    """A block of GPT-2, with a read-out that is tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe, self.ln1, self.ln2 = (
            nn.Embedding(5, 4),
            nn.Parameter(torch.randn(3, 4)),
            *map(nn.LayerNorm, (4, 4)),
        )
        self.c_attn, self.c_proj, self.c_fc, self.m_proj = AddMm(4, 12), AddMm(4, 4), AddMm(4, 3), AddMm(3, 4)
        self.lm_head = nn.Linear(4, 5, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe
        q, k, v = (one.unflatten(-1, (2, 2)).transpose(1, 2) for one in self.c_attn(self.ln1(x)).split(4, -1))
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(heads.transpose(1, 2).flatten(2))
        return self.lm_head(x + self.m_proj(F.gelu(self.c_fc(self.ln2(x)))))


class Mixer(nn.Module):
    """A block of MLP-Mixer: two tokens are mixed, then three channels."""

    def __init__(self):
        super().__init__()
        self.embed, self.ln1, self.ln2, self.head = nn.Linear(2, 3), nn.LayerNorm(3), nn.LayerNorm(3), nn.Linear(3, 1)
        self.t1, self.t2, self.c1, self.c2 = nn.Linear(2, 4), nn.Linear(4, 2), nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.t2(F.gelu(self.t1(self.ln1(x).transpose(1, 2)))).transpose(1, 2)
        return self.head((x + self.c2(F.gelu(self.c1(self.ln2(x))))).mean(1))


def post_norm():
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=3, batch_first=True)
    return nn.Sequential(nn.Linear(2, 4), layer, nn.Linear(4, 1))


def entries(*names, units):
    return {name: [*range(units)] for name in names}


HEAD = last({"head.weight": [0], "head.bias": [0]})
PRENORM = {
    "embed.weight": Answer(
        {
            **{f"{one}.weight": alone(0, 1, 2, 3) for one in "qkv"},
            **{"fc1.weight": met(0, 1, 2, 3), "head.weight": met(0, 1, 2, 3)},
        },
        entries("embed.weight", "embed.bias", "ln1.weight", "ln1.bias", units=4),
        [],
    ),
    "q.weight": Answer({"out.weight": mixed(4)}, {"q.weight": [0, 1, 2, 3]}, []),
    "k.weight": Answer({"out.weight": mixed(4)}, {"k.weight": [0, 1, 2, 3]}, []),
    "v.weight": Answer({"out.weight": alone(0, 1, 2, 3)}, {"v.weight": [0, 1, 2, 3]}, [0, 1, 2, 3]),
    "out.weight": Answer(
        {"fc1.weight": met(0, 1, 2, 3), "head.weight": met(0, 1, 2, 3)}, {"out.weight": [0, 1, 2, 3]}, []
    ),
    "fc1.weight": Answer({"fc2.weight": alone(0, 1, 2)}, entries("fc1.weight", "fc1.bias", units=3), [0, 1, 2]),
    "fc2.weight": Answer({"head.weight": met(0, 1, 2, 3)}, entries("fc2.weight", "fc2.bias", units=4), []),
    "head.weight": HEAD,
}
ATTENTION = {
    "embed.weight": Answer(
        {"attn.in_proj_weight": alone(0, 1, 2, 3)}, entries("embed.weight", "embed.bias", units=4), [0, 1, 2, 3]
    ),
    "attn.in_proj_weight": Answer(
        {"attn.out_proj.weight": alone(8, 9, 10, 11)},
        entries("attn.in_proj_weight", "attn.in_proj_bias", units=12),
        [8, 9, 10, 11],
    ),
    "attn.out_proj.weight": Answer(
        {"head.weight": alone(0, 1, 2, 3)},
        entries("attn.out_proj.weight", "attn.out_proj.bias", units=4),
        [0, 1, 2, 3],
    ),
    "head.weight": HEAD,
}
POSTNORM = {
    "0.weight": Answer(
        {
            "1.self_attn.in_proj_weight": alone(0, 1, 2, 3),
            "1.linear1.weight": met(0, 1, 2, 3),
            "2.weight": met(0, 1, 2, 3),
        },
        entries("0.weight", "0.bias", units=4),
        [],
    ),
    "1.self_attn.in_proj_weight": Answer(
        {"1.self_attn.out_proj.weight": alone(8, 9, 10, 11)},
        entries("1.self_attn.in_proj_weight", "1.self_attn.in_proj_bias", units=12),
        [8, 9, 10, 11],
    ),
    "1.self_attn.out_proj.weight": Answer(
        {"1.linear1.weight": met(0, 1, 2, 3), "2.weight": met(0, 1, 2, 3)},
        entries("1.self_attn.out_proj.weight", "1.self_attn.out_proj.bias", units=4),
        [],
    ),
    "1.linear1.weight": Answer(
        {"1.linear2.weight": alone(0, 1, 2)}, entries("1.linear1.weight", "1.linear1.bias", units=3), [0, 1, 2]
    ),
    "1.linear2.weight": Answer(
        {"2.weight": met(0, 1, 2, 3)}, entries("1.linear2.weight", "1.linear2.bias", units=4), []
    ),
    "2.weight": last({"2.weight": [0], "2.bias": [0]}),
}
GPT = {
    "wte.weight": Answer(  # A position is added to every channel.
        {"c_attn.weight": met(0, 1, 2, 3), "c_fc.weight": met(0, 1, 2, 3), "wte.weight": met(0, 1, 2, 3)},
        {"wte.weight": [0, 1, 2, 3]},
        [],
    ),
    "c_attn.weight": Answer(
        {"c_proj.weight": alone(8, 9, 10, 11)}, entries("c_attn.weight", "c_attn.bias", units=12), [8, 9, 10, 11]
    ),
    "c_proj.weight": Answer(
        {"c_fc.weight": met(0, 1, 2, 3), "wte.weight": met(0, 1, 2, 3)},
        entries("c_proj.weight", "c_proj.bias", units=4),
        [],
    ),
    "c_fc.weight": Answer({"m_proj.weight": alone(0, 1, 2)}, entries("c_fc.weight", "c_fc.bias", units=3), [0, 1, 2]),
    "m_proj.weight": Answer({"wte.weight": met(0, 1, 2, 3)}, entries("m_proj.weight", "m_proj.bias", units=4), []),
}
MIXER = {
    "embed.weight": Answer(
        {"t1.weight": mixed(2), "c1.weight": met(0, 1, 2), "head.weight": met(0, 1, 2)},
        entries("embed.weight", "embed.bias", "ln1.weight", "ln1.bias", units=3),
        [],
    ),
    "t1.weight": Answer({"t2.weight": alone(0, 1, 2, 3)}, entries("t1.weight", "t1.bias", units=4), [0, 1, 2, 3]),
    "t2.weight": Answer({"c1.weight": mixed(3), "head.weight": mixed(3)}, entries("t2.weight", "t2.bias", units=2), []),
    "c1.weight": Answer({"c2.weight": alone(0, 1, 2, 3, 4)}, entries("c1.weight", "c1.bias", units=5), [0, 1, 2, 3, 4]),
    "c2.weight": Answer({"head.weight": met(0, 1, 2)}, entries("c2.weight", "c2.bias", units=3), []),
    "head.weight": HEAD,
}
TOKENS = (torch.rand(2, 3, 2),)
TIED = "wte.weight: used in two directions, the units of the second are not listed"

ATTENDING = {
    "pre-norm Transformer": Net(PreNorm, TOKENS, PRENORM),
    "MultiheadAttention": Net(Attention, TOKENS, ATTENTION),
    "TransformerEncoderLayer": Net(post_norm, TOKENS, POSTNORM),
    "GPT": Net(Gpt, (torch.tensor([[0, 1, 2], [3, 4, 0]]),), GPT, (TIED,)),
    "MLP-Mixer": Net(Mixer, (torch.rand(2, 2, 2),), MIXER),
}
