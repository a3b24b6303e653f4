package envmgr

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

// wheelsMax bounds the local wheels of an environment.
const wheelsMax = 200

// wheelsVariable stands in locks for the folder of the local wheels, which is
// another one in every build. uv puts its value in its place.
const wheelsVariable = "ALINK_WHEELS"

// File is a file that the user has given: a wheel, a file or an archive.
type File struct {
	// Name is what the user calls it: of a wheel its file name, otherwise a
	// path with slashes below the folder of files.
	Name string
	// SHA256 is the hash of its content, in hexadecimal, and Path where that
	// lies on this machine.
	SHA256 string
	Path   string
}

// wheelName is the file name of a wheel (PEP 427): name, version, perhaps a
// build number, and three tags.
var wheelName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._]*)-([A-Za-z0-9.!+_]+)(-[0-9][A-Za-z0-9._]*)?-[A-Za-z0-9._]+-[A-Za-z0-9._]+-[A-Za-z0-9._]+\.whl$`)

// wheelRequirements are the requirements that local wheels stand for. Their
// text has the wheel's content, so that it has a part in what is chosen.
func wheelRequirements(wheels []File) ([]requirement, error) {
	if len(wheels) > wheelsMax {
		return nil, diag.New(diag.BadFile, "an environment has %d wheels, at most %d are possible", len(wheels), wheelsMax)
	}
	var all []requirement
	seen := map[string]string{}
	for _, w := range wheels {
		match := wheelName.FindStringSubmatch(w.Name)
		if match == nil {
			return nil, diag.New(diag.BadFile, "%q is not the name of a wheel", w.Name).
				WithHint("a wheel is called name-1.0-py3-none-any.whl; do not rename what the build made")
		}
		name := normalise(match[1])
		if other := seen[name]; other != "" {
			return nil, diag.New(diag.BadFile, "two wheels are of the package %s: %s and %s", name, other, w.Name).
				WithHint("give one of them")
		}
		seen[name] = w.Name
		if err := checkWheel(w); err != nil {
			return nil, diag.New(diag.BadFile, "%s is not a wheel", w.Name).WithCause(err).
				WithHint("build it anew, for example with: uv build --wheel")
		}
		all = append(all, requirement{name: name, text: w.Name + " sha256:" + w.SHA256, wheel: w.Name})
	}
	return all, nil
}

// checkWheel looks for what every wheel holds.
func checkWheel(w File) error {
	archive, err := zip.OpenReader(w.Path)
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }() // only read
	for _, f := range archive.File {
		if dir, file := path.Split(f.Name); file == "METADATA" && strings.HasSuffix(dir, ".dist-info/") {
			return nil
		}
	}
	return errors.New("it holds no METADATA")
}

// placeWheels puts the wheels into a folder under their own names, which say
// what they are.
func placeWheels(wheels []File, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, w := range wheels {
		if err := copyFile(w.Path, filepath.Join(dir, w.Name), 0o600); err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
	}
	return nil
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// fileURL is the URL of a folder or file.
func fileURL(path string) string {
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// wheelReference finds, in the text of a lock, where a local wheel lies.
var wheelReference = regexp.MustCompile(`file://\S*/([^/\s]+\.whl)`)

// withoutFolder makes the text of a lock independent of the folder in which the
// local wheels happened to lie.
func withoutFolder(lock string) string {
	return wheelReference.ReplaceAllString(lock, "file://$${"+wheelsVariable+"}/$1")
}
