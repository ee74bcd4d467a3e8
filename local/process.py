"""Child processes that cannot outlive us.

Linux tells a child when its parent dies (`PR_SET_PDEATHSIG`), whatever the parent died of. The launcher below asks for
that and then becomes the command, so that nothing stays behind when a demo or a test run is killed with SIGKILL.
Source: prctl(2), Linux man-pages.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, deadly: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send us `deadly` when `parent` ends; exit now if it already has."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(deadly), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(f"parent {parent} has ended before its child began")


def become(user: str) -> None:
    """Give up root's rights for those of the user, for good."""
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def spawn(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, user: str = ""
) -> subprocess.Popen[bytes]:
    """Start `command` with its output appended to `log`; it dies when this process does.

    Root may name a `user` whom the command runs as.

    The kernel ties the child to the *thread* that starts it: call this from a thread that lives as long as the child
    should.
    """
    launcher = [sys.executable, "-m", "local.process", str(os.getpid()), user, *command]
    with log.open("ab") as output:
        return subprocess.Popen(
            launcher,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=Path(__file__).parent.parent,
        )


def own_folder(prefix: str, parent: Path) -> Path:
    """A new folder whose name has the prefix and the id of this process.

    What processes that were killed have left there is removed: what they had started has died with them.
    """
    for folder in parent.glob(f"{prefix}*"):
        owner = folder.name.removeprefix(prefix).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)  # it may be somebody else's
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))


def stop(process: subprocess.Popen[bytes], patience_s: float = 5.0) -> None:
    """End a child politely, then for certain; returns when it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


if __name__ == "__main__":
    if sys.argv[2]:
        become(sys.argv[2])  # first: the kernel forgets what it was asked for when a process changes its user
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - becomes the command, without a shell
