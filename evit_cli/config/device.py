"""Device profiles by name, by file, or of the machine at hand.

>>> load_profile("orin").precision
<Precision.FP16: 'fp16'>
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evit_cli.config.find import data_files
from evit_cli.config.machine import Machine, Runner, read_machine, run_tool
from evit_cli.config.profile import DetectRule, Profile
from evit_cli.config.strict import load_yaml
from evit_cli.errors import EvitError, suggest

AUTO = "auto"
_SPECIFIC = 50  # detection priorities below this are of an architecture, not of a device
_FILE_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Detection:
    """A profile, the machine it was chosen for and the reason in words."""

    profile: Profile
    machine: Machine
    reason: str


def list_profiles(folder: Path | None = None) -> list[Profile]:
    """The shipped profiles, by name.

    Args:
        folder: read this folder instead.

    Raises:
        EvitError: a profile is broken, or two claim the same name.
    """
    files = data_files("devices") if folder is None else sorted(folder.glob("*.yaml"))
    profiles = []
    owners: dict[str, str] = {}
    for path in files:
        profile = load_yaml(path, Profile)
        for name in (profile.name, *profile.aliases):
            if name in owners:
                raise EvitError(f"{path} calls itself '{name}', as '{owners[name]}' does")
            owners[name] = profile.name
        profiles.append(profile)
    return sorted(profiles, key=lambda profile: profile.name)


def load_profile(name: str) -> Profile:
    """The profile called `name`: a shipped name or alias, a yaml file, or "auto".

    Raises:
        EvitError: there is no such profile, the file is broken, or auto found nothing.
    """
    if name == AUTO:
        return detect_profile().profile
    if _looks_like_file(name):
        return _load_file(Path(name).expanduser())
    # Reading one file is enough when it is called as its profile is, which the shipped ones are.
    for path in data_files("devices"):
        if path.stem == name:
            return load_yaml(path, Profile)
    profiles = list_profiles()
    for profile in profiles:
        if name in profile.aliases:
            return profile
    known = [AUTO, *(known for p in profiles for known in (p.name, *p.aliases))]
    hint = suggest(name, known)
    raise EvitError(
        f"there is no device profile '{name}'",
        hint=f"{hint} (`evit devices ls` lists them; your own goes by its file, ./my-board.yaml)",
    )


def _looks_like_file(name: str) -> bool:
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    return name.endswith(_FILE_ENDINGS) or any(mark in name for mark in separators)


def _load_file(path: Path) -> Profile:
    try:
        return load_yaml(path, Profile)
    except EvitError as error:
        start = "a shipped profile is a good start: evit devices show x86 --json > my-board.yaml"
        raise EvitError(error.message, hint=error.hint or start) from error


def detect_profile(
    root: Path = Path("/"),
    run: Runner = run_tool,
    *,
    machine: Machine | None = None,
    profiles: Sequence[Profile] | None = None,
) -> Detection:
    """The profile of the machine at hand.

    Args:
        root: where the file tree starts; a test gives a fake one.
        run: runs a tool and returns its standard output, "" on any failure.
        machine: its facts, if already read; `root` and `run` are then not used.
        profiles: choose among these instead of the shipped ones.

    Raises:
        EvitError: no profile recognises this machine.
    """
    machine = machine or read_machine(root, run)
    candidates = list_profiles() if profiles is None else profiles
    for profile in sorted(candidates, key=lambda p: (-p.detect.priority, p.name)):
        for rule in profile.detect.rules:
            reason = _match(rule, machine)
            if reason:
                return Detection(profile, machine, reason + _caution(profile, machine))
    raise EvitError(
        f"no device profile recognises this machine ({machine})",
        hint="name one with --device (`evit devices ls`), or write your own",
    )


def _caution(profile: Profile, machine: Machine) -> str:
    """A machine known by its architecture alone would silently leave its GPU idle: say so."""
    if profile.detect.priority >= _SPECIFIC:
        return ""
    if machine.is_tegra:
        return "; this is a Jetson that evit has no profile for: name the closest with --device"
    if machine.gpus:
        return f"; evit has no profile for its {machine.gpus[0].name}"
    return ""


def _match(rule: DetectRule, machine: Machine) -> str:
    """Why the rule holds, "" when it does not."""
    gpus = ", ".join(gpu.name for gpu in machine.gpus)
    texts = (
        ("device tree model", rule.device_tree_model, machine.device_tree_model),
        ("device tree", rule.device_tree_compatible, machine.device_tree_compatible),
        ("L4T board", rule.l4t_board, machine.l4t_board),
        ("GPU", rule.gpu, gpus),
        ("Android chip", rule.android_soc, machine.android_soc),
    )
    reasons = []
    for what, wanted, found in texts:
        if wanted:
            if not any(text.lower() in found.lower() for text in wanted):
                return ""
            reasons.append(f"{what} is '{found}'")
    if rule.machine:
        if machine.machine.lower() not in {name.lower() for name in rule.machine}:
            return ""
        reasons.append(f"the processor is {machine.machine}")
    if rule.l4t_release:
        if machine.l4t_release not in rule.l4t_release:
            return ""
        reasons.append(f"L4T release is {machine.l4t_release}")
    if rule.memory_gib_at_least:
        if (machine.memory_gib or 0) < rule.memory_gib_at_least:
            return ""
        reasons.append(f"it has {machine.memory_gib:.0f} GiB of memory")
    return " and ".join(reasons)
