"""An app that uses every feature of the local host and tells, over HTTP or into files, what it saw."""

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

import azure.functions as func
from azure.functions.queue import QueueMessage
from azure.functions.timer import TimerRequest

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def _record(name: str, **facts: object) -> None:
    """Append one line to the file that the tests watch; one write, so that lines of several hosts do not mix."""
    line = json.dumps({"name": name, "pid": os.getpid(), **facts}) + "\n"
    with Path(os.environ["RECORDS"]).open("a", encoding="utf-8") as file:
        file.write(line)


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%", connection="Storage")
def work(message: func.QueueMessage) -> None:
    """Does what the message says: succeed, fail, or hold until a file of a given name appears."""
    assert isinstance(message, QueueMessage)
    body = message.get_json()
    _record("work", body=body, id=message.id, delivery=message.dequeue_count, inserted=str(message.insertion_time))
    if "hold" in body:
        while not Path(body["hold"]).exists():
            time.sleep(0.01)
        _record("released", body=body)
    if body.get("fail", 0) >= message.dequeue_count:
        raise RuntimeError("told to fail")


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%-poison", connection="Storage")
def work_poison(message: func.QueueMessage) -> None:
    """Sees what `work` could not do."""
    _record("work_poison", body=message.get_json())
    if "stubborn" in message.get_json():
        raise RuntimeError("told to fail")


@app.queue_trigger(arg_name="message", queue_name="chain-in", connection="Storage")
@app.queue_output(arg_name="forward", queue_name="chain-out", connection="Storage")
async def chain(message: func.QueueMessage, forward: func.Out[str]) -> None:
    """Hands its message on through an output binding."""
    forward.set(message.get_body().decode() + " forwarded")


@app.timer_trigger(arg_name="timer", schedule="%NIGHTLY%")
@app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:00")
def nightly(timer: func.TimerRequest, context: func.Context) -> None:
    """A daily timer; fails until the retry that the file FAIL_NIGHTLY names."""
    assert isinstance(timer, TimerRequest)
    retry = context.retry_context.retry_count
    _record("nightly", past_due=timer.past_due, status=timer.schedule_status, retry=retry)
    fails = Path(os.environ["FAIL_NIGHTLY"])
    if fails.exists() and retry < int(fails.read_text()):
        raise RuntimeError("told to fail")


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True, use_monitor=False)
def at_start(timer: func.TimerRequest) -> None:
    """Runs when its host starts."""
    assert isinstance(timer, TimerRequest)
    _record("at_start", past_due=timer.past_due, status=timer.schedule_status)


@app.event_grid_trigger(arg_name="event")
def key_event(event: func.EventGridEvent) -> None:
    """Records an event, or fails when its subject says so."""
    _record("key_event", id=event.id, data=event.get_json(), kind=type(event).__name__)
    if event.subject == "fail":
        raise RuntimeError("told to fail")


@app.event_grid_trigger(arg_name="event")
def cloud_event(event: func.CloudEvent) -> None:
    """Records an event in the CloudEvents schema."""
    _record("cloud_event", id=event.id, source=event.source, kind=type(event).__name__)


@app.route(route="echo/{tenant}/{version:int?}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    """Returns what it was asked."""
    seen = {
        "method": req.method,
        "url": req.url,
        "route": dict(req.route_params),
        "query": dict(req.params),
        "header": req.headers.get("x-test"),
        "body": req.get_body().decode(),
    }
    answer = func.HttpResponse(json.dumps(seen), status_code=201, mimetype="application/json")
    answer.headers.add("X-Answer", "42")
    answer.headers.add("Set-Cookie", "a=1; Path=/")
    answer.headers.add("Set-Cookie", "b=2; HttpOnly")
    return answer


@app.route(route="echo/exact")
def exact(req: func.HttpRequest) -> str:
    """A literal route that overlaps with `echo`, any method."""
    return f"exact {req.method}"


@app.route(methods=["GET"])
async def fails(req: func.HttpRequest) -> func.HttpResponse:
    """Raises."""
    raise RuntimeError("inner detail")


@app.route(methods=["GET"])
async def never(req: func.HttpRequest) -> func.HttpResponse:
    """Outlives functionTimeout."""
    await __import__("asyncio").Event().wait()
    raise AssertionError


@app.route(methods=["GET"])
def threads(req: func.HttpRequest) -> str:
    """Says in which thread it runs, and logs a line."""
    logging.info("a line of the app's own log")
    sys.stdout.write("a line that the app prints\n")
    return threading.current_thread().name
