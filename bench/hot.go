package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// hot shows what others notice of one profile that gets as many events as all of
// them together: a kiosk on which everybody signs in, and an id that somebody
// has hard-coded.
func (b *bench) hot(ctx context.Context) error {
	fmt.Println("hot: half of the events on one profile; from the call to the profile, of the others")
	for _, c := range []struct{ name, anonymous, user string }{
		{"everybody on a device of their own", "", ""},
		{"half on one hard-coded user id", "device-%d", "hard-coded"},
		{"half on one kiosk, each with a user id of their own", "kiosk", "guest-%d"},
	} {
		if err := b.hotCase(ctx, c.name, c.anonymous, c.user); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) hotCase(ctx context.Context, name, anonymous, user string) error {
	k, key, err := b.loaded(ctx, "hot-"+strings.ReplaceAll(name[:12], " ", "-")+user[:min(4, len(user))])
	if err != nil {
		return err
	}
	defer k.stop()
	n := 0
	others := newEvents(key, 99, b.people)
	began, deadline := time.Now(), time.Now().Add(b.span)
	// As many as the row takes at once: the backlog is part of what is measured.
	for time.Now().Before(deadline) && ctx.Err() == nil {
		var body strings.Builder
		body.WriteString(`{"batch":[`)
		for i := range 200 {
			if i > 0 {
				body.WriteByte(',')
			}
			if n++; user == "" || i%2 == 0 {
				others.one(&body)
				continue
			}
			fmt.Fprintf(&body, `{"type":"track","event":"Kiosk Used","messageId":"hot-%d","anonymousId":%q,"userId":%q,%s}`, n, numbered(anonymous, n), numbered(user, n), page)
		}
		body.WriteString("]}")
		if err := k.send(ctx, http.DefaultClient, key, body.String()); err != nil {
			return err
		}
	}
	sent := time.Since(began)
	for {
		behind, err := k.backlog()
		if err != nil {
			return err
		}
		if behind == 0 {
			break
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	took := time.Since(began)
	// Now at rest: how long until an event of somebody else is on a profile.
	var slowest time.Duration
	for i := range 50 {
		asked := time.Now()
		who := fmt.Sprintf("other-%d", i)
		if err := k.send(ctx, http.DefaultClient, key, fmt.Sprintf(`{"batch":[{"type":"track","event":"Kiosk Used","anonymousId":%q,"userId":%q},{"type":"identify","userId":%q,"traits":{"plan":"gold"}}]}`, numbered(anonymous, i), numbered(user, i), who)); err != nil {
			return err
		}
		for {
			status, _, err := k.traits(ctx, http.DefaultClient, who)
			if err != nil {
				return err
			}
			if status == http.StatusOK {
				break
			}
		}
		slowest = max(slowest, time.Since(asked))
	}
	row(name, "%8.0f events/s through the row (%d in %.1f s, accepted in %.1f s); the slowest of 50 calls was on its profile in %v",
		float64(n)/took.Seconds(), n, took.Seconds(), sent.Seconds(), ms(slowest))
	return nil
}

// numbered puts a number where the form has room for one.
func numbered(form string, n int) string {
	if form == "" {
		form = "someone-%d"
	}
	if strings.Contains(form, "%d") {
		return fmt.Sprintf(form, n)
	}
	return form
}
