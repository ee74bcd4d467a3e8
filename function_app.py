"""Every trigger of the app: parse, call one job, render. What is due, allowed or wrong is decided in rotation/.

Settings and catalog are read here, at start: a mistake in either refuses the whole app with its reason.
"""

import json
import os

import azure.functions as func

from rotation.message import KEK_ORDERS, PLAN_SHARDS, POISON_SUFFIX, REWRAP_BATCHES, ROTATION_JOBS, SECRET_JOBS
from shared import log
from shared.azure import wiring
from shared.redact import config, mask
from shared.settings import Settings

STORAGE = "AzureWebJobsStorage"

settings = Settings.parse(os.environ)
log.configure(settings.log_level)
log.guard_hooks()
config.apply(settings.redaction)
parts = wiring.app(settings)
app = func.FunctionApp()


@app.timer_trigger(arg_name="tick", schedule="%ATP_PLAN_SCHEDULE%", use_monitor=True)
@app.retry(strategy="fixed_delay", max_retry_count="5", delay_interval="00:01:00")
@log.masked_errors
def plan_daily(tick: func.TimerRequest) -> None:  # noqa: ARG001 - what is due does not depend on the tick
    """Ask for the planning of every shard, and order the KEK rotations that are due."""
    parts.planner.start()
    parts.kek_jobs.plan_all()


@app.timer_trigger(arg_name="tick", schedule="%ATP_DRIVE_SCHEDULE%", use_monitor=False)
@log.masked_errors
def drive_kek_rotations(tick: func.TimerRequest) -> None:  # noqa: ARG001 - what is next does not depend on the tick
    """Bring every KEK rotation as far as it gets now; the next tick comes soon whatever happens."""
    parts.kek_jobs.drive_all()


@app.timer_trigger(arg_name="tick", schedule="%ATP_SECRETS_SCHEDULE%", use_monitor=False)
@log.masked_errors
def plan_secrets(tick: func.TimerRequest) -> None:  # noqa: ARG001 - what is due does not depend on the tick
    """Order what is due of secrets: rotations, ends of dual running, what stands still."""
    parts.secret_planner.run()


@app.timer_trigger(arg_name="tick", schedule="%ATP_SCAN_SCHEDULE%", use_monitor=True)
@app.retry(strategy="fixed_delay", max_retry_count="5", delay_interval="00:05:00")
@log.masked_errors
def scan_vaults(tick: func.TimerRequest) -> None:  # noqa: ARG001 - what the vaults hold does not depend on the tick
    """Look at every object in the vaults: what expires, has expired, is overdue, or is unknown to the catalog."""
    parts.scan.run()


@app.timer_trigger(arg_name="tick", schedule="%ATP_WATCH_SCHEDULE%", use_monitor=False)
@log.masked_errors
def watch_intents(tick: func.TimerRequest) -> None:  # noqa: ARG001 - what is open does not depend on the tick
    """Settle jobs without an outcome, look for secrets in what was recorded, resolve alerts whose cause is gone."""
    parts.watch.run()


@app.timer_trigger(arg_name="tick", schedule="%ATP_ALERT_SCHEDULE%", use_monitor=False)
@log.masked_errors
def deliver_alerts(tick: func.TimerRequest) -> None:  # noqa: ARG001 - what is owed does not depend on the tick
    """Tell the alert sinks what they have still to be told."""
    parts.alert_delivery.run()


@app.timer_trigger(arg_name="tick", schedule="%ATP_CHECKPOINT_SCHEDULE%", use_monitor=False)
@log.masked_errors
def checkpoint_audit_trail(tick: func.TimerRequest) -> None:  # noqa: ARG001 - every tick signs what there is
    """Sign how far the audit trail is, and copy it to the evidence."""
    parts.audit_watch.run()


