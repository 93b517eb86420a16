package demo

import (
	"context"
	_ "embed" // the workspace file
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"kith/client"
	"kith/clock"
)

// Workspace is the workspace file of the hotel group. It needs the variables
// DEMO_SINK (the URL under which the tools listen) and DEMO_SECRET.
//
//go:embed workspace.yaml
var Workspace []byte

// writeKeys are the write keys of the workspace file.
var writeKeys = map[string]string{
	Website: "demo-website", BookingEngine: "demo-booking-engine", PropertySystem: "demo-property-system", GuestWiFi: "demo-guest-wifi",
}

// Config is how the demo is run. Client, Apply, Clock, Out, Log and Rate are
// required.
type Config struct {
	Client *client.Client
	// Apply applies a workspace file, with the variables it needs.
	Apply func(ctx context.Context, text []byte, variables map[string]string) error
	Clock clock.Clock
	Seed  uint64
	Rate  int           // calls a second
	For   time.Duration // how long; zero means until the context ends
	SDK   string        // the folder of send.mjs and its packages; empty means none
	Out   io.Writer     // the view
	// Terminal says that Out is one: the view is drawn over and over, once a
	// second. Otherwise it is a line every five seconds.
	Terminal bool
	Log      *slog.Logger
	Where    Where
}

// every is how often the sender looks whether calls are due.
const every = 50 * time.Millisecond

// Run applies the workspace, sends the guests' calls and draws, until the
// context or the time ends; both are no error. It returns the last figures.
func Run(ctx context.Context, cfg Config) (Figures, error) {
	d := &demo{cfg: cfg, tally: &tally{}, guests: NewGuests(cfg.Seed)}
	tools, err := newTools(d.tally)
	if err != nil {
		return Figures{}, err
	}
	defer tools.close()
	if err := cfg.Apply(ctx, Workspace, map[string]string{"DEMO_SINK": tools.url, "DEMO_SECRET": fmt.Sprintf("demo-%d", cfg.Seed)}); err != nil {
		return Figures{}, fmt.Errorf("apply the demo's workspace: %w", err)
	}
	if err := d.names(ctx); err != nil {
		return Figures{}, err
	}
	d.sdk, err = startSDK(cfg.SDK, cfg.Client.Base(), writeKeys[Website])
	if err != nil && !errors.Is(err, errNoSDK) {
		return Figures{}, err
	}
	d.cfg.Where.SDK = d.sdk != nil

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var background sync.WaitGroup
	background.Go(func() { d.watch(ctx) })
	background.Go(func() { d.poll(ctx) })
	err = d.send(ctx)
	if d.sdk != nil {
		failed, sdkErr := d.sdk.close()
		d.tally.change(func(f *Figures) { f.Unsent += failed })
		err = errors.Join(err, sdkErr)
	}
	stop()
	background.Wait()
	return d.tally.figures(), err
}

type demo struct {
	cfg    Config
	tally  *tally
	guests *Guests
	sdk    *sdk
}

// names reads the audiences and destinations that the view lists.
func (d *demo) names(ctx context.Context) error {
	var audiences struct {
		Audiences []struct{ Key, Name string } `json:"audiences"`
	}
	if err := d.cfg.Client.Call(ctx, "GET", "/spaces/default/audiences", nil, &audiences); err != nil {
		return fmt.Errorf("list the demo's audiences: %w", err)
	}
	slices.SortFunc(audiences.Audiences, func(a, b struct{ Key, Name string }) int { return strings.Compare(a.Name, b.Name) })
	d.tally.change(func(f *Figures) {
		for _, a := range audiences.Audiences {
			f.Audiences = append(f.Audiences, AudienceFigures{Key: a.Key, Name: a.Name})
		}
		f.Deliveries = []DeliveryFigures{{Slug: "crm", Name: "CRM"}, {Slug: "mail", Name: "Mail tool"}}
	})
	return nil
}

