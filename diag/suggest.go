package diag

import (
	"slices"
	"strings"
)

// Suggest returns the names nearest to name, best first, at most three: those
// within a third of its length in edits, without regard to case.
func Suggest(name string, candidates []string) []string {
	type scored struct {
		name     string
		distance int
	}
	limit := max(1, len(name)/3)
	var near []scored
	for _, candidate := range candidates {
		if d := editDistance(strings.ToLower(name), strings.ToLower(candidate)); d <= limit {
			near = append(near, scored{candidate, d})
		}
	}
	slices.SortStableFunc(near, func(a, b scored) int { return a.distance - b.distance })
	names := make([]string, 0, 3)
	for _, s := range near[:min(3, len(near))] {
		names = append(names, s.name)
	}
	return names
}

// DidYouMean is the hint for an unknown name: the nearest names, or else a
// list of what there is.
func DidYouMean(name, what string, candidates []string) string {
	if near := Suggest(name, candidates); len(near) > 0 {
		return "did you mean " + strings.Join(near, " or ") + "?"
	}
	const listed = 12
	if len(candidates) == 0 {
		return "there are no " + what
	}
	shown := candidates[:min(listed, len(candidates))]
	hint := what + " are: " + strings.Join(shown, ", ")
	if len(candidates) > listed {
		hint += ", …"
	}
	return hint
}

// editDistance is the Damerau-Levenshtein distance with adjacent
// transpositions (optimal string alignment).
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
