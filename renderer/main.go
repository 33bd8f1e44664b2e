// Command clusterstack-renderer turns directories and charts into Kubernetes objects with Helm's and
// kustomize's own libraries. It decides nothing: one JSON request a line on stdin, one JSON answer a
// line on stdout, one request at a time. It has no network, no cluster access and starts no process.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
)

// maxLine bounds a request, as the caller bounds an answer.
const maxLine = 64 << 20

// request is what every operation has in common; the rest of the line is the operation's own.
type request struct {
	ID int64  `json:"id"`
	Op string `json:"op"`
}

// session is the pipe to the caller. `id` is the request being served.
type session struct {
	lines <-chan []byte
	out   *bufio.Writer
	id    int64
}

// operation answers one request; a failure is returned as an error, best a *failure.
type operation func(*session, []byte) (map[string]any, error)

var operations = map[string]operation{
	"kustomize":       kustomizeBuild,
	"helm":            helmRender,
	"charts-metadata": chartMetadata,
	"crds":            chartCRDs,
	"postrender":      postRender,
	"ping":            func(*session, []byte) (map[string]any, error) { return map[string]any{}, nil },
}

func main() {
	log.SetOutput(io.Discard) // libraries chat; what matters comes back as an error
	slog.SetDefault(slog.New(slog.DiscardHandler))
	debug.SetMaxStack(256 << 20) // a template or YAML that recurses for ever ends this process, not the machine
	isolate()
	lines := make(chan []byte)
	go read(os.Stdin, lines)
	s := &session{lines: lines, out: bufio.NewWriterSize(os.Stdout, 1<<20)}
	for line := range lines {
		s.serve(line)
	}
}

// read feeds lines to the loop. The end of the input ends the process at once, also in the middle of
// a request: nobody is left to read the answer.
func read(from io.Reader, lines chan<- []byte) {
	in := bufio.NewReaderSize(from, 1<<20)
	for {
		line, err := readLine(in)
		if err != nil {
			os.Exit(0)
		}
		lines <- line
	}
}

func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, more, err := in.ReadLine()
		if err != nil {
			return nil, err
		}
		if len(line)+len(part) > maxLine {
			fmt.Fprintln(os.Stderr, "request line too long")
			os.Exit(2)
		}
		line = append(line, part...)
		if !more {
			return line, nil
		}
	}
}

func (s *session) serve(line []byte) {
	stop := watchMemory()
	defer stop()
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		s.answer(0, nil, fail("request", "the request is not JSON: %v", err))
		return
	}
	s.id = r.ID
	op, known := operations[r.Op]
	if !known {
		s.answer(r.ID, nil, fail("request", "unknown operation %q", r.Op))
		return
	}
	result, err := guarded(op, s, line)
	s.answer(r.ID, result, err)
}

// guarded turns a panic of a library (kustomize's YAML code has some) into an error.
func guarded(op operation, s *session, line []byte) (result map[string]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s\n", p, debug.Stack())
			result, err = nil, fail("panic", "the renderer's library panicked: %v", p)
		}
	}()
	return op(s, line)
}

func (s *session) answer(id int64, result map[string]any, err error) {
	if err != nil {
		result = map[string]any{"error": asFailure(err)}
	}
	result["id"] = id
	if err := s.send(result); err != nil {
		_ = s.send(map[string]any{"id": id, "error": asFailure(err)})
	}
}

func (s *session) send(message any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(message); err != nil {
		return err
	}
	if text.Len() > maxLine {
		return fail("too-large", "the result has %d MiB; the limit is %d", text.Len()>>20, maxLine>>20)
	}
	if _, err := s.out.Write(text.Bytes()); err != nil {
		return err
	}
	return s.out.Flush()
}

// ask sends a question in the middle of a request and returns the caller's answer.
func (s *session) ask(question map[string]any) ([]byte, error) {
	question["id"] = s.id
	if err := s.send(question); err != nil {
		return nil, err
	}
	return <-s.lines, nil
}
