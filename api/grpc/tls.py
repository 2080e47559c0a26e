"""TLS for the gRPC port, and who a client certificate names."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import trio

from api.grpc.peer import Peer

ALPN = "h2"


class TlsSettingsError(Exception):
    """A certificate, key or CA setting cannot be used; the text names the setting."""


def server_context(
    *,
    certificate: Path,
    key: Path,
    client_cas: Sequence[Path] = (),
    certificate_setting: str = "server.tls.cert (SERVER_TLS_CERT)",
    key_setting: str = "server.tls.key (SERVER_TLS_KEY)",
    ca_setting: str = "server.tls.ca (SERVER_TLS_CA, -client-ca)",
) -> ssl.SSLContext:
    """TLS 1.2 or newer with HTTP/2; with client CAs every client must present a certificate.

    All files are PEM; the certificate file may hold the chain. Raises TlsSettingsError that says
    which setting's file is missing, unreadable, no PEM or does not fit.
    """
    for path, setting in ((certificate, certificate_setting), (key, key_setting)):
        _readable(path, setting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedKeyError:
        raise TlsSettingsError(
            f"{key_setting}: {key} is protected by a password; give an unencrypted key that only"
            " the daemon can read"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsSettingsError(
                f"{key_setting}: the key in {key} does not belong to the certificate in"
                f" {certificate} ({certificate_setting})"
            ) from error
        raise TlsSettingsError(
            f"{certificate_setting} and {key_setting}: {certificate} and {key} are not a PEM"
            f" certificate and its PEM key ({error.reason or error})"
        ) from error
    for path in client_cas:
        _readable(path, ca_setting)
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise TlsSettingsError(
                f"{ca_setting}: {path} holds no PEM certificate ({error.reason or error})"
            ) from error
    if client_cas:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def peer_of(stream: trio.SSLStream[trio.SocketStream], address: str) -> Peer:
    """The peer after the handshake, with the subject of its certificate if it had to show one."""
    certificate = stream.getpeercert(binary_form=True)
    if certificate is None:
        return Peer(address, tls=True)
    names = stream.getpeercert().get("subject", ())
    subject = ",".join(
        f"{_SHORT.get(key, key)}={value}" for relative in names for key, value in relative
    )
    return Peer(address, tls=True, subject=subject, certificate=certificate)


_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
}


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, and the daemon would hang at its start.
    raise _EncryptedKeyError


def _readable(path: Path, setting: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise TlsSettingsError(f"{setting}: cannot read {path} ({error.strerror})") from error
