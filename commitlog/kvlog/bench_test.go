package kvlog_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/kv/pebblekv"
)

// BenchmarkAppend appends blocks of 100 records of 300 bytes that do not
// compress, from as many appenders as connections: one operation is one block.
func BenchmarkAppend(b *testing.B) {
	for name, appenders := range map[string]int{"1 appender": 1, "16 appenders": 16, "64 appenders": 64} {
		b.Run(name, func(b *testing.B) { benchAppend(b, appenders, commitlog.Payload{Count: 100, Data: noise(30_000)}) })
	}
	b.Run("64 appenders of single records", func(b *testing.B) {
		benchAppend(b, 64, commitlog.Payload{Count: 1, Data: noise(500)})
	})
}

func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	return data
}

func benchAppend(b *testing.B, appenders int, block commitlog.Payload) {
	db, err := pebblekv.Open(b.TempDir(), pebblekv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	l := open(b, db, kvlog.Options{})
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
		b.ReportMetric(float64(db.Stats().Written)/float64(b.N), "written-B/op")
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	b.SetBytes(int64(len(block.Data)))
	b.SetParallelism(appenders)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := l.Append(context.Background(), block); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.StopTimer()
}

// BenchmarkRead walks a log of blocks of 30 KB from its beginning.
func BenchmarkRead(b *testing.B) {
	db, err := pebblekv.Open(b.TempDir(), pebblekv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	l := open(b, db, kvlog.Options{})
	defer l.Close()
	data := noise(30_000)
	for range 2000 {
		if _, err := l.Append(b.Context(), commitlog.Payload{Count: 100, Data: data}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(data)))
	b.ResetTimer()
	from := commitlog.Offset(0)
	for n := 0; n < b.N; {
		blocks, err := l.Read(b.Context(), from, 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		n += len(blocks)
		if from = 0; len(blocks) > 0 {
			from = blocks[len(blocks)-1].End()
		}
	}
}
