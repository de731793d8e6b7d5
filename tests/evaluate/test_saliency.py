"""Saliency maps point at what a network uses, and depend on its weights."""

import numpy as np
import pytest
import torch

from eightbit.backbones import create_backbone
from eightbit.evaluate.saliency import gradient_saliency, perturbation_saliency


class Looks(torch.nn.Module):
    """Values that depend on a 10 x 10 patch of the newest frame, and on nothing else."""

    def __init__(self, top, left):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(84, 84))
        rows, columns = torch.meshgrid(torch.arange(10), torch.arange(10), indexing="ij")
        checker = ((rows + columns) % 2 * 2 - 1).float()
        self.weight.data[top : top + 10, left : left + 10] = checker

    def forward(self, x):
        newest = x[:, -1].float() / (255.0 if x.dtype == torch.uint8 else 1.0)
        value = (newest * self.weight).sum(dim=(1, 2))
        return torch.stack([value, -value], dim=1)


def values_of(network):
    @torch.inference_mode()
    def q_values(observations):
        return network(torch.from_numpy(observations)).numpy()

    return q_values


@pytest.fixture
def observation():
    return np.random.default_rng(0).integers(0, 255, (4, 84, 84), dtype=np.uint8)


@pytest.mark.parametrize(("top", "left"), [(5, 60), (60, 10), (37, 37)])
def test_both_maps_peak_at_the_only_patch_that_counts(observation, top, left):
    network = Looks(top, left)
    perturbed = perturbation_saliency(values_of(network), observation)
    row, column = np.unravel_index(perturbed.argmax(), perturbed.shape)
    assert abs(row * 6 + 3 - (top + 5)) <= 9 and abs(column * 6 + 3 - (left + 5)) <= 9
    far = perturbed[(row + 7) % 14, (column + 7) % 14]
    assert far < 0.01 * perturbed.max()
    gradient = gradient_saliency(network, observation)
    assert gradient.shape == (84, 84)
    inside = gradient[top : top + 10, left : left + 10].sum()
    assert inside > 0.5 * gradient.sum()


def test_a_value_that_ignores_the_picture_has_no_saliency(observation):
    flat = perturbation_saliency(lambda batch: np.ones((len(batch), 3), np.float32), observation)
    assert flat.shape == (14, 14) and flat.max() == 0.0


def test_perturbation_equals_the_equation_of_the_paper_at_one_place(observation):
    import cv2

    network = Looks(30, 30)
    row, column = 5, 6
    ys, xs = np.mgrid[:84, :84]
    squared = (ys - (row * 6 + 3)) ** 2 + (xs - (column * 6 + 3)) ** 2
    mask = np.exp(-squared / (2 * 5.0**2))
    picture = observation.astype(np.float64)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 3.0) for frame in picture])
    changed = np.rint(picture * (1 - mask) + blurred * mask).astype(np.uint8)
    q_values = values_of(network)
    before, after = q_values(observation[None])[0], q_values(changed[None])[0]
    expected = 0.5 * float(((before - after) ** 2).sum())
    found = perturbation_saliency(q_values, observation)[row, column]
    assert found == pytest.approx(expected, rel=0.02)


def network_of(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = create_backbone("nature", (4, 84, 84))
        return torch.nn.Sequential(trunk, torch.nn.Linear(trunk.out_features, 6)).eval()


def shuffled(network, seed=0):
    other = Looks(0, 0)
    order = torch.randperm(84 * 84, generator=torch.Generator().manual_seed(seed))
    other.weight.data = network.weight.data.flatten()[order].reshape(84, 84)
    return other


def test_randomised_weights_change_both_maps(observation):
    """The sanity check of Adebayo et al. (2018): a map must depend on what was learnt."""

    def correlation(make, first, second):
        assert np.allclose(make(first), make(first))
        return abs(np.corrcoef(make(first).ravel(), make(second).ravel())[0, 1])

    def perturbation(network):
        return perturbation_saliency(values_of(network), observation)

    def gradient(network):
        return gradient_saliency(network, observation)

    learnt = Looks(20, 50)
    assert correlation(perturbation, learnt, shuffled(learnt)) < 0.4
    assert correlation(gradient, learnt, shuffled(learnt)) < 0.4
    assert correlation(perturbation, network_of(1), network_of(2)) < 0.7


def test_gradients_leave_no_trace_in_the_network(observation):
    network = network_of(1)
    gradient_saliency(network, observation)
    assert all(parameter.grad is None for parameter in network.parameters())
