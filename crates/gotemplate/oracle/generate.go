package main

import (
	"math/rand"
	"strings"
)

// generator makes templates that are mostly right, so that Go renders about half of them.
type generator struct {
	*rand.Rand
	mode int
}

// What .Field is. Each mode has its own names, so that the templates look up what is there, mostly.
var data = []struct {
	field any
	paths []string
}{
	{
		field: map[string]any{"alertname": "DiskFull", "instance": "db-1.example:9100", "job": "node", "severity": "critical",
			"mountpoint": "/var/lib/données", "empty": "", "note": "a \"q\" <b>&'=</b>\n2\tt \\"},
		paths: []string{".alertname", ".instance", ".job", ".severity", ".mountpoint", ".empty", ".note"},
	},
	{
		field: map[string]any{"name": "Zürich 日本 🔥", "city": "İstanbul straße ΟΔΟΣ ŉ ᾳ", "empty": "", "number": "42", "float": "1.5e3",
			"blank": " \u00a0\t x \u2003\n", "marks": "e\u0301\u200b\u00ad\u2028\ufeff", "controls": "\x00\x01\x07\x1f\x7f"},
		paths: []string{".name", ".city", ".empty", ".number", ".float", ".blank", ".marks", ".controls"},
	},
	{
		field: map[string]any{"count": 3, "million": 1000000, "big": 1e21, "half": 0.5, "tiny": 1.5e-7, "negative": -42, "zero": 0,
			"yes": true, "no": false, "none": nil, "text": "été", "list": []any{"a", "é", 2, nil, []any{1.5}, map[string]any{"k": "v"}},
			"texts": []any{"b", "", "ç"}, "map": map[string]any{"z": 1, "a": "x", "n": nil}, "nothing": []any{}, "hollow": map[string]any{}},
		paths: []string{".count", ".million", ".big", ".half", ".tiny", ".negative", ".zero", ".yes", ".no", ".none", ".text", ".list",
			".texts", ".map", ".map.a", ".map.n", ".nothing", ".hollow"},
	},
	{field: "node_exporter-7.example:9100", paths: []string{""}},
}

const pattern = `^(?P<host>[^:.]+)(?:\.(?P<domain>[^:]+))?:(?P<port>\d+)(?P<rest>/.*)?$`

func (g *generator) testCase() testCase {
	g.mode = g.Intn(len(data))
	c := testCase{Field: data[g.mode].field}
	if g.mode == 3 {
		c.Regexp = pattern
	}
	if g.chance(70) {
		c.Template = "{{ $x := " + g.field() + " }}"
	}
	c.Template += g.pieces(1 + g.Intn(4))
	return c
}

func (g *generator) chance(percent int) bool { return g.Intn(100) < percent }

func (g *generator) oneOf(choices ...string) string { return choices[g.Intn(len(choices))] }

func (g *generator) rarely(rare, usual string) string {
	if g.chance(15) {
		return rare
	}
	return usual
}

func (g *generator) pieces(count int) string {
	var out strings.Builder
	for ; count > 0; count-- {
		out.WriteString(g.piece(0))
	}
	return out.String()
}

func (g *generator) body(depth int) string {
	var out strings.Builder
	for count := g.Intn(3); count > 0; count-- {
		out.WriteString(g.piece(depth + 1))
	}
	return out.String()
}

func (g *generator) action(inside string) string {
	return g.oneOf("{{", "{{ ", "{{- ", "{{") + inside + g.oneOf("}}", " }}", " -}}", "\n}}")
}

func (g *generator) space() string {
	return g.oneOf("", " ", "  ", "\n", "\t", " \n", "\r\n", "\u00a0", "\v", "x", "a b", "é", "-", ": ", "{", "}", "\"", "\u2003")
}

