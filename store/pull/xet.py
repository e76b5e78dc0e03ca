"""Files of xet-backed repositories, through hf_xet where that is installed.

Their storage has chunks that many files share; hf_xet knows which make up a file and fetches them.
Whatever goes wrong here costs no pull: the hub has a plain address of the same bytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from huggingface_hub import constants, get_token
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, not declared so
    build_hf_headers,
    get_session,
)

from ..errors import QmError
from .addresses import Policy
from .connection import Located, XetFile
from .session import TRANSPORT_ERROR
from .streaming import StreamBroken

_LIMIT_S = 20.0
_MIB = 1 << 20
_WISHES = {
    "telemetry.enabled": False,  # of every transfer, to its makers
    "reconstruction.min_reconstruction_fetch_size": 8 * _MIB,  # what comes at once, in one piece
    "reconstruction.max_reconstruction_fetch_size": 8 * _MIB,
    "reconstruction.min_prefetch_buffer": 8 * _MIB,
    "reconstruction.download_buffer_size": 24 * _MIB,  # left alone it holds a gigabyte in memory
    "reconstruction.download_buffer_perfile_size": 24 * _MIB,
    "reconstruction.download_buffer_limit": 24 * _MIB,
}
_FAILURES = (OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError)
"""As hf_xet's errors come; the last three where another version calls something otherwise."""


@dataclass(slots=True)
class Xet:
    """What one pull knows of its hub's xet storage: after a failure it is not asked again."""

    broken: str = ""

    def stream(self, located: Located, size_bytes: int, policy: Policy) -> XetStream | None:
        """The bytes of a file, if its hub keeps it so and hf_xet may be used."""
        if located.xet is None or self.broken or constants.HF_HUB_DISABLE_XET:
            return None
        module = _hf_xet()
        if module is None:
            return None
        return XetStream(self, module, located.xet, size_bytes, policy)


@dataclass(slots=True)
class XetStream:
    """One file out of xet storage, in order."""

    xet: Xet
    module: ModuleType
    file: XetFile
    size_bytes: int
    policy: Policy
    _group: Any = field(default=None)  # Any: hf_xet has no types

    def __iter__(self) -> Generator[bytes]:
        """Raises StreamBroken."""
        try:
            with self._open() as self._group:
                info = self.module.XetFileInfo(self.file.hash, self.size_bytes)
                yield from self._group.download_stream(info)
        except (*_FAILURES, TRANSPORT_ERROR, QmError) as error:
            self.xet.broken = self.xet.broken or str(error) or type(error).__name__
        if self.xet.broken:
            raise StreamBroken(f"xet: {self.xet.broken}")

    def abort(self, reason: str) -> None:
        """As Stream has it."""
        self.xet.broken = self.xet.broken or reason
        if self._group is not None:
            with suppress(*_FAILURES):  # it has ended by itself
                self._group.abort()

    def _open(self) -> Any:  # Any: as above
        told = _pass(self.file.pass_url)
        endpoint = told[constants.HUGGINGFACE_HEADER_X_XET_ENDPOINT]
        self.policy.addresses(endpoint)
        return self.module.XetSession(self._config()).new_download_stream_group(
            endpoint=endpoint,
            token=told[constants.HUGGINGFACE_HEADER_X_XET_ACCESS_TOKEN],
            token_expiry_unix_secs=int(told[constants.HUGGINGFACE_HEADER_X_XET_EXPIRATION]),
            token_refresh_url=self.file.pass_url,
            token_refresh_headers=_headers(),
            custom_headers={"User-Agent": "qm"},
        )

    def _config(self) -> Any:  # Any: as above
        """As we want it, as far as this version knows of it."""
        config = self.module.XetConfig()
        known = dict(config)
        for name, value in _WISHES.items():
            if name in known:
                config = config.with_config(name, value)
        return config


def _hf_xet() -> ModuleType | None:
    try:
        return importlib.import_module("hf_xet")
    except ImportError:
        return None


def _headers() -> dict[str, str]:
    """For the hub itself."""
    return dict(build_hf_headers(token=get_token() or False, library_name="qm"))


def _pass(url: str) -> Any:  # Any: headers of huggingface_hub's transport, see session.py
    """What the hub says of its storage, asked once: there is another way if it is busy."""
    answer = get_session().get(url, headers=_headers(), timeout=_LIMIT_S, follow_redirects=False)
    if answer.status_code != 200:
        raise OSError(f"the hub answered {answer.status_code} when asked for a pass")
    return answer.headers
