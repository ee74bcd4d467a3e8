"""Every trigger of the app: parse, call one job, render. What is due, allowed or wrong is decided in rotation/.

Settings and catalog are read here, at start: a mistake in either refuses the whole app with its reason.
"""

import json
import os

import azure.functions as func

from rotation.message import PLAN_SHARDS, POISON_SUFFIX, ROTATION_JOBS
from shared import log
from shared.azure import wiring
from shared.settings import Settings

STORAGE = "AzureWebJobsStorage"

settings = Settings.parse(os.environ)
log.configure(settings.log_level)
parts = wiring.app(settings)
app = func.FunctionApp()


@app.timer_trigger(arg_name="tick", schedule="%ATP_PLAN_SCHEDULE%", use_monitor=True)
@app.retry(strategy="fixed_delay", max_retry_count="5", delay_interval="00:01:00")
def plan_daily(tick: func.TimerRequest) -> None:  # noqa: ARG001 - what is due does not depend on the tick
    """Ask for the planning of every shard."""
    parts.planner.start()


@app.queue_trigger(arg_name="message", queue_name=PLAN_SHARDS, connection=STORAGE)
def plan_shard(message: func.QueueMessage) -> None:
    """Enqueue the due jobs of one page of one shard."""
    parts.worker.handle(PLAN_SHARDS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=ROTATION_JOBS, connection=STORAGE)
def rotation_job(message: func.QueueMessage) -> None:
    """Perform one job on one tenant's keys."""
    parts.worker.handle(ROTATION_JOBS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=PLAN_SHARDS + POISON_SUFFIX, connection=STORAGE)
def plan_shard_poison(message: func.QueueMessage) -> None:
    """Record and alert that a shard could not be planned."""
    parts.worker.bury(PLAN_SHARDS, message.get_body(), message.id or "")


@app.queue_trigger(arg_name="message", queue_name=ROTATION_JOBS + POISON_SUFFIX, connection=STORAGE)
def rotation_job_poison(message: func.QueueMessage) -> None:
    """Record and alert that a job could not be done."""
    parts.worker.bury(ROTATION_JOBS, message.get_body(), message.id or "")


@app.event_grid_trigger(arg_name="event")
def key_vault_event(event: func.EventGridEvent) -> None:
    """Alert the owner of a key that Key Vault reports on."""
    parts.expiry.handle(event.event_type, event.get_json())


@app.route(route="health", trigger_arg_name="request", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(request: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - there is nothing to ask
    """Say whether this worker could rotate a key right now: 200 or 503."""
    checks = parts.health.check()
    healthy = all(verdict == "ok" for verdict in checks.values())
    return func.HttpResponse(
        json.dumps({"healthy": healthy, "checks": checks}),
        status_code=200 if healthy else 503,
        mimetype="application/json",
    )
