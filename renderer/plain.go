package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// plainBuild builds trees of kustomizations that do nothing but list resources, with kustomize's own parser but
// not its engine: that compares every object with every other, which takes minutes for 10,000 of them.
type plainBuild struct {
	source  *overlayFS
	remotes *remoteFiles
	factory *resource.Factory
	within  []string          // the directories being built, to see a cycle
	definer map[string]string // object → the file that defines it
	objects []*resource.Resource
}

// errNotPlain hands a build over to kustomize, also for its error messages.
var errNotPlain = errors.New("not plain")

// buildPlain returns errNotPlain when the build needs kustomize itself.
func buildPlain(source *overlayFS, remotes *remoteFiles, path string) ([]json.RawMessage, error) {
	build := &plainBuild{
		source: source, remotes: remotes, factory: provider.NewDefaultDepProvider().GetResourceFactory(),
		definer: map[string]string{},
	}
	if err := build.directory(path); err != nil {
		return nil, err
	}
	objects := make([]json.RawMessage, 0, len(build.objects))
	for _, object := range build.objects {
		text, err := object.MarshalJSON()
		if err != nil {
			return nil, errNotPlain
		}
		objects = append(objects, text)
	}
	return objects, nil
}

func (b *plainBuild) directory(path string) error {
	resolved, err := b.source.resolve(path)
	if err != nil || slices.Contains(b.within, resolved) {
		return errNotPlain
	}
	b.within = append(b.within, resolved)
	defer func() { b.within = b.within[:len(b.within)-1] }()
	resources, plain := b.resourcesOf(resolved)
	if !plain {
		return errNotPlain
	}
	for _, entry := range resources {
		if err := b.add(resolved, entry); err != nil {
			return err
		}
	}
	return nil
}

// resourcesOf reads a directory's kustomization; plain is false when it says more than `resources`.
func (b *plainBuild) resourcesOf(directory string) (resources []string, plain bool) {
	file := kustomizationFile(b.source, directory)
	if file == "" {
		return nil, false
	}
	text, err := b.source.ReadFile(file)
	if err != nil {
		return nil, false
	}
	var kustomization types.Kustomization
	if kustomization.Unmarshal(text) != nil {
		return nil, false
	}
	kustomization.FixKustomization()
	if kustomization.Kind != types.KustomizationKind || len(kustomization.Resources) == 0 {
		return nil, false
	}
	resources = kustomization.Resources
	kustomization.TypeMeta, kustomization.MetaData, kustomization.Resources = types.TypeMeta{}, nil, nil
	return resources, reflect.DeepEqual(kustomization, types.Kustomization{})
}

func (b *plainBuild) add(directory, entry string) error {
	if strings.HasPrefix(entry, "https://") || strings.HasPrefix(entry, "http://") {
		return b.remote(entry)
	}
	path := filepath.Join(directory, entry)
	if filepath.IsAbs(entry) || !b.source.Exists(path) {
		return errNotPlain
	}
	if b.source.IsDir(path) {
		return b.directory(path)
	}
	resolved, err := b.source.resolve(path)
	if err != nil {
		return errNotPlain
	}
	if parsed, known := b.source.parsed[resolved]; known {
		return b.keep(b.source.relative(path), parsed)
	}
	text, err := b.source.ReadFile(path)
	if err != nil {
		return errNotPlain
	}
	return b.parse(b.source.relative(path), text)
}

func (b *plainBuild) remote(url string) error {
	file, known := b.remotes.known[url]
	if !known {
		if !slices.Contains(b.remotes.missing, url) {
			b.remotes.missing = append(b.remotes.missing, url)
		}
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return errNotPlain
	}
	return b.parse(url, text)
}

func (b *plainBuild) parse(name string, text []byte) error {
	parsed, err := b.factory.SliceFromBytes(text)
	if err != nil {
		return errNotPlain
	}
	return b.keep(name, parsed)
}

// keep adds objects, without those for kustomize's own use; the same object twice is an error.
func (b *plainBuild) keep(name string, parsed []*resource.Resource) error {
	nodes := make([]*kyaml.RNode, 0, len(parsed))
	for _, object := range parsed {
		nodes = append(nodes, &object.RNode)
	}
	kept, err := b.factory.DropLocalNodes(nodes)
	if err != nil {
		return errNotPlain
	}
	for _, object := range kept {
		id := object.CurId()
		key := id.Gvk.String() + "|" + id.EffectiveNamespace() + "|" + id.Name
		if first, twice := b.definer[key]; twice {
			return fail("kustomize", "%s %s is defined twice: in %s and in %s", id.Kind, id.Name, first, name)
		}
		b.definer[key] = name
	}
	b.objects = append(b.objects, kept...)
	return nil
}

// parseOnce reads a file's objects and keeps them for the build that follows.
func (o *overlayFS) parseOnce(factory *resource.Factory, path string) error {
	text, err := o.ReadFile(path)
	if err != nil {
		return err
	}
	parsed, err := factory.SliceFromBytes(text)
	if err != nil {
		return fail("yaml", "%s: not Kubernetes YAML: %v", o.relative(path), err)
	}
	if resolved, err := o.resolve(path); err == nil {
		o.parsed[resolved] = parsed
	}
	return nil
}
