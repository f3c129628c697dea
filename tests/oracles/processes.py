"""Fresh processes that start at once: forked from a server that has loaded the libraries.

A process of its own is what the tests of resuming and of killed workers need, not the two seconds
that it takes to load Optuna and SciPy.  Forking from here would not be safe beside threads.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

FRESH = multiprocessing.get_context("forkserver")
LOADED = ["genopt_core.cross_entropy.posterior", "genopt_core.integrations.optuna"]
FRESH.set_forkserver_preload(LOADED)


def load_too(module):
    """Have the server load a further module, unless it runs already: then each process does."""
    if module not in LOADED:
        LOADED.append(module)
    FRESH.set_forkserver_preload(LOADED)


def pool_of(size):
    return ProcessPoolExecutor(size, mp_context=FRESH)


def start(function, *arguments):
    process = FRESH.Process(target=function, args=arguments)
    process.start()
    return process


def finish(*processes, timeout=300):
    """Wait for processes that are to end well."""
    for process in processes:
        process.join(timeout)
    assert [process.exitcode for process in processes] == [0] * len(processes)
