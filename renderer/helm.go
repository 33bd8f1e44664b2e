package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
)

const (
	maxChart    = 20 << 20
	notesName   = "NOTES.txt"
	libraryType = "library"
)

type helmRequest struct {
	Chart   string         `json:"chart"` // archive or directory
	Root    string         `json:"root"`  // of a directory's source: links must not leave it
	Values  map[string]any `json:"values"`
	Release struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		Revision  int    `json:"revision"`
		Upgrade   bool   `json:"upgrade"`
	} `json:"release"`
	KubeVersion string     `json:"kubeVersion"`
	APIVersions []string   `json:"apiVersions"`
	Lookup      bool       `json:"lookup"`
	SkipSchema  bool       `json:"skipSchema"`
	PostRender  postFields `json:"postRender"`
}

func helmRender(s *session, line []byte) (map[string]any, error) {
	var r helmRequest
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fail("request", "%v", err)
	}
	loaded, err := loadChart(r.Chart, r.Root)
	if err != nil {
		return nil, err
	}
	capabilities, err := r.capabilities()
	if err != nil {
		return nil, err
	}
	if err := installable(loaded, capabilities); err != nil {
		return nil, err
	}
	values, warnings, err := r.renderValues(loaded, capabilities)
	if err != nil {
		return nil, err
	}
	files, err := r.engine(s).Render(loaded, values)
	if err != nil {
		return nil, templateFailure(err)
	}
	notes := takeNotes(files, loaded.Name())
	if files, err = r.PostRender.apply(files); err != nil {
		return nil, err
	}
	return r.result(loaded, files, notes, warnings)
}

func (r *helmRequest) result(
	loaded *chart.Chart, files map[string]string, notes string, warnings []string,
) (map[string]any, error) {
	rendered, err := sortFiles(files)
	if err != nil {
		return nil, err
	}
	crds, err := crdFiles(loaded)
	if err != nil {
		return nil, err
	}
	maps.Copy(rendered, map[string]any{
		"crds":       crds,
		"notes":      notes,
		"chart":      loaded,
		"appVersion": loaded.AppVersion(),
		"metadata":   map[string]any{"name": loaded.Name(), "version": loaded.Metadata.Version},
		"warnings":   warnings,
	})
	return rendered, nil
}

func loadChart(name, root string) (*chart.Chart, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fail("load", "chart %s: %v", filepath.Base(name), plain(err))
	}
	if info.IsDir() {
		if err := linksStayInside(name, root); err != nil {
			return nil, err
		}
	} else if info.Size() > maxChart {
		return nil, fail("load", "chart %s has %d MiB; the limit is %d", filepath.Base(name), info.Size()>>20, maxChart>>20)
	}
	loaded, err := loader.Load(name)
	if err == nil {
		err = loaded.Validate()
	}
	if err != nil {
		return nil, fail("load", "chart %s: %s", filepath.Base(name), strings.ReplaceAll(err.Error(), name, filepath.Base(name)))
	}
	return loaded, nil
}

// linksStayInside refuses a chart directory with a symbolic link out of its source: Helm's loader follows links.
func linksStayInside(directory, root string) error {
	if root == "" {
		root = directory
	}
	source, err := newOverlayFS(root, nil)
	if err != nil {
		return fail("load", "%v", err)
	}
	return filepath.WalkDir(directory, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type()&fs.ModeSymlink != 0 {
			_, err = source.resolve(name)
		}
		if err != nil {
			return fail("load", "chart %s: %v", filepath.Base(directory), err)
		}
		return nil
	})
}

func (r *helmRequest) capabilities() (*common.Capabilities, error) {
	capabilities := common.DefaultCapabilities.Copy()
	if r.KubeVersion != "" {
		version, err := common.ParseKubeVersion(r.KubeVersion)
		if err != nil {
			return nil, fail("request", "kubeVersion %q: %v", r.KubeVersion, err)
		}
		capabilities.KubeVersion = *version
	}
	if len(r.APIVersions) > 0 {
		capabilities.APIVersions = r.APIVersions
	}
	return capabilities, nil
}

