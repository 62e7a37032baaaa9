// oracle makes random templates and lets Go's own text/template answer them, with the functions that Canopsis documents.
//
//	go run . SEED COUNT    prints cases as JSON: the template, its data, and Go's text or error
//
// ../examples/compare.rs holds the answers of the crate against them. Nothing here is part of the program.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

type testCase struct {
	Name     string `json:"name"`
	Field    any    `json:"field,omitempty"`
	Regexp   string `json:"regexp,omitempty"`
	Template string `json:"template"`
	Output   string `json:"output,omitempty"`
	Error    string `json:"error,omitempty"`
}

func main() {
	if len(os.Args) != 3 {
		fatal(errors.New("usage: oracle SEED COUNT"))
	}
	seed, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		fatal(err)
	}
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fatal(err)
	}
	random := generator{Rand: rand.New(rand.NewSource(seed))}
	cases := make([]testCase, count)
	for i := range cases {
		c := random.testCase()
		c.Name = fmt.Sprintf("%d-%d", seed, i)
		if c.Output, err = render(c); err != nil {
			c.Output, c.Error = "", err.Error()
		}
		cases[i] = c
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(cases); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "oracle:", err)
	os.Exit(1)
}

func render(c testCase) (string, error) {
	parsed, err := template.New("case").Funcs(functions).Option("missingkey=error").Parse(c.Template)
	if err != nil {
		return "", err
	}
	groups := map[string]string{}
	if c.Regexp != "" {
		re := regexp.MustCompile(c.Regexp)
		match := re.FindStringSubmatch(c.Field.(string))
		for i, name := range re.SubexpNames() {
			if name != "" {
				groups[name] = match[i]
			}
		}
	}
	var out strings.Builder
	err = parsed.Execute(&out, map[string]any{"Field": typed(c.Field), "RegexMatch": groups})
	return out.String(), err
}

// Data as a Go program has them: labels are a map of strings, everything else is what JSON's decoder makes of it.
func typed(field any) any {
	text, err := json.Marshal(field)
	if err != nil {
		fatal(err)
	}
	var labels map[string]string
	if json.Unmarshal(text, &labels) == nil && labels != nil {
		return labels
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		fatal(err)
	}
	return value
}

// The functions as Canopsis documents them, with the types of their parameters. On a value of another type than text those
// that take any value give the empty text.
var functions = template.FuncMap{
	"uppercase":      ofText(strings.ToUpper),
	"lowercase":      ofText(strings.ToLower),
	"trim":           ofText(strings.TrimSpace),
	"json":           toJSON,
	"json_unquote":   func(v any) string { return unquoted(toJSON(v)) },
	"split":          split,
	"replace":        replace,
	"regex_map_key":  valueOfMatchingKey,
	"regex_map_keys": valueOfMatchingKey,
	"map_has_key":    hasKey,
	"map_as_keys":    hasKey,
	"substr":         func(s string, start, count int) string { return part([]rune(s), start, count) },
	"substrLeft":     func(s string, count int) string { return part([]rune(s), 0, count) },
	"substrRight": func(s string, count int) string {
		runes := []rune(s)
		if count >= len(runes) {
			return s
		}
		return part(runes, len(runes)-count, count)
	},
	"strlen": func(s string) int64 { return int64(len([]rune(s))) },
	"strpos": func(s, searched string) int64 {
		before, _, found := strings.Cut(s, searched)
		if !found {
			return -1
		}
		return int64(len([]rune(before)))
	},
	"strjoin": join,
	"pairs":   pairs,
	"add":     ofIntegers(func(a, b int64) (int64, error) { return a + b, nil }),
	"sub":     ofIntegers(func(a, b int64) (int64, error) { return a - b, nil }),
	"mult":    ofIntegers(func(a, b int64) (int64, error) { return a * b, nil }),
	"div": ofIntegers(func(a, b int64) (int64, error) {
		if b == 0 {
			return 0, errors.New("division by zero")
		}
		return a / b, nil
	}),
}

func ofText(change func(string) string) func(any) string {
	return func(v any) string {
		s, isText := v.(string)
		if !isText {
			return ""
		}
		return change(s)
	}
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func unquoted(text string) string {
	if len(text) >= 2 && text[0] == '"' {
		return text[1 : len(text)-1]
	}
	return text
}

func split(separator string, index int, v any) string {
	s, isText := v.(string)
	if parts := strings.Split(s, separator); isText && 0 <= index && index < len(parts) {
		return parts[index]
	}
	return ""
}

func replace(pattern, replacement string, v any) string {
	re, err := regexp.Compile(pattern)
	s, isText := v.(string)
	if err != nil || !isText {
		return ""
	}
	return re.ReplaceAllString(s, replacement)
}

func valueOfMatchingKey(v any, pattern string) any {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return ""
	}
	var keys []string
	entries := entriesOf(v)
	for key := range entries {
		if re.MatchString(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return ""
	}
	first := keys[0]
	for _, key := range keys {
		if key < first {
			first = key
		}
	}
	return entries[first]
}

func hasKey(v, key any) bool {
	name, isText := key.(string)
	_, found := entriesOf(v)[name]
	return isText && found
}

func entriesOf(v any) map[string]any {
	switch m := v.(type) {
	case map[string]any:
		return m
	case map[string]string:
		entries := make(map[string]any, len(m))
		for key, value := range m {
			entries[key] = value
		}
		return entries
	}
	return nil
}

func part(runes []rune, start, count int) string {
	if start < 0 || start >= len(runes) || count < 1 {
		return ""
	}
	if count < len(runes)-start {
		return string(runes[start : start+count])
	}
	return string(runes[start:])
}

func join(list any, separator string) (string, error) {
	items, isList := list.([]any)
	if !isList {
		return "", fmt.Errorf("unsupported type %T", list)
	}
	parts := make([]string, len(items))
	for i, item := range items {
		text, isText := item.(string)
		if !isText {
			return "", errors.New("not a list of strings")
		}
		parts[i] = text
	}
	return strings.Join(parts, separator), nil
}

func pairs(v any, names ...string) (string, error) {
	entries := entriesOf(v)
	if entries == nil {
		return "", fmt.Errorf("unsupported type %T", v)
	}
	omitted := map[string]bool{}
	for _, name := range names {
		omitted[name] = true
	}
	var words []string
	for key, value := range entries {
		if omitted[key] {
			continue
		}
		switch value.(type) {
		case string, bool, float64:
			words = append(words, key)
		default:
			return "", fmt.Errorf("unsupported type %T", value)
		}
	}
	sort.Strings(words)
	for i, key := range words {
		words[i] = word(key) + "=" + word(fmt.Sprint(entries[key]))
	}
	return strings.Join(words, " "), nil
}

func word(s string) string {
	isSpecial := func(r rune) bool { return strings.ContainsRune(" =\"", r) || !unicode.IsPrint(r) }
	if strings.IndexFunc(s, isSpecial) >= 0 || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}

func ofIntegers(operation func(a, b int64) (int64, error)) func(a, b any) (int64, error) {
	return func(a, b any) (int64, error) {
		x, err := integer(a)
		if err != nil {
			return 0, err
		}
		y, err := integer(b)
		if err != nil {
			return 0, err
		}
		return operation(x, y)
	}
}

func integer(v any) (int64, error) {
	switch n := v.(type) {
	case int:
		return int64(n), nil
	case int64:
		return n, nil
	}
	return 0, fmt.Errorf("%T is not an integer", v)
}
