"""Who we are to a node: user and password, or the cookie file that it rewrites at each start."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from actors.ports import PersistentError, TransientError

_COOKIE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Login:
    """How we show a node who we are: user and password, or its cookie file, or not at all."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cookie_file: Path | None = None


class Credentials:
    """A Login in use. `setting` is how a person named the chain: `coin.btc`."""

    def __init__(self, login: Login, *, setting: str) -> None:
        self.login = login
        self._setting = setting
        self._cookie: str | None = None

    def authorization(self) -> str | None:
        """The header's value; reads the cookie file when none is at hand."""
        login = self.login
        if login.cookie_file is not None:
            if self._cookie is None:
                self._cookie = self._read_cookie(login.cookie_file)
            return _basic(self._cookie)
        if login.user is None and login.password is None:
            return None
        return _basic(f"{login.user or ''}:{login.password or ''}")

    def renew(self) -> bool:
        """After HTTP 401: whether the cookie file holds another cookie now (the node restarted)."""
        if self.login.cookie_file is None:
            return False
        refused, self._cookie = self._cookie, None
        return self.authorization() != _basic(refused or "")

    def redacted(self, text: str) -> str:
        """A server may echo what we sent it; our credentials must not come back into a log."""
        login = self.login
        for secret in (login.password, self._cookie and self._cookie.partition(":")[2]):
            if secret:
                text = text.replace(secret, "***")
        whole = self._cookie or f"{login.user or ''}:{login.password or ''}"
        return text.replace(_basic(whole).partition(" ")[2], "***")

    def _read_cookie(self, path: Path) -> str:
        name = f"{self._setting}.cookie_file"
        try:
            with path.open("rb") as file:
                cookie = file.read(_COOKIE_BYTES).decode("ascii").strip()
        except FileNotFoundError:
            raise TransientError(
                f"{name}: {path} does not exist. The node writes it when it starts: start the node,"
                " or correct the path"
            ) from None
        except UnicodeDecodeError:
            cookie = ""
        except OSError as error:
            raise PersistentError(
                f"{name}: {path} cannot be read ({error.strerror}). Let the user that runs tallyd"
                f" read it, or set {self._setting}.daemon.user and {self._setting}.daemon.pass"
                " instead"
            ) from None
        if ":" not in cookie:
            raise TransientError(
                f"{name}: {path} holds no 'user:password' line. Is it the node's .cookie file?"
            )
        return cookie


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()
