"""Payloads under AES-256-GCM, with a data key of its own for each run.

EC1  A run's data key is made before the first of its events is stored, wrapped by a master key and
     kept beside the histories, never in one.
EC2  Shredding a run replaces its data key by a note that it was: nobody makes it a new one, nobody
     opens its payloads again, and its chain verifies as before.
EC3  Rotating wraps data keys anew under the current master key; payloads are left as they are.
EC4  A nonce is random, 96 bits, and a data key seals one run: far from the 2**32 messages after
     which NIST SP 800-38D wants another key.  The key for what is on its way is changed by
     rotating, once its use asks for it.
EC5  A fingerprint is an HMAC under a key that follows from the one for what is on its way: whoever
     reads the store cannot try out what was said.

Source: NIST SP 800-38D; envelope encryption as key management services describe it.
"""

import base64
import hmac
import json
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.core.values import canonical
from orchestrator.sealing.codec import TRANSIT, PayloadSealed
from orchestrator.sealing.keyring import KeyWrapper
from orchestrator.store.ports import KeyStore

_NONCE_BYTES = 12
_DATA_KEY_BITS = 256
#: Data keys that a process keeps unwrapped, and how long: a shredded one is forgotten within it.
_KEPT_MAX = 4_096
_KEPT_S = 60.0
_PRINT_CHARS = 32


@dataclass(frozen=True, slots=True)
class _Kept:
    cipher: AESGCM
    until_s: float


class EncryptionCodec:
    """See `PayloadCodec`.

    Args:
        wrapper: Master keys; see `Keyring`.

    It is given the store by the app that it belongs to: see `attach`.
    """

    def __init__(self, wrapper: KeyWrapper) -> None:
        self._wrapper = wrapper
        self._store: KeyStore | None = None
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._print_key: bytes | None = None

    def attach(self, store: KeyStore) -> None:
        """Keep data keys in `store`."""
        self._store = store

    # --- payloads --------------------------------------------------------------------------------

    def encode(self, data: bytes, *, scope: str) -> bytes:
        """See `PayloadCodec.encode`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(scope, is_new=True).encrypt(nonce, data, scope.encode())

    def decode(self, data: bytes, *, scope: str) -> bytes:
        """See `PayloadCodec.decode`."""
        cipher = self._cipher(scope, is_new=False)
        try:
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], scope.encode())
        except (InvalidTag, ValueError):
            raise PayloadSealed(scope, "they are not what was sealed under its key") from None

    def fingerprint(self, data: bytes) -> str:
        """See `FingerprintingCodec.fingerprint` (EC5)."""
        if self._print_key is None:
            transit = self._data_key(TRANSIT, is_new=True)
            self._print_key = hmac.digest(transit, b"fingerprint", "sha256")
        return hmac.digest(self._print_key, data, "sha256").hex()[:_PRINT_CHARS]

    # --- keys ------------------------------------------------------------------------------------

    def shred(self, scope: str, *, at_ms: int) -> bool:
        """Make the payloads of `scope` unreadable for good (EC2); False if they already were.

        A scope that nothing was sealed under is shredded beforehand.

        Raises:
            StoreUnavailable: No answer; do it again.
        """
        assert scope != TRANSIT, "what is on its way belongs to all runs"
        gone = json.dumps({"shredded_at_ms": at_ms})
        while True:
            found = self._keys.create_key(scope, gone)
            with self._lock:
                self._kept.pop(scope, None)
            if found == gone or "shredded_at_ms" in json.loads(found):
                return False
            if self._keys.replace_key(scope, found, gone):
                return True

    def rotate(self, scope: str) -> bool:
        """Wrap the data key of `scope` under the current master key; False if it was (EC3).

        Raises:
            PayloadSealed: The master key that wrapped it is not here.
            StoreUnavailable: No answer; do it again.
        """
        while True:
            found = self._keys.find_key(scope)
            kept = json.loads(found) if found else {}
            if "wrapped" not in kept or kept["key"] == self._wrapper.current:
                return False
            assert found is not None
            anew = self._wrapped(self._unwrapped(scope, kept), scope)
            if self._keys.replace_key(scope, found, anew):
                return True

    # --- inside ----------------------------------------------------------------------------------

    @property
    def _keys(self) -> KeyStore:
        assert self._store is not None, "an app attaches its store before anything is sealed"
        return self._store

    def _cipher(self, scope: str, *, is_new: bool) -> AESGCM:
        now_s = time.monotonic()
        with self._lock:
            kept = self._kept.get(scope)
            if kept is not None and now_s < kept.until_s:
                self._kept.move_to_end(scope)
                return kept.cipher
        cipher = AESGCM(self._data_key(scope, is_new=is_new))
        with self._lock:
            self._kept[scope] = _Kept(cipher, now_s + _KEPT_S)
            while len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        return cipher

    def _data_key(self, scope: str, *, is_new: bool) -> bytes:
        found = self._keys.find_key(scope)
        if found is None:
            if not is_new:
                raise PayloadSealed(scope, "there is no data key for it")
            made = AESGCM.generate_key(_DATA_KEY_BITS)
            found = self._keys.create_key(scope, self._wrapped(made, scope))
        return self._unwrapped(scope, json.loads(found))

    def _wrapped(self, data_key: bytes, scope: str) -> str:
        wrapped = base64.b64encode(self._wrapper.wrap(data_key, scope)).decode()
        return canonical({"key": self._wrapper.current, "wrapped": wrapped}).decode()

    def _unwrapped(self, scope: str, kept: dict[str, str]) -> bytes:
        if "wrapped" not in kept:
            raise PayloadSealed(scope, "its key was shredded")
        return self._wrapper.unwrap(kept["key"], base64.b64decode(kept["wrapped"]), scope)
