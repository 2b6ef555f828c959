"""Master keys: they wrap data keys, and never see a payload.

A key management service takes this one's place with the same two methods.
"""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.core.errors import ConfigurationError
from orchestrator.sealing.codec import TRANSIT, PayloadSealed

#: Where `Keyring.from_environment` looks.
KEYS_VARIABLE = "ORCHESTRATOR_KEYS"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class KeyWrapper(Protocol):
    """Wraps data keys."""

    @property
    def current(self) -> str:
        """Id of the master key that wraps from now on."""
        ...

    def wrap(self, data_key: bytes, scope: str) -> bytes:
        """Return `data_key` wrapped under the current master key, for `scope` alone."""
        ...

    def unwrap(self, key_id: str, wrapped: bytes, scope: str) -> bytes:
        """Return the data key.

        Raises:
            PayloadSealed: No such master key here, or it was wrapped under another one or for
                another scope.
        """
        ...


class Keyring:
    """Master keys that this process holds: 256 bits each, by id.

    Args:
        keys: By id, letters, digits and ``._-``; the others unwrap what was wrapped before.
        current: The one that wraps.

    Raises:
        ConfigurationError: A key that is none; the text never shows it.
    """

    def __init__(self, keys: Mapping[str, bytes], *, current: str) -> None:
        for key_id, key in keys.items():
            if not _ID.fullmatch(key_id):
                raise ConfigurationError(
                    "id of a master key", repr(key_id[:80]), "letters, digits and ._- are wanted"
                )
            if len(key) != _KEY_BYTES:
                raise ConfigurationError(
                    f"master key {key_id}", f"{len(key)} bytes", f"{_KEY_BYTES} bytes are wanted"
                )
        if current not in keys:
            known = ", ".join(sorted(keys)) or "none"
            raise ConfigurationError("current master key", repr(current), f"one of: {known}")
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current = current
        self._variable = ""

    @classmethod
    def from_environment(cls, variable: str = KEYS_VARIABLE) -> "Keyring":
        """Return the keys in ``id=base64,id=base64``; the first one is current.

        Raises:
            ConfigurationError: The variable is missing, or says something else.
        """
        text = os.environ.get(variable, "")
        wanted = "id=base64 of 32 bytes, with commas between; the first one wraps"
        if not text.strip():
            raise ConfigurationError(variable, "nothing", wanted)
        keys: dict[str, bytes] = {}
        for number, part in enumerate(text.split(","), 1):
            key_id, _, encoded = part.strip().partition("=")
            try:
                keys[key_id] = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise ConfigurationError(variable, f"part {number} is no base64", wanted) from None
        keyring = cls(keys, current=next(iter(keys)))
        keyring._variable = variable
        return keyring

    @property
    def current(self) -> str:
        """See `KeyWrapper`."""
        return self._current

    def wrap(self, data_key: bytes, scope: str) -> bytes:
        """See `KeyWrapper`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._keys[self._current].encrypt(nonce, data_key, scope.encode())

    def unwrap(self, key_id: str, wrapped: bytes, scope: str) -> bytes:
        """See `KeyWrapper`."""
        master = self._keys.get(key_id)
        if master is None:
            raise PayloadSealed(scope, f"{self._without(key_id)}{_about(scope)}")
        try:
            return master.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], scope.encode())
        except InvalidTag:
            raise PayloadSealed(scope, f"master key {key_id!r} did not wrap its data key") from None

    def _without(self, key_id: str) -> str:
        where = f"the variable {self._variable}" if self._variable else "its Keyring"
        known = ", ".join(sorted(self._keys))
        return f"this process has no master key {key_id!r}: {where} names {known}"


def _about(scope: str) -> str:
    if scope != TRANSIT:
        return ""
    return f" ({TRANSIT} is what is on its way: inputs, messages, results of steps, answers)"
