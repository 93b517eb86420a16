package event

// Kind says what a record of a space's raw log is.
type Kind uint8

// The kinds of record. The numbers are stored.
const (
	KindEvent  Kind = 1 // a call that was accepted; it has a body
	KindTick   Kind = 2 // nothing but its instant: lets the loop fire timers when no event comes
	KindConfig Kind = 3 // the workspace snapshot in force from here on; its body is {"snapshot":N}
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
