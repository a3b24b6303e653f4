package engine

import (
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker"
)

// OpenEnvironments opens the cache of environments as an engine of these
// options does: what is built in it is what functions of jobs get.
func OpenEnvironments(options Options) (*envmgr.Store, error) {
	o := envmgr.Options{
		CacheDir: options.CacheDir, UV: options.UV, Offline: options.Offline, SourceBuilds: options.SourceBuilds,
		HarnessRequirements: harnessRequirements(options),
	}
	if options.Sandbox != "off" {
		o.Confine = udfworker.RunConfined
	}
	return envmgr.Open(o)
}
