package envmgr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alink-runtime/alink/diag"
)

const (
	// filesMax bounds the files and archives of an environment.
	filesMax = 10_000
	// fileNameBytesMax bounds the name of one.
	fileNameBytesMax = 1_024
	// filesFolder is the folder of an environment's files in its directory.
	filesFolder = "files"
)

// fileSet is the files and archives of an environment. They are kept apart from
// its packages, so that a change of a file builds no packages anew, and listed
// and collected like an environment.
type fileSet struct {
	store    *Store
	key      string
	files    []File
	archives []File
	progress func(string)
}

func (s *Store) fileSet(spec Spec, progress func(string)) (*fileSet, error) {
	f := &fileSet{store: s, files: slices.Clone(spec.Files), archives: slices.Clone(spec.Archives), progress: progress}
	byName := func(a, b File) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(f.files, byName)
	slices.SortFunc(f.archives, byName)
	if err := f.check(); err != nil {
		return nil, err
	}
	named := func(files []File) []string {
		var list []string
		for _, file := range files {
			list = append(list, file.Name+" "+file.SHA256)
		}
		return list
	}
	f.key = hashJSON(struct {
		Format          int
		Files, Archives []string
	}{formatVersion, named(f.files), named(f.archives)})
	return f, nil
}

// check refuses names that lie outside, or within one another.
func (f *fileSet) check() error {
	if n := len(f.files) + len(f.archives); n > filesMax {
		return diag.New(diag.BadFile, "an environment has %d files, at most %d are possible", n, filesMax).
			WithHint("put them into an archive and give that with archives=")
	}
	taken := map[string]bool{} // files, and folders of archives
	folders := map[string]bool{}
	take := func(name, place string) error {
		if name == "" || len(name) > fileNameBytesMax || strings.ContainsAny(name, "\x00\\") || path.Clean(name) != name || !filepath.IsLocal(name) {
			return diag.New(diag.BadFile, "a file of the environment cannot be called %q", name).
				WithHint("names are paths below the folder of files, as in conf/model.json")
		}
		clash := taken[place] || folders[place]
		taken[place] = true
		for parent := path.Dir(place); parent != "."; parent = path.Dir(parent) {
			clash = clash || taken[parent]
			folders[parent] = true
		}
		if clash {
			return diag.New(diag.BadFile, "two files or archives of the environment would lie at %s", place).
				WithHint(`give one another name: {"other/name": "path"}`)
		}
		return nil
	}
	for _, file := range f.files {
		if err := take(file.Name, file.Name); err != nil {
			return err
		}
	}
	for _, archive := range f.archives {
		folder, ok := archiveFolder(archive.Name)
		if !ok {
			return diag.New(diag.BadFile, "%s is not an archive that can be unpacked", archive.Name).
				WithHint("archives are %s", strings.Join(archiveEndings, ", "))
		}
		if err := take(archive.Name, folder); err != nil {
			return err
		}
	}
	return nil
}

func (f *fileSet) dir() string { return filepath.Join(f.store.envs, f.key) }

// make puts the files in their place unless they are there.
func (f *fileSet) make(ctx context.Context) error {
	if err := f.store.hold(ctx, f.key); err != nil {
		return err
	}
	return f.store.construct(ctx, construction{
		key: f.key, usable: usableFiles,
		waiting: func() { f.progress("waiting for another job to place " + f.what()) },
		fill:    f.fill,
		failed:  f.failed,
	})
}

func usableFiles(dir string) bool { return marked(dir) && isDir(filepath.Join(dir, filesFolder)) }

func (f *fileSet) fill(ctx context.Context, dir string, _ *os.File) error {
	f.progress("placing " + f.what() + "…")
	root := filepath.Join(dir, filesFolder)
	if err := os.Mkdir(root, 0o700); err != nil {
		return f.failed("they could not be written", err)
	}
	for _, file := range f.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.place(file, filepath.Join(root, filepath.FromSlash(file.Name))); err != nil {
			return err
		}
	}
	for _, archive := range f.archives {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.unpack(archive, root); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(meta{
		Format: formatVersion, Key: f.key, Kind: kindFiles, Created: time.Now().UTC().Truncate(time.Second), Files: f.names(),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "meta.json"), append(text, '\n'), 0o600); err != nil {
		return f.failed("they could not be written", err)
	}
	return seal(root)
}

// place copies a file and checks that it is the one that was meant.
func (f *fileSet) place(file File, to string) error {
	err := os.MkdirAll(filepath.Dir(to), 0o700)
	if err == nil {
		err = copyFile(file.Path, to, 0o600)
	}
	if err == nil {
		err = checkHash(to, file.SHA256)
	}
	if err != nil {
		return f.failed(file.Name+" could not be written", err)
	}
	return nil
}

func checkHash(path, want string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	hash := sha256.New()
	if _, err := io.Copy(hash, in); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("its hash is %s, not %s: it has changed", got, want)
	}
	return nil
}

func (f *fileSet) unpack(archive File, root string) error {
	folder, _ := archiveFolder(archive.Name)
	dir := filepath.Join(root, filepath.FromSlash(folder))
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = unpackArchive(archive.Path, archive.Name, dir)
	}
	switch {
	case err == nil:
		return nil
	case noRoom(err):
		return f.failed(archive.Name+" could not be unpacked", err)
	}
	return diag.New(diag.BadFile, "the archive %s cannot be unpacked", archive.Name).WithCause(err).
		WithHint("make the archive anew, with relative names only, or give single files with files=")
}

func (f *fileSet) failed(how string, err error) error {
	return diskFailure(diag.New(diag.BuildFailed, "the files of the environment (%s) could not be placed: %s", f.what(), how), f.store, err)
}

func (f *fileSet) names() []string {
	var names []string
	for _, file := range slices.Concat(f.files, f.archives) {
		names = append(names, file.Name)
	}
	return names
}

func (f *fileSet) what() string {
	const listed = 3
	names := f.names()
	if more := len(names) - listed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:listed], ", "), more)
	}
	return strings.Join(names, ", ")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// seal takes the right to write from every file below dir: an environment is
// only read. It guards against accidents; a worker of the same user could give
// itself the right back where no sandbox holds it. Folders stay as they are, so
// that people can remove a cache by hand.
func seal(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // a handle of a folder
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return root.Chmod(path, info.Mode().Perm()&^0o222)
	})
}

// removeTree removes a folder, also where a build has left folders in it that
// cannot be written to.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			// Before it is read: WalkDir reads a folder after this call, and
			// calls again if it could not.
			return os.Chmod(path, 0o700) //nolint:gosec // about to be removed
		}
		return err
	})
	return errors.Join(walkErr, os.RemoveAll(dir))
}
