// A bridge from webhook to RabbitMQ in Go (net/http, text/template, the official AMQP client), only for comparison in the
// benchmark. It is built like the connectors that this program replaces: its rules are data, interpreted for each alert.
//
// The rules of benches/config.yml are in rules.go; settings come from the connector's environment variables. One process,
// one connection, one channel. A lost connection ends the process.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	maxBodyBytes    = 16 << 20
	answerTimeout   = 8 * time.Second
	routingKeyBytes = 255
	appID           = "canopsis-connector-prometheus"
)

type notification struct {
	Version string  `json:"version"`
	Alerts  []alert `json:"alerts"`
}

type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Fingerprint string            `json:"fingerprint"`
}

// An event, as the JSON object that Canopsis reads.
type event map[string]any

// toEvent maps an alert, or returns nil where a required field has no value.
func toEvent(a *alert) event {
	e := event{"event_type": "check", "source_type": "resource", "connector": connector}
	for _, f := range fields {
		if value := f.rule.evaluate(a); value != nil {
			if text, ok := value.(string); ok && f.length > 0 {
				value = truncate(text, f.length)
			}
			e[f.name] = value
		}
	}
	for _, name := range []string{"connector_name", "component", "resource"} {
		if e[name] == nil {
			return nil
		}
	}
	e["state"] = state(a, e["state"])
	if e["author"] == nil {
		e["author"] = connector + "." + e["connector_name"].(string)
	}
	return e
}

func state(a *alert, value any) int {
	if a.Status == "resolved" {
		return 0
	}
	text, _ := value.(string)
	if number, err := strconv.Atoi(text); err == nil && 0 <= number && number <= 3 {
		return number
	}
	return 3
}

// truncate counts characters; a text has at most as many of them as bytes.
func truncate(text string, length int) string {
	if len(text) <= length {
		return text
	}
	for at := range text {
		if length == 0 {
			return text[:at]
		}
		length--
	}
	return text
}

// routingKey is Canopsis's, truncated at a character boundary to AMQP's limit.
func routingKey(e event) string {
	key := fmt.Sprintf("%s.%s.check.resource.%s.%s", connector, e["connector_name"], e["component"], e["resource"])
	if len(key) <= routingKeyBytes {
		return key
	}
	end := routingKeyBytes
	for !utf8.RuneStart(key[end]) {
		end--
	}
	return key[:end]
}

// A delivery is the events of one notification that wait for their confirms.
type delivery struct {
	waiting int
	err     error
	done    chan struct{}
}

type publisher struct {
	channel  *amqp.Channel
	exchange string
	run      string
	// Held while a notification is published, so that tags are counted in the order of the messages.
	publishing sync.Mutex
	tag        uint64
	// Guards pending and the deliveries in it.
	settling sync.Mutex
	pending  map[uint64]*delivery
}

func connect(url, exchange string) (*publisher, error) {
	connection, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	// A passive declaration, which only checks: Canopsis declares the exchange.
	if err := channel.ExchangeDeclarePassive(exchange, "topic", true, false, false, false, nil); err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return nil, err
	}
	run := make([]byte, 8)
	if _, err := rand.Read(run); err != nil {
		return nil, err
	}
	p := &publisher{channel: channel, exchange: exchange, run: hex.EncodeToString(run), pending: map[uint64]*delivery{}}
	// Without buffers: RabbitMQ sends basic.return before basic.ack, and one goroutine takes both in that order.
	returns := channel.NotifyReturn(make(chan amqp.Return))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation))
	go p.settle(returns, confirms)
	return p, nil
}

