package envmgr

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

const (
	// indexesMax bounds the package indexes of an environment; what describes
	// them must fit into a pipe.
	indexesMax = 16
	// indexURLBytesMax bounds the URL of one, with its credentials.
	indexURLBytesMax = 2_000
	// netrcBytesMax bounds a netrc file.
	netrcBytesMax = 1 << 20
	// publicIndex is where packages come from when nobody says anything.
	publicIndex = "https://pypi.org/simple"
)

// Index is a package index (PEP 503). Username and Password are for the builder
// alone: they have no part in what an environment is, and are told to uv
// through a pipe, so that they stand in no file, no command line and no
// process's environment.
type Index struct {
	URL      string
	Username string
	Password string
}

// String leaves the credentials out, so that no message can hold them.
func (x Index) String() string { return x.URL }

// GoString is String.
func (x Index) GoString() string { return x.URL }

// check reports why an index cannot be used. It never repeats a URL that may
// hold a password.
func (x Index) check() error {
	u, err := url.Parse(x.URL)
	switch {
	case len(x.URL)+len(x.Username)+len(x.Password) > indexURLBytesMax:
		return fmt.Errorf("its URL has more than %d bytes", indexURLBytesMax)
	case err != nil:
		return errors.New("it is not a URL")
	case u.User != nil:
		return errors.New("user name and password must be given apart from its URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("it is %q: only http and https are supported", u.Scheme+":")
	case u.Host == "":
		return errors.New("its URL names no host")
	case x.Password != "" && x.Username == "":
		return errors.New("it has a password without a user name")
	}
	return nil
}

func checkIndexes(indexes []Index) error {
	if len(indexes) > indexesMax {
		return diag.New(diag.BadOption, "an environment has %d package indexes, at most %d are possible", len(indexes), indexesMax)
	}
	for i, x := range indexes {
		if err := x.check(); err != nil {
			return diag.New(diag.BadOption, "package index %d of the environment cannot be used: %v", i+1, err).
				WithHint(`write it as "https://host/simple", or with credentials "https://user:${PASSWORD}@host/simple"`)
		}
	}
	return nil
}

var (
	variableReference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	indexHint         = `write it as "https://host/simple", or with a login 'https://user:${TOKEN}@host/simple'`
)

// ParseIndex reads the URL of an index as a command line has it. A login stands
// in variables, ${NAME}, which lookup gives: others can read a command line, so
// a password that is written out is refused. No error repeats the text.
func ParseIndex(text string, lookup func(string) (string, bool)) (Index, error) {
	refuse := func(why string) (Index, error) {
		return Index{}, diag.New(diag.BadOption, "the URL of a package index %s", why).WithHint("%s", indexHint)
	}
	var missing string
	value := func(text string) string {
		return variableReference.ReplaceAllStringFunc(text, func(reference string) string {
			name := reference[2 : len(reference)-1]
			found, ok := lookup(name)
			if !ok || found == "" {
				missing = name
			}
			return found
		})
	}
	whole := variableReference.FindString(text) == text
	if whole {
		text = value(text)
	}
	scheme, rest, isURL := strings.Cut(text, "://")
	authority, path, slash := strings.Cut(rest, "/")
	login, host := "", authority
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		login, host = authority[:at], authority[at+1:]
	}
	x := Index{URL: scheme + "://" + host}
	if slash {
		x.URL += "/" + path
	}
	x.Username, x.Password, _ = strings.Cut(login, ":")
	for _, part := range []*string{&x.Username, &x.Password} {
		if variableReference.MatchString(*part) && !whole {
			*part = value(*part)
		} else if decoded, err := url.PathUnescape(*part); err == nil {
			*part = decoded
		}
	}
	_, password, _ := strings.Cut(login, ":")
	secret := cmp.Or(password, login)
	switch {
	case missing != "":
		return refuse("needs the variable " + missing + ", which is not set")
	case !isURL:
		return refuse("has no scheme")
	case secret != "" && !whole && !variableReference.MatchString(secret):
		return refuse("has a password that is written out, which others can read while the command runs")
	}
	if err := x.check(); err != nil {
		return refuse("cannot be used: " + err.Error())
	}
	return x, nil
}

// withCredentials is the URL as uv reads it.
func (x Index) withCredentials() string {
	u, err := url.Parse(x.URL)
	if err != nil || x.Username == "" {
		return x.URL
	}
	u.User = url.User(x.Username)
	if x.Password != "" {
		u.User = url.UserPassword(x.Username, x.Password)
	}
	return u.String()
}

