"""Batches of examples of different lengths: counted and split element by element, whatever packs them."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, count_active, split_output

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
LENGTHS = (6, 4, 3, 1)
CONFIGS = {
    "splitting": {"weight_splitting_Gamma": 2},
    "splitting with an activation": {"weight_splitting_Gamma": 2, "weight_splitting_activation_function": torch.tanh},
    "activity": {"record_activity": True},
    "everything": {"weight_splitting_Gamma": 2, "fuzzy_lr_distribution": "activity", "apply_dales_principle": True},
}


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(16, 4)

    def forward(self, x, mask):
        return self.out(self.encoder(x, src_key_padding_mask=mask))


def padded():
    x, mask = torch.randn(len(LENGTHS), max(LENGTHS), 16), torch.ones(len(LENGTHS), max(LENGTHS), dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = False
    return x, mask


def counters(model):
    return [bio for bio in model.modules() if isinstance(bio, BioModule) and bio.records_activity]


def counts(model):
    return {bio.synapse.weight: bio.activation_count.clone() for bio in counters(model)}


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("synapses", [None, "*"])
@pytest.mark.parametrize("config", CONFIGS)
def test_evaluation_with_a_padding_mask_gives_what_training_gives(config, synapses, without_gradients):
    model = BioConverter(synapses=synapses, **CONFIGS[config])(Encoder())
    x, mask = padded()
    nested = []
    inner = model.encoder.layers[0].linear1
    inner.register_forward_hook(lambda layer, args, output: nested.append(output.is_nested))
    training = model.train()(x, mask)[~mask]
    with without_gradients():
        torch.testing.assert_close(model.eval()(x, mask)[~mask], training, atol=1e-5, rtol=1e-5)
    assert nested == [False, True]  # Else the test shows nothing.


def test_evaluation_counts_real_elements_and_no_padding():
    model, (x, mask) = BioConverter(synapses="*", record_activity=True)(Encoder()).eval(), padded()
    with torch.no_grad():
        for row, length in enumerate(LENGTHS):
            model(x[row : row + 1, :length], mask[row : row + 1, :length])
        one_by_one = counts(model)
        for bio in counters(model):
            bio.activation_count.zero_()
        model(x, mask)
    found = counts(model)
    assert sum(int(count.sum()) for count in found.values()) > 0
    for name, count in one_by_one.items():
        if name != "out.weight":  # It sees the batch padded again.
            assert torch.equal(found[name], count), name


def test_the_pure_function_does_likewise():
    model, (x, mask) = Encoder().eval(), padded()
    call = funcbio.observe(model, "*", BioConfig(weight_splitting_Gamma=2, record_activity=True))
    converted = BioConverter(synapses="*", weight_splitting_Gamma=2, record_activity=True)(Encoder()).eval()
    converted.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        output, activity = call(dict(model.named_parameters()), x, mask)
        assert torch.equal(output, converted(x, mask))
    for name, count in counts(converted).items():
        assert torch.equal(activity[name].flatten(), count)


def examples(units=12):
    return [torch.randn(length, units) for length in (3, 0, 2, 5)]


def jagged(parts):
    return torch.nested.as_nested_tensor(parts, layout=torch.jagged)


def with_gaps(parts):
    """Jagged, with memory between the examples that belongs to none."""
    longest = max(len(part) for part in parts)
    whole = torch.stack([torch.cat((part, torch.full((longest - len(part), part.shape[1]), 9.0))) for part in parts])
    lengths = torch.tensor([len(part) for part in parts])
    return torch.nested.narrow(whole, 1, torch.zeros_like(lengths), lengths, layout=torch.jagged)


LAYOUTS = {"strided": torch.nested.as_nested_tensor, "jagged": jagged, "with gaps": with_gaps}


@pytest.mark.parametrize("activation", [None, torch.tanh])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_functions_treat_examples_one_by_one(layout, activation):
    parts = examples()
    output = LAYOUTS[layout](parts)
    assert torch.equal(count_active(output, dim=-1), sum(count_active(part, dim=-1) for part in parts))
    assert torch.equal(count_active(output, dim=2, threshold=0.5), sum(p.abs().gt(0.5).sum(0) for p in parts))
    split = split_output(output, 3, activation=activation, dim=-1)
    assert split.is_nested
    assert split.layout == output.layout
    for found, part in zip(split.unbind(), parts, strict=True):
        assert torch.equal(found, split_output(part, 3, activation=activation))


def test_units_may_lie_before_the_lengths():
    parts = examples()
    turned = jagged(parts).transpose(1, 2)
    assert torch.equal(count_active(turned, dim=1), sum(count_active(part, dim=-1) for part in parts))
    for found, part in zip(split_output(turned, 3, dim=1).unbind(), parts, strict=True):
        assert torch.equal(found, split_output(part, 3).T)


@pytest.mark.parametrize(
    ("layout", "dim"), [("strided", 0), ("strided", -3), ("jagged", 0), ("jagged", 1), ("jagged", 3)]
)
def test_a_dimension_that_examples_do_not_share_is_refused(layout, dim):
    for function in (lambda y: count_active(y, dim=dim), lambda y: split_output(y, 2, dim=dim)):
        with pytest.raises(ValueError, match=rf"dim should be a dimension of output, nested in examples; found {dim}"):
            function(LAYOUTS[layout](examples()))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_output_is_refused(kind):
    sparse = torch.eye(4).to_sparse(layout=kind)
    for function in (lambda y: count_active(y, dim=-1), lambda y: split_output(y, 2)):
        with pytest.raises(ValueError, match=f"output should be a dense tensor; found the layout {kind}"):
            function(sparse)


@pytest.mark.parametrize("layout", ["strided", "jagged"])
def test_layers_take_nested_input_with_gradients(layout):
    layers = lambda: BioConverter(weight_splitting_Gamma=2, record_activity=True)(
        nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    )
    parts, together, alone = examples(), layers(), layers()
    together.load_state_dict(alone.state_dict())
    first = together[0](LAYOUTS[layout](parts))
    output = together[2](together[1](first) + first)  # A sum of nested tensors of one length.
    torch.cat([*output.unbind()]).square().sum().backward()
    for part in parts:
        first = alone[0](part)
        alone[2](alone[1](first) + first).square().sum().backward()
    for one, two in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    assert all(torch.equal(count, counts(alone)[name]) for name, count in counts(together).items())
    together.bio_step()


def test_packed_sequences_are_counted_without_padding():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.mix, self.out = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x, lengths):
            packed, _ = self.lstm(pack_padded_sequence(x, lengths, batch_first=True))
            return self.out(torch.relu(self.mix(packed.data)))

    model = BioConverter(synapses="*", weight_splitting_Gamma=2, record_activity=True)(Tagger())
    x, lengths = torch.randn(len(LENGTHS), max(LENGTHS), 5), torch.tensor(LENGTHS)
    output = model(x, lengths)
    assert len(output) == sum(LENGTHS)
    whole = counts(model)["mix.weight"].clone()
    output.sum().backward()
    model.bio_step()
    found = torch.zeros_like(whole)
    for row, length in enumerate(LENGTHS):
        model.mix.bio_mod.activation_count.zero_()
        model(x[row : row + 1], torch.tensor([length]))
        found += model.mix.bio_mod.activation_count
    assert torch.equal(found, whole)
