package identity

import (
	"strings"
	"testing"

	"kith/event"
	"kith/workspace"
)

func TestMACs(t *testing.T) {
	const burned, random = "00:1b:63:84:45:e6", "da:a1:19:00:00:01"
	tests := []struct{ value, network, normal, violation string }{
		{"00:1B:63:84:45:E6", "", burned, ""},
		{"00-1b-63-84-45-e6", "Lobby", burned, ""},
		{"00.1b.63.84.45.e6", "", burned, ""},
		{"001b.6384.45e6", "", burned, ""},
		{"001B-6384-45E6", "", burned, ""},
		{"001b63-8445e6", "", burned, ""},
		{" 001b638445e6 ", "", burned, ""},
		{"Lobby/00:1b:63:84:45:e6", "", burned, ""},
		{"da:a1:19:00:00:01", "Lobby", "Lobby/" + random, ""},
		{"a/b/DAA119000001", "", "a/b/" + random, ""},
		{"a/DAA119000001", "Lobby", "a/" + random, ""},
		{"/DAA119000001", "Lobby", "Lobby/" + random, ""},
		{"da:a1:19:00:00:01", "", "", NoNetwork},
		{"/da:a1:19:00:00:01", "", "", NoNetwork},
		{"01:1b:63:84:45:e6", "", "", NotAMAC},
		{"ff:ff:ff:ff:ff:ff", "Lobby", "", NotAMAC},
		{"000000000000", "Lobby", "", NotAMAC},
		{"00:1b:63:84:45", "", "", NotAMAC},
		{"00:1b:63:84:45:e6:aa", "", "", NotAMAC},
		{"00:1b-63:84-45:e6", "", "", NotAMAC},
		{"001b:63:84:45e6", "", "", NotAMAC},
		{"0:1b:63:84:45:e6", "", "", NotAMAC},
		{":001b638445e6", "", "", NotAMAC},
		{"001b638445e6:", "", "", NotAMAC},
		{"001b638445g6", "", "", NotAMAC},
		{"", "", "", NotAMAC},
	}
	r := &workspace.IdentifierRule{Type: MACType}
	for _, tt := range tests {
		normal, violation := normalize(r, tt.value, tt.network)
		if violation != tt.violation || violation == "" && normal != tt.normal {
			t.Errorf("%q in %q: %q, %q; want %q, %q", tt.value, tt.network, normal, violation, tt.normal, tt.violation)
		}
	}
}

func TestEmails(t *testing.T) {
	tests := []struct{ value, folded, byProvider string }{
		{"Jo@Example.com", "jo@example.com", "jo@example.com"},
		{"\tjo.doe+news@GMAIL.com ", "jo.doe+news@gmail.com", "jodoe@gmail.com"},
		{"jo.doe+news@example.com", "jo.doe+news@example.com", "jo.doe+news@example.com"},
		{"j.o@googlemail.com", "j.o@googlemail.com", "jo@gmail.com"},
		{"jo.doe+a+b@outlook.com", "jo.doe+a+b@outlook.com", "jo.doe@outlook.com"},
		{"jo@me.com", "jo@me.com", "jo@icloud.com"},
		{"+@gmail.com", "+@gmail.com", "+@gmail.com"},
		{"no address", "no address", "no address"},
		{"  ", "", ""},
	}
	for _, tt := range tests {
		for provider, want := range map[bool]string{false: tt.folded, true: tt.byProvider} {
			r := &workspace.IdentifierRule{Type: "email", Normalize: workspace.NormalizeEmail, EmailProvider: provider}
			if got, violation := normalize(r, tt.value, ""); got != want || violation != "" {
				t.Errorf("%q, provider %v: %q, %q; want %q", tt.value, provider, got, violation, want)
			}
		}
	}
}

func TestPhones(t *testing.T) {
	tests := []struct{ value, region, normal string }{
		{"030 123456", "DE", "+4930123456"},
		{"+1 650-555-0100", "DE", "+16505550100"},
		{"(650) 555-0100", "US", "+16505550100"},
		{"tel:+44 20 7946 0958", "", "+442079460958"},
		{"+49 30 123456", "", "+4930123456"},
		{"030 123456", "", ""},
		{"unknown", "DE", ""},
		{"1", "DE", ""},
	}
	for _, tt := range tests {
		r := &workspace.IdentifierRule{Type: "phone", Normalize: workspace.NormalizePhone, Region: tt.region}
		got, violation := normalize(r, tt.value, "")
		if (violation != "") != (tt.normal == "") || tt.normal != "" && got != tt.normal {
			t.Errorf("%q in %q: %q, %q; want %q", tt.value, tt.region, got, violation, tt.normal)
		}
	}
}

// TestNormalizeAsked: whoever asks for an identifier finds it in any spelling.
func TestNormalizeAsked(t *testing.T) {
	space := &workspace.Space{Identifiers: []workspace.IdentifierRule{
		{Type: "user_id"}, {Type: "email", Normalize: workspace.NormalizeEmail}, {Type: MACType},
		{Type: "crm", Collection: event.Accounts, Normalize: workspace.NormalizeEmail},
	}}
	tests := []struct{ collection, name, value, want string }{
		{event.Users, "email", "Jo@Example.com", "jo@example.com"},
		{event.Accounts, "email", "Jo@Example.com", "Jo@Example.com"},
		{event.Accounts, "crm", "A", "a"},
		{event.Users, "user_id", "A", "A"},
		{event.Users, "mac", "Lobby/DAA119000001", "Lobby/da:a1:19:00:00:01"},
		{event.Users, "mac", "DAA119000001", "DAA119000001"},
		{event.Users, "mac", "?", "?"},
		{event.Users, "unknown", "A", "A"},
	}
	for _, tt := range tests {
		id := event.Identifier{Collection: tt.collection, Type: tt.name, Value: tt.value}
		if got := Normalize(space, id); got.Value != tt.want {
			t.Errorf("%v: %q, want %q", id, got.Value, tt.want)
		}
		if got := Normalize(nil, id); got != id {
			t.Errorf("without a space %v is %v", id, got)
		}
	}
}

// FuzzNormalize: a normalised value is its own normal form, and is read back.
func FuzzNormalize(f *testing.F) {
	for _, seed := range []string{"00-1B-63-84-45-E6", "Lobby/da:a1:19:00:00:01", "+49 30 123456", "Jo.Doe+x@GMail.com", "ſ@K.com", "+1 (650) 555-0100 ext. 3", "İ@gmail.com"} {
		f.Add(seed, "Lobby")
	}
	f.Fuzz(func(t *testing.T, value, network string) {
		if len(value) > event.MaxIdentifierBytes || strings.ContainsRune(network, '/') {
			t.Skip()
		}
		for _, r := range []workspace.IdentifierRule{
			{Type: MACType},
			{Type: "email", Normalize: workspace.NormalizeEmail, EmailProvider: true},
			{Type: "phone", Normalize: workspace.NormalizePhone, Region: "DE"},
		} {
			normal, violation := normalize(&r, value, network)
			if violation != "" {
				continue
			}
			if again, violation := normalize(&r, normal, ""); violation != "" || again != normal {
				t.Errorf("%s: %q becomes %q, and that %q, %q", r.Type, value, normal, again, violation)
			}
		}
	})
}
