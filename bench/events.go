package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// events makes bodies of about 1 KB an event, as a shop with a booking engine
// sends them. Each maker belongs to one connection and has a seed of its own,
// so that two runs send the same people.
type events struct {
	random *rand.Rand
	prefix string
	n      int
	people int
	key    string
}

func newEvents(key string, seed uint64, people int) *events {
	return &events{random: rand.New(rand.NewPCG(seed, 2)), prefix: fmt.Sprintf("bench-%d-%d", seed, time.Now().UnixNano()), people: people, key: key}
}

const page = `"context":{"library":{"name":"analytics.js","version":"next-1.84.0"},"locale":"en-GB","userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36","page":{"path":"/rooms/sea-view-double","referrer":"https://www.example.com/search?q=hotel","search":"?utm_source=newsletter&utm_campaign=spring","title":"Sea view double room","url":"https://www.example.com/rooms/sea-view-double?utm_source=newsletter&utm_campaign=spring"},"campaign":{"source":"newsletter","name":"spring","medium":"email"},"timezone":"Europe/Lisbon"}`

// one writes one event. Of ten, seven are track calls of six names, two are
// pages, one identifies.
func (e *events) one(b *strings.Builder) {
	e.n++
	person := e.random.IntN(e.people)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	fmt.Fprintf(b, `{"messageId":"%s-%d","anonymousId":"anon-%08d","timestamp":"%s",`, e.prefix, e.n, person, now)
	switch k := e.random.IntN(10); {
	case k == 0:
		fmt.Fprintf(b, `"type":"identify","userId":"user-%08d","traits":{"email":"guest%d@example.com","firstName":"Jo","plan":"gold","lifetime_value":%d},`, person, person, e.random.IntN(2000))
	case k < 3:
		fmt.Fprintf(b, `"type":"page","userId":"user-%08d","name":"Room","properties":{"path":"/rooms/sea-view-double","title":"Sea view double room","room":%d},`, person, e.random.IntN(400))
	default:
		name := names[e.random.IntN(len(names))]
		fmt.Fprintf(b, `"type":"track","userId":"user-%08d","event":%q,"properties":{"booking_value":%d.%02d,"currency":"EUR","nights":%d,"room_type":"double","check_in_date":"2026-12-24","products":[{"product_id":"p%d","price":%d,"quantity":1}]},`,
			person, name, e.random.IntN(900), e.random.IntN(100), 1+e.random.IntN(9), e.random.IntN(500), e.random.IntN(300))
	}
	b.WriteString(page)
	b.WriteByte('}')
}

var names = []string{"Booking Completed", "Room Viewed", "Search Performed", "WiFi Login", "Order Completed", "Product Viewed"}

// batch returns the body of a batch of n events, or of a single track call's
// route when n is one.
func (e *events) batch(n int) (path, body string) {
	var b strings.Builder
	b.Grow(1100 * n)
	if n == 1 {
		e.one(&b)
		body := b.String()
		i := strings.Index(body, `"type":"`) + len(`"type":"`)
		return "/v1/" + body[i:i+strings.IndexByte(body[i:], '"')], body
	}
	fmt.Fprintf(&b, `{"sentAt":"%s","batch":[`, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		e.one(&b)
	}
	b.WriteString("]}")
	return "/v1/batch", b.String()
}