@app.timer_trigger(arg_name="tick", schedule="%ATP_RECONCILE_SCHEDULE%", use_monitor=True)
@log.masked_errors
def reconcile_evidence(tick: func.TimerRequest) -> None:  # noqa: ARG001 - the day decides what is compared
    """Compare the audit trail with its evidence copy."""
    parts.reconciliation.run()


@app.queue_trigger(arg_name="message", queue_name=PLAN_SHARDS, connection=STORAGE)
@log.masked_errors
def plan_shard(message: func.QueueMessage) -> None:
    """Enqueue the due jobs of one page of one shard."""
    parts.worker.handle(PLAN_SHARDS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=ROTATION_JOBS, connection=STORAGE)
@log.masked_errors
def rotation_job(message: func.QueueMessage) -> None:
    """Perform one job on one tenant's keys."""
    parts.worker.handle(ROTATION_JOBS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=KEK_ORDERS, connection=STORAGE)
@log.masked_errors
def kek_order(message: func.QueueMessage) -> None:
    """Do what is ordered of the rotation of one KEK."""
    parts.worker.handle(KEK_ORDERS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=REWRAP_BATCHES, connection=STORAGE)
@log.masked_errors
def rewrap_batch(message: func.QueueMessage) -> None:
    """Handle one batch of one pass over one shard of a KEK rotation."""
    parts.worker.handle(REWRAP_BATCHES, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=SECRET_JOBS, connection=STORAGE)
@log.masked_errors
def secret_job(message: func.QueueMessage) -> None:
    """Do what is ordered of the rotation of one secret."""
    parts.worker.handle(SECRET_JOBS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=PLAN_SHARDS + POISON_SUFFIX, connection=STORAGE)
@log.masked_errors
def plan_shard_poison(message: func.QueueMessage) -> None:
    """Record and alert that a shard could not be planned."""
    parts.worker.bury(PLAN_SHARDS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=ROTATION_JOBS + POISON_SUFFIX, connection=STORAGE)
@log.masked_errors
def rotation_job_poison(message: func.QueueMessage) -> None:
    """Record and alert that a job could not be done."""
    parts.worker.bury(ROTATION_JOBS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=KEK_ORDERS + POISON_SUFFIX, connection=STORAGE)
@log.masked_errors
def kek_order_poison(message: func.QueueMessage) -> None:
    """Record and alert that an order could not be done."""
    parts.worker.bury(KEK_ORDERS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=REWRAP_BATCHES + POISON_SUFFIX, connection=STORAGE)
@log.masked_errors
def rewrap_batch_poison(message: func.QueueMessage) -> None:
    """Record and alert that a batch could not be handled."""
    parts.worker.bury(REWRAP_BATCHES, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=SECRET_JOBS + POISON_SUFFIX, connection=STORAGE)
@log.masked_errors
def secret_job_poison(message: func.QueueMessage) -> None:
    """Record and alert that an order could not be done."""
    parts.worker.bury(SECRET_JOBS, message.get_body(), message.id or "")


@app.event_grid_trigger(arg_name="event")
@log.masked_errors
def key_vault_event(event: func.EventGridEvent) -> None:
    """Follow what Key Vault says of an object, in the Event Grid schema: alert its owner, order its rotation."""
    parts.expiry.handle(event.to_dict())


@app.event_grid_trigger(arg_name="event")
@log.masked_errors
def key_vault_cloud_event(event: func.CloudEvent) -> None:
    """Do the same for a subscription that delivers in the CloudEvents 1.0 schema."""
    parts.expiry.handle(event.to_dict())


@app.route(route="health", trigger_arg_name="request", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@log.masked_errors
def health(request: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - there is nothing to ask
    """Say whether this worker could rotate a key right now: 200 or 503."""
    checks = parts.health.check()
    healthy = all(verdict == "ok" for verdict in checks.values())
    return func.HttpResponse(
        mask(json.dumps({"healthy": healthy, "checks": checks})),
        status_code=200 if healthy else 503,
        mimetype="application/json",
    )
