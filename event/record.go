package event

import (
	"strconv"

	"github.com/tidwall/gjson"

	"kith/fault"
)

// Kind says what a record of a space's raw log is.
type Kind uint8

// The kinds of record. The numbers are stored.
const (
	KindEvent  Kind = 1 // a call that was accepted; it has a body
	KindTick   Kind = 2 // nothing but its instant: lets the loop fire timers when no event comes
	KindConfig Kind = 3 // the workspace snapshot in force from here on; its body is {"snapshot":N}
	KindObject Kind = 4 // an object of the Objects API; its body is the object's JSON, its Name the collection

	KindCommand Kind = 5 // an order to what is derived; its body is a Command's JSON
	KindErased  Kind = 6 // what an erasure has left of a record: its id and its instant
)

// The collections a profile can be in.
const (
	Users    = "users"
	Accounts = "accounts"
)

// Identifier is an external id that an event carries.
type Identifier struct {
	Collection string // Users or Accounts
	Type       string // lower case: "user_id", "email", "ios.idfa"
	Value      string // as sent
}

// Head is what of a record is read without its body.
type Head struct {
	Kind      Kind
	ID        RecordID
	At        int64 // when it was appended, in milliseconds since 1970
	Time      int64 // an event's corrected timestamp, in milliseconds; never later than At
	Type      Type
	Name      string // track: the event's name; page and screen: the page's name
	Source    string // the source's id
	MessageID string
	IDs       []Identifier // found in the standard places, in the order of standardIdentifiers
}

// Record is a head and its body.
type Record struct {
	Head
	Body []byte // KindEvent: the event's JSON; see Event
}

// ConfigBody writes the body of a config record: the number of the workspace
// snapshot that is in force from here on.
func ConfigBody(snapshot uint64) []byte {
	return []byte(`{"snapshot":` + strconv.FormatUint(snapshot, 10) + `}`)
}

// ConfigNumber reads the body of a config record.
func ConfigNumber(body []byte) (uint64, error) {
	n := gjson.GetBytes(body, "snapshot")
	if n.Type != gjson.Number || n.Uint() == 0 {
		return 0, fault.New(fault.Internal, "config record without the number of a snapshot")
	}
	return n.Uint(), nil
}
