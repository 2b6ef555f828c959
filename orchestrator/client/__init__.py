"""What a program does with workflows from outside: start them, write to them, read them.

Rule of this layer: it talks to the store alone, never to an orchestrator or a broker, and every
behaviour is written once, as a coroutine over `port.AsyncStore`.  The synchronous face drives the
same coroutines over a blocking store, where they never suspend.
"""
