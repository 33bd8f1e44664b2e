package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// failure is what a caller learns: a kind to act on and one line to show.
type failure struct {
	Kind    string   `json:"kind"`
	Message string   `json:"message"`
	URLs    []string `json:"urls,omitempty"` // kind "remote": what must be fetched first
}

const maxMessage = 1200

func (f *failure) Error() string { return f.Message }

func fail(kind, format string, args ...any) *failure {
	return &failure{Kind: kind, Message: oneLine(fmt.Sprintf(format, args...))}
}

func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return fail("internal", "%v", err)
}

var lineBreaks = regexp.MustCompile(`\s*\n\s*`)

// oneLine keeps the sense of a multi-line message in one line of bounded length.
func oneLine(text string) string {
	text = lineBreaks.ReplaceAllString(strings.TrimSpace(text), "; ")
	if len(text) > maxMessage { // where it happened stands first, what happened last
		head, tail := text[:maxMessage/3], text[len(text)-maxMessage*2/3:]
		text = strings.ToValidUTF8(head, "") + " … " + strings.ToValidUTF8(tail, "")
	}
	return text
}
