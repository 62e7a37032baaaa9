// A bridge from webhook to RabbitMQ in Node.js (fastify, amqplib's confirm channel), only for comparison in the benchmark.
//
// The mapping of benches/config.yml is hard-coded; settings come from the connector's environment variables. One process, one
// connection, one channel.

import { randomBytes, timingSafeEqual } from 'node:crypto';
import amqp from 'amqplib';
import Fastify from 'fastify';

const {
  CPS_AMQP_URL: AMQP_URL = 'amqp://cpsrabbit:canopsis@localhost/canopsis',
  CPS_AMQP_EXCHANGE: EXCHANGE = 'canopsis.events',
  PROMETHEUS_LISTEN: LISTEN = '0.0.0.0:18401',
} = process.env;
const TOKEN = Buffer.from(process.env.PROMETHEUS_BEARER_TOKEN ?? '');

const MAX_BODY_BYTES = 16 << 20;
const ANSWER_TIMEOUT = 8000;
const ROUTING_KEY_BYTES = 255;

const CONNECTOR = 'prometheus';
const CONNECTOR_NAME = 'prometheus';
const STATES = new Map([['critical', 3], ['major', 2], ['warning', 1], ['minor', 1], ['info', 0], ['none', 0]]);
const UNKNOWN_STATE = 3;
const URL_HOST = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/(?:[^/?#]*@)?\[?(?<Host>[^/?#[\]]+?)\]?(?::[0-9]*)?(?:[/?#]|$)/u;
const IPV6 = /^\[(?<Address>[^\]]+)\](?::[0-9]+)?$/u;
// [^\n], because a dot excludes more line terminators in JavaScript than in Go.
const TITLE = /Instance (?<Substr>[^\n]* ?)(?:$|,)/u;

// Message ids of a random number per run and a counter cost less than UUIDs.
const RUN = randomBytes(8).toString('hex');
let sequence = 0;

// Mapping

// Counts characters, not UTF-16 code units. A text short in code units is never long in characters.
function truncate(text, length) {
  return text.length <= length ? text : Array.from(text.slice(0, 2 * length)).slice(0, length).join('');
}

// The host of a URL, an IPv6 address without brackets and port, or the instance as it is.
function host(instance) {
  return URL_HOST.exec(instance)?.groups.Host ?? IPV6.exec(instance)?.groups.Address ?? instance;
}

// Maps an alert to a Canopsis event, or to undefined without alertname. JSON.stringify omits undefined fields.
function toEvent({ status, labels, annotations, fingerprint }) {
  const { alertname: resource, instance, pod, job, severity } = labels ?? {};
  if (!resource) return undefined;
  const { description, summary, title } = annotations ?? {};
  const output = description || summary || title || undefined;
  const substr = title ? TITLE.exec(title)?.groups.Substr : undefined;
  return {
    event_type: 'check',
    source_type: 'resource',
    connector: CONNECTOR,
    connector_name: CONNECTOR_NAME,
    component: (instance && host(instance)) || pod || job || 'prometheus',
    resource,
    state: status === 'resolved' || resource === 'Watchdog' ? 0 : (STATES.get(severity) ?? UNKNOWN_STATE),
    output: output && truncate(output, 255),
    long_output: output && truncate(output, 1024),
    author: `${CONNECTOR}.${CONNECTOR_NAME}`,
    prom_labels_severity: severity || undefined,
    prom_title: substr === undefined ? title || undefined : `Prometheus ${substr}`,
    prom_event_type: 'check',
    prom_source_type: 'resource',
    prom_type_ack: 'auto',
    prom_fingerprint: fingerprint || undefined,
    prom_tags: labels,
  };
}

// Canopsis's routing key, truncated at a character boundary to AMQP's limit of 255 bytes.
function routingKey({ connector_name, component, resource }) {
  const key = `${CONNECTOR}.${connector_name}.check.resource.${component}.${resource}`;
  if (Buffer.byteLength(key) <= ROUTING_KEY_BYTES) return key;
  const bytes = Buffer.from(key);
  let end = ROUTING_KEY_BYTES;
  while ((bytes[end] & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}

// AMQP

let channel;
// Ids of unroutable messages. RabbitMQ sends basic.return before basic.ack.
const returned = new Set();

// Called after each connect and reconnect.
async function openChannel(connection) {
  const opened = await connection.createConfirmChannel();
  // A channel error: reconnecting is the simplest way to a new channel.
  opened.on('error', () => connection.close().catch(() => {}));
  opened.on('close', () => {
    if (channel === opened) channel = undefined;
  });
  opened.on('return', ({ properties }) => returned.add(properties.messageId));
  // A passive declaration, which only checks: Canopsis declares the exchange.
  await opened.checkExchange(EXCHANGE);
  returned.clear();
  channel = opened;
}

// Publishes all events, and resolves when RabbitMQ has confirmed each of them and returned none.
function deliver(events) {
  return new Promise((resolve, reject) => {
    if (!channel) throw new Error('not connected to RabbitMQ');
    if (events.length === 0) return resolve();
    const timer = setTimeout(() => reject(new Error('not confirmed in time')), ANSWER_TIMEOUT);
    const fail = (error) => {
      clearTimeout(timer);
      reject(error);
    };
    let waiting = events.length;
    for (const event of events) {
      const messageId = `${RUN}-${sequence++}`;
      const properties = {
        mandatory: true,
        persistent: true,
        contentType: 'application/json',
        appId: 'canopsis-connector-prometheus',
        messageId,
      };
      channel.publish(EXCHANGE, routingKey(event), Buffer.from(JSON.stringify(event)), properties, (error) => {
        if (error) return fail(error);
        if (returned.delete(messageId)) return fail(new Error('RabbitMQ returned an event'));
        waiting -= 1;
        if (waiting > 0) return;
        clearTimeout(timer);
        resolve();
      });
    }
  });
}

// HTTP

// Validates only the fields that the mapping uses. Go encodes a nil map as null.
const stringMap = { type: 'object', nullable: true, additionalProperties: { type: 'string' } };
const notification = {
  type: 'object',
  required: ['version', 'alerts'],
  properties: {
    version: { const: '4' },
    alerts: {
      type: 'array',
      items: {
        type: 'object',
        required: ['status'],
        properties: {
          status: { enum: ['firing', 'resolved'] },
          labels: stringMap,
          annotations: stringMap,
          fingerprint: { type: 'string' },
        },
      },
    },
  },
};
const published = { type: 'object', properties: { published: { type: 'integer' } } };

function isAuthorized(header = '') {
  const [, given] = /^bearer +(.+)$/i.exec(header.trim()) ?? [];
  if (given === undefined) return false;
  const token = Buffer.from(given);
  return token.length === TOKEN.length && timingSafeEqual(token, TOKEN);
}

const app = Fastify({
  bodyLimit: MAX_BODY_BYTES,
  // Invalid bodies are rejected, not converted.
  ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
});
// Every body is parsed as JSON, whatever its Content-Type. __proto__ is harmless: the code never copies properties by name.
app.removeAllContentTypeParsers();
app.addContentTypeParser('*', { parseAs: 'string' }, app.getDefaultJsonParser('ignore', 'ignore'));

app.post('/webhook', {
  schema: { body: notification, response: { 200: published } },
  // Before the body is read, as the connector does.
  onRequest(request, reply, done) {
    if (isAuthorized(request.headers.authorization)) return done();
    reply.code(401).send({ error: 'a valid bearer token is required' });
  },
}, async (request, reply) => {
  const { alerts } = request.body;
  const events = alerts.map(toEvent).filter((event) => event !== undefined);
  try {
    await deliver(events);
  } catch (error) {
    // Any failure gets 503, so that Alertmanager retries.
    return reply.code(503).send({ error: `not every event is in the queue: ${error.message}` });
  }
  if (events.length < alerts.length) {
    return reply.code(422).send({ error: 'alerts without alertname were rejected', published: events.length });
  }
  return { published: events.length };
});

if (TOKEN.length === 0) {
  console.error('bridge.mjs: PROMETHEUS_BEARER_TOKEN is not set');
  process.exit(1);
}
const connection = await amqp.connect(AMQP_URL, { noDelay: true, recovery: { initialMaxRetries: 0, setup: openChannel } });
connection.on('error', () => {});
const colon = LISTEN.lastIndexOf(':');
await app.listen({ host: LISTEN.slice(0, colon).replace(/[[\]]/g, ''), port: Number(LISTEN.slice(colon + 1)) });
console.error(`listening on ${LISTEN}; connected to the broker`);

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await app.close();
    await connection.close();
  });
}
