"""Which CAs are trusted, and why TLS failed."""

import os
import ssl
from functools import lru_cache
from pathlib import Path

import certifi


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trust the CAs of the file, or else those that the environment names, or the public ones."""
    named = None if ca_file else os.environ.get("SSL_CERT_FILE")
    folder = None if ca_file or named else os.environ.get("SSL_CERT_DIR")
    file = ca_file or named or (None if folder else certifi.where())
    return _cached_tls_context(file, folder, Path(file).stat().st_mtime_ns if file else 0)


# Accounts share it, because loading the public CAs takes 40 ms.
@lru_cache
def _cached_tls_context(file: str | None, folder: str | None, _changed_at: int) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=file, capath=folder)
    context.set_alpn_protocols(["http/1.1"])
    return context


# With these exceptions, the TLS library reports that it needs more bytes or that there are none.
_NO_TLS_FAILURES = (
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
)


def tls_failure(error: BaseException) -> str | None:
    """Return why TLS failed, or None if the connection failed for another reason."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            # The part after the comma repeats the host name, which callers do not need.
            why = cause.verify_message.partition(",")[0]
            return f"the provider's TLS certificate is not accepted: {why}"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _NO_TLS_FAILURES):
            why = (cause.reason or "unknown reason").replace("_", " ").lower()
            return f"TLS failed: {why}"
        cause = cause.__cause__ or cause.__context__
    return None
