"""The whole engine in one thread, under faults that a seed decides; and a checker beside it.

Goal: the promises P1 to P6 hold whatever dies, pauses, is lost or comes twice, at any store call
and any message.  Method: the engine as it is deployed (owners, leases, ledger, core) on the store
in memory and a clock turned by hand; workers, clients, broker, network and server are simulated
around it.  One seed decides programs, faults and who acts when, so that a failure repeats exactly
and can be told as a story.  The checker has a model of its own: of leases, of what was
acknowledged, of effects in the outside world, and it reads histories as plain JSON.

    python -m tests.simulation --seeds 10000 --jobs 2    many seeds; exit code 1 if one fails
    python -m tests.simulation --seed 1234               one of them again, with its story

To add

* an instruction of workflows: one line in `instructions.INSTRUCTIONS`, with its two functions: how
  it grows from chance, and what it does in workflow code (a child, an update, a map, …);
* a key that runs share: `permits.KEYS` or `permits.RATES`;
* a kind of message: a method of `clients.Client` that sends and acknowledges it, a line in
  `clients.plan`, one in `inboxes._TRACES` (what in a history tells of it) and one in
  `checks._ACKNOWLEDGED`;
* a fault of store calls: `weather.CALL_FAULTS` and a method in `session._FAULTS`;
* a fault that comes by itself: `weather.ENVIRONMENT_FAULTS` and a method in `storm._STRIKES`;
* a check at the end: a function in `checks.CHECKS`; at an instant: `watch._LOOKS`, for what passes
  between a process and the store.

New kinds change what a seed means: a seed is repeated with the code that found it.  One that failed
becomes a small test with a name, beside the part that was mended.
"""