func (g *generator) piece(depth int) string {
	kind := g.Intn(100)
	switch {
	case depth > 3 || kind < 25:
		return g.space()
	case kind < 58:
		return g.action(g.pipeline(0))
	case kind < 63:
		return g.oneOf("{{/* c */}}", "{{- /* c */}}", "{{/* c */ -}}", "{{- /* c */ -}}",
			g.rarely("{{ /* c */}}", "x"), g.rarely("{{/* c */ }}", "x"), g.rarely("{{-/* c */}}", "x"))
	case kind < 73:
		return g.branch("if", depth)
	case kind < 79:
		return g.branch("with", depth)
	case kind < 88:
		return g.loop(depth)
	case kind < 92:
		return g.action("$x := " + g.pipeline(0))
	case kind < 94:
		return g.action(g.rarely("$y", "$x") + " = " + g.pipeline(0))
	}
	value := g.field()
	if depth > 0 && g.chance(90) {
		return g.rarely(`{{ template "none" . }}`, g.action(g.pipeline(0)))
	}
	return g.oneOf(
		`{{ define "t" }}<{{ . }}>{{ end }}{{ template "t" `+value+` }}`,
		`{{ define "u" }}<{{ . }}{{ $ }}>{{ end }}{{ template "u" }}`,
		`{{ define "r" }}{{ if . }}{{ slice . 1 }};{{ template "r" slice . 1 }}{{ end }}{{ end }}{{ template "r" "abcé" }}`,
		`{{ define "e" }} {{ end }}{{ define "e" }}e{{ end }}{{ template "e" }}`,
		g.rarely(`{{ define "d" }}1{{ end }}{{ define "d" }}2{{ end }}{{ template "d" }}`, ""),
		`{{ template "none" . }}`,
		`{{ block "b" `+value+` }}[{{ . }}]{{ end }}`,
		`{{ block "v" $y := `+value+` }}[{{ . }}]{{ end }}{{ $y }}`,
		g.rarely(`{{ if true }}{{ define "i" }}{{ end }}{{ end }}`, ""),
		g.oneOf("", "", "{{ break }}", "{{ end }}", "{{ else }}", "{{ if }}", "{{ .. }}", "{{ true.x }}", "{{ nil }}", "{{ ", "{{ 1 1 }}", "{{ }}"),
	)
}

func (g *generator) branch(keyword string, depth int) string {
	out := g.action(keyword+" "+g.oneOf("", "", "$y := ")+g.pipeline(0)) + g.body(depth)
	for keyword == "if" && g.chance(25) {
		out += g.action("else if "+g.pipeline(0)) + g.body(depth)
	}
	if g.chance(50) {
		out += g.action("else") + g.body(depth) + g.rarely("{{ $y }}", "")
	}
	return out + g.action("end")
}

func (g *generator) loop(depth int) string {
	value := g.oneOf("$", "$.Field", "$.Field.list", "$.Field.map", "$x", "$.RegexMatch", g.field())
	loops := [][2]string{{"", "{{ . }},"}, {"$v := ", "{{ $v }};"}, {"$k, $v := ", "{{ $k }}={{ $v }};"}, {"$k, $x := ", "{{ $k }}={{ $x }};"}}
	form := loops[g.Intn(len(loops))]
	out := g.action("range "+form[0]+value) + g.oneOf(g.body(depth), form[1], form[1]+g.body(depth))
	if g.chance(20) {
		out += "{{ if " + g.value(2) + " }}{{ " + g.oneOf("break", "continue") + " }}{{ end }}" + g.body(depth)
	}
	if g.chance(30) {
		out += g.action("else") + g.body(depth)
	}
	return out + g.action("end")
}

func (g *generator) field() string {
	paths := data[g.mode].paths
	if g.chance(8) {
		return g.oneOf(".Field.nosuch", ".Field", ".", "$", ".Field.text.x", ".nosuch", g.rarely("$y", "$"), ".RegexMatch.host")
	}
	if g.mode == 3 && g.chance(50) {
		return g.oneOf(".RegexMatch.host", ".RegexMatch.port", ".RegexMatch.domain", ".RegexMatch.rest", "$.RegexMatch", ".RegexMatch.port")
	}
	return g.oneOf(".Field", "$.Field", "$.Field", "(.Field)") + paths[g.Intn(len(paths))]
}

func (g *generator) text() string {
	return g.oneOf(`"critical"`, `"x"`, `""`, `"a b"`, "`raw \"q\\`", `"é日"`, `"\n\t\x41\101\u00e9"`, `"%s"`, `":"`, `"<&>'="`, `'c'`, `"\xff\xc3"`,
		`"."`, `"a"`, g.rarely(`"\d"`, `"a"`))
}

func (g *generator) number() string {
	if g.chance(75) {
		return g.oneOf("0", "1", "2", "3", "4", "-1", "7", "1.5")
	}
	if g.chance(97) {
		return g.oneOf("0x1F", "1e3", "010", "0o17", "0b11", "1_000", "'a'", "'é'", "-0x1e3", "1e100", "9223372036854775807", ".5", "0x1p-2", "-0", "+5")
	}
	return g.oneOf("9223372036854775808", "089", "1__0", "1e", "0b2", "''")
}

func (g *generator) value(depth int) string {
	kind := g.Intn(100)
	switch {
	case kind < 45:
		return g.field()
	case kind < 58:
		return g.text()
	case kind < 70:
		return g.number()
	case kind < 74:
		return g.oneOf("true", "false", "nil")
	case kind < 77 || depth > 2:
		return g.rarely("$x", g.field())
	case kind < 79:
		return g.oneOf("print", "html", g.rarely("nosuch", "js"), "(.Field.map).a", "(print 1).x", "print.x")
	}
	return "(" + g.pipeline(depth+1) + ")"
}

