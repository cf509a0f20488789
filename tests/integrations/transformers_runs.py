"""Runs of a tiny BERT with the Trainer of Transformers, and the same in a bare loop."""

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from funcbio import BioConfig, Mechanism, attach

CONFIG = BioConfig(crystal_thresh=1e-2, rejuvenation_parameter_dre=4.0, fuzzy_lr_distribution="lognormal")
MECHANISMS = ["crystallize", "fuzzy_learning_rates", Mechanism("rejuvenate_weights", every=2)]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
QUIET = {"report_to": "none", "use_cpu": True, "disable_tqdm": True}
STEPS = 6


def bert(seed=0):
    torch.manual_seed(seed)
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(
        BertConfig(vocab_size=30, max_position_embeddings=12, num_labels=3, **SIZES, **dropout)
    )


def data(batches=STEPS):
    generator = torch.Generator().manual_seed(3)
    tokens, labels = torch.randint(30, (8 * batches, 8), generator=generator), torch.arange(8 * batches) % 3
    return [{"input_ids": one, "labels": label} for one, label in zip(tokens, labels, strict=True)]


class Ordered(Trainer):
    """Takes the data in order."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer(folder, model, *callbacks, accumulate=1, clip=1.0, **options):
    arguments = TrainingArguments(
        str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=accumulate,
        max_grad_norm=clip,
        learning_rate=0.05,
        lr_scheduler_type="linear",
        **{"save_strategy": "no", **QUIET, **options},
    )
    return Ordered(model, arguments, train_dataset=data(STEPS * accumulate), callbacks=[*callbacks])


def bare_loop(model, *, accumulate=1, clip=1.0):
    """What the Trainer does, written out."""
    set_seed(42)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0, fused=True)
    handle = attach(optimizer, model, MECHANISMS, config=CONFIG, ages=True)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (STEPS - step) / STEPS)
    batches = torch.utils.data.DataLoader(data(STEPS * accumulate), batch_size=8)
    for number, batch in enumerate(batches):
        model(**batch).loss.backward()  # The Trainer leaves it to such a model to divide by the number of labels.
        if (number + 1) % accumulate == 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            decay.step()
            optimizer.zero_grad()
    return handle
