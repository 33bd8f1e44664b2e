package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// maxFile bounds what one file may bring into memory.
const maxFile = 50 << 20

var errReadOnly = errors.New("a source is read-only")

// virtual is a file that the caller lays over the disk: its text, or another file's content.
type virtual struct {
	Text *string `json:"text"`
	File string  `json:"file"`
}

func (v virtual) content() ([]byte, error) {
	if v.Text != nil {
		return []byte(*v.Text), nil
	}
	return os.ReadFile(v.File)
}

// overlayFS shows a snapshot on disk and virtual files over it, read-only. No path leads out of
// the snapshot, also not through symbolic links. It remembers what a build looked at.
type overlayFS struct {
	root   string // resolved
	files  map[string]virtual
	seen   map[string]struct{}
	parsed map[string][]*resource.Resource // what was parsed before the build proper
}

var _ filesys.FileSystem = (*overlayFS)(nil)

func newOverlayFS(root string, overlay map[string]virtual) (*overlayFS, error) {
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, fmt.Errorf("source root: %w", err)
	}
	o := &overlayFS{
		root: resolved, files: map[string]virtual{}, seen: map[string]struct{}{},
		parsed: map[string][]*resource.Resource{},
	}
	for name, file := range overlay {
		relative, err := filepath.Rel(filepath.Clean(root), filepath.Clean(name))
		if err != nil || !filepath.IsLocal(relative) {
			return nil, fmt.Errorf("virtual file %s is outside of the source", name)
		}
		o.files[filepath.Join(resolved, relative)] = file
	}
	return o, nil
}

// relative names a path as people know it, from the source's root.
func (o *overlayFS) relative(path string) string {
	if relative, err := filepath.Rel(o.root, path); err == nil && filepath.IsLocal(relative) {
		return relative
	}
	return path
}

// resolve follows symbolic links and refuses what lies outside of the source.
func (o *overlayFS) resolve(path string) (string, error) {
	clean, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if o.isVirtual(clean) {
		return clean, o.contained(clean, clean)
	}
	resolved, err := filepath.EvalSymlinks(clean)
	if err != nil {
		if inside := o.contained(clean, clean); inside != nil {
			return "", inside
		}
		o.note(clean)
		return "", &fs.PathError{Op: "open", Path: o.relative(clean), Err: plain(err)}
	}
	if err := o.contained(clean, resolved); err != nil {
		return "", err
	}
	o.note(resolved)
	return resolved, nil
}

func plain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func (o *overlayFS) contained(asked, resolved string) error {
	if resolved == o.root || strings.HasPrefix(resolved, o.root+string(filepath.Separator)) {
		return nil
	}
	return fmt.Errorf("%s is outside of the source", o.relative(asked))
}

func (o *overlayFS) note(path string) { o.seen[o.relative(path)] = struct{}{} }

// isVirtual tells whether a clean path is a virtual file, or a directory that only virtual files make.
func (o *overlayFS) isVirtual(path string) bool {
	if _, ok := o.files[path]; ok {
		return true
	}
	if _, err := os.Lstat(path); err == nil {
		return false
	}
	return o.holdsVirtual(path)
}

func (o *overlayFS) holdsVirtual(directory string) bool {
	for name := range o.files {
		if strings.HasPrefix(name, directory+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

func (o *overlayFS) IsDir(path string) bool {
	resolved, err := o.resolve(path)
	if err != nil {
		return false
	}
	if _, ok := o.files[resolved]; ok {
		return false
	}
	info, err := os.Stat(resolved)
	return (err == nil && info.IsDir()) || o.holdsVirtual(resolved)
}

func (o *overlayFS) Exists(path string) bool {
	_, err := o.resolve(path)
	return err == nil
}

func (o *overlayFS) CleanedAbs(path string) (filesys.ConfirmedDir, string, error) {
	resolved, err := o.resolve(path)
	if err != nil {
		return "", "", err
	}
	if o.IsDir(resolved) {
		return filesys.ConfirmedDir(resolved), "", nil
	}
	return filesys.ConfirmedDir(filepath.Dir(resolved)), filepath.Base(resolved), nil
}

func (o *overlayFS) ReadFile(path string) ([]byte, error) {
	resolved, err := o.resolve(path)
	if err != nil {
		return nil, err
	}
	if file, ok := o.files[resolved]; ok {
		return file.content()
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: o.relative(path), Err: plain(err)}
	}
	switch {
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", o.relative(path))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", o.relative(path))
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d MiB; the limit is %d", o.relative(path), info.Size()>>20, maxFile>>20)
	}
	return os.ReadFile(resolved)
}

func (o *overlayFS) ReadDir(path string) ([]string, error) {
	resolved, err := o.resolve(path)
	if err != nil {
		return nil, err
	}
	names := map[string]struct{}{}
	entries, err := os.ReadDir(resolved)
	if err != nil && !o.holdsVirtual(resolved) {
		return nil, err
	}
	for _, entry := range entries {
		names[entry.Name()] = struct{}{}
	}
	for name := range o.files {
		if rest, below := strings.CutPrefix(name, resolved+string(filepath.Separator)); below {
			first, _, _ := strings.Cut(rest, string(filepath.Separator))
			names[first] = struct{}{}
		}
	}
	return sortedKeys(names), nil
}

func (o *overlayFS) Glob(pattern string) ([]string, error) {
	directory, base := filepath.Split(pattern)
	names, err := o.ReadDir(filepath.Clean(directory))
	if err != nil {
		return nil, nil // like filepath.Glob: what cannot be read does not match
	}
	var found []string
	for _, name := range names {
		matches, err := filepath.Match(base, name)
		if err != nil {
			return nil, err
		}
		if matches && (strings.HasPrefix(base, ".") || !strings.HasPrefix(name, ".")) {
			found = append(found, filepath.Join(directory, name))
		}
	}
	return found, nil
}

// Walk goes through a directory in lexical order and does not follow links to directories.
func (o *overlayFS) Walk(path string, visit filepath.WalkFunc) error {
	return filepath.Walk(path, func(name string, info fs.FileInfo, err error) error {
		if err == nil && info.IsDir() {
			o.note(name)
		}
		return visit(name, info, err)
	})
}

func (o *overlayFS) Open(string) (filesys.File, error)   { return nil, errReadOnly }
func (o *overlayFS) Create(string) (filesys.File, error) { return nil, errReadOnly }
func (o *overlayFS) Mkdir(string) error                  { return errReadOnly }
func (o *overlayFS) MkdirAll(string) error               { return errReadOnly }
func (o *overlayFS) RemoveAll(string) error              { return errReadOnly }
func (o *overlayFS) WriteFile(string, []byte) error      { return errReadOnly }

func sortedKeys[V any](of map[string]V) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
