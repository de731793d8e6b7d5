"""Ray (Moritz et al. 2018): joining a cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ..errors import UsageError

LOCAL = "local"
PROBE_SECONDS = 10.0

# Ray retries for minutes where nobody answers, and then ends the process: not in this one.
_PROBE = """
import logging, socket, sys
address = sys.argv[1]
if ":" in address:
    host, port = address.rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=5).close()
import ray
ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
"""


def connect(address: str, cores: int) -> Callable[[], None]:
    """Joins a Ray cluster; where this process belongs to one already, "local" is that one.

    Args:
        address: "local" to start a cluster on this machine, "auto" for one that runs on it, or
            HOST:PORT of a cluster that this machine belongs to.
        cores: that the actors need.

    Returns:
        What leaves the cluster again, and ends it where it was started here.

    Raises:
        UsageError: ray is not installed, nobody answers at the address within 10 s, or the
            cluster has too few cores.
    """
    # Before ray is imported: nothing is sent to its makers, and GPUs stay visible to the learner.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # a loss is told once, by us
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Of a cluster that is started here: actors would starve beside anything else on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--ray needs the package ray, which is not installed: pip install 'eightbit[ray]'."
        ) from None
    if ray.is_initialized():
        leave: Callable[[], None] = _stay
        present = ray.get_runtime_context().gcs_address
        if address not in (LOCAL, "auto", present):
            raise UsageError(
                f"this process belongs to the Ray cluster at {present} already, not to that at "
                f"{address}; call ray.shutdown() first."
            )
    else:
        _join(ray, address, cores)
        leave = ray.shutdown
    there = int(ray.cluster_resources().get("CPU", 0))
    if there < cores:
        leave()
        raise UsageError(
            f"the Ray cluster has {there} cores and {cores} actors need one each; lower --actors "
            "or add machines."
        )
    return leave


def _stay() -> None:
    """Somebody else made the connection."""


def _join(ray: Any, address: str, cores: int) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        cores = max(cores, os.cpu_count() or 1)
        ray.init(address=LOCAL, num_cpus=cores, include_dashboard=False, **quiet)
        return
    _refuse_dead(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreachable(address, " ".join(str(error).split())) from None


def _refuse_dead(address: str) -> None:
    """Raises UsageError unless another process can join the cluster within 10 s."""
    _, _, port = address.rpartition(":")
    if "://" in address or (address != "auto" and not port.isdigit()):
        raise UsageError(
            f"--ray {address!r} is no address: write local, auto, or HOST:PORT of the cluster's "
            "head, such as 10.0.0.1:6379."
        )
    try:
        command = [sys.executable, "-c", _PROBE, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no answer within {PROBE_SECONDS:.0f} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # The last line of a traceback; Ray's own lines begin with a bracket.
        said = [line for line in lines if not line.startswith(("[", " "))]
        raise _unreachable(address, said[-1].strip() if said else "it is no Ray cluster")


def _unreachable(address: str, reason: str) -> UsageError:
    return UsageError(
        f"cannot join the Ray cluster at {address} ({reason.rstrip('.')}): start it with "
        "'ray start --head --port 6379', join it from this machine with 'ray start --address "
        "HOST:6379', or write --ray local."
    )
