"""TLS for the TCP listener, from certificate files."""

from __future__ import annotations

import ssl
from pathlib import Path

from qm.store.errors import InvalidRequest


class TlsUnusable(InvalidRequest):
    """The certificate or its key can't be used."""

    code = "tls_unusable"


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What serves TLS; None when no certificate is set. Raises TlsUnusable.

    `certificate` is a PEM file with its chain; the key may be in it, too.
    """
    if certificate is None:
        if key is not None:
            raise TlsUnusable("QM_TLS_KEY needs QM_TLS_CERT")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise TlsUnusable(f"can't use the certificate {certificate}: {error}") from error
    return context
