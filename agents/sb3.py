"""The bridge to Stable-Baselines3: its callbacks, its features extractors, its saved policies.

Our agents need no adapter for `stable_baselines3.common.evaluation.evaluate_policy`: `DQN.predict`
has its signature.
"""

from __future__ import annotations

import io
import json
import time
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, Space
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv

from ..backbones import BACKBONES, create_backbone
from ..errors import EightBitError, UsageError, WeightsError
from .exploration import explore
from .loop import LoopStep
from .methods.dqn import make_head
from .networks import QNetwork
from .options import DQNOptions

if TYPE_CHECKING:
    from .dqn import DQN

# A policy of SB3 has some megabytes; an archive may claim any size.
MAX_MEMBER_BYTES = 2**30


# ---- any backbone as a features extractor of SB3


class BackboneFeaturesExtractor(BaseFeaturesExtractor):
    """A backbone of our registry in a policy of Stable-Baselines3.

    >>> policy_kwargs = {
    ...     "features_extractor_class": BackboneFeaturesExtractor,
    ...     "features_extractor_kwargs": {"backbone": "impala", "width": 2},
    ... }  # stable_baselines3.DQN("CnnPolicy", env, policy_kwargs=policy_kwargs)

    Args:
        observation_space: pictures (C, H, W), which SB3 scales to [0, 1], or vectors (F,).
        backbone: name in the registry.
        weights: packaged name or path of weights to start from.
        options: the backbone's own options.

    Raises:
        UsageError: the backbone is unknown, recurrent, or does not fit the observations.
    """

    def __init__(
        self,
        observation_space: Space,
        backbone: str = "nature",
        weights: str | PathLike[str] | None = None,
        **options: Any,
    ):
        if BACKBONES[backbone].kind == "recurrent":
            raise UsageError(
                f"backbone {backbone!r} is recurrent and SB3's extractors keep no state; "
                "take a CNN, or mlp for vectors."
            )
        if not isinstance(observation_space, Box):
            raise UsageError(f"backbones take Box observations, not {observation_space}.")
        trunk: Any = create_backbone(backbone, observation_space.shape, weights=weights, **options)
        super().__init__(observation_space, trunk.out_features)
        self.backbone = trunk

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(B, *observation) -> (B, features_dim)."""
        return self.backbone(observations)


# ---- SB3's callbacks in our `learn`


class TrainingEnvView(VecEnv):
    """What a callback may look at of the training environments. Only the learner steps them."""

    def __init__(self, num_envs: int, observation_space: Space, num_actions: int):
        super().__init__(num_envs, observation_space, Discrete(num_actions))

    def reset(self) -> Any:
        """Refuses: the learner resets its environments."""
        raise self._refuse("reset")

    def step_async(self, actions: np.ndarray) -> None:
        """Refuses: the learner steps its environments."""
        raise self._refuse("step")

    def step_wait(self) -> Any:
        """Refuses: the learner steps its environments."""
        raise self._refuse("step")

    def close(self) -> None:
        """Leaves the environments open; they belong to the learner."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """None for `render_mode`; other attributes are refused."""
        if attr_name == "render_mode":
            return [None] * len(list(self._get_indices(indices)))
        raise self._refuse(f"read {attr_name} of")

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuses."""
        raise self._refuse(f"set {attr_name} of")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuses."""
        raise self._refuse(f"call {method_name} of")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """False for every environment: SB3's wrappers are not used."""
        return [False] * len(list(self._get_indices(indices)))

    def _refuse(self, what: str) -> EightBitError:
        return EightBitError(
            f"a callback cannot {what} the training environments; give it one of its own."
        )


