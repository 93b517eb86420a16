package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// The sources of the workspace, by slug.
const (
	Website        = "website"
	BookingEngine  = "booking-engine"
	PropertySystem = "property-system"
	GuestWiFi      = "guest-wifi"
)

// Call is one call that a source sends.
type Call struct {
	Source  string
	Message map[string]any // as an SDK would send it, with "type"
	// Again says that the sender did not hear the answer and sends the call a
	// second time, with the same messageId.
	Again bool
	Late  bool // it happened long before it is sent
	Odd   bool // there is something wrong with it: no id, or a value of another type
}

// Guests are the people of the demo. The same seed and the same instants give
// the same calls. It is not safe for concurrent use.
type Guests struct {
	random *rand.Rand
	people []*guest
	calls  int
	shared string // the device of the last guest, which a relative borrows
}

// place is where a guest is on the way from the first look to the next stay.
type place int

const (
	browsing place = iota // on the website
	booking               // has started a booking
	booked                // has a booking
	staying               // is in the house
	gone                  // has left
)

type guest struct {
	number    int
	first     string
	last      string
	device    string // the browser's anonymousId
	phone     string // the telephone's, which the WiFi sees
	place     place
	known     bool // has signed in on this device
	hotel     string
	bookingID string
	value     int // of the booking, in cents
	lifetime  int // of all stays, in cents
	nights    int
	loggedIn  bool // to the WiFi
	corrected bool // the address typed at the WiFi
	mistyped  bool
}

// NewGuests returns a hotel group without guests; they come with the calls.
func NewGuests(seed uint64) *Guests {
	return &Guests{random: rand.New(rand.NewPCG(seed, 0x4b697468))}
}

// Of each hundred things that happen, so many are of this kind.
const (
	percentNewcomers = 12 // somebody nobody has seen
	percentShared    = 10 // newcomers on the device of somebody else in the family
	percentTypos     = 6  // of the addresses typed at the WiFi
	percentAgain     = 2  // calls sent twice
	percentLate      = 5  // of bookings, imported long after
	percentOdd       = 2  // of bookings with the value as text
	maxGuests        = 50_000
)

func (g *Guests) chance(percent int) bool { return g.random.IntN(100) < percent }

func pick[T any](g *Guests, list []T) T { return list[g.random.IntN(len(list))] }

// id returns text that is random but comes from the seed.
func (g *Guests) id() string { return fmt.Sprintf("%016x", g.random.Uint64()) }

// Next returns what happens next, at the instant now.
func (g *Guests) Next(now time.Time) Call {
	p := g.somebody()
	c := g.step(p, now)
	g.calls++
	if c.Message["messageId"] == nil {
		c.Message["messageId"] = "demo-" + g.id()
	}
	if c.Message["timestamp"] == nil {
		c.Message["timestamp"] = now.UTC().Format(time.RFC3339Nano)
	}
	c.Again = c.Source != Website && g.chance(percentAgain)
	return c
}

// somebody returns the guest whose turn it is.
func (g *Guests) somebody() *guest {
	if len(g.people) == 0 || len(g.people) < maxGuests && g.chance(percentNewcomers) {
		p := &guest{
			number: len(g.people) + 1, first: pick(g, firstNames), last: pick(g, lastNames),
			device: "web-" + g.id(), phone: "wifi-" + g.id(), hotel: pick(g, hotels),
		}
		if g.shared != "" && g.chance(percentShared) {
			p.device = g.shared
		}
		g.shared = p.device
		g.people = append(g.people, p)
		return p
	}
	// Mostly one of those who came lately, so that stories come to an end.
	if recent := 400; len(g.people) > recent && g.chance(85) {
		return g.people[len(g.people)-1-g.random.IntN(recent)]
	}
	return pick(g, g.people)
}

func (p *guest) userID() string { return fmt.Sprintf("guest-%06d", p.number) }

func (p *guest) email() string {
	return fmt.Sprintf("%s.%s.%d@example.com", p.first, p.last, p.number)
}

