"""A bridge from webhook to RabbitMQ in Python (aiohttp, aio-pika, uvloop, orjson), only for comparison in the benchmark.

The mapping of benches/config.yml is hard-coded; settings come from the connector's environment variables. One process, one
connection, one channel.
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
CONNECTOR_NAME = "prometheus"
STATES = {"critical": 3, "major": 2, "warning": 1, "minor": 1, "info": 0, "none": 0}
UNKNOWN_STATE = 3
# \Z, because $ in Python also matches before a newline at the end, unlike in Go.
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?\[?(?P<Host>[^/?#\[\]]+?)\]?(?::[0-9]*)?(?:[/?#]|\Z)")
IPV6 = re.compile(r"\[(?P<Address>[^\]]+)\](?::[0-9]+)?\Z")
TITLE = re.compile(r"Instance (?P<Substr>.* ?)(\Z|,)")

# Message ids of a random number per run and a counter cost less than UUIDs.
RUN = secrets.token_hex(8)
SEQUENCE = itertools.count()


class InvalidNotification(ValueError):
    pass


def decode_alerts(body):
    """Returns the alerts of a notification; validates only the fields that the mapping uses."""
    try:
        notification = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidNotification(str(error)) from error
    match notification:
        case {"version": "4", "alerts": list(alerts)}:
            return alerts
    raise InvalidNotification("version is not 4, or alerts is not a list")


def string_map(value):
    """Validates a map of strings. Go encodes a nil map as null."""
    if value is None:
        return {}
    if type(value) is not dict or not all(type(text) is str for text in value.values()):
        raise InvalidNotification("labels and annotations must be maps of strings")
    return value


def host(instance):
    """Returns the host of a URL, an IPv6 address without brackets and port, or the instance as it is."""
    if found := URL.match(instance):
        return found["Host"]
    if found := IPV6.match(instance):
        return found["Address"]
    return instance


def to_event(alert):
    """Maps an alert to a Canopsis event, or to None without alertname."""
    if type(alert) is not dict:
        raise InvalidNotification("an alert must be an object")
    status, fingerprint = alert.get("status"), alert.get("fingerprint", "")
    if status not in ("firing", "resolved") or type(fingerprint) is not str:
        raise InvalidNotification("an alert has an invalid status or fingerprint")
    labels, annotations = string_map(alert.get("labels")), string_map(alert.get("annotations"))

    resource = labels.get("alertname")
    if not resource:
        return None
    instance, severity, title = labels.get("instance"), labels.get("severity"), annotations.get("title")
    event = {
        "event_type": "check",
        "source_type": "resource",
        "connector": CONNECTOR,
        "connector_name": CONNECTOR_NAME,
        "component": (instance and host(instance)) or labels.get("pod") or labels.get("job") or "prometheus",
        "resource": resource,
        "state": 0 if status == "resolved" or resource == "Watchdog" else STATES.get(severity, UNKNOWN_STATE),
        "author": f"{CONNECTOR}.{CONNECTOR_NAME}",
        "prom_event_type": "check",
        "prom_source_type": "resource",
        "prom_type_ack": "auto",
        "prom_tags": labels,
    }
    # Empty fields are omitted, as the connector does.
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
    """Canopsis's routing key, truncated at a character boundary to AMQP's limit of 255 bytes."""
    key = f"{CONNECTOR}.{CONNECTOR_NAME}.check.resource.{event['component']}.{event['resource']}"
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
    """Publishes all events, then waits for the confirms. Raises after a nack or a return."""
    publishes = [exchange.publish(to_message(event), routing_key(event), mandatory=True) for event in events]
    if len(publishes) == 1:
        # The most common case. gather would create a task, which takes a tenth of the request's time.
        await publishes[0]
    else:
        await asyncio.gather(*publishes)


def json_response(status, **fields):
    return web.Response(status=status, body=orjson.dumps(fields), content_type="application/json")


def is_authorized(request):
    scheme, _, given = request.headers.get("Authorization", "").strip().partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(errors="surrogateescape"), TOKEN)


def webhook(exchange):
    async def handle(request):
        # Before the body is read, as the connector does.
        if not is_authorized(request):
            return json_response(401, error="a valid bearer token is required")
        try:
            mapped = [to_event(alert) for alert in decode_alerts(await request.read())]
        except InvalidNotification as error:
            return json_response(400, error=str(error))
        events = [event for event in mapped if event is not None]
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await deliver(exchange, events)
        except Exception as error:  # Any failure gets 503, so that Alertmanager retries.
            return json_response(503, error=f"not every event is in the queue: {error!r}")
        if len(events) < len(mapped):
            return json_response(422, error="alerts without alertname were rejected", published=len(events))
        return json_response(200, published=len(events))

    return handle


async def main():
    connection = await aio_pika.connect_robust(AMQP_URL)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        # A passive declaration, which only checks: Canopsis declares the exchange.
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
        sys.exit("bridge.py: PROMETHEUS_BEARER_TOKEN is not set")
    uvloop.run(main())