// send sends what the guests do, at the rate, until the time is over.
func (d *demo) send(ctx context.Context) error {
	began := d.cfg.Clock.Now()
	drawn, count := began, 0
	for {
		now := d.cfg.Clock.Now()
		elapsed := now.Sub(began)
		if d.cfg.For > 0 && elapsed >= d.cfg.For {
			d.draw(elapsed, true)
			return nil
		}
		due := int(elapsed.Seconds() * float64(d.cfg.Rate))
		// After a pause (a suspended machine) nothing is caught up.
		count = max(count, due-d.cfg.Rate)
		if n := due - count; n > 0 {
			if err := d.sendSome(ctx, now, n); err != nil {
				return err
			}
			count = due
		}
		if now.Sub(drawn) >= time.Second {
			drawn = drawn.Add(time.Second)
			d.tally.second(elapsed)
			d.draw(elapsed, false)
		}
		next, give := d.cfg.Clock.Until(now.Add(every))
		select {
		case <-next:
		case <-ctx.Done():
			give()
			d.draw(elapsed, true)
			return nil
		}
	}
}

// sendSome sends the next n calls: those of the website through the SDK, those
// of the property system as a batch, the others one by one.
func (d *demo) sendSome(ctx context.Context, now time.Time, n int) error {
	bySource := map[string][]Call{}
	for range n {
		c := d.guests.Next(now)
		bySource[c.Source] = append(bySource[c.Source], c)
		if c.Again {
			c.Again = false
			bySource[c.Source] = append(bySource[c.Source], c)
		}
	}
	for _, source := range []string{Website, BookingEngine, PropertySystem, GuestWiFi} {
		calls := bySource[source]
		if len(calls) == 0 {
			continue
		}
		if source == Website && d.sdk != nil {
			if err := d.sdk.send(calls); err != nil {
				return err
			}
			d.tally.sent(calls)
			continue
		}
		d.post(ctx, source, calls)
	}
	return nil
}

// post sends calls over plain HTTP. A server that does not take them is shown,
// and the demo goes on.
func (d *demo) post(ctx context.Context, source string, calls []Call) {
	var err error
	if source == GuestWiFi || source == BookingEngine {
		for i := range calls {
			kind, _ := calls[i].Message["type"].(string)
			err = errors.Join(err, d.cfg.Client.Send(ctx, writeKeys[source], kind, calls[i].Message))
		}
	} else {
		batch := make([]json.RawMessage, len(calls))
		for i := range calls {
			raw, marshalErr := json.Marshal(calls[i].Message)
			err = errors.Join(err, marshalErr)
			batch[i] = raw
		}
		err = errors.Join(err, d.cfg.Client.SendBatch(ctx, writeKeys[source], batch))
	}
	if err != nil {
		if ctx.Err() == nil {
			d.cfg.Log.Debug("calls were not taken", "source", source, "error", err)
			d.tally.change(func(f *Figures) { f.Unsent += len(calls) })
		}
		return
	}
	d.tally.sent(calls)
}

// watch follows what happens to profiles.
func (d *demo) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := d.cfg.Client.Stream(ctx, "/live?stage=changed", func(m client.Message) error {
			var item struct{ Name, Detail string }
			if err := json.Unmarshal(m.Data, &item); err != nil {
				return err
			}
			d.tally.changed(item.Name, item.Detail)
			return nil
		})
		if err != nil {
			d.cfg.Log.Debug("the live feed ended", "error", err)
		}
		d.pause(ctx)
	}
}

// pause waits a second.
func (d *demo) pause(ctx context.Context) {
	next, give := d.cfg.Clock.Until(d.cfg.Clock.Now().Add(time.Second))
	defer give()
	select {
	case <-next:
	case <-ctx.Done():
	}
}

// poll reads the server's counters once a second.
func (d *demo) poll(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.counters(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Debug("the counters cannot be read", "error", err)
		}
		d.pause(ctx)
	}
}

// draw shows the figures.
func (d *demo) draw(elapsed time.Duration, last bool) {
	f := d.tally.figures()
	f.Elapsed = elapsed
	switch {
	case d.cfg.Terminal:
		screen := strings.ReplaceAll(d.cfg.Where.Screen(f), "\n", "\x1b[K\n")
		fmt.Fprint(d.cfg.Out, "\x1b[H"+screen+"\x1b[J")
	case last || len(f.PerSecond)%5 == 1:
		fmt.Fprint(d.cfg.Out, d.cfg.Where.Line(f))
	}
}
