"""The scan of a repository: this one is clean, and a planted secret is found in a file, a commit and the stage."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared.redact.scan import main
from tests.pure import credentials

ROOT = Path(__file__).parents[2]
(SECRET,) = {secret for kind, secret in credentials.vendors() if kind == "npm-token"}
KEY = "-----BEGIN EC PRIVATE" + " KEY-----\nMHcCAQEE\n-----END EC PRIVATE" + " KEY-----\n"


def git(repository: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(repository), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check, env=clean)


def scan(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shared.redact.scan", str(repository), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit with nothing in it."""
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a file.py").write_text("password = settings.password\nTOKEN = os.environ['TOKEN']\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a clone has a history")
def test_this_repository_and_all_its_commits_are_clean() -> None:
    ended = scan(ROOT)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stdout


def test_a_clean_repository_passes(repository: Path) -> None:
    ended = scan(repository)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


PLANTED = {
    "a token": (f'token = "{SECRET}"\n', "npm-token"),
    "a private key": (KEY, "private-key"),
    "a password": ("db_password: xK9mQ2" + "vL7pR4\n", "credential"),
    "a connection string": (f"AccountKey={'aB3+' * 21}Zw==\n", "credential"),
}


@pytest.mark.parametrize(("text", "kind"), PLANTED.values(), ids=list(PLANTED))
@pytest.mark.parametrize("name", ["new.txt", "für alle.json", "a file.py"])
def test_a_secret_in_a_file_is_found_in_its_line_whether_it_is_committed_or_not(
    repository: Path, name: str, text: str, kind: str
) -> None:
    (repository / name).write_text(f"first line\n\n{text}")
    for _ in range(2):
        ended = scan(repository, "--tree")
        assert ended.returncode == 1
        assert f"{name}:3: {kind}" in ended.stdout.splitlines()
        assert SECRET not in ended.stdout + ended.stderr
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", "more", check=False)


@pytest.mark.parametrize(
    "raw",
    [
        f"first\ntoken = {SECRET}\n".encode("utf-16"),
        f"first\ntoken = {SECRET}\n".encode("utf-16-be"),
        b"\0\1\2\n\xff\xfe" + SECRET.encode() + b"\0\0\3",
    ],
    ids=["UTF-16", "UTF-16, big-endian", "binary"],
)
def test_a_secret_in_a_file_with_nul_bytes_is_found_in_the_tree_and_in_its_commit(repository: Path, raw: bytes) -> None:
    (repository / "new.bin").write_bytes(raw)
    assert scan(repository, "--tree").stdout == "new.bin:2: npm-token\n"
    git(repository, "add", ".")
    assert scan(repository, "--staged").stdout == "new.bin:2: npm-token\n"
    git(repository, "commit", "-q", "-m", "binary")
    assert "new.bin:2: npm-token\n" in scan(repository, "--history").stdout


