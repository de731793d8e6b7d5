"""The contract that every registered backbone keeps; registering one is what tests it.

`python tests/backbones/test_backbone_contract.py` rewrites `golden.json` after a change that is
meant to change outputs.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from eightbit.backbones import (
    BACKBONES,
    backbone_table,
    config_of,
    create_backbone,
    list_backbones,
    save_weights,
)
from eightbit.backbones.table import example_input

GOLDEN = Path(__file__).with_name("golden.json")
BATCH = 3

each_backbone = pytest.mark.parametrize("name", list_backbones())
each_cnn = pytest.mark.parametrize("name", list_backbones("cnn"))


def _built(name: str, seed: int = 0) -> nn.Module:
    return create_backbone(name, BACKBONES[name].default_in_shape, seed=seed).eval()


def _inputs(name: str, seed: int = 0) -> Tensor:
    return example_input(BACKBONES[name], BATCH, torch.Generator().manual_seed(seed))


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    result = module(x)
    return result[0] if isinstance(result, tuple) else result


@each_backbone
def test_output_has_the_declared_shape_and_finite_numbers(name):
    module, x = _built(name), _inputs(name)
    out = _outputs(module, x)
    sequence = x.shape[1:2] if BACKBONES[name].kind == "recurrent" else ()
    assert out.shape == (BATCH, *sequence, module.out_features)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert out.std() > 0


@each_cnn
def test_the_last_map_has_the_channels_and_reduction_of_feature_info(name):
    module, x = _built(name), _inputs(name)
    info = module.feature_info
    maps = {}
    for stage in info:
        module.get_submodule(stage.name).register_forward_hook(
            lambda _, __, out, key=stage.name: maps.update({key: out.shape})
        )
    last = module.forward_features(x)
    assert last.shape == maps[info[-1].name]
    for stage in info:
        batch, channels, height, width = maps[stage.name]
        assert (batch, channels) == (BATCH, stage.channels)
        # Padding rounds up; unpadded convolutions lose the rim, here up to four pixels.
        assert -1 < x.shape[2] / stage.reduction - height < 4
        assert -1 < x.shape[3] / stage.reduction - width < 4


@each_backbone
def test_every_parameter_gets_a_gradient(name):
    module = _built(name).train()
    _outputs(module, _inputs(name)).square().sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@each_backbone
def test_a_row_does_not_depend_on_the_other_rows(name):
    module, x = _built(name), _inputs(name)
    other = _inputs(name, seed=1)
    other[1] = x[1]
    with torch.no_grad():
        torch.testing.assert_close(_outputs(module, other)[1], _outputs(module, x)[1])
        assert not torch.allclose(_outputs(module, other)[0], _outputs(module, x)[0])


@each_backbone
def test_the_seed_alone_decides_the_weights(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = _built(name, 7), _built(name, 7), _built(name, 8)
    assert torch.equal(torch.get_rng_state(), before)
    x = _inputs(name)
    with torch.no_grad():
        assert torch.equal(_outputs(first, x), _outputs(second, x))
        assert not torch.equal(_outputs(first, x), _outputs(other, x))


@each_backbone
def test_saved_weights_and_a_deep_copy_give_the_identical_output(name, tmp_path, capsys):
    module, x = _built(name), _inputs(name)
    path = save_weights(module, tmp_path / "weights.safetensors")
    loaded = create_backbone(name, config_of(module).in_shape, weights=path, strict=True).eval()
    assert "layers carried over" in capsys.readouterr().out
    with torch.no_grad():
        assert torch.equal(_outputs(loaded, x), _outputs(module, x))
        assert torch.equal(_outputs(copy.deepcopy(module), x), _outputs(module, x))
    assert config_of(copy.deepcopy(module)) == config_of(module)


@each_cnn
def test_channels_last_equals_contiguous(name):
    module, x = _built(name), _inputs(name)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    with torch.no_grad():
        want = module(x)
        for network in (module, last):
            for pixels in (x, x.contiguous(memory_format=torch.channels_last)):
                torch.testing.assert_close(network(pixels), want, rtol=1e-4, atol=1e-5)


@each_cnn
def test_bytes_equal_floats_from_zero_to_one(name):
    module, x = _built(name), _inputs(name)
    with torch.no_grad():
        torch.testing.assert_close(module(x), module(x.float() / 255), rtol=1e-4, atol=1e-5)


@each_backbone
@pytest.mark.parametrize("how", ["parameters", "autocast"])
def test_bf16_is_close_to_fp32(name, how):
    module, x = _built(name), _inputs(name)
    with torch.no_grad():
        want = _outputs(module, x)
        if how == "parameters":
            got = _outputs(copy.deepcopy(module).to(torch.bfloat16), x)
        else:
            with torch.autocast("cpu", torch.bfloat16):
                got = _outputs(module, x)
    assert got.dtype == torch.bfloat16 or how == "autocast"  # which knows no GRU on the CPU
    assert (got.float() - want).norm() / want.norm() < 0.04


def _golden_outputs(name: str) -> dict[str, list[float] | float]:
    """Outputs for weights and inputs made by formulas, so that no random generator matters."""
    module, spec = _built(name), BACKBONES[name]
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            wave = torch.arange(parameter.numel(), dtype=torch.float64).mul(0.7).add(index).sin()
            fan_in = max(parameter[0].numel(), 2) if parameter.ndim > 1 else 4
            parameter.copy_((wave * fan_in**-0.5).reshape(parameter.shape))
        x = torch.arange(_inputs(name)[:1].numel()) * 7919 % 251
        x = x.reshape(_inputs(name)[:1].shape)
        x = x.to(torch.uint8) if spec.kind == "cnn" else x.float() / 125 - 1
        out = _outputs(module, x).double()
    return {
        "shape": list(out.shape),
        "first": [round(v, 6) for v in out.flatten()[:6].tolist()],
        "norm": round(out.norm().item(), 5),
        "mean": round(out.mean().item(), 6),
    }


@each_backbone
def test_output_equals_the_stored_one(name):
    golden = json.loads(GOLDEN.read_text())
    assert name in golden, f"run {Path(__file__).name} to store the output of {name}"
    got = _golden_outputs(name)
    assert got["shape"] == golden[name]["shape"]
    for key in ("first", "norm", "mean"):
        assert got[key] == pytest.approx(golden[name][key], rel=2e-4, abs=2e-5), key


def test_every_stored_output_belongs_to_a_backbone():
    assert set(json.loads(GOLDEN.read_text())) <= set(list_backbones())


def test_the_table_counts_parameters_and_work():
    rows = {row.name: row for row in backbone_table(["nature", "mlp", "lstm"], batch=2)}
    # By hand: per output, inputs times two; 20x20, 9x9 and 7x7 outputs, then 3136 -> 512.
    convolutions = 400 * 32 * 256 + 81 * 64 * 512 + 49 * 64 * 576
    assert rows["nature"].flops == 2 * (convolutions + 3136 * 512)
    assert rows["nature"].parameters == 1_684_128
    assert rows["mlp"].flops == 2 * (8 * 64 + 64 * 64)
    assert rows["lstm"].flops == 2 * (4 * 256 * 64 + 4 * 256 * 256)
    assert all(row.forward_ms > 0 and row.batch == 2 for row in rows.values())


def test_the_table_lists_every_backbone_with_a_description():
    for name in list_backbones():
        spec = BACKBONES[name]
        assert spec.description.endswith("."), name
        assert spec.options, f"{name} has no options to show"


if __name__ == "__main__":
    torch.set_num_threads(1)
    stored = {name: _golden_outputs(name) for name in list_backbones()}
    rows = [f"{json.dumps(name)}: {json.dumps(golden)}" for name, golden in stored.items()]
    GOLDEN.write_text("{\n" + ",\n".join(rows) + "\n}\n")