// step is what a guest does next.
func (g *Guests) step(p *guest, now time.Time) Call {
	switch p.place {
	case browsing:
		return g.browse(p)
	case booking:
		return g.book(p, now)
	case booked:
		return g.arrive(p)
	case staying:
		return g.stay(p, now)
	default:
		p.place, p.hotel = browsing, pick(g, hotels)
		if g.chance(40) {
			p.device, p.known = "web-"+g.id(), false // a new browser
		}
		return g.browse(p)
	}
}

// browse is the website's: pages, a sign-in now and then, a booking begun.
func (g *Guests) browse(p *guest) Call {
	message := map[string]any{"anonymousId": p.device, "context": map[string]any{
		"ip": fmt.Sprintf("192.0.2.%d", 1+g.random.IntN(254)), "locale": pick(g, locales),
		"userAgent": "Mozilla/5.0 (demo)",
	}}
	if p.known {
		message["userId"] = p.userID()
	}
	switch n := g.random.IntN(100); {
	case n < 20 && !p.known && p.lifetime > 0 || n < 6 && !p.known:
		p.known = true
		message["type"], message["userId"] = "identify", p.userID()
		message["traits"] = map[string]any{"email": p.email(), "firstName": p.first, "lastName": p.last}
	case n < 55:
		message["type"], message["name"] = "page", "Room"
		message["properties"] = map[string]any{"path": "/hotels/" + p.hotel + "/rooms", "title": "Rooms", "url": "https://www.example.com/hotels/" + p.hotel + "/rooms"}
	case n < 75:
		message["type"], message["event"] = "track", "Rooms Searched"
		message["properties"] = map[string]any{"hotel": p.hotel, "adults": 1 + g.random.IntN(3)}
	default:
		p.place, p.nights, p.value = booking, 1+g.random.IntN(6), 0
		p.value = p.nights * (8_000 + g.random.IntN(18_000))
		message["type"], message["event"] = "track", "Booking Started"
		message["properties"] = map[string]any{"hotel": p.hotel, "nights": p.nights}
	}
	return Call{Source: Website, Message: message}
}

// book is the booking engine's, which knows the guest's number and, from the
// link that led there, the browser.
func (g *Guests) book(p *guest, now time.Time) Call {
	if g.chance(30) {
		p.place = browsing // left it open
		return g.browse(p)
	}
	p.place, p.bookingID, p.known = booked, "b-"+g.id(), true
	c := Call{Source: BookingEngine, Message: map[string]any{
		"type": "track", "event": "Booking Completed", "userId": p.userID(), "anonymousId": p.device,
		"properties": map[string]any{
			"booking_id": p.bookingID, "booking_value": cents(p.value), "currency": "EUR", "hotel": p.hotel,
			"nights": p.nights, "check_in_date": now.AddDate(0, 0, 1+g.random.IntN(40)).Format(time.DateOnly),
		},
		"context": map[string]any{"traits": map[string]any{"email": p.email()}},
	}}
	switch n := g.random.IntN(100); {
	case n < percentOdd: // an old version of the engine sends the value as text
		properties, _ := c.Message["properties"].(map[string]any)
		properties["booking_value"] = fmt.Sprintf("%s EUR", cents(p.value))
		c.Odd = true
	case n < percentOdd+percentLate: // imported late: the sixty days end within the minute
		c.Message["timestamp"] = now.Add(-60*24*time.Hour + time.Duration(5+g.random.IntN(55))*time.Second).UTC().Format(time.RFC3339Nano)
		c.Late = true
	}
	return c
}

