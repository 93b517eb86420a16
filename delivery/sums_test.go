package delivery

import (
	"context"
	"testing"

	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// countedLog counts the blocks that are read.
type countedLog struct {
	commitlog.Log
	blocks int
}

func (l *countedLog) Read(ctx context.Context, from commitlog.Offset, maxBytes int) ([]commitlog.Block, error) {
	blocks, err := l.Log.Read(ctx, from, maxBytes)
	l.blocks += len(blocks)
	return blocks, err
}

// TestOutputsAreDecodedOnce: blocks of the ledger and of the log do not lie
// alike, and each block of the log is dear to unpack.
func TestOutputsAreDecodedOnce(t *testing.T) {
	log, err := kvlog.Open(t.Context(), memkv.New(), kv.SpaceKey(1, 'o'), "log", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const blocks, each = 5, 3000
	for n := range blocks {
		outputs := make([]pipeline.Output, each)
		for i := range outputs {
			outputs[i] = pipeline.Output{Event: &pipeline.Resolved{Offset: uint64(n*each + i)}}
		}
		if _, err := log.Append(t.Context(), pipeline.EncodeOutputs(outputs)...); err != nil {
			t.Fatal(err)
		}
	}
	counted := &countedLog{Log: log}
	d := New(Config{Logs: func(uint32) (commitlog.Log, error) { return counted, nil }})
	decoded := logBlock{}
	for number := uint64(0); number*ledgerSpan < blocks*each; number++ {
		b := &ledgerBlock{number: number, first: 7, end: ledgerSpan}
		list, err := d.outputs(t.Context(), 1, b, &decoded)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range list {
			at := b.offset(i)
			if want := i >= b.first && at < blocks*each; (o != nil) != want || want && o.Event.Offset != uint64(at) {
				t.Fatalf("output %d: %+v", at, o)
			}
		}
	}
	if counted.blocks != blocks {
		t.Errorf("%d blocks of the log were read, there are %d", counted.blocks, blocks)
	}
}
