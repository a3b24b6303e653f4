package engine

import "testing"

// TestSharesLeaveSomething for what nobody's share is, whatever the limit.
func TestSharesLeaveSomething(t *testing.T) {
	for _, limit := range []int64{64 << 20, 512 << 20, 2 << 30, 64 << 30} {
		s := sharesOf(limit)
		sum := s.relationalBytes + s.tableBytes + s.queuesBytes + s.spoolBytes + s.functionsBytes + s.groupsBytes
		if sum > limit*7/8 {
			t.Errorf("shares of %d bytes sum up to %d", limit, sum)
		}
		for _, subtasks := range []int{1, 2, 30, 512} {
			credit := s.creditBytes(subtasks)
			if credit < creditBytesMin || credit > creditBytesMax || credit > creditBytesMin && 3*credit*int64(subtasks) > s.functionsBytes {
				t.Errorf("limit %d: a credit of %d bytes for each of %d subtasks", limit, credit, subtasks)
			}
		}
	}
}