func (p *publisher) settle(returns chan amqp.Return, confirms chan amqp.Confirmation) {
	for {
		select {
		case returned, open := <-returns:
			if !open {
				log.Fatal("lost the connection to RabbitMQ")
			}
			_, number, _ := strings.Cut(returned.MessageId, "-")
			tag, _ := strconv.ParseUint(number, 10, 64)
			p.settling.Lock()
			if d := p.pending[tag]; d != nil {
				d.err = errors.New("RabbitMQ returned an event")
			}
			p.settling.Unlock()
		case confirm, open := <-confirms:
			if !open {
				log.Fatal("lost the connection to RabbitMQ")
			}
			p.settling.Lock()
			if d := p.pending[confirm.DeliveryTag]; d != nil {
				delete(p.pending, confirm.DeliveryTag)
				if !confirm.Ack {
					d.err = errors.New("RabbitMQ refused an event")
				}
				d.waiting--
				if d.waiting == 0 {
					close(d.done)
				}
			}
			p.settling.Unlock()
		}
	}
}

// deliver publishes all events, and returns when RabbitMQ has confirmed each of them.
func (p *publisher) deliver(ctx context.Context, events []event) error {
	if len(events) == 0 {
		return nil
	}
	d := &delivery{waiting: len(events), done: make(chan struct{})}
	if err := p.publish(ctx, d, events); err != nil {
		return err
	}
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return errors.New("not confirmed in time")
	}
}

func (p *publisher) publish(ctx context.Context, d *delivery, events []event) error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	for _, e := range events {
		var body bytes.Buffer
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(e); err != nil {
			return err
		}
		p.tag++
		p.settling.Lock()
		p.pending[p.tag] = d
		p.settling.Unlock()
		err := p.channel.PublishWithContext(ctx, p.exchange, routingKey(e), true, false, amqp.Publishing{
			ContentType:  "application/json",
			DeliveryMode: amqp.Persistent,
			AppId:        appID,
			MessageId:    fmt.Sprintf("%s-%d", p.run, p.tag),
			Body:         bytes.TrimSuffix(body.Bytes(), []byte("\n")),
		})
		if err != nil {
			log.Fatal("cannot publish: ", err)
		}
	}
	return nil
}

func respond(w http.ResponseWriter, status int, fields map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(fields)
}

func isAuthorized(r *http.Request, token []byte) bool {
	scheme, given, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	return strings.EqualFold(scheme, "bearer") && subtle.ConstantTimeCompare([]byte(strings.TrimSpace(given)), token) == 1
}

func webhook(p *publisher, token []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Before the body is read, as the connector does.
		if !isAuthorized(r, token) {
			respond(w, http.StatusUnauthorized, map[string]any{"error": "a valid bearer token is required"})
			return
		}
		var n notification
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes)).Decode(&n); err != nil {
			respond(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
			return
		}
		if n.Version != "4" {
			respond(w, http.StatusBadRequest, map[string]any{"error": "the version is not 4"})
			return
		}
		events := make([]event, 0, len(n.Alerts))
		for i := range n.Alerts {
			if e := toEvent(&n.Alerts[i]); e != nil {
				events = append(events, e)
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		switch err := p.deliver(ctx, events); {
		case err != nil:
			respond(w, http.StatusServiceUnavailable, map[string]any{"error": err.Error()})
		case len(events) < len(n.Alerts):
			respond(w, http.StatusUnprocessableEntity, map[string]any{
				"error": "alerts without a required field were rejected", "published": len(events),
			})
		default:
			respond(w, http.StatusOK, map[string]any{"published": len(events)})
		}
	}
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func main() {
	token := os.Getenv("PROMETHEUS_BEARER_TOKEN")
	if token == "" {
		log.Fatal("PROMETHEUS_BEARER_TOKEN is not set")
	}
	p, err := connect(
		setting("CPS_AMQP_URL", "amqp://cpsrabbit:canopsis@localhost/canopsis"),
		setting("CPS_AMQP_EXCHANGE", "canopsis.events"),
	)
	if err != nil {
		log.Fatal("cannot connect to RabbitMQ: ", err)
	}
	http.HandleFunc("/webhook", webhook(p, []byte(token)))
	log.Fatal(http.ListenAndServe(setting("PROMETHEUS_LISTEN", "0.0.0.0:18401"), nil))
}