// indexConfig is the text of a uv.toml that names these indexes and no other:
// the last one is the default, in whose place the public one would be asked.
func indexConfig(indexes []Index) []byte {
	var text bytes.Buffer
	for i, x := range indexes {
		fmt.Fprintf(&text, "[[index]]\nurl = %s\n", strconv.QuoteToASCII(x.withCredentials()))
		if i == len(indexes)-1 {
			text.WriteString("default = true\n")
		}
	}
	return text.Bytes()
}

// secrets are the texts that must not appear in what is told.
type secrets []string

func secretsOf(indexes []Index) secrets {
	var s secrets
	for _, x := range indexes {
		secret := cmp.Or(x.Password, x.Username) // a user name alone is a token
		if secret == "" {
			continue
		}
		_, encoded, _ := strings.Cut(url.UserPassword("u", secret).String(), ":")
		s = append(s, secret, encoded, url.QueryEscape(secret))
	}
	return s
}

// without takes the secrets out of another program's words.
func (s secrets) without(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "****")
	}
	return text
}

// indexURLs are what decides about an index: its URL, in order.
func indexURLs(indexes []Index) []string {
	urls := make([]string, len(indexes))
	for i, x := range indexes {
		urls[i] = x.URL
	}
	return urls
}

// indexVariables are uv's variables that name indexes or say how to log in.
func indexVariable(name string) bool {
	switch name {
	case "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX",
		"UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_KEYRING_PROVIDER", "UV_NO_SOURCES":
		return true
	}
	return strings.HasPrefix(name, "UV_INDEX_") && (strings.HasSuffix(name, "_USERNAME") || strings.HasSuffix(name, "_PASSWORD"))
}

// environIndexes are the indexes that uv's variables name, with what they,
// uv's further variables or a netrc file say of how to log in. It is used where
// uv must not see those itself, because code of packages runs below it.
func environIndexes(environ []string) []Index {
	values := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	var indexes []Index
	for _, name := range []string{"UV_INDEX", "UV_EXTRA_INDEX_URL"} {
		for entry := range strings.FieldsSeq(values[name]) {
			indexes = append(indexes, environIndex(entry, values))
		}
	}
	return append(indexes, environIndex(cmp.Or(values["UV_DEFAULT_INDEX"], values["UV_INDEX_URL"], publicIndex), values))
}

// environIndex reads "https://…" or "name=https://…".
func environIndex(entry string, values map[string]string) Index {
	name := ""
	if before, after, found := strings.Cut(entry, "="); found && !strings.Contains(before, "://") {
		name, entry = before, after
	}
	u, err := url.Parse(entry)
	if err != nil {
		return Index{URL: entry}
	}
	x := Index{}
	if u.User != nil {
		x.Username = u.User.Username()
		x.Password, _ = u.User.Password()
		u.User = nil
	}
	x.URL = u.String()
	if x.Username == "" && name != "" {
		variable := "UV_INDEX_" + strings.ToUpper(separators.ReplaceAllString(name, "_"))
		x.Username, x.Password = values[variable+"_USERNAME"], values[variable+"_PASSWORD"]
	}
	return x
}

// withNetrc adds the login of a netrc file to the indexes that have none.
func withNetrc(indexes []Index) []Index {
	indexes = slices.Clone(indexes)
	path := os.Getenv("NETRC")
	if home, err := os.UserHomeDir(); path == "" && err == nil {
		path = filepath.Join(home, ".netrc")
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > netrcBytesMax {
		return indexes
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return indexes // it is another user's
	}
	for i, x := range indexes {
		u, err := url.Parse(x.URL)
		if err == nil && x.Username == "" {
			indexes[i].Username, indexes[i].Password = netrcLogin(string(text), u.Hostname())
		}
	}
	return indexes
}

// netrcLogin finds a host's login in the text of a netrc file.
func netrcLogin(text, host string) (login, password string) {
	words := strings.Fields(text)
	inside := false
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch words[i] {
		case "machine":
			if login != "" {
				return login, password
			}
			inside = next == host
			i++
		case "default":
			if login != "" {
				return login, password
			}
			inside = true
		case "login", "password", "account":
			if inside && words[i] == "login" {
				login = next
			} else if inside && words[i] == "password" {
				password = next
			}
			i++
		}
	}
	return login, password
}
