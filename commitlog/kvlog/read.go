package kvlog

import (
	"bytes"
	"context"
	"fmt"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// Read returns whole blocks from the one that holds the record at from; see
// commitlog.Log. The blocks' data belongs to the caller.
func (l *Log) Read(ctx context.Context, from commitlog.Offset, maxBytes int) ([]commitlog.Block, error) {
	if err := l.enter(); err != nil {
		return nil, err
	}
	defer l.calls.Done()
	end := l.End()
	if from >= end {
		return nil, nil
	}
	var blocks []commitlog.Block
	err := l.db.View(ctx, func(r kv.Reader) error {
		var err error
		blocks, err = l.read(r, from, end, maxBytes)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the log at %d: %w", from, err)
	}
	return blocks, nil
}

func (l *Log) read(r kv.Reader, from, end commitlog.Offset, maxBytes int) ([]commitlog.Block, error) {
	// Most readers ask for the beginning of a block.
	blocks, err := l.readBlocks(r, from, end, maxBytes)
	if err != nil || len(blocks) > 0 {
		return blocks, err
	}
	first, found, err := l.firstAtOrBefore(r, from)
	if err != nil {
		return nil, err
	}
	if found {
		if blocks, err = l.readBlocks(r, first, end, maxBytes); err != nil {
			return nil, err
		}
	}
	if len(blocks) == 0 || blocks[0].End() <= from {
		return nil, fault.New(fault.NotFound, "the record has been trimmed")
	}
	return blocks, nil
}

// readBlocks returns the block that begins at first and those after it, all
// before end, or none when no block begins there.
func (l *Log) readBlocks(r kv.Reader, first, end commitlog.Offset, maxBytes int) ([]commitlog.Block, error) {
	var blocks []commitlog.Block
	size := 0
	for pair, err := range r.Scan(kv.Range{From: blockKey(l.stem, first), To: blockKey(l.stem, end)}) {
		if err != nil {
			return nil, err
		}
		block, err := parse(l.stem, pair)
		if err != nil {
			return nil, err
		}
		if len(blocks) == 0 && block.First != first {
			break
		}
		block.Data = bytes.Clone(block.Data)
		blocks = append(blocks, block)
		if size += len(block.Data); size > maxBytes {
			break
		}
	}
	return blocks, nil
}

// firstAtOrBefore returns where the last block that begins at or before the
// offset begins; found is false when all those have been trimmed.
func (l *Log) firstAtOrBefore(r kv.Reader, offset commitlog.Offset) (first commitlog.Offset, found bool, err error) {
	down := kv.Range{From: l.stem, To: blockKey(l.stem, offset+1), Reverse: true, Limit: 1}
	for pair, err := range r.Scan(down) {
		if err != nil {
			return 0, false, err
		}
		block, err := parse(l.stem, pair)
		return block.First, err == nil, err
	}
	return 0, false, nil
}
