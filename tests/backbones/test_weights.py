"""Weight files: what is carried to another input shape, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eightbit.backbones import (
    config_of,
    create_backbone,
    export_trunk,
    load_weights,
    packaged_weights,
    save_weights,
    weights,
)
from eightbit.errors import UnknownNameError, UsageError, WeightsError

ATARI = (4, 84, 84)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_weights(create_backbone("nature", ATARI, seed=1), tmp_path / "nature.safetensors")


def _state(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def test_the_file_names_its_backbone_shape_and_all_options(saved):
    config, _ = weights.read_weights(saved)
    assert config.name == "nature"
    assert config.in_shape == ATARI
    assert config.options == {"hidden": 512, "layer_norm": False}


def test_another_channel_count_keeps_the_output_of_grey_pictures(saved, capsys):
    before = create_backbone("nature", ATARI, weights=saved)
    after = create_backbone("nature", (3, 84, 84), weights=saved, seed=2)
    grey = torch.rand(2, 1, 84, 84, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want, got = before(grey.expand(-1, 4, -1, -1)), after(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-5)
    assert after.load_report.adapted == ("features.0.0",)
    assert after.load_report.started_anew == ()
    assert len(after.load_report.carried) == 3
    assert "adapted: features.0.0" in capsys.readouterr().out


def test_another_picture_size_carries_convolutions_and_starts_the_linear_layer_anew(saved):
    fresh = create_backbone("nature", (4, 64, 64), seed=2)
    loaded = create_backbone("nature", (4, 64, 64), weights=saved, seed=2)
    report = loaded.load_report
    assert report.carried == ("features.0.0", "features.1.0", "features.2.0")
    assert (report.adapted, report.started_anew) == ((), ("hidden.1",))
    assert torch.equal(loaded.features[2][0].weight, _state(saved)["features.2.0.weight"])
    assert torch.equal(loaded.hidden[1].weight, fresh.hidden[1].weight)
    assert torch.equal(loaded.hidden[1].bias, fresh.hidden[1].bias)


def test_a_trunk_goes_into_a_classifier_and_back(saved, tmp_path):
    classifier = create_backbone("nature", (3, 64, 64), weights=saved)
    path = save_weights(classifier, tmp_path / "classifier.safetensors")
    back = create_backbone("nature", ATARI, weights=path)
    assert torch.equal(back.features[1][0].weight, _state(saved)["features.1.0.weight"])
    mean = _state(saved)["features.0.0.weight"].mean(1)
    torch.testing.assert_close(back.features[0][0].weight.mean(1), mean)


def test_a_network_without_layers_of_the_pictures_size_carries_over_whole(tmp_path):
    path = save_weights(create_backbone("resnet", (3, 32, 32), depth=8), tmp_path / "r.safetensors")
    assert create_backbone("resnet", (3, 64, 64), depth=8, weights=path, strict=True)


def test_vectors_of_another_length_start_the_first_layer_anew(tmp_path):
    path = save_weights(create_backbone("mlp", (4,)), tmp_path / "m.safetensors")
    report = create_backbone("mlp", (6,), weights=path).load_report
    assert (report.carried, report.started_anew) == (("layers.2",), ("layers.0",))


def test_strict_refuses_what_does_not_fit_exactly(saved):
    for shape in ((3, 84, 84), (4, 64, 64)):
        with pytest.raises(WeightsError, match="strict loading refuses"):
            create_backbone("nature", shape, weights=saved, strict=True)
    create_backbone("nature", ATARI, weights=saved, strict=True)


def test_the_trunk_of_an_agents_file_is_loaded(saved, tmp_path):
    trunk = create_backbone("nature", ATARI, seed=1)
    tensors = {f"backbone.{name}": value for name, value in trunk.state_dict().items()}
    tensors["head.weight"] = torch.zeros(6, 512)
    metadata = {
        "format": "eightbit-agent-1",
        "backbone": "nature",
        "in_shape": json.dumps(ATARI),
        "backbone_options": "{}",
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    for source in (tmp_path / "model.safetensors", tmp_path, str(tmp_path)):
        loaded = create_backbone("nature", ATARI, weights=source, strict=True)
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, trunk.state_dict()[name])


def test_bf16_weights_load_into_a_network_of_fp32_and_stay_close(tmp_path):
    trunk = create_backbone("nips2013", ATARI, seed=0)
    path = export_trunk(trunk, tmp_path / "game.safetensors", "# A card\n")
    assert path.with_suffix(".md").read_text() == "# A card\n"
    assert {tensor.dtype for tensor in _state(path).values()} == {torch.bfloat16}
    loaded = create_backbone("nips2013", ATARI, weights=path, strict=True)
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, trunk.state_dict()[name], rtol=0.01, atol=0)


def test_a_packaged_trunk_is_small_and_has_a_card(tmp_path):
    large = create_backbone("nature", ATARI, hidden=640)
    with pytest.raises(WeightsError, match="has at most 4,000,000; export a smaller one"):
        export_trunk(large, tmp_path / "large.safetensors", "card")
    with pytest.raises(UsageError, match="needs a model card"):
        export_trunk(large, tmp_path / "large.safetensors", " ")
    with pytest.raises(UsageError, match=r"name the file large\.safetensors"):
        export_trunk(large, tmp_path / "large.pt", "card")
    assert list(tmp_path.iterdir()) == []


def test_every_packaged_trunk_loads_by_name_and_keeps_the_rules():
    assert "pong" in packaged_weights()
    for name in packaged_weights():
        path = weights.PACKAGED / f"{name}.safetensors"
        config, tensors = weights.read_weights(path)
        create_backbone(config.name, config.in_shape, weights=name, strict=True, **config.options)
        assert path.stat().st_size <= 4_000_000
        assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.bfloat16}
        assert "eightbit " in path.with_suffix(".md").read_text(), "the card names its command"


def test_a_packaged_name_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PACKAGED", tmp_path)
    export_trunk(create_backbone("mlp", (4,), seed=3), tmp_path / "pong.safetensors", "card")
    assert packaged_weights() == ["pong"]
    create_backbone("mlp", (4,), weights="pong")
    with pytest.raises(UnknownNameError, match="unknown packaged weights 'pnog': did you mean pon"):
        create_backbone("mlp", (4,), weights="pnog")


class _Payload:
    """Unpickling it makes a file: the proof that somebody read a pickle."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".pkl"])
