"""Between the queues and the jobs: every message ends as done, put back for later, or poison with an alert.

The Functions host counts deliveries and gives up after a few, which is right for a message that kills its worker and
wrong for an outage that lasts. So a message that met an outage is put back as a new one, later, and only a fault of
the message itself, or of the data, goes to the poison queue, at once.
"""

import logging
from dataclasses import replace
from typing import Final

from rotation.alerting import letter_alert
from rotation.audit import AuditEvent, Outcome
from rotation.audit_job import AuditTrail
from rotation.dek_job import DekJobs
from rotation.kek_job import KekJobs
from rotation.message import (
    PARSERS,
    POISON_SUFFIX,
    Job,
    KekOrder,
    Message,
    Misfit,
    RewrapBatch,
    SecretAction,
    SecretOrder,
    ShardPlan,
    Trigger,
    refused,
    retry_delay,
)
from rotation.planner_job import Planner
from rotation.rewrap_job import ShardWalk
from rotation.secret_job import SecretJobs
from shared.clock import Clock
from shared.errors import AtpError, Conflict, Integrity, InvalidMessage, Rejected, Transient, UnknownTenant, UnusableKey
from shared.ports import Alerts, DeadLetters, Queues
from shared.values import Alert, DeadLetter, Severity

log = logging.getLogger(__name__)

_MAX_ATTEMPTS: Final = 300
"""Put-backs before a message counts as failed: about three days at 15 minutes each."""
_PATIENCE_WITH_UNKNOWN: Final = 2
"""Put-backs of a job whose tenant is not there yet."""


class Worker:
    """Handles queue messages."""

    def __init__(
        self,
        dek_jobs: DekJobs,
        kek_jobs: KekJobs,
        walk: ShardWalk,
        secret_jobs: SecretJobs,
        planner: Planner,
        audit: AuditTrail,
        queues: Queues,
        alerts: Alerts,
        dead_letters: DeadLetters,
        clock: Clock,
    ) -> None:
        self._dek_jobs = dek_jobs
        self._kek_jobs = kek_jobs
        self._walk = walk
        self._secret_jobs = secret_jobs
        self._planner = planner
        self._audit = audit
        self._queues = queues
        self._alerts = alerts
        self._dead_letters = dead_letters
        self._clock = clock

    def handle(self, queue: str, body: bytes, message_id: str) -> None:
        """Perform one message. A return means that the host may delete it.

        Raises only where not even the putting back worked; the host then delivers it again.
        """
        try:
            message = PARSERS[queue](body, message_id)
        except InvalidMessage as error:
            log.warning("message refused", extra={"queue": queue, "message_id": message_id, "because": str(error)})
            self._queues.send(queue + POISON_SUFFIX, Misfit.of(body, error).to_json())
            return
        if isinstance(message, Job | KekOrder | SecretOrder) and message.request == message_id:
            # Known by the id of its queue message only, which is another one in the poison queue: give it a name first.
            self._queues.send(queue, message.to_json())
            return
        try:
            self._perform(message)
        except UnknownTenant as error:
            # Its tenant.add may be on the same queue, behind it.
            if message.attempt < _PATIENCE_WITH_UNKNOWN:
                self._put_back(queue, message, error)
            else:
                self._refuse(queue, message, error)
        except UnusableKey as error:
            # One KEK concerns every tenant: their jobs wait for its owner, who is alerted once a day.
            self._alert_unusable(error)
            self._put_back(queue, message, error)
        except (Transient, Conflict) as error:
            self._put_back(queue, message, error)
        except (Rejected, Integrity) as error:
            self._refuse(queue, message, error)

    def bury(self, queue: str, body: bytes, message_id: str) -> None:
        """Take a message from the poison queue of `queue`: alert, record, keep it for an operator.

        The alert comes before the letter: when we die in between, and a duplicate does the job meanwhile, an alert too
        many is left and not a letter that nobody was told of. Every step is harmless when repeated.
        """
        message: Message | None = None
        try:
            message = PARSERS[queue](body, message_id)
        except InvalidMessage as error:
            misfit = Misfit.parse(body) or Misfit.of(body, error)
            name = f"message/{misfit.digest}"
            letter = DeadLetter(queue, name, misfit.reason, misfit.text, self._clock(), can_resend=False)
            self._audit.record(_refusal(letter, "message.refused", f"queue/{queue}", "InvalidMessage"))
        else:
            reason = message.failure or "its worker died or ran out of time at every delivery"
            reason += f": {message.because}" if message.because else ""
            resend = replace(message, attempt=0, failure=None, because=None, resent=message.resent + 1).to_json()
            # Refused again after it was sent again, it is another letter: the first one may just be being resolved.
            name = f"{message.id}+{message.resent}" if message.resent else message.id
            letter = DeadLetter(queue, name, reason, resend, self._clock(), can_resend=True)
            if not self._is_lost(message, letter):
                return
        self._alerts.raise_alert(_letter_alert(letter, message))
        self._dead_letters.keep(letter)

    def _perform(self, message: Message) -> None:
        match message:
            case Job():
                self._dek_jobs.run(message)
            case KekOrder():
                self._kek_jobs.perform(message)
            case RewrapBatch():
                if self._walk.perform(message):
                    self._kek_jobs.drive(message.kek)
            case SecretOrder():
                if message.action is SecretAction.DRIVE and message.trigger is Trigger.MANUAL:
                    self._audit.record(_handed_over(message))
                self._secret_jobs.perform(message)
            case ShardPlan():
                self._planner.plan(message)

    def _is_lost(self, message: Message, letter: DeadLetter) -> bool:
        """Record in the audit trail how a message that was given up has ended; whether it has not been done."""
        error_name = message.failure or "Abandoned"
        match message:
            case Job():
                return self._dek_jobs.settle(message) is Outcome.FAILED
            case KekOrder():
                return self._kek_jobs.settle(message) is Outcome.FAILED
            case RewrapBatch():
                self._audit.record(_refusal(letter, "rewrap.batch", f"kek/{message.kek}", error_name))
            case SecretOrder():
                if not self._secret_jobs.settle(message):
                    return False
                refusal = _refusal(letter, message.action, f"secret/{message.secret}", error_name)
                reason = f"{letter.reason}; asked because: {message.reason}"
                self._audit.record(replace(refusal, actor=message.actor, trigger=message.trigger.value, reason=reason))
            case ShardPlan():
                self._audit.record(_refusal(letter, "plan.shard", f"shard/{message.shard}", error_name))
        return True

    def _refuse(self, queue: str, message: Message, error: AtpError) -> None:
        log.error("job refused", extra={"job": message.id, "because": str(error)})
        self._queues.send(queue + POISON_SUFFIX, refused(message, error).to_json())

    def _alert_unusable(self, error: UnusableKey) -> None:
        now = self._clock()
        kid = str(error.fields.get("kid", ""))
        name = kid.rpartition("/keys/")[2].partition("/")[0] or "unknown"
        self._alerts.raise_alert(
            Alert(
                id=f"unusable/{kid}/{now:%Y-%m-%d}",
                severity=Severity.CRITICAL,
                what="a KEK must not be used, and no DEK rotates until it may",
                subject=f"key/{name}",
                raised=now,
                details={"reason": error.message, "kid": kid},
            )
        )

    def _put_back(self, queue: str, message: Message, error: AtpError) -> None:
        again = message.again()
        if again.attempt > _MAX_ATTEMPTS:
            self._refuse(queue, again, error)
            return
        delay = retry_delay(message)
        log.warning("job put back", extra={"job": message.id, "delay_s": delay.seconds, "because": str(error)})
        self._queues.send(queue, again.to_json(), delay)


