"""This module holds a connector as the user installed it: how each of its calls is started, with which configuration and secrets."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath

from sequin_pipeline.reads import Connector, filled, variables_in
from sequin_pipeline.sources.connectors.masking import Mask
from sequin_pipeline.sources.connectors.process import ConnectorProcess, Limits
from sequin_pipeline.sources.connectors.spoken import Remarks

SHORT = Limits(silence_seconds=600.0)
"""These limits are for calls that read no records; the slowest discovery that was seen took 40 seconds."""

_NAMED_SECRET = re.compile(
    r"token|secret|passw|credential|private|api_?key|access_?key|client_?id|refresh|session", re.IGNORECASE
)


class InstalledConnector:
    """A connector is started anew for each call; what it says is remembered in `remarks` for the run's metadata."""

    def __init__(self, connector: Connector, environment: Mapping[str, str], limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._connector, self._environment, self._limits = connector, environment, limits
        self.config = dict(filled(connector.config, environment))
        self.options = connector.options
        self.name = PurePath(connector.command[0]).name
        self._secrets = {environment[name].strip() for name in variables_in(connector.config)} | set(_secrets(self.config))
        self.mask = Mask(self._secrets)
        self.remarks = Remarks(self.name, self.mask)
        self.plain_keys = frozenset(_plain_keys(connector.config))

    def change_config(self, config: dict[str, object]) -> None:
        """Takes over a configuration that the connector has changed itself, for its later calls in this run."""
        before = set(_texts(self.config))
        self.config = config
        self._secrets |= {text for text in _texts(config) if text not in before}
        self.mask = Mask(self._secrets)
        self.remarks.mask = self.mask
        self.remarks.note(
            "it has changed its own configuration (a token that is renewed at each use, most likely), which lasts until the end of this "
            "run only: if the next run is refused, let the variable hold the new value, or choose credentials that last"
        )

    def start(
        self, arguments: Sequence[str], files: Mapping[str, object], stop: threading.Event, *, is_short: bool = False
    ) -> ConnectorProcess:
        """Returns a process to be entered; `{config}` in the arguments is the configuration's file."""
        return ConnectorProcess(
            self._connector.command,
            [*arguments, *self.options],
            {"config": self.config, **files},
            environment=self._environment,
            mask=self.mask,
            stop=stop,
            limits=SHORT if is_short else self._limits,
        )

    def ask(self, arguments: Sequence[str], hear: Callable[[list[bytes]], None], stop: threading.Event) -> tuple[int, str]:
        """Makes a call that reads no records; returns its status, and the end of a message about it."""
        with self.start(arguments, {}, stop, is_short=True) as process:
            for lines in process.lines():
                hear(lines)
            return process.status(), process.tail()


def _plain_keys(config: object) -> Iterator[str]:
    """Yields the keys of texts that stand in the file itself."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if isinstance(value, str):
                yield str(key)
            yield from _plain_keys(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _plain_keys(value)


def _secrets(config: object, key: str = "") -> Iterator[str]:
    """Yields values of keys that are named like a secret, also where they stand in the file."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from _secrets(value, str(name))
    elif isinstance(config, list):
        for value in config:
            yield from _secrets(value, key)
    elif isinstance(config, str) and len(config) > 3 and _NAMED_SECRET.search(key):
        yield config


def _texts(config: object) -> Iterator[str]:
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _texts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _texts(value)
    elif isinstance(config, str) and len(config) > 3:
        yield config
