"""Calls that have no place in workflow code, by dotted name, and what to write instead.

The words are those with which the guard refuses the same call at run time.
"""

from orchestrator.core.guard import refused_calls

_REFUSED = refused_calls()
_CLOCK = _REFUSED["time.time"]
_CHANCE = _REFUSED["random.random"]
_THREAD = _REFUSED["threading.Thread.start"]
_STEP = _REFUSED["open"]
_RNG = "use workflow.rng(name)"

_BY_MODULE = {"time": "ORC101", "random": "ORC102", "uuid": "ORC102", "secrets": "ORC102"}
_KNOWN: dict[str, tuple[str, str]] = {
    name: (_BY_MODULE.get(name.partition(".")[0], "ORC103"), instead)
    for name, instead in _REFUSED.items()
} | {
    "time.sleep": ("ORC104", _REFUSED["time.sleep"]),
    **{name: ("ORC102", _REFUSED[name]) for name in ("os.urandom", "os.getrandom")},
    **dict.fromkeys(
        (
            *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
            *("datetime.date.today", "django.utils.timezone.now", "pandas.Timestamp.now"),
            *("arrow.now", "arrow.utcnow", "pendulum.now", "pendulum.today"),
        ),
        ("ORC101", _CLOCK),
    ),
    **dict.fromkeys(("random.Random", "random.SystemRandom"), ("ORC102", _CHANCE)),
    **dict.fromkeys(
        (
            *("os.system", "os.popen", "os.listdir", "os.scandir", "os.walk", "os.remove"),
            *("os.rename", "os.replace", "os.mkdir", "os.makedirs", "os.rmdir", "os.unlink"),
            *("os.getenv", "os.environ.get", "os.getcwd", "os.getpid", "os.fork", "os.stat"),
            *("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"),
            *("asyncio.open_connection", "asyncio.start_server", "io.open"),
        ),
        ("ORC103", _STEP),
    ),
    **dict.fromkeys(
        ("asyncio.to_thread", "asyncio.run", "asyncio.new_event_loop", "asyncio.Runner"),
        ("ORC104", _THREAD),
    ),
    "asyncio.run_coroutine_threadsafe": ("ORC104", _THREAD),
}
#: Whole packages.
_PACKAGES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (
            *("requests", "httpx", "aiohttp", "urllib3", "urllib.request", "http.client"),
            *("socket", "subprocess", "shutil", "tempfile", "sqlite3", "smtplib", "ftplib"),
            *("boto3", "redis", "psycopg", "psycopg2", "pymongo", "kafka"),
        ),
        ("ORC103", _STEP),
    ),
    **dict.fromkeys(("threading", "concurrent.futures", "multiprocessing"), ("ORC104", _THREAD)),
    "numpy.random": ("ORC102", _RNG),
}
#: What draws nothing by itself if it is given its seed.
_FINE_WITH_ARGUMENTS = {
    *("random.Random", "numpy.random.default_rng", "numpy.random.RandomState"),
    *("time.localtime", "time.gmtime", "time.ctime", "time.asctime"),
    *(f"numpy.random.{name}" for name in ("SeedSequence", "Philox", "PCG64", "Generator")),
}
#: Methods, whatever they are called on.
_METHODS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("read_text", "write_text", "read_bytes", "write_bytes"), ("ORC103", _STEP)),
    "run_in_executor": ("ORC104", _THREAD),
}


def refused(name: str, *, arguments: int) -> tuple[str, str] | None:
    """Return code and replacement for a call of the dotted name; None for one that may be."""
    if name in _FINE_WITH_ARGUMENTS and arguments:
        return None
    if name == "time.strftime" and arguments > 1:
        return None
    found = _KNOWN.get(name)
    if found is not None:
        return found
    for package, about in _PACKAGES.items():
        if name.startswith(f"{package}."):
            return about
    return None


def refused_method(name: str) -> tuple[str, str] | None:
    """Return code and replacement for a call of a method; None for one that may be."""
    return _METHODS.get(name)
