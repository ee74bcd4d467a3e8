"""The commands `letters ...`."""

import argparse
from collections.abc import Iterator

from rotation.alerting import letter_alert
from rotation.commands.asking import quoted, recordable_user
from rotation.commands.grammar import Commands, add_command, add_group, add_json, add_origin
from rotation.commands.ports import Ports
from rotation.commands.tables import Row, rendered
from shared.errors import Rejected
from shared.settings import Settings


def add_to(nouns: Commands) -> None:
    """Put the commands into the command line."""
    about = "messages that wait for an operator"
    letters = add_group(nouns, "letters", about, sample="letters list")
    add_json(add_command(letters, "list", about, _list, sample="letters list --json"))
    for verb, purpose in (
        ("resend", "put messages on their queue again"),
        ("drop", "forget messages; what a person asked for is not done, what the app asks for by itself comes again"),
    ):
        command = add_command(letters, verb, purpose, _resolve, sample=f"letters {verb} dek.rotate/acme/v2")
        command.add_argument("id", nargs="+", help="as `letters list` shows it")
        add_origin(command, f"{verb} it")
        command.set_defaults(resend=verb == "resend")


def _list(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    rows: Iterator[Row] = (
        {
            "id": letter.id,
            "queue": letter.queue,
            "kept": letter.kept,
            "can_resend": letter.can_resend,
            "reason": letter.reason,
        }
        for letter in ports.dead_letters.all()
    )
    return rendered(rows, as_json=options.json)


def _resolve(options: argparse.Namespace, settings: Settings, ports: Ports) -> Iterator[str]:  # noqa: ARG001
    waiting = {letter.id: letter for letter in ports.dead_letters.all()}
    wanted = list(dict.fromkeys(options.id))
    unknown = [text for text in wanted if text not in waiting]
    if unknown:
        raise Rejected("no such letter; nothing was done", id=quoted(unknown))
    letters = [waiting[text] for text in wanted]
    stuck = [letter.id for letter in letters if not letter.can_resend]
    if options.resend and stuck:
        raise Rejected(
            "the message does not follow its schema and cannot be sent again; nothing was done", id=quoted(stuck)
        )
    by, done = recordable_user(options), "sent again" if options.resend else "dropped"
    for letter in letters:
        if options.resend:
            ports.queues.send(letter.queue, letter.body)
        ports.dead_letters.resolve(letter)
        # Last: dying before, an alert too many is left, and not a letter that nobody is told of.
        ports.alerts.resolve(letter_alert(letter), by, f"{done}: {options.reason}")
        yield f"{done}: {letter.id}"