def test_a_secret_in_a_commit_that_was_removed_since_is_found(repository: Path) -> None:
    (repository / "old.txt").write_text(f"a\nb\n{SECRET}\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "oops")
    commit = git(repository, "rev-parse", "--short", "HEAD").stdout.strip()
    git(repository, "rm", "-q", "old.txt")
    git(repository, "commit", "-q", "-m", "nobody has seen it")
    assert scan(repository, "--tree").returncode == 0
    ended = scan(repository)
    assert (ended.returncode, ended.stdout) == (1, f"{commit} old.txt:3: npm-token\n")


def test_a_secret_on_another_branch_is_found(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side")
    (repository / "side.txt").write_text(f"+++ {SECRET}\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "side")
    git(repository, "checkout", "-q", "main")
    assert "side.txt:1: npm-token" in scan(repository).stdout


def test_a_secret_in_a_merge_itself_is_found(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side")
    git(repository, "commit", "-q", "--allow-empty", "-m", "side")
    git(repository, "checkout", "-q", "main")
    git(repository, "merge", "-q", "--no-ff", "--no-commit", "side")
    (repository / "merged.txt").write_text(f"{SECRET}\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "merge")
    git(repository, "rm", "-q", "merged.txt")
    git(repository, "commit", "-q", "-m", "gone")
    assert "merged.txt:1: npm-token" in scan(repository).stdout


def test_a_secret_in_a_name_or_a_message_is_found_and_not_shown(repository: Path) -> None:
    (repository / f"{SECRET}.txt").touch()
    git(repository, "add", ".")
    assert scan(repository, "--staged").stdout == "name of [REDACTED:npm-token].txt:1: npm-token\n"
    git(repository, "commit", "-q", "-m", "second")
    git(repository, "rm", "-q", f"{SECRET}.txt")
    git(repository, "commit", "-q", "-m", f"third\n\nwith {SECRET}")
    message = git(repository, "rev-parse", "--short", "HEAD").stdout.strip()
    git(repository, "commit", "-q", "-m", "fourth", "--allow-empty", "--author", f"{SECRET} <a@b.c>")
    author = git(repository, "rev-parse", "--short", "HEAD").stdout.strip()
    git(repository, "branch", f"side/{SECRET}")
    git(repository, "tag", "-a", "-m", f"with {SECRET}", "one")
    git(repository, "tag", SECRET)
    ended = scan(repository)
    assert ended.returncode == 1
    assert SECRET not in ended.stdout + ended.stderr
    found = ended.stdout.splitlines()
    assert [line for line in found if line.startswith("tag ")] != []
    assert {line for line in found if not line.startswith("tag ")} == {
        "name of [REDACTED:npm-token].txt:1: npm-token",
        "names of branches and tags:2: npm-token",
        "names of branches and tags:3: npm-token",
        f"message of {message}:3: npm-token",
        f"message of {author}:0: npm-token",
    }


def test_the_hook_refuses_a_commit_with_a_secret_and_lets_the_others_pass(repository: Path) -> None:
    shutil.copytree(ROOT / ".ci" / "hooks", repository / ".ci" / "hooks")
    for name in ("shared", ".venv"):
        (repository / name).symlink_to(ROOT / name)
    (repository / ".gitignore").write_text("shared\n.venv\n.ci\n")
    git(repository, "config", "core.hooksPath", ".ci/hooks")
    (repository / "fine.txt").write_text("nothing\n")
    git(repository, "add", ".")
    assert git(repository, "commit", "-q", "-m", "fine").returncode == 0
    (repository / "bad.txt").write_text(f"x\n{SECRET}\n")
    git(repository, "add", "bad.txt")
    refused = git(repository, "commit", "-q", "-m", "bad", check=False)
    assert refused.returncode == 1
    assert "bad.txt:2: npm-token" in refused.stdout + refused.stderr
    assert SECRET not in refused.stdout + refused.stderr
    assert git(repository, "log", "--oneline").stdout.count("\n") == 2
    git(repository, "rm", "-q", "--cached", "bad.txt")
    refused = git(repository, "commit", "-q", "--allow-empty", "-m", f"told\n\nby {SECRET}", check=False)
    assert refused.returncode == 1
    assert "message:3: npm-token" in refused.stdout + refused.stderr
    assert git(repository, "log", "--oneline").stdout.count("\n") == 2


def test_what_git_leaves_out_of_a_message_is_not_looked_at(repository: Path, tmp_path: Path) -> None:
    message = tmp_path / "COMMIT_EDITMSG"
    message.write_text(f"Planted no more\n\n# ------------------------ >8 ------------------------\n-{SECRET}\n")
    assert scan(repository, "--message", str(message)).returncode == 0
    message.write_text(f"# no comment: {SECRET}\n")
    assert scan(repository, "--message", str(message)).stdout == "message:1: npm-token\n"
    ended = scan(repository, "--message", str(tmp_path / "none"))
    assert (ended.returncode, ended.stderr) == (2, f"{tmp_path / 'none'}: No such file or directory\n")


def test_what_is_planted_on_purpose_is_listed_by_its_value(repository: Path) -> None:
    (repository / "planted.txt").write_text(f"{SECRET}\n")
    (repository / ".ci").mkdir()
    allowed = repository / ".ci" / "allowed-secrets.toml"
    allowed.write_text(f'[planted]\nkind = "allow"\nshape = "{SECRET}"\nreason = "planted"\nowner = "me"\n')
    assert scan(repository).returncode == 0
    allowed.write_text("[planted]\n")
    ended = scan(repository)
    assert ended.returncode == 2
    assert "[planted] kind is None" in ended.stderr


def test_a_folder_that_is_no_repository_is_an_error(tmp_path: Path) -> None:
    ended = scan(tmp_path, "--history")
    assert ended.returncode == 2
    assert ended.stderr.startswith("git: ")
    assert "Traceback" not in ended.stderr


def test_what_cannot_be_read_is_told_and_is_no_secret(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert main([str(repository), "--tree"]) == 2
    assert capsys.readouterr().err == f"{repository / 'a file.py'}: Permission denied\n"
