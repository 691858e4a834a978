"""TLS contexts from the settings' files: TLS 1.2 or later, peers' certificates checked."""

from __future__ import annotations

import ssl

from storyxai.errors import InputError
from storyxai.node.settings import Settings, TlsSettings


def server_context(settings: Settings, tls: TlsSettings) -> ssl.SSLContext:
    """For those who call us; with `authorities` they must show a certificate that one of them signed. Raises: InputError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, settings, tls)
    if tls.authorities:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: Settings, tls: TlsSettings) -> ssl.SSLContext:
    """For those whom we call: their certificate is checked against `authorities` (else the system's). Raises: InputError."""
    context = ssl.create_default_context()
    _load(context, settings, tls)
    return context


def _load(context: ssl.SSLContext, settings: Settings, tls: TlsSettings) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if tls.certificate:
            context.load_cert_chain(settings.place(tls.certificate), settings.place(tls.key) if tls.key else None)
        if tls.authorities:
            context.load_verify_locations(settings.place(tls.authorities))
    except (OSError, ValueError) as error:
        why = f"cannot be loaded ({getattr(error, 'strerror', None) or error})"
        raise InputError("tls", why, mend="give certificate, key and authorities as PEM files that belong together") from error