// installable checks what `helm install` checks before it renders.
func installable(loaded *chart.Chart, capabilities *common.Capabilities) error {
	name := loaded.Name()
	if loaded.Metadata.Type == libraryType {
		return fail("load", "chart %s is a library chart: it cannot be installed", name)
	}
	if wanted := loaded.Metadata.KubeVersion; wanted != "" &&
		!chartutil.IsCompatibleRange(wanted, capabilities.KubeVersion.String()) {
		return fail("incompatible", "chart %s requires Kubernetes %s; this cluster is %s",
			name, wanted, capabilities.KubeVersion.Version)
	}
	present := map[string]bool{}
	for _, dependency := range loaded.Dependencies() {
		present[dependency.Name()] = true
	}
	for _, dependency := range loaded.Metadata.Dependencies {
		if !present[dependency.Name] {
			return fail("load", "chart %s: dependency %s is in Chart.yaml but not in charts/", name, dependency.Name)
		}
	}
	return nil
}

func (r *helmRequest) renderValues(
	loaded *chart.Chart, capabilities *common.Capabilities,
) (common.Values, []string, error) {
	if r.Values == nil {
		r.Values = map[string]any{}
	}
	if err := chartutil.ProcessDependencies(loaded, r.Values); err != nil {
		return nil, nil, fail("load", "chart %s: dependencies: %v", loaded.Name(), err)
	}
	options := common.ReleaseOptions{
		Name: r.Release.Name, Namespace: r.Release.Namespace, Revision: max(1, r.Release.Revision),
		IsUpgrade: r.Release.Upgrade, IsInstall: !r.Release.Upgrade,
	}
	values, err := commonutil.ToRenderValuesWithSchemaValidation(loaded, r.Values, options, capabilities, true)
	if err != nil {
		return nil, nil, fail("values", "chart %s: values: %v", loaded.Name(), err)
	}
	if r.SkipSchema {
		return values, []string{}, nil
	}
	coalesced, _ := values["Values"].(common.Values)
	warnings, err := validateValues(loaded, coalesced)
	return values, warnings, err
}

func (r *helmRequest) engine(s *session) engine.Engine {
	e := engine.Engine{}
	if r.Lookup {
		e.CustomTemplateFuncs = template.FuncMap{"lookup": (&lookups{session: s, known: map[string][]byte{}}).find}
	}
	return e
}

type lookupAnswer struct {
	Object map[string]any   `json:"object"`
	List   []map[string]any `json:"list"`
	Error  string           `json:"error"`
}

var errLookup = errors.New("lookup")

// lookups answers a chart's lookups by asking the caller, once for each key: a render sees one state of an object.
type lookups struct {
	session *session
	known   map[string][]byte // answers as they came: templates may change what they are given
}

// find is the template function. What is not found is an empty map.
func (l *lookups) find(apiVersion, kind, namespace, name string) (map[string]any, error) {
	key := strings.Join([]string{apiVersion, kind, namespace, name}, "\x00")
	text, asked := l.known[key]
	if !asked {
		question := map[string]any{"apiVersion": apiVersion, "kind": kind, "namespace": namespace, "name": name}
		var err error
		if text, err = l.session.ask(map[string]any{"lookup": question}); err != nil {
			return nil, fmt.Errorf("%w: %w", errLookup, err)
		}
		l.known[key] = text
	}
	var answer lookupAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("%w: the answer is not JSON: %w", errLookup, err)
	}
	switch {
	case answer.Error != "":
		return nil, fmt.Errorf("%w %s %s %s/%s: %s", errLookup, apiVersion, kind, namespace, name, answer.Error)
	case answer.Object != nil:
		return answer.Object, nil
	case answer.List != nil:
		return listOf(apiVersion, kind, answer.List), nil
	}
	return map[string]any{}, nil
}

func listOf(apiVersion, kind string, objects []map[string]any) map[string]any {
	items := make([]any, len(objects))
	for i, object := range objects {
		items[i] = object
	}
	return map[string]any{
		"apiVersion": apiVersion, "kind": kind + "List", "metadata": map[string]any{}, "items": items,
	}
}

