package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// quotedValue is where the schema library prints a value, which may come from a Secret.
var quotedValue = regexp.MustCompile(`'(?:[^'\\]|\\.)*' (does not match pattern|is not valid|is not)`)

// validateValues holds the values against the chart's schemas. What a schema refers to elsewhere (a URL, a
// local file) is not fetched: there anything is accepted, and a warning says so.
func validateValues(loaded *chart.Chart, values common.Values) ([]string, error) {
	warnings := []string{}
	defer replaceSchemas(loaded, &warnings)()
	if err := commonutil.ValidateAgainstSchema(loaded, values); err != nil {
		return nil, fail("schema", "chart %s: the values do not fit its schema: %s", loaded.Name(),
			quotedValue.ReplaceAllString(err.Error(), "value $1"))
	}
	return warnings, nil
}

// replaceSchemas puts schemas without outside references in place, for a chart and its subcharts; the
// returned function puts the originals back, which the release record needs.
func replaceSchemas(loaded *chart.Chart, warnings *[]string) (restore func()) {
	original := loaded.Schema
	restores := []func(){func() { loaded.Schema = original }}
	if local, references := withoutOutside(original); len(references) > 0 {
		loaded.Schema = local
		*warnings = append(*warnings, "chart "+loaded.Name()+": values.schema.json refers to "+
			strings.Join(references, ", ")+", which is not checked")
	}
	for _, dependency := range loaded.Dependencies() {
		restores = append(restores, replaceSchemas(dependency, warnings))
	}
	return func() {
		for _, restore := range restores {
			restore()
		}
	}
}

func withoutOutside(schema []byte) ([]byte, []string) {
	if !bytes.Contains(schema, []byte("$ref")) && !bytes.Contains(schema, []byte("$dynamicRef")) {
		return schema, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(schema))
	decoder.UseNumber()
	var document any
	if decoder.Decode(&document) != nil {
		return schema, nil // the validator says what is wrong
	}
	references := dropOutside(document, nil)
	if len(references) == 0 {
		return schema, nil
	}
	local, err := json.Marshal(document)
	if err != nil {
		return schema, nil
	}
	return local, references
}

func dropOutside(node any, found []string) []string {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			reference, isText := value.(string)
			if (key == "$ref" || key == "$dynamicRef") && isText && isOutside(reference) {
				delete(node, key)
				found = append(found, reference)
				continue
			}
			found = dropOutside(value, found)
		}
	case []any:
		for _, value := range node {
			found = dropOutside(value, found)
		}
	}
	return found
}

// isOutside: not the same document, and not one of JSON Schema's own that the validator has built in.
func isOutside(reference string) bool {
	for _, builtIn := range []string{"http://json-schema.org/", "https://json-schema.org/", "#"} {
		if strings.HasPrefix(reference, builtIn) {
			return false
		}
	}
	return strings.Contains(reference, ":") || !strings.HasPrefix(reference, "#")
}
