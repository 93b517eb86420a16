package model_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/profile"
)

// TestBatchesChangeNothing: where batches end, whether the loop has restarted
// between two of them, and whether it is the first epoch or one into which
// everything was replayed: what identity and profile keep is the same, byte for
// byte.
func TestBatchesChangeNothing(t *testing.T) {
	rounds(t, func(t *rapid.T) {
		h := &history{t: t, row: rowtest.New(t, memkv.New(), stages()...)}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			h.step()
		}
		end := rowtest.Call{Body: `{"type":"track","integrations":{"Personas":false}}`}
		h.row.Send(end) // wait for the last
		kept := dump(h.row, rowtest.Epoch)

		other := rowtest.New(t, memkv.New(), stages()...)
		for _, s := range h.steps {
			switch {
			case s.config != nil:
				other.Config(s.config)
			case s.order != nil:
				other.Order(s.order)
			case s.calls == nil:
				other.Clock.Set(s.now)
			}
			for _, c := range s.calls {
				switch rapid.IntRange(0, 9).Draw(t, "then") {
				case 0:
					other.Append(c)
					other.Restart(stages()...)
				case 1, 2, 3, 4:
					other.Append(c)
				default:
					other.Send(c)
				}
			}
		}
		other.Send(end)
		if diff := cmp.Diff(kept, dump(other, rowtest.Epoch)); diff != "" {
			t.Fatalf("other batches leave something else (-want +got):\n%s", diff)
		}
		h.row.Replay(rowtest.Epoch+1, nil, stages()...)
		if diff := cmp.Diff(kept, dump(h.row, rowtest.Epoch+1)); diff != "" {
			t.Fatalf("a replay leaves something else (-want +got):\n%s", diff)
		}
	})
}

// dump returns what identity and profile keep in an epoch, by the keys without
// it.
func dump(row *rowtest.Row, epoch uint32) map[string]string {
	kept := map[string]string{}
	row.View(func(r kv.Reader) error {
		for _, stem := range []kv.Key{
			kv.EpochKey(rowtest.Space, epoch, identity.Room),
			kv.EpochKey(rowtest.Space, epoch, profile.Room),
		} {
			for pair, err := range r.Scan(kv.Prefix(stem)) {
				if err != nil {
					return err
				}
				key, _ := bytes.CutPrefix(pair.Key, kv.EpochKey(rowtest.Space, epoch, 0)[:9])
				kept[string(key)] = string(pair.Value)
			}
		}
		return nil
	})
	return kept
}