@pytest.mark.parametrize("writer", [pickle.dumps, torch.save])
def test_a_pickled_file_is_refused_and_never_run(tmp_path, suffix, writer):
    path, mark = tmp_path / f"weights{suffix}", tmp_path / "was-run"
    if writer is torch.save:
        torch.save(_Payload(mark), path)
    else:
        path.write_bytes(pickle.dumps(_Payload(mark)))
    with pytest.raises(WeightsError, match="is a pickled file, which could run code"):
        create_backbone("nature", ATARI, weights=path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(_Payload(mark)))  # noqa: S301  # the control: it would have run
    assert mark.exists()


@pytest.mark.parametrize("damage", ["half", "empty", "header", "noise"])
def test_a_corrupt_file_is_refused_with_a_sentence(saved, damage):
    content = saved.read_bytes()
    saved.write_bytes(
        {
            "half": content[: len(content) // 2],
            "empty": b"",
            "header": b"\xff" * 8 + content[8:],
            "noise": b"hello, this is a text file",
        }[damage]
    )
    with pytest.raises(
        WeightsError, match=r"is no whole safetensors file \(.*\); download or save"
    ):
        create_backbone("nature", ATARI, weights=saved)


def _rewrite(path: Path, metadata: dict[str, str] | None, **changes: torch.Tensor) -> None:
    save_file({**_state(path), **changes}, path, metadata)


@pytest.mark.parametrize(
    "metadata",
    [None, {"backbone": "nature"}, {"backbone": "nature", "in_shape": "4", "backbone_options": ""}],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(saved, metadata):
    _rewrite(saved, metadata)
    with pytest.raises(WeightsError, match="does not say which backbone"):
        create_backbone("nature", ATARI, weights=saved)


def test_weights_that_are_not_numbers_are_refused(saved):
    bad = torch.full((512,), float("nan"))
    metadata = {
        "format": weights.FORMAT,
        "backbone": "nature",
        "in_shape": "[4, 84, 84]",
        "backbone_options": "{}",
    }
    _rewrite(saved, metadata, **{"hidden.1.bias": bad})
    with pytest.raises(WeightsError, match=r"not numbers \(in hidden.1.bias\)"):
        create_backbone("nature", ATARI, weights=saved)


def test_weights_of_another_network_are_refused_with_what_to_write(saved, tmp_path):
    with pytest.raises(WeightsError, match=r"write create_backbone\('nature', \.\.\.\)"):
        create_backbone("impala", ATARI, weights=saved)
    wide = create_backbone("impala", (4, 16, 16), width=2, layer_norm=True)
    path = save_weights(wide, tmp_path / "wide.safetensors")
    with pytest.raises(WeightsError, match="impala with width=2; build yours with the same"):
        create_backbone("impala", (4, 16, 16), layer_norm=True, weights=path)
    with pytest.raises(WeightsError, match="impala with layer_norm=True; build yours"):
        create_backbone("impala", (4, 16, 16), width=2, weights=path)
    path = save_weights(create_backbone("mlp", (4,), hidden=[8]), tmp_path / "mlp.safetensors")
    with pytest.raises(WeightsError, match="nothing or not all of it fits"):
        create_backbone("mlp", (5,), hidden=(8,), weights=path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no weight file .*none\.safetensors"):
        create_backbone("nature", ATARI, weights=tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"there is no weight file .*model\.safetensors"):
        create_backbone("nature", ATARI, weights=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(create_backbone("mlp", (4,)), tmp_path / "file" / "x.safetensors")


def test_only_backbones_of_the_registry_have_weight_files(tmp_path):
    with pytest.raises(UsageError, match="this Linear was not made by create_backbone"):
        save_weights(torch.nn.Linear(1, 1), tmp_path / "x.safetensors")


def test_a_write_that_fails_leaves_the_older_file_whole(saved, monkeypatch):
    content = saved.read_bytes()

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(WeightsError, match=r"cannot be written \(No space left on device\)"):
        save_weights(create_backbone("nature", ATARI, seed=9), saved)
    assert saved.read_bytes() == content
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_loading_again_reports_and_leaves_the_configuration(saved):
    module = create_backbone("nature", (3, 64, 64))
    report = load_weights(module, saved)
    assert not report.exact
    assert str(report).endswith(
        "2 of 4 layers carried over; adapted: features.0.0; started anew: hidden.1"
    )
    assert config_of(module).in_shape == (3, 64, 64)
