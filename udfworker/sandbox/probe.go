package sandbox

import "os"

// LevelMaxVariable caps the level: "L1" does without namespaces. It is for
// tests of what a lower level stops.
const LevelMaxVariable = "ALINK_SANDBOX_LEVEL_MAX"

// Layer is a part of the sandbox, as it was found by putting it on.
type Layer struct {
	Name  string `json:"name"`
	Level Level  `json:"level"`
	OK    bool   `json:"ok"`
	// Value is what was found; Reason says why it is not there (in full), and
	// Remedy how to get it.
	Value  string `json:"value,omitempty"`
	Reason string `json:"reason,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// Report is what this machine offers to this user.
type Report struct {
	// Level is the highest that has all that it needs.
	Level  Level   `json:"level"`
	Layers []Layer `json:"layers"`
}

// Missing is the first layer that keeps the level from being higher, or a zero
// Layer.
func (r Report) Missing() Layer {
	for _, l := range r.Layers {
		if !l.OK && l.Level > r.Level {
			return l
		}
	}
	return Layer{}
}

// levelMax is the highest level that is to be tried.
func levelMax() Level {
	if level, err := ParseLevel(os.Getenv(LevelMaxVariable)); err == nil {
		return level
	}
	return L3
}
