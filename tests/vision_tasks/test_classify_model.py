"""What is learnt, how fast, and from what: loss, parameter groups, first layers, temperature."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eightbit.backbones.speedy import first_layer
from eightbit.errors import UnknownNameError, UsageError
from eightbit.tasks import Moment
from eightbit.vision_tasks.classify import TASK, ClassifyOptions
from eightbit.vision_tasks.classify.data import Split
from eightbit.vision_tasks.classify.model import Classifier
from eightbit.vision_tasks.classify.scores import calibration_error

SMALL = ClassifyOptions(backbone_options='{"widths": [8, 8, 8]}')
FACTS = {"classes": list("abcd")}


def _model(options: ClassifyOptions = SMALL) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TASK.build_model(options, FACTS)


def _batch(count: int = 16, smoothing: float = 0.2, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets = torch.eye(4)[torch.randint(0, 4, (count,), generator=generator)]
    smoothed = (1 - smoothing) * targets + smoothing / 4
    return {"pictures": pictures, "targets": targets, "smoothed": smoothed}


def _moment(progress: float = 0.0) -> Moment:
    return Moment(0, progress, torch.Generator().manual_seed(0))


def test_the_weights_learn_from_the_smoothed_targets_alone():
    batch = _batch()
    model, plain = _model().train(), _model().train()
    TASK.loss(model, batch, _moment())["loss"].backward()
    scores = plain.head(plain.backbone(batch["pictures"])) * 0.111
    labels = batch["targets"].argmax(1)
    F.cross_entropy(scores, labels, label_smoothing=0.2).backward()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        if name == "sharpness":
            assert ours.grad is not None
            assert ours.grad != 0
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_the_learnt_sharpness_is_the_one_of_least_cross_entropy(rng):
    """Scores that are right in the share that they say, but three times too small."""
    logits = torch.from_numpy(rng.normal(0, 2, (4_000, 4))).float()
    labels = torch.multinomial(
        logits.softmax(1), 1, generator=torch.Generator().manual_seed(0)
    ).squeeze(1)
    model = _model()
    model._raw = lambda _: logits / 3
    batch = {"pictures": torch.zeros(1), "targets": F.one_hot(labels, 4).float()}
    batch["smoothed"] = batch["targets"]
    optimizer = torch.optim.SGD([model.sharpness], lr=0.05, momentum=0.85, nesterov=True)
    for _ in range(300):
        TASK.loss(model, batch, _moment())["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert model.sharpness.exp().item() == pytest.approx(3, rel=0.05)

    def error(scores: torch.Tensor) -> float:
        confidence, said = scores.softmax(1).max(1)
        return calibration_error(confidence.numpy(), (said == labels).numpy())

    with torch.no_grad():
        assert error(model(batch["pictures"])) < 0.03 < 0.1 < error(logits / 3)


def test_a_network_that_is_sure_and_wrong_at_first_does_not_blunt_the_scores_for_ever():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (256,), generator=generator)
    noise = torch.randn(256, 4, generator=generator)
    model = _model()
    batch = {"pictures": torch.zeros(1), "targets": F.one_hot(labels, 4).float()}
    batch["smoothed"] = batch["targets"]
    optimizer = torch.optim.SGD([model.sharpness], lr=0.05, momentum=0.9, nesterov=True)
    for step in range(300):
        # Chance and large numbers at first, then as right as it says it is.
        raw = 100 * noise if step < 10 else noise + 2.5 * batch["targets"]
        model._raw = lambda _, raw=raw: raw
        TASK.loss(model, batch, _moment())["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert 1.5 < model.sharpness.exp().item() < 4


def test_the_reported_loss_is_that_of_the_raw_scores():
    model, batch = _model().train(), _batch()
    with torch.no_grad():
        model.sharpness.fill_(2.0)
        found = TASK.loss(model, batch, _moment())["loss"]
        want = F.cross_entropy(_model().train()._raw(batch["pictures"]), batch["smoothed"])
    torch.testing.assert_close(found, want)


def test_the_whitening_bias_learns_at_first_only():
    model = _model().train()
    bias = first_layer(model.backbone).bias
    TASK.loss(model, _batch(), _moment(0.29))["loss"].backward()
    assert bias.grad.abs().sum() > 0
    model.zero_grad()
    TASK.loss(model, _batch(), _moment(0.31))["loss"].backward()
    assert bias.grad is None
    assert model.backbone.features[0][2].convs[0].weight.grad.abs().sum() > 0


def test_groups_hold_every_parameter_once_with_its_rate():
    learning = TASK.presets["fast"].learning
    model = _model(replace(SMALL, head_bias=True))
    groups = TASK.parameter_groups(model, learning)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    weights, biases, shifts, sharpness = groups
    assert len(weights["params"]) == 7  # six convolutions and the head
    assert weights["weight_decay"] == learning.weight_decay
    assert len(biases["params"]) == 2  # of the whitening and the head
    assert biases["weight_decay"] == 0
    assert len(shifts["params"]) == 6
    assert shifts["lr"] == 64
    assert shifts["lr"] * shifts["weight_decay"] == pytest.approx(learning.weight_decay)
    assert sharpness["lr"] * learning.learning_rate == pytest.approx(0.05)


def _data(pictures: torch.Tensor) -> SimpleNamespace:
    labels = torch.zeros(len(pictures), dtype=torch.int64)
    names = tuple(map(str, range(len(pictures))))
    return SimpleNamespace(splits={"train": Split(pictures, labels, names, "one", 32)})


def test_the_start_whitens_a_fresh_trunk_and_leaves_a_trained_one_alone(rng):
    pictures = torch.from_numpy(rng.normal([[[90]], [[120]], [[60]]], 25, (300, 3, 32, 32)))
    data = _data(pictures.clamp(0, 255).to(torch.uint8))
    model = _model()
    layer = first_layer(model.backbone)
    before = layer.weight.clone()
    TASK.begin(model, data)
    with torch.no_grad():
        out = layer(data.splits["train"].pictures)
    assert not torch.equal(layer.weight, before)
    np.testing.assert_allclose(out.mean(dim=(0, 2, 3)), 0, atol=0.05)
    np.testing.assert_allclose(out.std(dim=(0, 2, 3)), 1, atol=0.05)
    after = layer.weight.clone()
    TASK.begin(model, _data(torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8)))
    assert torch.equal(layer.weight, after)


def test_the_start_centres_a_first_layer_that_has_a_bias():
    options = replace(
        SMALL, backbone="alexnet", backbone_options='{"width": 0.1, "hidden": 8}', head_bias=True
    )
    model = _model(options)
    colours = torch.tensor([30, 200, 90], dtype=torch.uint8)[None, :, None, None]
    pictures = colours.expand(5, 3, 32, 32).contiguous()
    TASK.begin(model, _data(pictures))
    with torch.no_grad():
        out = first_layer(model.backbone)(pictures)[:, :, 2:-2, 2:-2]
    np.testing.assert_allclose(out, 0, atol=1e-4)
    resnet = _model(replace(SMALL, backbone="resnet", backbone_options='{"depth": 8}'))
    before = first_layer(resnet.backbone).weight.clone()
    TASK.begin(resnet, _data(pictures))
    assert torch.equal(first_layer(resnet.backbone).weight, before)


def test_a_backbone_that_cannot_be_is_refused_with_a_sentence():
    with pytest.raises(UsageError, match="lstm takes no pictures; name a CNN"):
        _model(ClassifyOptions(backbone="lstm"))
    with pytest.raises(UnknownNameError, match="did you mean speedy"):
        _model(ClassifyOptions(backbone="speedi"))
    with pytest.raises(UnknownNameError, match="unknown speedy option 'width'"):
        _model(ClassifyOptions(backbone_options='{"width": 2}'))
