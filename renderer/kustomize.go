package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

type kustomizeRequest struct {
	Root    string             `json:"root"`    // absolute; nothing outside of it is read
	Path    string             `json:"path"`    // absolute
	Overlay map[string]virtual `json:"overlay"` // absolute path → what is there instead
	Remotes map[string]string  `json:"remotes"` // URL → file that holds its content
	Build   *buildFields       `json:"build"`   // Flux's fields; nil: the directory as it stands
}

func kustomizeBuild(_ *session, line []byte) (map[string]any, error) {
	var r kustomizeRequest
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fail("request", "%v", err)
	}
	source, err := newOverlayFS(r.Root, r.Overlay)
	if err != nil {
		return nil, fail("request", "%v", err)
	}
	relative, err := filepath.Rel(r.Root, r.Path)
	if err != nil {
		return nil, fail("request", "%v", err)
	}
	path := filepath.Join(source.root, relative)
	if r.Build != nil {
		if err := overlayKustomization(source, path, *r.Build); err != nil {
			return nil, kustomizeFailure(source, err)
		}
	}
	remotes := &remoteFiles{known: r.Remotes}
	objects, err := buildObjects(source, remotes, path)
	if len(remotes.missing) > 0 {
		return nil, remotes.failure(source)
	}
	if err != nil {
		return nil, kustomizeFailure(source, err)
	}
	return map[string]any{"objects": objects, "inputs": sortedKeys(source.seen)}, nil
}

func buildObjects(source *overlayFS, remotes *remoteFiles, path string) ([]json.RawMessage, error) {
	objects, err := buildPlain(source, remotes, path)
	if !errors.Is(err, errNotPlain) {
		return objects, err
	}
	http.DefaultTransport = remotes // the one place where kustomize's file loader can be given files by URL
	defer func() { http.DefaultTransport = refuse{} }()
	built, err := runKustomize(source, path)
	if err != nil {
		return nil, err
	}
	return objectsOf(built)
}

// builtinSchema is the OpenAPI schema that builds begin with; kustomize keeps the one a kustomization named.
var builtinSchema = openapi.GetSchemaVersion()

func runKustomize(files filesys.FileSystem, path string) (resmap.ResMap, error) {
	options := &krusty.Options{
		LoadRestrictions: types.LoadRestrictionsNone, // the file system itself ends at the source's root
		PluginConfig:     types.DisabledPluginConfig(),
	}
	if openapi.GetSchemaVersion() != builtinSchema {
		openapi.ResetOpenAPI()
	}
	return krusty.MakeKustomizer(options).Run(files, path)
}

func objectsOf(built resmap.ResMap) ([]json.RawMessage, error) {
	objects := make([]json.RawMessage, 0, built.Size())
	for _, resource := range built.Resources() {
		text, err := resource.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", resource.CurId(), err)
		}
		objects = append(objects, text)
	}
	return objects, nil
}

// remoteFiles answers kustomize's HTTP requests from files fetched before, and remembers what was missing.
// A missing file reads as empty, so that one build finds all of them.
type remoteFiles struct {
	known   map[string]string
	missing []string
}

func (f *remoteFiles) RoundTrip(r *http.Request) (*http.Response, error) {
	url := r.URL.String()
	var content []byte
	if file, ok := f.known[url]; ok {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		content = text
	} else if !slices.Contains(f.missing, url) {
		f.missing = append(f.missing, url)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(content)), ContentLength: int64(len(content)),
	}, nil
}

func (f *remoteFiles) failure(source *overlayFS) *failure {
	named := make([]string, 0, len(f.missing))
	for _, url := range f.missing {
		named = append(named, source.whoNames(url)+": remote resource "+url+" is not fetched")
	}
	missing := fail("remote", "%s", strings.Join(named, "; "))
	missing.URLs = f.missing
	return missing
}

// whoNames finds the kustomization that refers to something, among those the build has read.
func (o *overlayFS) whoNames(reference string) string {
	for _, name := range sortedKeys(o.seen) {
		if !slices.Contains(konfig.RecognizedKustomizationFileNames(), filepath.Base(name)) {
			continue
		}
		if text, err := o.ReadFile(filepath.Join(o.root, name)); err == nil && bytes.Contains(text, []byte(reference)) {
			return name
		}
	}
	for _, name := range sortedKeys(o.files) {
		if text, err := o.files[name].content(); err == nil && bytes.Contains(text, []byte(reference)) {
			return o.relative(name)
		}
	}
	return "kustomization"
}

var (
	accumulatingFrom = regexp.MustCompile(`accumulating (?:resources|components) from '([^']+)'|new root '([^']+)'`)
	yamlError        = regexp.MustCompile(`MalformedYAML|(?:^|[^\w.])yaml: `)
	notADirectory    = regexp.MustCompile(`(?s)': (?:must build at directory|new root).*$`)
)

// kustomizeFailure shortens kustomize's nested messages to what a person can act on.
func kustomizeFailure(source *overlayFS, err error) *failure {
	var known *failure
	if errors.As(err, &known) {
		return fail(known.Kind, "%s", strings.ReplaceAll(known.Message, source.root+string(filepath.Separator), ""))
	}
	message := strings.ReplaceAll(err.Error(), source.root+string(filepath.Separator), "")
	message = strings.ReplaceAll(message, source.root, ".")
	if strings.Contains(message, "no 'git' program on path") {
		if match := accumulatingFrom.FindStringSubmatch(message); match != nil {
			return fail("remote-git", "%s: remote base %s is not fetched: only single files over http(s) are",
				source.whoNames(match[1]), match[1])
		}
		return fail("remote-git", "a remote base is not fetched: only single files over http(s) are")
	}
	for before := ""; before != message; {
		before = message
		for _, wrapping := range []string{"accumulating resources: ", "accumulating components: ", "accumulation err='"} {
			message = strings.TrimPrefix(message, wrapping)
		}
	}
	if strings.Contains(message, "no such file or directory") {
		message = notADirectory.ReplaceAllString(message, "")
	}
	kind := "kustomize"
	if yamlError.MatchString(message) {
		kind = "yaml"
	}
	return fail(kind, "%s", message)
}
