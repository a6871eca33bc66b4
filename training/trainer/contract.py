"""SageMaker's container contract: where things lie, what they look like, how a job ends.

The files under /opt/ml are the platform's word and are read first; SM_* variables, which only SageMaker's own toolkit sets,
override them. SAGEMAKER_BASE_DIR moves /opt/ml elsewhere, for runs on a laptop.
"""
from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from .refusal import Refusal

# SageMaker shows this much of the failure file as FailureReason.
FAILURE_CHARACTERS = 1024

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_BUG = 70


@dataclass(frozen=True)
class Job:
    """What the platform says about this job."""

    hyperparameters: dict[str, str]
    channels: dict[str, Path]
    model: Path
    output: Path
    checkpoints: Path | None
    name: str = "local"
    environment: Mapping[str, str] = field(default_factory=dict)

    def channel(self, name: str) -> Path:
        """The folder of a channel. Raises Refusal `channel_missing`."""
        folder = self.channels.get(name)
        if folder is None or not folder.is_dir():
            have = ", ".join(sorted(self.channels)) or "none"
            raise Refusal("channel_missing", f"no channel {name} (given: {have})", f"add an input channel {name}")
        return folder


def base_folder(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("SAGEMAKER_BASE_DIR", "/opt/ml"))


def read_job(environment: Mapping[str, str] = os.environ) -> Job:
    """Raises Refusal for a layout that is not SageMaker's, or asks for what this program cannot do."""
    base = base_folder(environment)
    inputs = Path(environment.get("SM_INPUT_DIR", base / "input"))
    config = Path(environment.get("SM_INPUT_CONFIG_DIR", inputs / "config"))
    hosts = _read_object(config / "resourceconfig.json").get("hosts", ["algo-1"])
    if "SM_HOSTS" in environment:
        hosts = _parse("SM_HOSTS", environment["SM_HOSTS"])
    if len(hosts) > 1:
        raise Refusal("too_many_hosts", f"training runs on one instance (given: {len(hosts)})", "set InstanceCount to 1")
    checkpoints = base / "checkpoints"
    return Job(
        hyperparameters=_hyperparameters(config, environment),
        channels=_channels(config, inputs, environment),
        model=_created(Path(environment.get("SM_MODEL_DIR", base / "model"))),
        output=_created(Path(environment.get("SM_OUTPUT_DATA_DIR", base / "output" / "data"))),
        # There only when the job has a CheckpointConfig.
        checkpoints=checkpoints if checkpoints.is_dir() else None,
        name=environment.get("TRAINING_JOB_NAME", "local"),
        environment=environment,
    )


def _hyperparameters(config: Path, environment: Mapping[str, str]) -> dict[str, str]:
    values = _read_object(config / "hyperparameters.json")
    if "SM_HPS" in environment:
        values = {**values, **_object("SM_HPS", _parse("SM_HPS", environment["SM_HPS"]))}
    for name, value in environment.items():
        if name.startswith("SM_HP_"):
            values[name[len("SM_HP_") :].lower()] = value
    # The platform's are all strings; SM_HPS holds decoded values.
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _channels(config: Path, inputs: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    declared = _read_object(config / "inputdataconfig.json")
    channels = {}
    for name, how in declared.items():
        mode = _object(f"channel {name} of inputdataconfig.json", how).get("TrainingInputMode", "File")
        if mode not in ("File", "FastFile"):
            raise Refusal("input_mode", f"channel {name} comes in {mode} mode", "use TrainingInputMode File")
        channels[name] = inputs / "data" / name
    for name in _parse("SM_CHANNELS", environment.get("SM_CHANNELS", "[]")):
        channels.setdefault(name, inputs / "data" / name)
    for name, value in environment.items():
        if name.startswith("SM_CHANNEL_"):
            channels[name[len("SM_CHANNEL_") :].lower()] = Path(value)
    return channels


def _read_object(path: Path) -> dict:
    try:
        return _object(path.name, json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Refusal("config_invalid", f"{path.name} is not JSON ({error})", "write it as SageMaker does") from error


def _object(name: str, value) -> dict:
    if isinstance(value, dict):
        return value
    raise Refusal("config_invalid", f"{name} holds no object", 'write {"name": "value"}')


def _parse(name: str, text: str):
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refusal("config_invalid", f"{name} is not JSON ({error})", "unset it, or give JSON") from error


def _created(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_failure(reason: str, environment: Mapping[str, str] = os.environ) -> None:
    """Leaves the reason where SageMaker looks for it. Never raises: the job fails already."""
    folder = Path(environment.get("SM_OUTPUT_DIR", base_folder(environment) / "output"))
    try:
        _created(folder)
        (folder / "failure").write_text(reason[:FAILURE_CHARACTERS], "utf-8")
    except OSError as error:
        print(f"could not write {folder / 'failure'}: {error}", file=sys.stderr, flush=True)


def write_file(path: Path, data: bytes) -> None:
    """Whole or not at all: a job may be killed at any instant, and what lies here is uploaded all the same."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def say(text: str) -> None:
    print(text, flush=True)


def say_metric(slice_name: str, name: str, value: float | None) -> None:
    """One line for SageMaker's metric definitions: `[test] pr_auc=0.91;`."""
    if value is not None:
        say(f"[{slice_name}] {name}={value:.9g};")


class Stop:
    """Set by SIGTERM (StopTrainingJob, MaxRuntime, a spot instance going); SIGKILL follows after 120 s."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True
