package engine

import "github.com/alink-runtime/alink/envmgr"

// OpenEnvironments opens the cache of environments as an engine of these
// options does: what is built in it is what functions of jobs get.
func OpenEnvironments(options Options) (*envmgr.Store, error) {
	return envmgr.Open(envmgr.Options{
		CacheDir: options.CacheDir, UV: options.UV, Offline: options.Offline, SourceBuilds: options.SourceBuilds,
		HarnessRequirements: harnessRequirements(options),
	})
}
