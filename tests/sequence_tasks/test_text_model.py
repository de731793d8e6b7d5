"""The network, and the lean steps that write with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eightbit.errors import UsageError
from eightbit.sequence_tasks.text.model import build_model, loss
from eightbit.sequence_tasks.text.options import TextOptions
from eightbit.sequence_tasks.text.stepper import LstmStepper, ModuleStepper, make_stepper
from eightbit.sequence_tasks.text.writing import read_ids
from eightbit.tasks import Moment

VOCABULARY = 11


def _model(**options):
    options = {"embedding": 6, "backbone_options": '{"hidden": 12}', **options}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(TextOptions(**options), {"vocabulary": VOCABULARY})
        for parameter in model.parameters():  # zero biases and unit norms would hide mistakes
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def _ids(batch=2, steps=9):
    return torch.randint(0, VOCABULARY, (batch, steps), generator=torch.Generator().manual_seed(1))


STEPPED = [
    {"backbone_options": '{"hidden": 12, "layers": 3}'},
    {"backbone_options": '{"hidden": 12, "layers": 2, "layer_norm": true}'},
    {"backbone": "skip_lstm", "backbone_options": '{"hidden": 12, "layers": 3}'},
    {"backbone": "skip_lstm", "backbone_options": '{"hidden": 8, "layer_norm": true}'},
    {"tied": True},
    {"backbone": "gru"},
    {"backbone": "mlstm"},
    {"backbone": "mrnn"},
]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("options", STEPPED)
def test_lean_steps_equal_the_model(options, rows):
    model = _model(**options)
    before, ids = _ids(1, 5)[0].numpy(), _ids(rows, 7)
    stepper = make_stepper(model, read_ids(model, before, rows))
    lean = options.get("backbone", "lstm") in ("lstm", "skip_lstm")
    assert isinstance(stepper, LstmStepper if lean else ModuleStepper)
    whole = torch.cat([torch.from_numpy(before).expand(rows, -1), ids], dim=1)
    with torch.no_grad():
        want, state = model(whole)
    for t in range(ids.shape[1]):
        got = stepper.read(ids[:, t].numpy())
        np.testing.assert_allclose(got, want[:, 5 + t].numpy(), rtol=1e-4, atol=1e-5)
    for mine, its in zip(stepper.state, state, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_mean_cross_entropy_of_the_next_tokens():
    model, ids = _model(), _ids()
    found = loss(model, {"ids": ids}, Moment(0, 0.0, torch.Generator()))["loss"]
    scores = model(ids[:, :-1])[0].double().log_softmax(-1)
    want = -scores.gather(2, ids[:, 1:, None]).mean()
    assert found.item() == pytest.approx(want.item(), rel=1e-5)


def test_tied_weights_are_one_parameter_behind_a_bridge():
    model = _model(tied=True)
    assert model.head.weight is model.embedding.weight
    assert model.bridge.weight.shape == (6, 12)
    level = _model(tied=True, embedding=12)
    assert not list(level.bridge.parameters())


@pytest.mark.parametrize("name", ["input_dropout", "output_dropout", "token_dropout"])
def test_each_dropout_acts_in_training_alone(name):
    model, plain, ids = _model(**{name: 0.5}), _model(), _ids()
    torch.testing.assert_close(model(ids)[0], plain(ids)[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = model.train()(ids)[0], model(ids)[0]
    assert not torch.allclose(first, second)


def test_token_dropout_drops_a_token_everywhere():
    model = _model(token_dropout=0.5).train()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ids = _ids(4, 40)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(ids)
    gone = (seen[0] == 0).all(-1)
    for token in range(VOCABULARY):
        of_token = gone[ids == token]
        assert of_token.all() or not of_token.any()
    assert gone.any() and not gone.all()


def test_forget_gates_begin_open():
    model = build_model(TextOptions(backbone_options='{"hidden": 4}'), {"vocabulary": 3})
    assert torch.equal(model.backbone.stack[0].bias_hh_l0[4:8], torch.ones(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "nature"}, "nature reads no sequences; name one such as lstm"),
        ({"backbone_options": '{"bidirectional": true}'}, "leave out bidirectional"),
        ({"backbone": "lstn"}, "did you mean lstm"),
    ],
)
def test_a_trunk_that_cannot_predict_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        build_model(TextOptions(**options), {"vocabulary": 3})


def test_the_golden_scores_of_a_tiny_network_follow_from_its_weights():
    model = _model(backbone_options='{"hidden": 3}')
    ids = _ids(1, 4)
    p = {name: value.detach().double() for name, value in model.named_parameters()}
    h = c = torch.zeros(3, dtype=torch.double)
    for token in ids[0]:
        x = p["embedding.weight"][token]
        z = p["backbone.stack.0.weight_ih_l0"] @ x + p["backbone.stack.0.bias_ih_l0"]
        z = z + p["backbone.stack.0.weight_hh_l0"] @ h + p["backbone.stack.0.bias_hh_l0"]
        i, f, g, o = z.chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    want = F.linear(h, p["head.weight"], p["head.bias"])
    torch.testing.assert_close(model(ids)[0][0, -1].double(), want, rtol=1e-5, atol=1e-6)