func (g *generator) verb() string {
	if g.chance(35) {
		return g.oneOf("%s", "%v", "%d", "%q", "%5s|", "%-5s|", "%.3s", "%05d", "%t", "%.2f", "%%")
	}
	out := "%"
	for g.chance(35) {
		out += g.oneOf("+", "-", "#", " ", "0")
	}
	if g.chance(8) {
		out += g.oneOf("[1]", "[2]", "[3]", "[x]", "[", "[]")
	}
	out += g.oneOf("", "", "", "1", "4", "9", "12", "*")
	if g.chance(25) {
		out += "." + g.oneOf("", "0", "1", "3", "12", "*")
	}
	return out + g.oneOf("v", "v", "s", "q", "d", "x", "X", "T", "t", "b", "o", "O", "c", "U", "e", "E", "f", "F", "g", "G", "w", "z", "é", "")
}

func (g *generator) format() string {
	out := g.oneOf("", "", "a ", "é")
	for first := true; first || g.chance(30); first = false {
		out += g.verb() + g.oneOf("", "", "|", " ")
	}
	return `"` + out + `"`
}

func (g *generator) call(depth int) string {
	v := func() string { return g.value(depth + 1) }
	maybe := func(s string) string { return g.oneOf("", s) }
	re := g.oneOf(`"[a-z]+"`, "`\\w`", "`(?P<n>[a-z])(\\d?)`", "`\\b`", "`é|.$`", `""`, `"("`, "`[[:upper:]]+`", "`(?i)É`", v())
	switch g.Intn(30) {
	case 0, 1, 2:
		return "printf " + g.format() + " " + v() + maybe(" "+v())
	case 3:
		return "print " + v() + maybe(" "+v()+maybe(" "+v()))
	case 4:
		return "println " + v() + maybe(" "+v())
	case 5:
		return "len " + v()
	case 6:
		return "index " + v() + " " + g.oneOf(g.text(), g.number(), v()) + maybe(" "+g.number())
	case 7:
		return "slice " + v() + " " + g.number() + maybe(" "+g.number())
	case 8, 9:
		return g.oneOf("eq", "ne", "lt", "le", "gt", "ge") + " " + v() + " " + v()
	case 10:
		return "eq " + v() + " " + v() + " " + v()
	case 11:
		return g.oneOf("and", "or") + " " + v() + maybe(" "+v()+maybe(" "+v()))
	case 12:
		return "not " + v()
	case 13, 14:
		return g.oneOf("html", "js", "urlquery") + " " + v() + maybe(" "+v())
	case 15, 16:
		return g.oneOf("uppercase", "lowercase", "trim", "json", "json_unquote") + " " + v()
	case 17, 18:
		return "split " + g.text() + " " + g.number() + " " + v()
	case 19:
		return "replace " + re + " " + g.oneOf(`"-"`, `"$1"`, `"<${n}>"`, `"$n$$"`, v()) + " " + v()
	case 20:
		return g.oneOf("map_has_key", "map_as_keys") + " " + v() + " " + g.oneOf(`"count"`, `"job"`, `"none"`, v())
	case 21:
		return g.oneOf("regex_map_key", "regex_map_keys") + " " + g.oneOf(".Field", v()) + " " + re
	case 22:
		return "substr " + v() + " " + g.number() + " " + g.number()
	case 23:
		return g.oneOf("substrLeft", "substrRight") + " " + v() + " " + g.number()
	case 24:
		return "strlen " + v()
	case 25:
		return "strpos " + v() + " " + g.oneOf(`"e"`, `"é"`, v())
	case 26:
		return "strjoin " + g.oneOf(".Field.texts", v()) + " " + g.text()
	case 27, 28:
		return "pairs " + g.rarely(v(), g.oneOf(".Field", ".Field.map", ".RegexMatch", ".Field.hollow")) +
			maybe(" "+g.oneOf(`"note"`, `"job"`, `"n"`, `"count"`, v())) + maybe(` "none" "list" "texts" "map" "nothing" "hollow"`)
	default:
		return g.oneOf("add", "sub", "mult", "div") + " " + g.oneOf(g.number(), v()) + " " + g.oneOf(g.number(), v())
	}
}

func (g *generator) pipeline(depth int) string {
	out := g.value(depth)
	if g.chance(50) {
		out = g.call(depth)
	}
	for g.chance(20) {
		out += " | " + g.oneOf("uppercase", "trim", "len", `printf "%s"`, `printf "%v %v" 1`, "html", "urlquery", "json", "print", "not", `printf "%q"`,
			"js", `eq "critical"`, "index .Field", `split ":" 0`, "or 0", "and 1", g.rarely("nosuch", "print"), g.rarely(`"constant"`, "html"), "strlen", "add 1", "slice \"abcdef\" 1",
			".Field", "substr \"été\" 1", "printf")
	}
	return out
}
