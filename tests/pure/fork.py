"""A program that forks with a cipher in use: prints the nonce prefixes of the parent, the child, the parent again.

It is a process of its own because a fork in a test process would copy that one's threads' locks as well. While it
forks, another thread holds every lock that the child will need.
"""

import contextlib
import os
import signal
import threading
import warnings
from contextlib import AbstractContextManager

from shared.redact import KNOWN_SECRETS
from shared.values import KeyState
from tests.pure.keyrings import ACME, KID, keyring
from tests.pure.surroundings import Surroundings


def main() -> int:
    """The child's exit code: 0, or that of a child that waits for a lock until it is ended."""
    around = Surroundings()
    around.put(keyring(KeyState.PRIMARY))
    cipher = around.cipher()
    envelope = cipher.encrypt(ACME, b"x")
    if (reporter := cipher._reports._thread) is not None:
        reporter.join()
    os.write(1, envelope[15:27].hex().encode() + b"\n")
    locks: list[AbstractContextManager[object]] = [
        *cipher._keys._locks,
        cipher._keys._remembering,
        cipher._reports._lock,
        KNOWN_SECRETS._lock,
    ]
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            forked.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what this is about
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        same = cipher.decrypt(ACME, envelope) == b"x"
        if (reporter := cipher._reports._thread) is not None:
            reporter.join()
        same &= [use.kids for use in around.uses] == [(KID,), (KID,)]
        os.write(1, cipher.encrypt(ACME, b"x")[15:27].hex().encode() + b"\n")
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    forked.set()
    holder.join()
    os.write(1, cipher.encrypt(ACME, b"x")[15:27].hex().encode() + b"\n")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    raise SystemExit(main())
