package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	release "helm.sh/helm/v4/pkg/release/v1"
)

// fileAnnotation remembers during post-rendering which template an object came from.
const fileAnnotation = "clusterstack.dev/template"

// postFields are a HelmRelease's post-renderers and the metadata that goes on every object after them.
type postFields struct {
	Strategy       string `json:"strategy"` // combined (default) | nohooks | separate
	Kustomizations []struct {
		Patches []types.Patch `json:"patches"`
		Images  []types.Image `json:"images"`
	} `json:"kustomizations"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func (p postFields) empty() bool {
	return len(p.Kustomizations) == 0 && len(p.Labels) == 0 && len(p.Annotations) == 0
}

// apply takes rendered files through the post-renderers, in order, and gives them back as files.
func (p postFields) apply(files map[string]string) (map[string]string, error) {
	if p.empty() {
		return files, nil
	}
	hooks, manifests, err := annotated(files)
	if err != nil {
		return nil, err
	}
	groups := [][]map[string]any{append(append([]map[string]any{}, hooks...), manifests...)}
	var untouched []map[string]any
	switch p.Strategy {
	case "", "combined":
	case "separate":
		groups = [][]map[string]any{hooks, manifests}
	case "nohooks":
		groups, untouched = [][]map[string]any{manifests}, hooks
	default:
		return nil, fail("request", "unknown post-render strategy %q", p.Strategy)
	}
	result := untouched
	for _, group := range groups {
		processed, err := p.process(group)
		if err != nil {
			return nil, err
		}
		result = append(result, processed...)
	}
	return backToFiles(result)
}

func (p postFields) process(objects []map[string]any) ([]map[string]any, error) {
	if len(objects) == 0 {
		return nil, nil
	}
	for _, kustomization := range p.Kustomizations {
		var stream bytes.Buffer
		for _, object := range objects {
			if err := writeDocument(&stream, object); err != nil {
				return nil, err
			}
		}
		text, err := postKustomize(stream.Bytes(), kustomization.Patches, kustomization.Images)
		if err != nil {
			return nil, fail("kustomize", "%v", err)
		}
		if objects, err = readObjects("post-renderer", string(text)); err != nil {
			return nil, err
		}
	}
	for _, object := range objects {
		setAll(object, "labels", p.Labels)
		setAll(object, "annotations", p.Annotations)
	}
	return objects, nil
}

// annotated reads rendered files into objects that remember their file, hooks apart.
func annotated(files map[string]string) (hooks, manifests []map[string]any, err error) {
	for _, name := range sortedKeys(files) {
		if strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		objects, err := readObjects(name, files[name])
		if err != nil {
			return nil, nil, err
		}
		for _, object := range objects {
			if _, isHook := annotationsOf(object)[release.HookAnnotation]; isHook {
				hooks = append(hooks, object)
			} else {
				manifests = append(manifests, object)
			}
			setAll(object, "annotations", map[string]string{fileAnnotation: name})
		}
	}
	return hooks, manifests, nil
}

func readObjects(name, text string) ([]map[string]any, error) {
	raw, err := parseStream(name, text)
	if err != nil {
		return nil, err
	}
	return decodeObjects(name, raw)
}

// decodeObjects keeps numbers as they are written.
func decodeObjects(name string, raw []json.RawMessage) ([]map[string]any, error) {
	objects := make([]map[string]any, 0, len(raw))
	for _, text := range raw {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var object map[string]any
		if err := decoder.Decode(&object); err != nil {
			return nil, fail("yaml", "%s: not an object: %v", name, err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func writeDocument(to *bytes.Buffer, object map[string]any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	to.WriteString("---\n")
	to.Write(text)
	to.WriteByte('\n')
	return nil
}

func annotationsOf(object map[string]any) map[string]any {
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	return annotations
}

func setAll(object map[string]any, field string, pairs map[string]string) {
	if len(pairs) == 0 {
		return
	}
	metadata, ok := object["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		object["metadata"] = metadata
	}
	existing, ok := metadata[field].(map[string]any)
	if !ok {
		existing = map[string]any{}
		metadata[field] = existing
	}
	for key, value := range pairs {
		existing[key] = value
	}
}

// backToFiles groups objects by the template they came from, as text for Helm's sorter.
func backToFiles(objects []map[string]any) (map[string]string, error) {
	files := map[string]string{}
	for i, object := range objects {
		annotations := annotationsOf(object)
		name, _ := annotations[fileAnnotation].(string)
		if name == "" {
			name = fmt.Sprintf("generated-by-postrender-%d.yaml", i)
		}
		delete(annotations, fileAnnotation)
		if len(annotations) == 0 {
			if metadata, ok := object["metadata"].(map[string]any); ok {
				delete(metadata, "annotations")
			}
		}
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, err
		}
		files[name] += "---\n" + string(text)
	}
	return files, nil
}

// postRender is the operation of its own: objects and hooks that were rendered before.
func postRender(_ *session, line []byte) (map[string]any, error) {
	var r struct {
		Objects []json.RawMessage `json:"objects"`
		Hooks   []json.RawMessage `json:"hooks"`
		postFields
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fail("request", "%v", err)
	}
	hooks, err := decodeObjects("hooks", r.Hooks)
	if err != nil {
		return nil, err
	}
	manifests, err := decodeObjects("objects", r.Objects)
	if err != nil {
		return nil, err
	}
	files, err := backToFiles(append(hooks, manifests...))
	if err != nil {
		return nil, err
	}
	if files, err = r.apply(files); err != nil {
		return nil, err
	}
	return sortFiles(files)
}
