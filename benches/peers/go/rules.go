package main

import (
	"regexp"
	"strings"
	"text/template"
)

const connector = "prometheus"

// A rule returns a non-empty string or map, or nil.
type rule interface {
	evaluate(a *alert) any
}

// find returns the value at a path of an alert.
func find(a *alert, path string) any {
	root, name, below := strings.Cut(path, ".")
	var values map[string]string
	switch root {
	case "labels":
		values = a.Labels
	case "annotations":
		values = a.Annotations
	case "status":
		return text(a.Status)
	case "fingerprint":
		return text(a.Fingerprint)
	}
	switch {
	case below:
		return text(values[name])
	case len(values) == 0:
		return nil
	default:
		return values
	}
}

func text(value string) any {
	if value == "" {
		return nil
	}
	return value
}

type set string

func (r set) evaluate(*alert) any { return text(string(r)) }

type copyFrom string

func (r copyFrom) evaluate(a *alert) any { return find(a, string(r)) }

type lookup struct {
	field  string
	values map[string]string
}

func (r lookup) evaluate(a *alert) any {
	key, _ := find(a, r.field).(string)
	return text(r.values[key])
}

type render struct {
	field    string
	regexp   *regexp.Regexp
	template *template.Template
}

func (r render) evaluate(a *alert) any {
	data := map[string]any{"Alert": a}
	if r.field != "" {
		value := find(a, r.field)
		if value == nil {
			return nil
		}
		data["Field"] = value
	}
	if r.regexp != nil {
		subject, _ := data["Field"].(string)
		found := r.regexp.FindStringSubmatch(subject)
		if found == nil {
			return nil
		}
		groups := map[string]string{}
		for i, name := range r.regexp.SubexpNames() {
			if name != "" {
				groups[name] = found[i]
			}
		}
		data["RegexMatch"] = groups
	}
	var out strings.Builder
	if err := r.template.Execute(&out, data); err != nil {
		return nil
	}
	return text(out.String())
}

type first []rule

func (r first) evaluate(a *alert) any {
	for _, one := range r {
		if value := one.evaluate(a); value != nil {
			return value
		}
	}
	return nil
}

func compile(text string) *template.Template {
	return template.Must(template.New("").Option("missingkey=error").Parse(text))
}

type field struct {
	name string
	rule rule
	// The most characters; 0: any number.
	length int
}

var message = first{copyFrom("annotations.description"), copyFrom("annotations.summary"), copyFrom("annotations.title")}

// The mapping of benches/config.yml.
var fields = []field{
	{name: "connector_name", rule: set("prometheus")},
	{name: "component", rule: first{
		render{
			field:    "labels.instance",
			regexp:   regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?\[?(?P<Host>[^/?#\[\]]+?)\]?(?::[0-9]*)?(?:[/?#]|$)`),
			template: compile("{{ .RegexMatch.Host }}"),
		},
		render{
			field:    "labels.instance",
			regexp:   regexp.MustCompile(`^\[(?P<Address>[^\]]+)\](?::[0-9]+)?$`),
			template: compile("{{ .RegexMatch.Address }}"),
		},
		copyFrom("labels.instance"), copyFrom("labels.pod"), copyFrom("labels.job"), set("prometheus"),
	}},
	{name: "resource", rule: copyFrom("labels.alertname")},
	{name: "state", rule: first{
		lookup{"labels.alertname", map[string]string{"Watchdog": "0"}},
		lookup{"labels.severity", map[string]string{
			"critical": "3", "major": "2", "warning": "1", "minor": "1", "info": "0", "none": "0",
		}},
		set("3"),
	}},
	{name: "output", rule: message, length: 255},
	{name: "long_output", rule: message, length: 1024},
	{name: "prom_labels_severity", rule: copyFrom("labels.severity")},
	{name: "prom_title", rule: first{
		render{
			field:    "annotations.title",
			regexp:   regexp.MustCompile(`Instance (?P<Substr>.* ?)($|,)`),
			template: compile("Prometheus {{ .RegexMatch.Substr }}"),
		},
		copyFrom("annotations.title"),
	}},
	{name: "prom_event_type", rule: set("check")},
	{name: "prom_source_type", rule: set("resource")},
	{name: "prom_type_ack", rule: set("auto")},
	{name: "prom_fingerprint", rule: copyFrom("fingerprint")},
	{name: "prom_tags", rule: copyFrom("labels")},
}
