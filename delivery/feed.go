package delivery

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/singleflight"

	"kith/commitlog"
	"kith/fault"
	"kith/pipeline"
)

// What a feed keeps decoded for its readers.
const (
	maxHotBlocks = 256
	maxHotBytes  = 48 << 20
)

// feed is the reader of one space's resolved log that all destinations share:
// a block is read and decoded once for all that are near the head of the log.
type feed struct {
	space uint32
	log   commitlog.Log

	loading singleflight.Group
	mu      sync.Mutex
	hot     []*hotBlock // most recently used first
	bytes   int
	readers map[*worker]struct{}
}

// hotBlock is a decoded block.
type hotBlock struct {
	first   commitlog.Offset
	outputs []pipeline.Output
	bytes   int
}

func (b *hotBlock) end() commitlog.Offset { return b.first + commitlog.Offset(len(b.outputs)) }

func newFeed(space uint32, log commitlog.Log) *feed {
	return &feed{space: space, log: log, readers: map[*worker]struct{}{}}
}

// follow wakes the readers whenever the log has grown, until ctx is done or the
// log is closed; it says why it ended.
func (f *feed) follow(ctx context.Context) (why error) {
	for end := commitlog.Offset(0); ; {
		if err := f.log.Wait(ctx, end); err != nil {
			return err
		}
		end = f.log.End()
		f.mu.Lock()
		for w := range f.readers {
			w.nudge()
		}
		f.mu.Unlock()
	}
}

func (f *feed) join(w *worker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers[w] = struct{}{}
}

func (f *feed) leave(w *worker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.readers, w)
}

// at returns the block that holds the output at an offset, or nil at the end
// of the log.
func (f *feed) at(ctx context.Context, offset commitlog.Offset) (*hotBlock, error) {
	if offset >= f.log.End() {
		return nil, nil
	}
	if b := f.cached(offset); b != nil {
		return b, nil
	}
	loaded, err, _ := f.loading.Do(fmt.Sprint(offset), func() (any, error) {
		if b := f.cached(offset); b != nil {
			return b, nil
		}
		return f.load(context.WithoutCancel(ctx), offset) // others may wait for it
	})
	if err != nil {
		return nil, fmt.Errorf("read the resolved log of space %d: %w", f.space, err)
	}
	return loaded.(*hotBlock), nil
}

// output returns one output; it is fault.NotFound beyond the end.
func (f *feed) output(ctx context.Context, offset commitlog.Offset) (*pipeline.Output, error) {
	b, err := f.at(ctx, offset)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fault.New(fault.NotFound, "the resolved log of space %d has no output %d", f.space, offset)
	}
	return &b.outputs[offset-b.first], nil
}

func (f *feed) cached(offset commitlog.Offset) *hotBlock {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, b := range f.hot {
		if offset >= b.first && offset < b.end() {
			copy(f.hot[1:i+1], f.hot[:i])
			f.hot[0] = b
			return b
		}
	}
	return nil
}

func (f *feed) load(ctx context.Context, offset commitlog.Offset) (*hotBlock, error) {
	blocks, err := f.log.Read(ctx, offset, 1)
	if err != nil {
		return nil, err
	}
	if len(blocks) == 0 {
		return nil, fault.New(fault.NotFound, "there is no output %d", offset)
	}
	outputs, err := pipeline.DecodeOutputs(blocks[0].Data)
	if err != nil {
		return nil, err
	}
	b := &hotBlock{first: blocks[0].First, outputs: outputs}
	if len(outputs) != blocks[0].Count || offset < b.first || offset >= b.end() {
		return nil, fault.New(fault.Internal, "the block at %d holds %d outputs, not %d", b.first, len(outputs), blocks[0].Count)
	}
	b.bytes = len(outputs) * 256
	for i := range outputs {
		if m := outputs[i].Message; m != nil {
			b.bytes += len(m.Body)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hot = append([]*hotBlock{b}, f.hot...)
	f.bytes += b.bytes
	for len(f.hot) > 1 && (len(f.hot) > maxHotBlocks || f.bytes > maxHotBytes) {
		f.bytes -= f.hot[len(f.hot)-1].bytes
		f.hot = f.hot[:len(f.hot)-1]
	}
	return b, nil
}
