"""A master key that is not here is asked for by its name, and by where keys come from."""

import base64

import pytest

from orchestrator.core.errors import PayloadSealed
from orchestrator.sealing.codec import TRANSIT
from orchestrator.sealing.keyring import KEYS_VARIABLE, Keyring


def test_key_that_is_not_in_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, f"k2={base64.b64encode(b'2' * 32).decode()}")
    keyring = Keyring.from_environment()
    with pytest.raises(PayloadSealed) as raised:
        keyring.unwrap("k1", b"", "order-1.1")
    wanted = "this process has no master key 'k1': the variable ORCHESTRATOR_KEYS names k2"
    assert str(raised.value) == f"payloads of order-1.1 cannot be opened: {wanted}"
    with pytest.raises(PayloadSealed, match="transit is what is on its way"):
        keyring.unwrap("k1", b"", TRANSIT)


def test_key_that_is_not_in_a_keyring_names_those_that_are() -> None:
    keyring = Keyring({"k2": b"2" * 32, "k3": b"3" * 32}, current="k3")
    with pytest.raises(PayloadSealed, match="its Keyring names k2, k3"):
        keyring.unwrap("k1", b"", "order-1.1")
