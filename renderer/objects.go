package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
)

// parseDocument reads one YAML document as Helm's Kubernetes client does: nothing, one object, or the items of a List.
func parseDocument(name, text string) ([]json.RawMessage, error) {
	converted, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, fail("yaml", "%s: %v", name, err)
	}
	if bytes.Equal(converted, []byte("null")) {
		return nil, nil
	}
	var head struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Items      []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(converted, &head); err != nil {
		return nil, fail("yaml", "%s: not a Kubernetes object: %v", name, err)
	}
	if head.APIVersion == "" || head.Kind == "" {
		return nil, fail("yaml", "%s: a document has no apiVersion or no kind", name)
	}
	if strings.HasSuffix(head.Kind, "List") && head.Items != nil {
		return head.Items, nil
	}
	return []json.RawMessage{converted}, nil
}

// splitDocuments splits a stream as Helm does, in order.
func splitDocuments(text string) []string {
	split := releaseutil.SplitManifests(text)
	documents := make([]string, len(split))
	for i := range documents {
		documents[i] = split[fmt.Sprintf("manifest-%d", i)] // the keys of SplitManifests
	}
	return documents
}

func parseStream(name, text string) ([]json.RawMessage, error) {
	objects := []json.RawMessage{}
	for _, document := range splitDocuments(text) {
		found, err := parseDocument(name, document)
		if err != nil {
			return nil, err
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

func inMemory(contents map[string][]byte) filesys.FileSystem {
	files := filesys.MakeFsInMemory()
	for name, content := range contents {
		_ = files.WriteFile(name, content) // in memory: cannot fail for plain names
	}
	return files
}