class CallbackModel:
    """What `callback.model` is: our agent under the names that SB3's callbacks read.

    Other attributes are the agent's own. `set_logger` gives it a logger of SB3, which then gets the
    `rollout/`, `time/` and `train/` values every four episodes, as from SB3 itself.
    """

    def __init__(self, agent: DQN, logger: Logger | None = None):
        self.agent = agent
        self.logger = logger or Logger(folder=None, output_formats=[])
        self.n_envs = agent.stepper.num_envs
        self.action_space = Discrete(agent.num_actions)
        self.ep_info_buffer: deque[dict[str, float]] = deque(maxlen=100)
        self._env = TrainingEnvView(self.n_envs, agent.observation_space, agent.num_actions)
        self._losses: dict[str, float] | None = None
        self._start_time, self._start_steps = time.monotonic(), agent.num_timesteps

    def __getattr__(self, name: str) -> Any:
        if name == "agent":
            raise AttributeError(name)
        return getattr(self.agent, name)

    @property
    def exploration_rate(self) -> float:
        """Share of random actions, in [0, 1]."""
        return self.agent.epsilon

    def set_logger(self, logger: Logger) -> None:
        """Takes another logger of SB3."""
        self.logger = logger

    def get_env(self) -> VecEnv:
        """A view of the training environments that cannot be stepped."""
        return self._env

    def get_vec_normalize_env(self) -> None:
        """None: observations are not normalised by running averages."""

    def save(self, path: str | PathLike[str]) -> None:
        """Saves the agent in our format; the suffix becomes `.safetensors`."""
        target = Path(path)
        if target.suffix == ".zip":
            target = target.with_suffix("")
        if target.suffix != ".safetensors":
            target = target.with_name(f"{target.name}.safetensors")
        self.agent.save(target)

    def dump_logs(self) -> None:
        """Writes the values of SB3's table to the logger."""
        record = self.logger.record
        if self.ep_info_buffer:
            returns = [episode["r"] for episode in self.ep_info_buffer]
            lengths = [episode["l"] for episode in self.ep_info_buffer]
            record("rollout/ep_rew_mean", float(np.mean(returns)))
            record("rollout/ep_len_mean", float(np.mean(lengths)))
        record("rollout/exploration_rate", self.exploration_rate)
        seconds = max(time.monotonic() - self._start_time, 1e-9)
        steps = self.agent.num_timesteps - self._start_steps
        record("time/fps", int(steps / seconds))
        record("time/episodes", self.agent.episodes_seen, exclude="tensorboard")
        record("time/time_elapsed", int(seconds), exclude="tensorboard")
        record("time/total_timesteps", self.agent.num_timesteps, exclude="tensorboard")
        if self._losses is not None:
            record("train/loss", self._losses["loss"])
            record("train/n_updates", self.agent.num_updates, exclude="tensorboard")
        self.logger.dump(step=self.agent.num_timesteps)

    def observe(self, step: LoopStep) -> None:
        """Keeps what the next `dump_logs` writes."""
        for episode in step.record.episodes:
            self.ep_info_buffer.append({"r": episode.episode_return, "l": float(episode.length)})
        if step.losses is not None:
            self._losses = step.losses


def step_infos(step: LoopStep) -> list[dict[str, Any]]:
    """SB3's info dictionaries of a step: `episode`, `terminal_observation`, `TimeLimit.truncated`.

    They stand at the end of a game; a lost life ends none.
    """
    record = step.record
    infos: list[dict[str, Any]] = [{} for _ in record.rewards]
    for row in np.flatnonzero(record.episode_over):
        truncated = bool(record.truncated[row] and not record.terminated[row])
        infos[row]["TimeLimit.truncated"] = truncated
        infos[row]["terminal_observation"] = record.final_observations[int(row)]
    for episode in step.record.episodes:
        infos[episode.env_index]["episode"] = {"r": episode.episode_return, "l": episode.length}
    return infos


def step_locals(step: LoopStep) -> dict[str, Any]:
    """What `callback.locals` says of a step, under SB3's names."""
    record = step.record
    return {
        "actions": record.actions,
        "rewards": record.rewards,
        "dones": record.episode_over,
        "new_obs": record.observations,
        "infos": step_infos(step),
    }


