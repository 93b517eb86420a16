package event

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func drawRecord(t *rapid.T) Record {
	short := rapid.StringN(0, 20, -1)
	h := Head{
		Kind:      Kind(rapid.Uint8Range(1, 3).Draw(t, "kind")),
		ID:        RecordID(draw16(t, "id")),
		At:        rapid.Int64().Draw(t, "at"),
		Type:      Type(rapid.Uint8Range(0, 6).Draw(t, "type")),
		Name:      short.Draw(t, "name"),
		Source:    rapid.SampledFrom([]string{"", "src_1", "src_2"}).Draw(t, "source"),
		MessageID: short.Draw(t, "messageId"),
	}
	h.Time = h.At - rapid.Int64Range(-1000, 1<<40).Draw(t, "age")
	for range rapid.IntRange(0, 4).Draw(t, "ids") {
		h.IDs = append(h.IDs, Identifier{
			Collection: rapid.SampledFrom([]string{Users, Accounts}).Draw(t, "collection"),
			Type:       rapid.SampledFrom([]string{"user_id", "email", "x"}).Draw(t, "id type"),
			Value:      short.Draw(t, "value"),
		})
	}
	return Record{Head: h, Body: []byte(rapid.StringN(0, 300, -1).Draw(t, "body"))}
}

func TestBlockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 20).Draw(t, "records")
		p := EncodeBlock(records)
		if p.Count != len(records) {
			t.Fatalf("count %d, want %d", p.Count, len(records))
		}
		got, err := DecodeBlock(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(records, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-wrote +read):\n%s", diff)
		}
	})
}

func TestBlockOfTicks(t *testing.T) {
	in := []Record{{Head: Head{Kind: KindTick, At: 5, Time: 5}}, {Head: Head{Kind: KindConfig, At: 6, Time: 6}, Body: []byte(`{"snapshot":3}`)}}
	got, err := DecodeBlock(EncodeBlock(in).Data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

// sampleBlock is a block as collect writes them: n events of a few guests.
func sampleBlock(n int) []Record {
	rng := rand.New(rand.NewSource(1))
	records := make([]Record, n)
	at := int64(1767323045678)
	for i := range records {
		at += rng.Int63n(20)
		guest := rng.Intn(n)
		message := fmt.Sprintf("node-next-%d-%08x-0df5-4f0e-9df4-%012x", at, rng.Uint32(), rng.Int63n(1<<48))
		body := strings.NewReplacer("guest-4711", fmt.Sprintf("guest-%d", guest), "1280.5", fmt.Sprint(rng.Intn(2000)),
			"node-next-1700000000000-6f1c4a52-0df5-4f0e-9df4-1f4f5d3e1c11", message).Replace(sample)
		records[i] = Record{
			Head: Head{Kind: KindEvent, At: at, Time: at - rng.Int63n(3000), Type: Track, Name: "Booking Completed", Source: "src_booking", MessageID: message,
				IDs: []Identifier{{Users, "user_id", fmt.Sprintf("guest-%d", guest)}, {Users, "email", "ada@example.com"}}},
			Body: []byte(body),
		}
		rng.Read(records[i].ID[:])
	}
	return records
}

func TestDamagedBlocks(t *testing.T) {
	data := EncodeBlock(sampleBlock(20)).Data
	for i := range data {
		if _, err := DecodeBlock(data[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes were read", i, len(data))
		}
		flipped := append([]byte(nil), data...)
		flipped[i] ^= 0x40
		if records, err := DecodeBlock(flipped); err == nil && !cmp.Equal(records, sampleBlock(20)) {
			t.Fatalf("another block was read after byte %d was changed", i)
		}
	}
	if _, err := DecodeBlock(append(append([]byte(nil), data...), 0)); err == nil {
		t.Error("a byte too many was not noticed")
	}
	// A tiny block that claims a million records asks for no memory.
	huge := append([]byte{blockFormat}, binary.AppendUvarint(nil, maxRecords)...)
	empty := encoder.EncodeAll(nil, nil)
	huge = append(append(binary.AppendUvarint(huge, uint64(len(empty))), empty...), empty...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := DecodeHeads(huge); err == nil {
		t.Error("its heads were read")
	}
	if _, err := DecodeBodies(huge); err == nil {
		t.Error("its bodies were read")
	}
	runtime.ReadMemStats(&after)
	if asked := after.TotalAlloc - before.TotalAlloc; asked > 1<<20 {
		t.Errorf("%d bytes were asked for", asked)
	}
}

func FuzzDecodeBlock(f *testing.F) {
	f.Add(EncodeBlock(sampleBlock(3)).Data)
	f.Add(EncodeBlock([]Record{{Head: Head{Kind: KindTick}}}).Data)
	f.Add([]byte{blockFormat, 1, 0})
	// Zstd's checksums stop almost every change, so the columns are fuzzed
	// without it as well.
	head, _ := decoder.DecodeAll(mustSplit(EncodeBlock(sampleBlock(2)).Data), nil)
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(data []byte) {
			records, err := DecodeBlock(data)
			if err != nil {
				return
			}
			again, err := DecodeBlock(EncodeBlock(records).Data)
			if err != nil || !cmp.Equal(records, again, cmpopts.EquateEmpty()) {
				t.Fatalf("read, written and read again: %v, %v, %v", records, again, err)
			}
		}
		check(b)
		packed := encoder.EncodeAll(b, nil)
		for n := range byte(4) {
			data := binary.AppendUvarint([]byte{blockFormat, n}, uint64(len(packed)))
			bodies := encoder.EncodeAll(make([]byte, n), nil) // n empty bodies
			check(append(append(append([]byte(nil), data...), packed...), bodies...))
			DecodeBodies(append(append(append([]byte(nil), data...), packed...), packed...))
		}
	})
}

func mustSplit(data []byte) []byte {
	_, head, _, err := splitBlock(data)
	if err != nil {
		panic(err)
	}
	return head
}

func BenchmarkEncodeBlock(b *testing.B) {
	for _, n := range []int{1, 16, 128, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			records, size, packed := sampleBlock(n), 0, 0
			for _, r := range records {
				size += len(r.Body)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				packed = len(EncodeBlock(records).Data)
			}
			b.ReportMetric(float64(packed)/float64(n), "bytes/event")
		})
	}
}

func BenchmarkDecodeBlock(b *testing.B) {
	records := sampleBlock(512)
	data := EncodeBlock(records).Data
	b.Run("heads", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeHeads(data); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/event")
	})
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeBlock(data); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/event")
	})
}
