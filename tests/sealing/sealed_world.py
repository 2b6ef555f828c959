"""A whole engine in memory whose payloads are encrypted, and a look at all that lies there."""

import os
import pickle
from typing import Any

from orchestrator.sealing.aes_gcm import EncryptionCodec
from orchestrator.sealing.keyring import Keyring
from orchestrator.sealing.seal import Seal
from tests.engine.world import Node, World

#: In every payload of these tests, and nowhere else.
SECRET = "s3cr3t-4711"


def keyring(*ids: str) -> Keyring:
    """Return new master keys; the last one is current."""
    return Keyring({key_id: os.urandom(32) for key_id in ids}, current=ids[-1])


class SealedWorld(World):
    """See the module; `plain` is the store as somebody with a Redis connection sees it."""

    def __init__(self, *functions: Any, ring: Keyring | None = None) -> None:
        super().__init__(*functions)
        self.plain = self.store
        self.codec = EncryptionCodec(ring or keyring("k1"))
        seal = Seal(self.codec)
        self.store = seal.store(self.plain)
        self.stored_blobs = self.blobs
        self.blobs = seal.blobs(self.stored_blobs)  # type: ignore[assignment]
        self.more_tools = {"seal": seal.event}
        self.nodes = [Node(self, "one")]

    def everything(self) -> bytes:
        """Return whatever lies in the store, its blobs included."""
        plain = self.plain
        return pickle.dumps([plain._parts, plain._answers, self.stored_blobs.values])

    def is_readable(self, text: str = SECRET) -> bool:
        """Return whether somebody who reads the store finds `text`."""
        return text.encode() in self.everything()
