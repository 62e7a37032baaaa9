"""The connector's way from webhook to RabbitMQ as one would write it in Python: aiohttp, aio-pika, uvloop, orjson.

For the benchmark that compares them, and for nothing else. The mapping is that of the shipped config.yml, in plain code; the
settings come from the connector's environment variables. One process, one connection, one channel.
"""

import asyncio
import hmac
import itertools
import os
import re
import secrets
import signal
import sys

import aio_pika
import orjson
import uvloop
from aiohttp import web

AMQP_URL = os.environ.get("CPS_AMQP_URL", "amqp://cpsrabbit:canopsis@localhost/canopsis")
EXCHANGE = os.environ.get("CPS_AMQP_EXCHANGE", "canopsis.events")
LISTEN = os.environ.get("PROMETHEUS_LISTEN", "0.0.0.0:18401")
TOKEN = os.environ.get("PROMETHEUS_BEARER_TOKEN", "").encode()

MAX_BODY_BYTES = 16 << 20
ANSWER_TIMEOUT = 8
ROUTING_KEY_BYTES = 255

CONNECTOR = "prometheus"
STATES = {"critical": 3, "major": 2, "warning": 1, "minor": 1, "info": 0}
UNKNOWN_STATE = 3
# \Z, as $ also matches before a last line end here, which it does not in Go.
TITLE = re.compile(r"Instance (?P<Substr>.* ?)(\Z|,)")

# A random part for each run and a counter: unique as a UUID is, and cheaper.
RUN = secrets.token_hex(8)
SEQUENCE = itertools.count()


class NotANotification(ValueError):
    """The body is something else."""


def alerts_of(body):
    """The alerts of a notification, checked as far as the mapping looks at them."""
    try:
        notification = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotANotification(str(error)) from error
    match notification:
        case {"version": "4", "alerts": list(alerts)}:
            return alerts
    raise NotANotification("neither version 4 nor alerts")


def texts(value):
    """A map of texts; a nil map of Go is written as null."""
    if value is None:
        return {}
    if type(value) is not dict or not all(type(text) is str for text in value.values()):
        raise NotANotification("labels and annotations are maps of texts")
    return value


def to_event(alert):
    """An alert as Canopsis takes it; None where it has no name."""
    if type(alert) is not dict:
        raise NotANotification("an alert is an object")
    status, fingerprint = alert.get("status"), alert.get("fingerprint", "")
    if status not in ("firing", "resolved") or type(fingerprint) is not str:
        raise NotANotification("an alert's status or fingerprint is no such thing")
    labels, annotations = texts(alert.get("labels")), texts(alert.get("annotations"))

    resource = labels.get("alertname")
    if not resource:
        return None
    instance, severity, title = labels.get("instance"), labels.get("severity"), annotations.get("title")
    connector_name = instance.split(":", 1)[0] + "1" if instance else CONNECTOR
    event = {
        "event_type": "check",
        "source_type": "resource",
        "connector": CONNECTOR,
        "connector_name": connector_name,
        "component": instance or labels.get("pod") or labels.get("job") or "prometheus",
        "resource": resource,
        "state": 0 if status == "resolved" else STATES.get(severity, UNKNOWN_STATE),
        "author": f"{CONNECTOR}.{connector_name}",
        "prom_event_type": "check",
        "prom_source_type": "resource",
        "prom_type_ack": "auto",
        "prom_tags": labels,
    }
    # What would be empty is left out.
    output = annotations.get("description") or annotations.get("summary") or title
    if output:
        event["output"] = output[:255]
        event["long_output"] = output[:1024]
    if severity:
        event["prom_labels_severity"] = severity
    if title:
        found = TITLE.search(title)
        event["prom_title"] = f"Prometheus {found['Substr']}" if found else title
    if fingerprint:
        event["prom_fingerprint"] = fingerprint
    return event


def routing_key(event):
    """By Canopsis's convention, cut between characters to what AMQP takes."""
    key = f"{CONNECTOR}.{event['connector_name']}.check.resource.{event['component']}.{event['resource']}"
    encoded = key.encode()
    return key if len(encoded) <= ROUTING_KEY_BYTES else encoded[:ROUTING_KEY_BYTES].decode(errors="ignore")


def to_message(event):
    return aio_pika.Message(
        orjson.dumps(event),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        app_id="canopsis-connector-prometheus",
        message_id=f"{RUN}-{next(SEQUENCE)}",
    )


async def deliver(exchange, events):
    """All of them are under way before the first confirm is waited for. A nack or a return is raised."""
    publishes = [exchange.publish(to_message(event), routing_key(event), mandatory=True) for event in events]
    if len(publishes) == 1:
        # The most common case. A task of its own would cost a tenth of the whole request.
        await publishes[0]
    else:
        await asyncio.gather(*publishes)


def answer(status, **fields):
    return web.Response(status=status, body=orjson.dumps(fields), content_type="application/json")


def is_authorized(request):
    scheme, _, given = request.headers.get("Authorization", "").strip().partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(errors="surrogateescape"), TOKEN)


def webhook(exchange):
    async def handle(request):
        # First of all: nobody without the token has a body read.
        if not is_authorized(request):
            return answer(401, error="a valid bearer token is needed")
        try:
            mapped = [to_event(alert) for alert in alerts_of(await request.read())]
        except NotANotification as error:
            return answer(400, error=str(error))
        events = [event for event in mapped if event is not None]
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await deliver(exchange, events)
        except Exception as error:  # Whatever it is, Alertmanager is to try again.
            return answer(503, error=f"not every event is in the queue: {error!r}")
        if len(events) < len(mapped):
            return answer(422, error="some alerts have no name, the others are published", published=len(events))
        return answer(200, published=len(events))

    return handle


async def main():
    connection = await aio_pika.connect_robust(AMQP_URL)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        # Passively: Canopsis declares it.
        exchange = await channel.get_exchange(EXCHANGE, ensure=True)

        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/webhook", webhook(exchange))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        host, _, port = LISTEN.rpartition(":")
        await web.TCPSite(runner, host.strip("[]"), int(port), backlog=1024).start()
        print(f"listening on {LISTEN}; connected to the broker", file=sys.stderr, flush=True)

        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    if not TOKEN:
        sys.exit("bridge.py: PROMETHEUS_BEARER_TOKEN is missing")
    uvloop.run(main())
