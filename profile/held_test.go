package profile

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// A batch that touches more profiles than memory should hold ends the
// transaction.
func TestManyLargeProfilesEndTheTransaction(t *testing.T) {
	db, k := memkv.New(), keys{1, 1}
	value := `"` + strings.Repeat("x", 30<<10) + `"`
	const n = 80
	for i := range n {
		err := db.Update(context.Background(), "loop/1/1", kv.Durable, func(tx kv.Tx) error {
			b, err := open(tx, k, event.ProfileID{byte(i)})
			for j := 0; j < 30 && err == nil; j++ {
				_, _, err = b.set(Trait{Name: fmt.Sprint("t", j), Value: value})
			}
			if err != nil {
				return err
			}
			return b.write(tx)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	opened := 0
	err := db.Update(context.Background(), "loop/1/1", kv.Durable, func(tx kv.Tx) error {
		p := &pass{batch: &pipeline.Batch{Tx: tx, Space: 1, Epoch: 1}, keys: k, books: map[event.ProfileID]*book{}}
		for ; opened < n && !p.batch.Full; opened++ {
			if _, err := p.book(event.ProfileID{byte(opened)}); err != nil {
				return err
			}
		}
		return p.Finish()
	})
	if err != nil || opened < 60 || opened == n {
		t.Errorf("%d of %d profiles of 900 KiB in a transaction, %v", opened, n, err)
	}
}
