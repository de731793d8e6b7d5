"""The environments that a run learns in, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode

from ..agents import AGENTS
from ..agents.device import choose_device
from ..envs import EnvStepper, make_vec
from ..envs.device_steps import DeviceStepper, Stepper
from ..envs.games import CATCH
from ..envs.options import EnvOptions, Preprocessing, Protocol, Rng, env_options
from ..errors import UsageError

if TYPE_CHECKING:
    from .session import RunRequest

GYM_PREFIX = "gym:"


def training_stepper(
    request: RunRequest, options: Any, num_envs: int, say: Callable[[str], None]
) -> Stepper:
    """The environments of a run; on the GPU where network, agent and game can be there.

    Args:
        request: `game`, `protocol` (of the console's games), `agent` and `device` hold.
        options: of the agent.
        num_envs: of this process.
        say: told in a line where the games of a GPU's network run.

    Raises:
        UsageError: the games cannot run on the GPU that was asked for by name.
    """
    if request.game.startswith(GYM_PREFIX):
        from ..envs import make_gym_vec

        return EnvStepper(make_gym_vec(request.game, num_envs))
    rules = env_options(request.protocol, training=True)
    device = choose_device(request.device)
    if device.type == "cuda" and request.ray is None:
        reason = _why_on_the_cpu(request, options, rules)
        try:
            if not reason:
                return _on_gpu(request.game, num_envs, rules, str(device), say)
        except UsageError as error:
            if request.device != "auto":
                raise
            reason = str(error)
        say(f"the games run on the CPU: {reason}")
    return EnvStepper(make_vec(request.game, num_envs, options=rules))


def _on_gpu(
    game: str, num_envs: int, rules: EnvOptions, device: str, say: Callable[[str], None]
) -> DeviceStepper:
    # In this mode the environment begins ended games by itself: nothing is decided on the host.
    env = make_vec(
        game, num_envs, device=device, options=rules, autoreset_mode=AutoresetMode.SAME_STEP
    )
    say(f"the games run on {device}, and everything that is learnt from them stays there.")
    return DeviceStepper(env)


def _why_on_the_cpu(request: RunRequest, options: Any, rules: EnvOptions) -> str:
    """What keeps the games of a run off the GPU that its network is on; "" for nothing."""
    learns = getattr(AGENTS[request.agent].load_class(), "learns_on_device", None)
    if request.game == CATCH:
        return f"{CATCH} is made for it only."
    if rules.rng == Rng.ALE or rules.preprocessing == Preprocessing.SB3:
        return f"protocol {Protocol(request.protocol).value} needs ALE's ways."
    if learns is None or not learns(options):
        return f"{request.agent} with these options learns from arrays there."
    return ""