def adapt_callback(
    callback: BaseCallback | Sequence[BaseCallback],
    agent: DQN,
    total_timesteps: int,
    *,
    logger: Logger | None = None,
    log_interval: int = 4,
) -> Callable[[LoopStep], bool]:
    """Makes a function for `DQN.learn` of one or several callbacks of Stable-Baselines3.

    `callback.locals` holds total_timesteps, actions, rewards (raw), dones (the game is over),
    new_obs and infos of the step; `callback.model` is a `CallbackModel`.

    Args:
        callback: one callback or a list of them.
        agent: the agent that will learn; it needs environments.
        total_timesteps: agent steps at which learning will end.
        logger: SB3's logger for the callbacks; by default one that writes nowhere.
        log_interval: finished episodes between two writings of the log.

    Returns:
        A function that takes each LoopStep and returns False to stop.

    Raises:
        UsageError: what was given is no callback.
    """
    if isinstance(callback, list | tuple):
        callback = CallbackList(list(callback))
    if not isinstance(callback, BaseCallback):
        raise UsageError(
            f"callback is a {type(callback).__name__}; give a function of a LoopStep or a "
            "BaseCallback of Stable-Baselines3."
        )
    sb3_callback: BaseCallback = callback
    model = CallbackModel(agent, logger)
    _start(sb3_callback, model, total_timesteps)
    episodes_logged = agent.episodes_seen

    def on_step(step: LoopStep) -> bool:
        nonlocal episodes_logged
        model.observe(step)
        if step.losses is not None:  # an update ends what SB3 calls a rollout
            sb3_callback.on_rollout_end()
            sb3_callback.on_rollout_start()
        sb3_callback.update_locals(step_locals(step))
        goes_on = sb3_callback.on_step()
        if agent.episodes_seen - episodes_logged >= log_interval:
            episodes_logged = agent.episodes_seen
            model.dump_logs()
        if not goes_on or step.num_timesteps >= total_timesteps:
            sb3_callback.on_rollout_end()
            sb3_callback.on_training_end()
        return goes_on

    return on_step


def _start(callback: BaseCallback, model: CallbackModel, total_timesteps: int) -> None:
    with warnings.catch_warnings():
        # EvalCallback compares the types of both environments; ours is a view of the training one.
        warnings.filterwarnings("ignore", message="Training and eval env are not of the same type")
        callback.init_callback(model)  # type: ignore[arg-type]  # it has what callbacks read
    callback.on_training_start({"self": model, "total_timesteps": total_timesteps}, globals())
    callback.on_rollout_start()


# ---- policies that SB3 saved


@dataclass(frozen=True)
class Sb3Info:
    """What an archive of SB3 says in plain JSON.

    Attributes:
        version: of Stable-Baselines3 that wrote it; "" where it does not say.
        observation_shape: of one environment; () where it does not say.
        data: the plain values (gamma, num_timesteps, ...); whatever was pickled is left out.
    """

    version: str
    observation_shape: tuple[int, ...]
    data: dict[str, Any]


