"""The checks of `evit doctor`: what is here, what works, and what mends the rest."""

from __future__ import annotations

from evit_cli.config.checks import hub, libraries, media, power, system
from evit_cli.config.checks.result import (
    Check,
    HubSettings,
    Level,
    Status,
    Surroundings,
    guarded,
)

__all__ = ["Check", "HubSettings", "Level", "Status", "Surroundings", "run_checks"]


def run_checks(
    around: Surroundings,
    *,
    deep: bool = False,
    network: bool = False,
    spawn: libraries.Spawn = libraries.try_backend,
) -> list[Check]:
    """Every check, in the order they are shown. None raises.

    Args:
        around: what to look at.
        deep: also run each installed backend on a tiny model, each in its own process.
        network: also ask the hub whether it answers.
        spawn: runs a backend's trial.
    """
    trial = spawn if deep else None
    found = [
        *guarded("python", system.check_python, level=Level.REQUIRED),
        *guarded("evit", system.check_evit, level=Level.REQUIRED),
        *guarded("shipped data", system.check_data, level=Level.REQUIRED),
        *guarded("system", lambda: system.check_os(around)),
        *guarded("cpu", lambda: system.check_cpu(around)),
        *guarded("memory", lambda: system.check_memory(around)),
        *guarded("gpu", lambda: system.check_gpu(around)),
        *guarded("power", lambda: power.check_power(around)),
        *guarded("device profile", lambda: system.check_profile(around)),
        *guarded("libraries", libraries.check_base_libraries, level=Level.REQUIRED),
        *guarded(
            "any runtime", lambda: libraries.check_runtimes(around, trial), level=Level.REQUIRED
        ),
        *guarded("media", media.check_media),
        *guarded("disk", lambda: system.check_disk(around)),
        *guarded("hub cache", lambda: hub.check_cache(around.hub)),
        *guarded("hub requests", lambda: hub.check_offline(around.hub)),
    ]
    if network:
        found += guarded("network", lambda: hub.check_network(around.hub))
    return found
