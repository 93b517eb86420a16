package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/segmentio/analytics-go/v3"
)

// outcome is told, message by message, what became of it: nil, or why it was
// given up.
type outcome chan error

// Success is called for every message that was sent.
func (o outcome) Success(analytics.Message) { o <- nil }

// Failure is called for every message that was given up.
func (o outcome) Failure(_ analytics.Message, err error) { o <- err }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	person := os.Getenv("PERSON")
	count, err := strconv.Atoi(os.Getenv("COUNT"))
	if err != nil {
		return err
	}
	o := make(outcome, count+6)
	config := analytics.Config{Endpoint: os.Getenv("ENDPOINT"), Callback: o, Interval: 100 * time.Millisecond}
	if os.Getenv("MODE") == "retry" {
		config.BatchSize = 10
	}
	c, err := analytics.NewWithConfig(os.Getenv("WRITE_KEY"), config)
	if err != nil {
		return err
	}
	browser := person + "-browser"
	messages := []analytics.Message{
		analytics.Identify{UserId: person, AnonymousId: browser, Traits: analytics.NewTraits().SetEmail(person+"@example.com").Set("plan", "gold").Set("visits", 3)},
		analytics.Track{
			UserId: person, AnonymousId: browser, Event: "Order Completed", Timestamp: time.Now().Add(-time.Hour),
			Properties:   analytics.NewProperties().SetRevenue(12.5).Set("products", []map[string]string{{"sku": "a"}}),
			Context:      &analytics.Context{App: analytics.AppInfo{Name: "Kiosk"}},
			Integrations: analytics.NewIntegrations().Disable("Other"),
		},
		analytics.Page{UserId: person, AnonymousId: browser, Name: "Home", Properties: analytics.NewProperties().SetPath("/")},
		analytics.Screen{UserId: person, AnonymousId: browser, Name: "Menu", Properties: analytics.NewProperties().Set("tab", 1)},
		analytics.Group{UserId: person, AnonymousId: browser, GroupId: "acme", Traits: analytics.NewTraits().SetName("Acme").Set("seats", 20)},
		analytics.Alias{UserId: person, PreviousId: person + "-old"},
	}
	for n := range count {
		messages = append(messages, analytics.Track{UserId: person, Event: "Counted", Properties: analytics.NewProperties().Set("n", n)})
	}
	for _, m := range messages {
		if err := c.Enqueue(m); err != nil {
			return err
		}
	}
	// What has not been sent is given up at the first failure once the client is
	// closed.
	for range messages {
		if err := <-o; err != nil {
			return err
		}
	}
	return c.Close()
}