def _letter_alert(letter: DeadLetter, message: Message | None) -> Alert:
    """What is told of a letter; `message` is the one in it, None if it is none of ours."""
    if not isinstance(message, SecretOrder):
        return _alert(
            letter,
            "a message could not be processed and waits for an operator",
            f"queue/{letter.queue}",
            Severity.CRITICAL,
        )
    is_asked_again = message.trigger is not Trigger.MANUAL and not message.compromised
    severity = Severity.WARNING if is_asked_again else Severity.CRITICAL
    return _alert(
        letter,
        "an order for a secret could not be carried out and waits for an operator",
        f"secret/{message.secret}",
        severity,
    )


def _alert(letter: DeadLetter, what: str, subject: str, severity: Severity) -> Alert:
    details = {"reason": letter.reason, "letter": letter.id}
    return Alert(letter_alert(letter), severity, what, subject, letter.kept, details)


def _handed_over(order: SecretOrder) -> AuditEvent:
    """Who has handed a value over to a rotation, or asked it to go on."""
    return AuditEvent(
        job=f"secret.drop/{order.secret}/{order.request}",
        outcome=Outcome.SUCCEEDED,
        action="secret.drop",
        subject=f"secret/{order.secret}",
        actor=order.actor,
        trigger=order.trigger.value,
        reason=order.reason,
    )


def _refusal(letter: DeadLetter, action: str, subject: str, error_name: str) -> AuditEvent:
    return AuditEvent(
        # The same may be refused on another queue, or on another day.
        job=f"{letter.queue}/{letter.id}/{letter.kept:%Y-%m-%d}",
        outcome=Outcome.FAILED,
        action=action,
        subject=subject,
        actor="worker",
        trigger="queue",
        reason=letter.reason,
        details={"error": error_name},
    )
