package delivery

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"time"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// MaxNamed bounds how many outputs SumsByOutput looks at.
const MaxNamed = 2_000_000

// sumPage is how many blocks of the ledger are read in one moment of the store.
const sumPage = 512

// Sums calls fn with sums of a destination's ledger, over all spaces: how many
// outputs of a minute, that of their cause, have had the same outcome. from is
// rounded down to a minute and to up. Outputs with several subscriptions count
// for each; what is none of the destination's business, or still under way for
// the first time, does not count. So the numbers of a time that has passed add
// up to those of Status.Counts.
func (d *Delivery) Sums(ctx context.Context, destination string, from, to time.Time, fn func(minute time.Time, o Outcome, n uint64)) error {
	return d.blocks(ctx, destination, from, to, func(_ uint32, b *ledgerBlock) error {
		b.within(from, to, func(at time.Time, _, n int, o Outcome) { fn(at, o, uint64(n)) })
		return nil
	})
}

// SumsByOutput is Sums one by one, with what each output is. It looks at up to
// MaxNamed outputs; more are a fault.Invalid error.
func (d *Delivery) SumsByOutput(ctx context.Context, destination string, from, to time.Time, fn func(minute time.Time, o Outcome, output *pipeline.Output)) error {
	seen, decoded := 0, logBlock{}
	return d.blocks(ctx, destination, from, to, func(space uint32, b *ledgerBlock) error {
		if seen += b.end - b.first; seen > MaxNamed {
			return fault.New(fault.Invalid, "there are more than %d events between %s and %s; ask for a shorter time, or leave out what needs a look at each of them",
				MaxNamed, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
		}
		outputs, err := d.outputs(ctx, space, b, &decoded)
		if err != nil {
			return err
		}
		b.within(from, to, func(at time.Time, first, n int, o Outcome) {
			for i := first; i < first+n; i++ {
				if output := outputs[i]; output != nil {
					fn(at, o, output)
				}
			}
		})
		return nil
	})
}

// within calls fn with the settled runs of a block, for each of their outcomes.
func (b *ledgerBlock) within(from, to time.Time, fn func(minute time.Time, first, n int, o Outcome)) {
	least, most := minutes(from, to)
	b.runs(func(m int64, first, n int, outcomes []Outcome, _ bool) {
		if m < least || m >= most {
			return
		}
		for _, o := range outcomes {
			fn(time.UnixMilli(m*minute).UTC(), first, n, o)
		}
	})
}

func minutes(from, to time.Time) (least, most int64) {
	return from.UnixMilli() / minute, (to.UnixMilli() + minute - 1) / minute
}

// logBlock is the block of a resolved log that was decoded last: it may be about
// several blocks of the ledger.
type logBlock struct {
	space      uint32
	first, end commitlog.Offset
	outputs    []pipeline.Output
}

// outputs reads the outputs that a block is about, by their place in it; nil
// for those that are no longer kept.
func (d *Delivery) outputs(ctx context.Context, space uint32, b *ledgerBlock, decoded *logBlock) (list [ledgerSpan]*pipeline.Output, err error) {
	log, err := d.cfg.Logs(space)
	if err != nil {
		return list, err
	}
	end := b.offset(b.end)
	for at := b.offset(b.first); at < end; at = decoded.end {
		if decoded.space != space || at < decoded.first || at >= decoded.end {
			blocks, err := log.Read(ctx, at, 1)
			if fault.Is(err, fault.NotFound) || err == nil && len(blocks) == 0 {
				return list, nil
			}
			if err != nil {
				return list, err
			}
			outputs, err := pipeline.DecodeOutputs(blocks[0].Data)
			if err != nil {
				return list, err
			}
			*decoded = logBlock{space, blocks[0].First, blocks[0].End(), outputs}
		}
		for o := at; o < min(end, decoded.end); o++ {
			list[o-b.offset(0)] = &decoded.outputs[o-decoded.first]
		}
	}
	return list, nil
}

// blocks calls fn with the blocks of a destination's ledger that may hold
// outputs of a time.
func (d *Delivery) blocks(ctx context.Context, destination string, from, to time.Time, fn func(space uint32, b *ledgerBlock) error) error {
	least, most := minutes(from, to)
	spaces, err := d.spacesOf(ctx, destination)
	if err != nil {
		return err
	}
	for _, space := range spaces {
		next, err := d.firstBlock(ctx, destination, space, least)
		if err != nil {
			return err
		}
		for more := true; more; {
			var page []*ledgerBlock
			if page, more, err = d.page(ctx, destination, space, next); err != nil {
				return err
			}
			for _, b := range page {
				if len(b.minutes) > 0 && b.minutes[0].minute >= most {
					more = false
					break
				}
				if err := fn(space, b); err != nil {
					return err
				}
				next = b.number + 1
			}
			if ctx.Err() != nil {
				return fault.Wrap(fault.Unavailable, ctx.Err())
			}
		}
	}
	return nil
}

// page reads blocks from a number on.
func (d *Delivery) page(ctx context.Context, destination string, space uint32, from uint64) (list []*ledgerBlock, more bool, err error) {
	stem := ledgerStem(destination, space)
	err = d.cfg.DB.View(ctx, func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{From: ledgerKey(destination, space, from), To: kv.PrefixEnd(stem), Limit: sumPage}) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			b, err := decodeLedger(parts.Uint64(), pair.Value)
			if err != nil {
				return err
			}
			list = append(list, b)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("ledger of %s: %w", destination, err)
	}
	return list, len(list) == sumPage, nil
}

// spacesOf returns the spaces of which a destination has a ledger.
func (d *Delivery) spacesOf(ctx context.Context, destination string) (spaces []uint32, err error) {
	stem := stemOf(destination).Byte(LedgerKind)
	err = d.cfg.DB.View(ctx, func(r kv.Reader) error {
		next := kv.Range{From: stem, To: kv.PrefixEnd(stem), Limit: 1}
		for {
			found := false
			for pair, err := range r.Scan(next) {
				if err != nil {
					return err
				}
				parts := kv.PartsAfter(pair.Key, stem)
				spaces, found = append(spaces, parts.Uint32()), true
			}
			if !found {
				return nil
			}
			if next.From = kv.PrefixEnd(ledgerStem(destination, spaces[len(spaces)-1])); next.From == nil || bytes.Compare(next.From, next.To) >= 0 {
				return nil
			}
		}
	})
	return spaces, err
}

// firstBlock returns the number of the first block whose outputs are not all
// older than a minute. Blocks are neighbours, and their minutes rise.
func (d *Delivery) firstBlock(ctx context.Context, destination string, space uint32, minute int64) (number uint64, err error) {
	stem := ledgerStem(destination, space)
	err = d.cfg.DB.View(ctx, func(r kv.Reader) error {
		ends := [2]uint64{}
		for i, reverse := range []bool{false, true} {
			for pair, err := range r.Scan(kv.Range{From: stem, To: kv.PrefixEnd(stem), Reverse: reverse, Limit: 1}) {
				if err != nil {
					return err
				}
				parts := kv.PartsAfter(pair.Key, stem)
				ends[i] = parts.Uint64()
			}
		}
		var failed error
		n := sort.Search(int(ends[1]-ends[0])+1, func(i int) bool {
			b, err := readLedger(r, destination, space, ends[0]+uint64(i))
			if err != nil {
				failed = err
			}
			return b != nil && b.newest() >= minute
		})
		number = ends[0] + uint64(n)
		return failed
	})
	return number, err
}