// arrive is the property system's: it knows an address and a number of its own.
func (g *Guests) arrive(p *guest) Call {
	if g.chance(8) {
		p.place = browsing
		return Call{Source: BookingEngine, Message: map[string]any{
			"type": "track", "event": "Booking Cancelled", "userId": p.userID(), "properties": map[string]any{"booking_id": p.bookingID},
		}}
	}
	p.place, p.loggedIn, p.mistyped, p.corrected = staying, false, false, false
	p.lifetime += p.value
	email := p.email()
	if g.chance(7) {
		email = "none@example.com" // the front desk was in a hurry
	}
	return Call{Source: PropertySystem, Message: map[string]any{
		"type": "identify", "userId": p.userID(),
		"traits": map[string]any{
			"email": email, "firstName": p.first, "lastName": p.last, "in_house": true, "hotel": p.hotel,
			"lifetime_value": cents(p.lifetime), "nights": p.nights,
		},
	}}
}

// stay is the WiFi's, until the guest checks out.
func (g *Guests) stay(p *guest, now time.Time) Call {
	if p.loggedIn && g.chance(35) {
		p.place = gone
		message := map[string]any{"type": "identify", "userId": p.userID(), "traits": map[string]any{"in_house": false, "lifetime_value": cents(p.lifetime)}}
		if g.chance(3) {
			delete(message, "userId") // a folio without a guest
			return Call{Source: PropertySystem, Message: message, Odd: true}
		}
		return Call{Source: PropertySystem, Message: message}
	}
	email := p.email()
	switch {
	case !p.loggedIn && g.chance(percentTypos):
		p.mistyped = true
		email = fmt.Sprintf("%s%s.%d@example.com", p.first, p.last, p.number) // without its dot: not a misspelt domain, somebody may own that
	case p.mistyped && !p.corrected:
		p.corrected = true // the first mail did not arrive
	}
	p.loggedIn = true
	c := Call{Source: GuestWiFi, Message: map[string]any{
		"type": "track", "event": "WiFi Login", "anonymousId": p.phone,
		"properties": map[string]any{"hotel": p.hotel, "access_point": fmt.Sprintf("%s-%02d", p.hotel, 1+g.random.IntN(20))},
		"context": map[string]any{
			"traits": map[string]any{"email": email},
			"device": map[string]any{"type": pick(g, []string{"ios", "android"}), "id": p.phone},
		},
	}}
	if p.hotel == offline { // the hour ends within the minute
		c.Message["timestamp"] = now.Add(-time.Hour + time.Duration(5+g.random.IntN(55))*time.Second).UTC().Format(time.RFC3339Nano)
		c.Late = true
	}
	return c
}

// cents writes an amount of money exactly.
func cents(n int) json.Number { return json.Number(fmt.Sprintf("%d.%02d", n/100, n%100)) }

// Identifiers returns what the call says about who it is of, as "type:value".
func (c *Call) Identifiers() []string {
	var ids []string
	add := func(kind string, v any) {
		if s, ok := v.(string); ok && s != "" {
			ids = append(ids, kind+":"+s)
		}
	}
	add("user_id", c.Message["userId"])
	add("anonymous_id", c.Message["anonymousId"])
	traits, _ := c.Message["traits"].(map[string]any)
	add("email", traits["email"])
	around, _ := c.Message["context"].(map[string]any)
	traits, _ = around["traits"].(map[string]any)
	add("email", traits["email"])
	if device, ok := around["device"].(map[string]any); ok {
		kind, _ := device["type"].(string)
		add(kind+".id", device["id"])
	}
	return ids
}

// offline is the hotel whose WiFi controller sends its log an hour late.
const offline = "station"

var (
	hotels     = []string{"harbour", "hill", "station"}
	locales    = []string{"en-GB", "de-DE", "nb-NO", "fr-FR", "it-IT"}
	firstNames = []string{"ada", "ben", "carla", "david", "eva", "felix", "greta", "hugo", "ida", "jonas", "karin", "liam", "mia", "noah", "olga", "paul", "rosa", "sven", "tilda", "uwe"}
	lastNames  = []string{"andersen", "berg", "costa", "dahl", "eriksen", "fischer", "garcia", "hansen", "ivanov", "jensen", "keller", "lund", "meyer", "novak", "olsen", "petrov"}
)
