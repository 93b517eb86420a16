package delivery

import (
	"math/rand/v2"
	"testing"

	"kith/commitlog"
)

// BenchmarkLedger is what the ledger costs an output: the time, with a block
// written again for every 256 outcomes, as commits do; the bytes that stay; and
// the bytes that are written on the way. docs/decisions/0007 has the numbers.
func BenchmarkLedger(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	delivered := Outcome{State: StateDelivered, Attempts: 1}
	filtered := Outcome{State: StateFiltered, Gate: GateSource}
	for _, pattern := range []struct {
		name   string
		second int // outputs a second
		of     func(i int) []Outcome
	}{
		{"all delivered", 5000, func(int) []Outcome { return []Outcome{delivered} }},
		{"one in two of another source", 5000, func(i int) []Outcome { return []Outcome{[]Outcome{delivered, filtered}[i%2]} }},
		{"three subscriptions, retries and dead letters by chance", 5000, func(int) (list []Outcome) {
			for s := range 3 {
				switch dice := random.IntN(10); {
				case dice < 4:
					list = append(list, Outcome{Subscription: string(rune('a' + s)), State: StateDelivered, Attempts: uint8(1 + random.IntN(3))})
				case dice == 4:
					list = append(list, Outcome{Subscription: string(rune('a' + s)), State: StateDead, Attempts: 1, Code: "400"})
				}
			}
			return list
		}},
		{"one every other minute", 0, func(int) []Outcome { return []Outcome{delivered} }},
	} {
		b.Run(pattern.name, func(b *testing.B) {
			key := len(ledgerKey("0123456789abcdefghijkl", 1, 1))
			kept, written := 0, 0
			var block *ledgerBlock
			write := func(closed bool) {
				n := key + len(block.encode())
				written += n
				if closed {
					kept += n
				}
			}
			for n := range b.N {
				number, i := blockOf(commitlog.Offset(n))
				if block == nil || block.number != number {
					block = &ledgerBlock{number: number}
				}
				minute := int64(2 * n)
				if pattern.second > 0 {
					minute = int64(n / pattern.second / 60)
				}
				block.pass(i, minute)
				list := pattern.of(n)
				if list == nil {
					block.put(i, Outcome{State: StateFiltered, Gate: GateTrigger})
				}
				for _, o := range list {
					block.put(i, o)
				}
				if n%256 == 255 || pattern.second == 0 {
					write(i == ledgerSpan-1)
				}
			}
			b.ReportMetric(float64(kept)/float64(max(1, b.N/ledgerSpan*ledgerSpan)), "B/output")
			b.ReportMetric(float64(written)/float64(b.N), "written-B/output")
		})
	}
}
