package pipeline_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/commitlog"
	"kith/event"
	"kith/pipeline"
)

func decodeAll(t interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}, blocks []commitlog.Payload) []pipeline.Output {
	t.Helper()
	var all []pipeline.Output
	for i, b := range blocks {
		outputs, err := pipeline.DecodeOutputs(b.Data)
		if err != nil {
			t.Fatal(err)
		}
		if len(outputs) != b.Count {
			t.Fatalf("block %d says it holds %d outputs and holds %d", i, b.Count, len(outputs))
		}
		all = append(all, outputs...)
	}
	return all
}

func TestOutputsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := func(label string) (id [16]byte) {
			copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
			return id
		}
		text := rapid.StringN(0, 12, -1)
		outputs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pipeline.Output {
			o := pipeline.Output{At: rapid.Int64().Draw(t, "at"), Profile: id("profile")}
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				o.Event = &pipeline.Resolved{
					Offset: rapid.Uint64().Draw(t, "offset"), ID: id("record"), Type: event.Type(rapid.Byte().Draw(t, "type")),
					Name: text.Draw(t, "name"), Source: text.Draw(t, "source"), MessageID: text.Draw(t, "messageId"),
				}
			case 1:
				o.Change = &pipeline.Change{
					Kind: pipeline.ChangeKind(rapid.Byte().Draw(t, "kind")), Cause: id("cause"), Other: id("other"),
					Subject: text.Draw(t, "subject"), Detail: text.Draw(t, "detail"),
				}
			default:
				o.Message = &pipeline.Message{
					Destination: text.Draw(t, "destination"), Computation: text.Draw(t, "computation"), MessageID: text.Draw(t, "messageId"),
					Body: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "body"),
				}
			}
			return o
		}), 1, 30).Draw(t, "outputs")
		if diff := cmp.Diff(outputs, decodeAll(t, pipeline.EncodeOutputs(outputs))); diff != "" {
			t.Fatalf("-written +read:\n%s", diff)
		}
	})
}

// TestOutputsFillBlocks writes more outputs, and larger ones, than one block
// holds: each block stays below what a log takes, also where nothing packs.
func TestOutputsFillBlocks(t *testing.T) {
	many := make([]pipeline.Output, 20_000)
	for i := range many {
		many[i] = pipeline.Output{At: int64(i), Change: &pipeline.Change{Kind: pipeline.TraitChanged}}
	}
	noise := make([]byte, 3<<20)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	var large []pipeline.Output
	for i := range 12 {
		large = append(large, pipeline.Output{At: int64(i), Message: &pipeline.Message{Destination: "d", Body: noise}})
	}
	for name, outputs := range map[string][]pipeline.Output{"many": many, "large": large} {
		blocks := pipeline.EncodeOutputs(outputs)
		if len(blocks) < 3 {
			t.Errorf("%s: %d blocks", name, len(blocks))
		}
		for _, b := range blocks {
			if len(b.Data) > commitlog.MaxBlockBytes {
				t.Errorf("%s: a block has %d bytes", name, len(b.Data))
			}
		}
		read := decodeAll(t, blocks)
		if len(read) != len(outputs) {
			t.Fatalf("%s: %d outputs, want %d", name, len(read), len(outputs))
		}
		for i := range read {
			if read[i].At != int64(i) {
				t.Fatalf("%s: output %d is that of %d", name, i, read[i].At)
			}
		}
	}
	if blocks := pipeline.EncodeOutputs(nil); blocks != nil {
		t.Errorf("no outputs make %d blocks", len(blocks))
	}
}

func TestDamagedOutputs(t *testing.T) {
	whole := pipeline.EncodeOutputs([]pipeline.Output{{At: 7, Message: &pipeline.Message{Destination: "d", Body: []byte("{}")}}})[0].Data
	for n := range whole {
		if _, err := pipeline.DecodeOutputs(whole[:n]); err == nil && n > 1 {
			t.Errorf("a block cut to %d of %d bytes reads as whole", n, len(whole))
		}
	}
	other := bytes.Clone(whole)
	other[0]++
	if _, err := pipeline.DecodeOutputs(other); err == nil {
		t.Error("a block of an unknown format was read")
	}
}

func FuzzDecodeOutputs(f *testing.F) {
	for _, o := range []pipeline.Output{
		{At: -1, Event: &pipeline.Resolved{Offset: 1, Name: "Seen", MessageID: "m"}},
		{At: 1, Change: &pipeline.Change{Kind: pipeline.ProfilesMerged, Subject: "email:a@example.com"}},
		{Message: &pipeline.Message{Destination: "d", Computation: "a", MessageID: "m", Body: []byte("{}")}},
	} {
		f.Add(pipeline.EncodeOutputs([]pipeline.Output{o, o})[0].Data)
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		outputs, err := pipeline.DecodeOutputs(data)
		if err != nil {
			return
		}
		// What was read can be written, and reads the same.
		if diff := cmp.Diff(outputs, decodeAll(t, pipeline.EncodeOutputs(outputs))); diff != "" {
			t.Fatalf("-read +read again:\n%s", diff)
		}
	})
}