def load_sb3_policy(path: str | PathLike[str]) -> tuple[dict[str, torch.Tensor], Sb3Info]:
    """Reads the weights and the plain values of an archive of SB3 without unpickling anything.

    Args:
        path: the zip that `model.save` of Stable-Baselines3 wrote.

    Returns:
        The policy's state dict on the CPU, and what the archive says of itself.

    Raises:
        WeightsError: the file is missing, no such archive, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; give the zip that SB3's model.save wrote.")
    try:
        with zipfile.ZipFile(path) as archive:
            policy = _member(archive, "policy.pth", path)
            raw = json.loads(_member(archive, "data", path))
            version = ""
            if "_stable_baselines3_version" in archive.namelist():
                version = _member(archive, "_stable_baselines3_version", path).decode().strip()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole archive of Stable-Baselines3 ({error})."
        ) from None
    try:
        with warnings.catch_warnings():
            # What torch has to say on the protocol of a file that is refused anyway.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            weights = torch.load(io.BytesIO(policy), map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(
            f"policy.pth in {path} holds more than tensors or is cut short, so it is not read "
            f"({reason})."
        ) from None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise WeightsError(f"policy.pth in {path} is no dictionary of tensors.")
    return dict(weights), _info(raw, version)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise WeightsError(
            f"{path} has no {name!r} inside; give the zip that SB3's model.save wrote."
        ) from None
    if entry.file_size > MAX_MEMBER_BYTES:
        raise WeightsError(
            f"{name!r} in {path} would take {entry.file_size:,} bytes, "
            f"more than the {MAX_MEMBER_BYTES:,} that are read."
        )
    return archive.read(entry)


def _info(raw: Any, version: str) -> Sb3Info:
    fields = raw if isinstance(raw, dict) else {}
    plain = {
        name: value
        for name, value in fields.items()
        if not (isinstance(value, dict) and ":serialized:" in value)
    }
    # Beside the pickled space stand its attributes as JSON: the shape is one of them.
    space = fields.get("observation_space")
    shape = space.get("_shape") if isinstance(space, dict) else None
    if isinstance(shape, str):
        shape = [int(size) for size in shape.strip("()[] ").split(",") if size.strip().isdigit()]
    return Sb3Info(version, tuple(shape or ()), plain)


class Sb3Policy:
    """The greedy player of a DQN with CnnPolicy that Stable-Baselines3 saved.

    Its network is our `nature` with the archive's weights. SB3 preprocesses games in its own way
    (it pools colours before it makes them grey); a policy plays best on pictures made like that.

    Args:
        path: the zip.
        device: "cpu" or another device of torch.
        seed: of the random actions of `predict(deterministic=False)`.

    Raises:
        WeightsError: the file cannot be read safely, or is not of a DQN with CnnPolicy.
    """

    def __init__(self, path: str | PathLike[str], *, device: str = "cpu", seed: int = 0):
        weights, self.info = load_sb3_policy(path)
        self.network = _nature_network(weights, self.info, Path(path)).to(device).eval()
        self.device = torch.device(device)
        self.observation_shape: tuple[int, ...] = self.network.backbone.in_shape  # type: ignore[assignment]  # (C, H, W)
        self.num_actions = int(weights["q_net.q_net.0.weight"].shape[0])
        self.epsilon = float(self.info.data.get("exploration_rate", 0.0))
        self._rng = np.random.default_rng(seed)

    @torch.inference_mode()
    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """(B, C, H, W) or (B, H, W, C) uint8 -> (B, A) float32 action values."""
        if observations.shape[1:] != self.observation_shape:
            observations = np.moveaxis(observations, -1, 1)
        if observations.shape[1:] != self.observation_shape:
            raise UsageError(
                f"this policy takes pictures {self.observation_shape}, not "
                f"{observations.shape[1:]}."
            )
        # Torch takes writable memory only; this copies where the caller's is not.
        batch = torch.from_numpy(np.require(observations, requirements=("C", "W")))
        return self.network(batch.to(self.device)).cpu().numpy()

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Actions in the manner of Stable-Baselines3.

        Args:
            observation: one picture of three axes or a batch of four, channels first or last.
            state, episode_start: accepted for SB3's contract.
            deterministic: greedy; otherwise random in a share of the exploration rate saved.

        Returns:
            Actions of shape () or (n,) int64, and None.
        """
        single = observation.ndim == 3
        actions = self.q_values(observation[None] if single else observation).argmax(axis=1)
        if not deterministic:
            random, anything = explore(self._rng, len(actions), self.num_actions, self.epsilon)
            actions = np.where(random, anything, actions)
        return (actions[0] if single else actions), None


def _nature_network(weights: dict[str, torch.Tensor], info: Sb3Info, path: Path) -> QNetwork:
    """Our `nature` and a linear head with SB3's weights, layer by layer in the order of both."""
    trunk_names = [
        f"q_net.features_extractor.{layer}.{kind}"
        for layer in ("cnn.0", "cnn.2", "cnn.4", "linear.0")
        for kind in ("weight", "bias")
    ]
    head_names = ["q_net.q_net.0.weight", "q_net.q_net.0.bias"]
    missing = [name for name in (*trunk_names, *head_names) if name not in weights]
    strange = [name for name in weights if name.startswith("q_net.q_net.") and ".0." not in name]
    if missing or strange:
        raise WeightsError(
            f"{path} is no DQN with CnnPolicy and one linear head "
            f"({(missing or strange)[0]!r} is {'missing' if missing else 'not expected'}); "
            "load_sb3_policy gives its weights as they are."
        )
    channels = int(weights[trunk_names[0]].shape[1])
    shape = info.observation_shape or (channels, 84, 84)
    if shape[0] != channels:
        shape = (channels, *shape[:-1])
    try:
        trunk = create_backbone("nature", shape, hidden=int(weights[trunk_names[6]].shape[0]))
        head = make_head(trunk.out_features, int(weights[head_names[0]].shape[0]), DQNOptions())  # type: ignore[arg-type]  # int
        network = QNetwork(trunk, head)
        names = (*trunk_names, *head_names)
        state = dict(zip(network.state_dict(), (weights[name] for name in names), strict=True))
        network.load_state_dict(state)
    except (RuntimeError, ValueError, UsageError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"the weights in {path} do not fit their network: {reason}") from None
    return network
