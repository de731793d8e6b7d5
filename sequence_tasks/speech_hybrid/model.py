"""The network that tells a frame's state from a window of frames, and the GMM that taught it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import BACKBONES, create_backbone
from ...datasets.download import say_on_stderr
from ...datasets.lexicons import Lexicon
from ...errors import UsageError
from ...tasks import Batch, Moment, TaskData
from .data import Batches, Foundation, silence_gaussians
from .flat_start import TrainedGMM
from .graphs import Topology
from .inputs import CEPSTRA, GMM_FEATURES, frontend_of, windows_of
from .options import SpeechHybridOptions
from .rbm import Pretraining, pretrain

_GMM = "gmm_"
"""buffers whose names begin so are the GMM's"""


class Hybrid(nn.Module):
    """Log-probabilities of the states of a hidden Markov model.

    Args:
        options: of the task.
        rate: samples a second.
        lexicon: words and their phones.
    """

    log_prior: Tensor
    energies: Tensor
    cepstra: Tensor

    def __init__(self, options: SpeechHybridOptions, rate: int, lexicon: Lexicon):
        super().__init__()
        self.options = options
        self.rate = rate
        self.lexicon = lexicon
        self.frontend = frontend_of(rate)
        self.topology = Topology.of(lexicon.phones)
        states = self.topology.states
        inputs = self.frontend.size * options.window
        self.backbone = create_backbone(options.backbone, (inputs,), **options.backbone_kwargs())
        self.head = nn.Linear(cast(int, self.backbone.out_features), states)
        self.register_buffer("log_prior", torch.zeros(states))
        # Mean and variance of the training data, before speakers are told apart.
        self.register_buffer("energies", torch.ones(2, self.frontend.mels))
        self.register_buffer("cepstra", torch.ones(2, CEPSTRA))
        most = silence_gaussians(options)
        shapes = {
            "log_weights": (states, most),
            "means": (states, most, GMM_FEATURES),
            "variances": (states, most, GMM_FEATURES),
            "staying": (states,),
        }
        for name, shape in shapes.items():
            self.register_buffer(_GMM + name, torch.ones(shape))

    def forward(self, windows: Tensor) -> Tensor:
        """Log-probabilities float32 (B, K) of the middle frame's state from (B, window * F)."""
        return self.head(self.backbone(windows)).float().log_softmax(dim=-1)

    def log_likelihood(self, energies: Tensor) -> Tensor:
        """How well each state explains each frame, up to what is equal for all states.

        The posterior divided by the prior is proportional to the likelihood (Bourlard and
        Morgan 1994).

        Args:
            energies: float32 (T, 40), normalised log-mel energies.

        Returns:
            float32 (T, K), in nats, on the CPU.
        """
        features = self.frontend.finished(energies).to(self.log_prior.device)
        posteriors = self(windows_of(features, self.options.window))
        return (posteriors - self.log_prior).cpu()

    def gmm(self) -> TrainedGMM:
        """The GMM-HMM whose alignment the network learnt from."""
        tensors = {
            name.removeprefix(_GMM): buffer.detach().float().cpu()
            for name, buffer in self.named_buffers()
            if name.startswith(_GMM)
        }
        return TrainedGMM.from_tensors(tensors, self.lexicon)

    def take(self, foundation: Foundation) -> None:
        """Keeps what speakers begin with, and the GMM-HMM, to be measured beside it."""
        self.energies.copy_(foundation.energies)
        self.cepstra.copy_(foundation.cepstra)
        for name, tensor in foundation.gmm.tensors().items():
            mine = cast(Tensor, getattr(self, _GMM + name))
            mine.fill_({"log_weights": -torch.inf, "variances": 1.0}.get(name, 0.0))
            mine[tuple(slice(size) for size in tensor.shape)] = tensor


def build_model(options: SpeechHybridOptions, facts: Mapping[str, Any]) -> nn.Module:
    """A fresh network for the states of `facts`; see `Task.build_model`."""
    if BACKBONES[options.backbone].kind == "recurrent":
        raise UsageError(
            f"{options.backbone} reads sequences, but the hybrid judges single windows; take a "
            "backbone of vectors such as mlp."
        )
    return Hybrid(options, int(facts["rate"]), Lexicon.from_told(facts["lexicon"]))


def begin(model: nn.Module, data: TaskData) -> None:
    """Keeps the GMM, counts the states, and trains Boltzmann machines where they are wanted.

    See `Task.begin`.
    """
    hybrid, batches = cast(Hybrid, model), cast(Batches, data.batch)
    hybrid.take(batches.foundation)
    counts = torch.bincount(batches.states, minlength=hybrid.topology.states)
    hybrid.log_prior.copy_(((counts + 1) / (counts + 1).sum()).log())
    if hybrid.options.pretrain == "rbm":
        _pretrain(hybrid, batches)


def _pretrain(model: Hybrid, batches: Batches) -> None:
    layers = [one for one in model.backbone.modules() if isinstance(one, nn.Linear)]
    activations = [one for one in model.backbone.modules() if isinstance(one, nn.Sigmoid)]
    if not layers or len(layers) != len(activations):
        raise UsageError(
            "Boltzmann machines need layers with a sigmoid each; take --backbone mlp with "
            '"activation": "sigmoid" in --backbone-options.'
        )
    steps = model.options.pretrain_steps
    pretrain(
        layers,
        lambda step: batches(step, 256)["windows"],
        Pretraining(steps=steps, first_steps=2 * steps),
        torch.Generator().manual_seed(batches.seed),
        say_on_stderr,
    )


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """Cross-entropy of the states that the alignment gives; see `Task.loss`."""
    log_probs = model(batch["windows"])
    right = (log_probs.detach().argmax(1) == batch["states"]).float().mean()
    return {"loss": F.nll_loss(log_probs, batch["states"]), "frame_accuracy": right}
