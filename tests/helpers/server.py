"""How servers of the tests live: started on entering a block, closed on leaving it."""

from __future__ import annotations

import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.helpers.process import ServerError, ServerProcess


class Managed(ABC):
    """A context manager of something that is started and closed."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """End it for good. May be called when the start failed."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except ServerError:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Server(Managed):
    """A server in a process of its own, with a folder that is kept when given.

    Subclasses start and await the process in ``_start_once``, and choose ports anew in
    ``_choose_ports`` when another program was faster, which ``PORT_TAKEN`` in its output tells.
    """

    PREFIX: ClassVar[str]
    """Of a temporary folder's name."""
    PORT_TAKEN: ClassVar[str] = "bind"
    START_ATTEMPTS: ClassVar[int] = 3
    STOP_REQUEST: ClassVar[signal.Signals] = signal.SIGTERM
    STOP_GRACE_S: ClassVar[float] = 20.0

    def __init__(self, datadir: Path | None = None) -> None:
        self._is_temporary = datadir is None
        self.datadir = datadir or Path(tempfile.mkdtemp(prefix=self.PREFIX))
        self._process: ServerProcess | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self._process is None, f"this {type(self).__name__} is already started"
        self.datadir.mkdir(parents=True, exist_ok=True)
        for _ in range(self.START_ATTEMPTS - 1):
            try:
                self._start_once()
            except ServerError as error:
                if self.PORT_TAKEN not in str(error).lower():
                    raise
                self._choose_ports()
            else:
                return
        self._start_once()

    def stop(self) -> None:
        """Stop in order."""
        if self._process is not None:
            self._process.stop(request=self.STOP_REQUEST, grace_s=self.STOP_GRACE_S)
            self._process = None

    def kill(self) -> None:
        """End at once, as in a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop if it runs, and start again on the same folder and ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove the folder if it was temporary."""
        if self._is_temporary:
            self.kill()
            shutil.rmtree(self.datadir, ignore_errors=True)
        else:
            self.stop()

    @abstractmethod
    def _start_once(self) -> None:
        """Start the process and wait until it answers; only then is it ``_process``."""

    @abstractmethod
    def _choose_ports(self) -> None: ...
