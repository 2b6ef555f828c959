"""Payloads that leave a process under a codec, and come back through it.

The layer between the store and everybody who keeps something in it: events, inbox entries, letters,
rows, messages and blobs are told apart into what the engine must read and what belongs to the
application.  It knows which is which; it knows no Redis, and of cryptography only `aes_gcm` and
`keyring` do.
"""
