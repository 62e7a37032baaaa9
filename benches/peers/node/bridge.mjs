// The connector's way from webhook to RabbitMQ as one would write it for Node.js: fastify, amqplib's confirm channel.
//
// For the benchmark that compares them, and for nothing else. The mapping is that of the shipped config.yml, in plain code; the
// settings come from the connector's environment variables. One process, one connection, one channel.

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
const STATES = new Map([['critical', 3], ['major', 2], ['warning', 1], ['minor', 1], ['info', 0]]);
const UNKNOWN_STATE = 3;
// [^\n], as a dot leaves out more line ends here than in Go.
const TITLE = /Instance (?<Substr>[^\n]* ?)(?:$|,)/u;

// A random part for each run and a counter: unique as a UUID is, and cheaper.
const RUN = randomBytes(8).toString('hex');
let sequence = 0;

// The mapping

// In characters, not in UTF-16's units. What is short in those needs no look at its characters.
function cut(text, length) {
  return text.length <= length ? text : Array.from(text.slice(0, 2 * length)).slice(0, length).join('');
}

// An alert as Canopsis takes it; undefined where it has no name. JSON leaves out the fields that are undefined.
function toEvent({ status, labels, annotations, fingerprint }) {
  const { alertname: resource, instance, pod, job, severity } = labels ?? {};
  if (!resource) return undefined;
  const { description, summary, title } = annotations ?? {};
  const connectorName = instance ? `${instance.split(':', 1)[0]}1` : CONNECTOR;
  const output = description || summary || title || undefined;
  const substr = title ? TITLE.exec(title)?.groups.Substr : undefined;
  return {
    event_type: 'check',
    source_type: 'resource',
    connector: CONNECTOR,
    connector_name: connectorName,
    component: instance || pod || job || 'prometheus',
    resource,
    state: status === 'resolved' ? 0 : (STATES.get(severity) ?? UNKNOWN_STATE),
    output: output && cut(output, 255),
    long_output: output && cut(output, 1024),
    author: `${CONNECTOR}.${connectorName}`,
    prom_labels_severity: severity || undefined,
    prom_title: substr === undefined ? title || undefined : `Prometheus ${substr}`,
    prom_event_type: 'check',
    prom_source_type: 'resource',
    prom_type_ack: 'auto',
    prom_fingerprint: fingerprint || undefined,
    prom_tags: labels,
  };
}

// By Canopsis's convention, cut between characters to what AMQP takes.
function routingKey({ connector_name, component, resource }) {
  const key = `${CONNECTOR}.${connector_name}.check.resource.${component}.${resource}`;
  if (Buffer.byteLength(key) <= ROUTING_KEY_BYTES) return key;
  const bytes = Buffer.from(key);
  let end = ROUTING_KEY_BYTES;
  while ((bytes[end] & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}

// The broker

let channel;
// The ids of messages that no queue takes. The broker returns one before it confirms it.
const returned = new Set();

// After each connect, the first and those after a loss.
async function openChannel(connection) {
  const opened = await connection.createConfirmChannel();
  // The broker has closed the channel over what was done on it; a new connection is the simplest way to a new one.
  opened.on('error', () => connection.close().catch(() => {}));
  opened.on('close', () => {
    if (channel === opened) channel = undefined;
  });
  opened.on('return', ({ properties }) => returned.add(properties.messageId));
  // Passively: Canopsis declares it.
  await opened.checkExchange(EXCHANGE);
  returned.clear();
  channel = opened;
}

// Publishes all of the events, then waits until the broker has confirmed every one of them, each routed to a queue.
function deliver(events) {
  return new Promise((resolve, reject) => {
    if (!channel) throw new Error('not connected to the broker');
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
        if (returned.delete(messageId)) return fail(new Error('the broker returned an event'));
        waiting -= 1;
        if (waiting > 0) return;
        clearTimeout(timer);
        resolve();
      });
    }
  });
}

// The sender's side

// Compiled by fastify, once. As far as the mapping looks at a notification; a nil map of Go is written as null.
const texts = { type: 'object', nullable: true, additionalProperties: { type: 'string' } };
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
          labels: texts,
          annotations: texts,
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
  // A body is refused, not mended.
  ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
});
// Whatever a sender calls its body, it is JSON. Names such as __proto__ do no harm here, as nothing is copied by name.
app.removeAllContentTypeParsers();
app.addContentTypeParser('*', { parseAs: 'string' }, app.getDefaultJsonParser('ignore', 'ignore'));

app.post('/webhook', {
  schema: { body: notification, response: { 200: published } },
  // Before the body is read.
  onRequest(request, reply, done) {
    if (isAuthorized(request.headers.authorization)) return done();
    reply.code(401).send({ error: 'a valid bearer token is needed' });
  },
}, async (request, reply) => {
  const { alerts } = request.body;
  const events = alerts.map(toEvent).filter((event) => event !== undefined);
  try {
    await deliver(events);
  } catch (error) {
    // Whatever it is, Alertmanager is to try again.
    return reply.code(503).send({ error: `not every event is in the queue: ${error.message}` });
  }
  if (events.length < alerts.length) {
    return reply.code(422).send({ error: 'some alerts have no name, the others are published', published: events.length });
  }
  return { published: events.length };
});

if (TOKEN.length === 0) {
  console.error('bridge.mjs: PROMETHEUS_BEARER_TOKEN is missing');
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