func templateFailure(err error) *failure {
	if errors.Is(err, errLookup) {
		return fail("lookup", "%v", err)
	}
	// One step for each nested include says little: where it began and what went wrong is enough.
	message := err.Error()
	if steps := strings.Split(message, ": error calling include: "); len(steps) > 2 {
		message = steps[0] + ": … " + steps[len(steps)-1]
	}
	return fail("template", "%s", message)
}

// takeNotes removes every NOTES.txt from the rendered files and returns the chart's own.
func takeNotes(files map[string]string, chartName string) string {
	notes := files[path.Join(chartName, "templates", notesName)]
	for name := range files {
		if strings.HasSuffix(name, notesName) {
			delete(files, name)
		}
	}
	return notes
}

// sortFiles splits rendered files into hooks and the manifest that a release record holds, in Helm's order.
func sortFiles(files map[string]string) (map[string]any, error) {
	sorted, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, fail("yaml", "%v", err)
	}
	var text strings.Builder
	objects := []json.RawMessage{}
	for _, manifest := range manifests {
		fmt.Fprintf(&text, "---\n# Source: %s\n%s\n", manifest.Name, manifest.Content)
		found, err := parseDocument(manifest.Name, manifest.Content)
		if err != nil {
			return nil, err
		}
		objects = append(objects, found...)
	}
	hooks := []map[string]any{}
	for _, hook := range sorted {
		found, err := parseDocument(hook.Path, hook.Manifest)
		if err != nil {
			return nil, err
		}
		if len(found) != 1 {
			return nil, fail("yaml", "%s: a hook is %d objects", hook.Path, len(found))
		}
		hooks = append(hooks, map[string]any{
			"name": hook.Name, "kind": hook.Kind, "path": hook.Path, "manifest": hook.Manifest, "object": found[0],
			"events": hook.Events, "weight": hook.Weight, "deletePolicies": hook.DeletePolicies,
			"outputLogPolicies": hook.OutputLogPolicies,
		})
	}
	return map[string]any{"manifest": text.String(), "objects": objects, "hooks": hooks}, nil
}

// crdFiles are the files under crds/ of a chart and its enabled subcharts, in Helm's order.
func crdFiles(loaded *chart.Chart) ([]map[string]any, error) {
	files := []map[string]any{}
	for _, crd := range loaded.CRDObjects() {
		objects, err := parseStream(crd.Filename, string(crd.File.Data))
		if err != nil {
			return nil, err
		}
		files = append(files, map[string]any{"name": crd.Filename, "objects": objects})
	}
	return files, nil
}

// chartCRDs answers what a render would have put under "crds", without rendering.
func chartCRDs(_ *session, line []byte) (map[string]any, error) {
	var r helmRequest
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fail("request", "%v", err)
	}
	loaded, err := loadChart(r.Chart, r.Root)
	if err != nil {
		return nil, err
	}
	if r.Values == nil {
		r.Values = map[string]any{}
	}
	if err := chartutil.ProcessDependencies(loaded, r.Values); err != nil {
		return nil, fail("load", "chart %s: dependencies: %v", loaded.Name(), err)
	}
	crds, err := crdFiles(loaded)
	if err != nil {
		return nil, err
	}
	return map[string]any{"crds": crds}, nil
}

func chartMetadata(_ *session, line []byte) (map[string]any, error) {
	var r struct {
		Chart string `json:"chart"`
		Root  string `json:"root"`
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fail("request", "%v", err)
	}
	loaded, err := loadChart(r.Chart, r.Root)
	if err != nil {
		return nil, err
	}
	dependencies := []string{}
	for _, dependency := range loaded.Dependencies() {
		dependencies = append(dependencies, dependency.Name())
	}
	return map[string]any{
		"metadata": loaded.Metadata, "dependencies": dependencies, "values": loaded.Values,
		"crds": len(loaded.CRDObjects()),
	}, nil
}
