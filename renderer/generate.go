package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// buildFields are the fields of a layer that change its build, by Flux's names (Kustomization v1).
type buildFields struct {
	TargetNamespace         string        `json:"targetNamespace"`
	NamePrefix              string        `json:"namePrefix"`
	NameSuffix              string        `json:"nameSuffix"`
	Patches                 []types.Patch `json:"patches"`
	Components              []string      `json:"components"`
	IgnoreMissingComponents bool          `json:"ignoreMissingComponents"`
	Images                  []types.Image `json:"images"`
	BuildMetadata           []string      `json:"buildMetadata"`
}

// placeholder makes a directory without objects a valid build of nothing (kustomize refuses an empty file).
const placeholder = "_placeholder"

// ignored are YAML files and directories that are not manifests; Flux's source-controller leaves them out too.
var ignored = map[string]bool{
	".git": true, ".github": true, ".circleci": true, ".travis.yml": true, ".gitlab-ci.yml": true, "appveyor.yml": true,
	".drone.yml": true, "cloudbuild.yaml": true, "codeship-services.yml": true, "codeship-steps.yml": true,
	".goreleaser.yml": true, ".sops.yaml": true, ".flux.yaml": true,
}

// overlayKustomization lays over `path` the kustomization file that Flux would write there: the one that
// exists or one that lists all manifests, with the build fields merged in.
func overlayKustomization(source *overlayFS, path string, build buildFields) error {
	kustomization, file, err := readKustomization(source, path)
	if err != nil {
		return err
	}
	if file == "" {
		file = filepath.Join(path, konfig.DefaultKustomizationFileName())
		if kustomization, err = generateKustomization(source, path); err != nil {
			return err
		}
	}
	if err := build.mergeInto(source, path, kustomization); err != nil {
		return err
	}
	text, err := yaml.Marshal(kustomization)
	if err != nil {
		return err
	}
	merged := string(text)
	source.files[file] = virtual{Text: &merged}
	return nil
}

func newKustomization() *types.Kustomization {
	return &types.Kustomization{
		TypeMeta: types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind},
	}
}

// readKustomization returns the directory's own kustomization and its (resolved) path; "" where there is none.
func readKustomization(source *overlayFS, path string) (*types.Kustomization, string, error) {
	file := kustomizationFile(source, path)
	if file == "" {
		return nil, "", nil
	}
	text, err := source.ReadFile(file)
	if err != nil {
		return nil, "", err
	}
	kustomization := newKustomization()
	if err := yaml.Unmarshal(text, kustomization); err != nil {
		return nil, "", fail("yaml", "%s: %v", source.relative(file), err)
	}
	if len(kustomization.Resources) == 0 && len(kustomization.BuildMetadata) == 0 {
		kustomization.BuildMetadata = []string{types.OriginAnnotations} // as Flux does: not "empty" for kustomize
	}
	resolved, err := source.resolve(file)
	return kustomization, resolved, err
}

func kustomizationFile(source *overlayFS, directory string) string {
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		if file := filepath.Join(directory, name); source.Exists(file) && !source.IsDir(file) {
			return file
		}
	}
	return ""
}

// generateKustomization lists every YAML file below a directory; a sub-directory with a kustomization of its
// own is one resource.
func generateKustomization(source *overlayFS, path string) (*types.Kustomization, error) {
	kustomization := newKustomization()
	factory := provider.NewDefaultDepProvider().GetResourceFactory()
	err := source.Walk(path, func(name string, info fs.FileInfo, err error) error {
		if err != nil || name == path {
			return err
		}
		relative, err := filepath.Rel(path, name)
		if err != nil {
			return err
		}
		if ignored[info.Name()] {
			if info.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if info.IsDir() {
			if kustomizationFile(source, name) == "" {
				return nil
			}
			kustomization.Resources = append(kustomization.Resources, "./"+relative)
			return filepath.SkipDir
		}
		if extension := filepath.Ext(name); extension != ".yaml" && extension != ".yml" {
			return nil
		}
		if err := source.parseOnce(factory, name); err != nil {
			return err
		}
		kustomization.Resources = append(kustomization.Resources, "./"+relative)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail("load", "%s does not exist in the source", source.relative(path))
	}
	if len(kustomization.Resources) == 0 {
		kustomization.Namespace = placeholder
	}
	return kustomization, err
}

func (b buildFields) mergeInto(source *overlayFS, path string, into *types.Kustomization) error {
	if b.TargetNamespace != "" {
		into.Namespace = b.TargetNamespace
	}
	if b.NamePrefix != "" {
		into.NamePrefix = b.NamePrefix
	}
	if b.NameSuffix != "" {
		into.NameSuffix = b.NameSuffix
	}
	for _, patch := range b.Patches {
		into.Patches = append(into.Patches, types.Patch{Patch: patch.Patch, Target: patch.Target})
	}
	for _, component := range b.Components {
		if filepath.IsAbs(component) || strings.Contains(component, "://") {
			return fail("request", "component %s is not a path inside the source", component)
		}
		if b.IgnoreMissingComponents && !source.Exists(filepath.Join(path, component)) {
			continue
		}
		into.Components = append(into.Components, component)
	}
	for _, image := range b.Images {
		into.Images = mergeImage(into.Images, image)
	}
	if len(b.BuildMetadata) > 0 {
		into.BuildMetadata = b.BuildMetadata
	}
	return nil
}

// mergeImage overrides what is set; tag and digest select the version together, so either replaces both.
func mergeImage(images []types.Image, image types.Image) []types.Image {
	i := slices.IndexFunc(images, func(known types.Image) bool { return known.Name == image.Name })
	if i < 0 {
		return append(images, image)
	}
	if image.NewName != "" {
		images[i].NewName = image.NewName
	}
	if image.NewTag != "" || image.Digest != "" {
		images[i].NewTag, images[i].Digest = image.NewTag, image.Digest
	}
	return images
}

// postKustomize runs one of a HelmRelease's post-renderers over a stream of objects.
func postKustomize(objects []byte, patches []types.Patch, images []types.Image) ([]byte, error) {
	const input = "rendered.yaml"
	kustomization := newKustomization()
	kustomization.Resources = []string{input}
	kustomization.Images = images
	for _, patch := range patches {
		kustomization.Patches = append(kustomization.Patches, types.Patch{Patch: patch.Patch, Target: patch.Target})
	}
	text, err := yaml.Marshal(kustomization)
	if err != nil {
		return nil, err
	}
	files := inMemory(map[string][]byte{input: objects, konfig.DefaultKustomizationFileName(): text})
	built, err := runKustomize(files, ".")
	if err != nil {
		return nil, fmt.Errorf("post-renderer: %w", err)
	}
	return built.AsYaml()
}
